//! `almoner synth`: makes synthetic exports with planted identifiers.

use clap::Args;
use std::path::PathBuf;

use super::{CliError, Globals};
use crate::error::ErrorKind;
use crate::jobs::Unit;
use crate::synth::{self, Options, Summary, SynthError};

/// Arguments.
#[derive(Debug, Args)]
pub struct SynthArgs {
    /// The folder to make; it must be new or empty
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// People in the population
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub patients: u64,
    /// Hospitals that they go to
    #[arg(long, default_value_t = 2, value_name = "M")]
    pub hospitals: usize,
    /// Share of people who go to two hospitals, 0 to 1
    #[arg(long, default_value_t = 0.2, value_name = "F")]
    pub overlap: f64,
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub seed: u64,
    /// Years of history, up to the end of 2025
    #[arg(long, default_value_t = 5, value_name = "Y")]
    pub years: u32,
    /// Write FHIR R4 bulk exports [default, unless --omop is given]
    #[arg(long)]
    pub fhir: bool,
    /// Write OMOP CDM 5.4 tables as CSV
    #[arg(long)]
    pub omop: bool,
    /// Do not list the planted identifiers (large exports for measurements)
    #[arg(long)]
    pub no_planted: bool,
}

/// Makes them.
///
/// # Errors
/// If the options make no sense, the folder is not empty, or a file cannot be written.
pub fn run(args: SynthArgs, globals: &Globals) -> Result<(), CliError> {
    if !(0.0..=1.0).contains(&args.overlap) {
        return Err(CliError::Usage("--overlap is a share between 0 and 1".into()));
    }
    let options = Options {
        patients: args.patients,
        hospitals: args.hospitals,
        overlap_per_mille: (args.overlap * 1000.0).round() as u64,
        seed: args.seed,
        years: args.years,
        fhir: args.fhir || !args.omop,
        omop: args.omop,
        planted: !args.no_planted,
    };
    let output = globals.output();
    let progress = output.progress();
    // People with two hospitals are written twice.
    let records = options.patients + options.patients * options.overlap_per_mille / 1000;
    progress.stage("synth", Some(records), Unit::Persons);
    let summary =
        synth::generate(&args.dir, &options, &|n| progress.advance(n)).map_err(|error| match error {
            SynthError::Options(message) => CliError::Usage(message.into()),
            SynthError::NotEmpty => CliError::failed(ErrorKind::Conflict, error),
            SynthError::Io(cause) => {
                CliError::failed(ErrorKind::Fault, format!("cannot write the export: {cause}"))
            }
        })?;
    drop(progress);
    output.result(&summary, told)
}

fn told(summary: &Summary) -> String {
    let mut text = String::new();
    for hospital in &summary.hospitals {
        text += &format!(
            "{:<22} {:>9} people, {} of them also elsewhere; {} consents on paper, {} in FHIR; {} FHIR lines ({} \
             unreadable), {} OMOP rows ({} unreadable)\n",
            hospital.id,
            hospital.persons,
            hospital.shared,
            hospital.consents_on_paper,
            hospital.consents_in_fhir,
            hospital.fhir_lines,
            hospital.fhir_faults,
            hospital.omop_rows,
            hospital.omop_faults,
        );
    }
    text + &format!(
        "{} people, {} planted identifiers, {:.1} MB\n",
        summary.patients,
        summary.planted,
        summary.bytes as f64 / 1e6
    )
}
