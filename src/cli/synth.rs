//! `almoner synth`: makes synthetic exports.

use clap::Args;
use std::path::PathBuf;

use super::{CliError, Globals};
use crate::error::ErrorKind;

/// Arguments.
#[derive(Debug, Args)]
pub struct SynthArgs {
    /// The folder to make
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Patients in each hospital
    #[arg(long, default_value_t = 100)]
    pub patients: u32,
    /// Hospitals
    #[arg(long, default_value_t = 2)]
    pub hospitals: u32,
    /// Share of patients who also went to another hospital, 0 to 1
    #[arg(long, default_value_t = 0.1)]
    pub overlap: f64,
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Stop when the FHIR export of a hospital has about this many bytes
    #[arg(long)]
    pub bytes: Option<u64>,
}

/// Makes them.
///
/// # Errors
/// Always, until the flow behind it is wired.
pub fn run(_args: SynthArgs, _globals: &Globals) -> Result<(), CliError> {
    Err(CliError::failed(ErrorKind::Fault, "this build does not have this command yet"))
}
