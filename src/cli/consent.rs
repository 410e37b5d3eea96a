//! `almoner consent`: records consents and withdrawals.

use clap::Args;
use std::path::PathBuf;

use almoner_model::ContributorId;
use clap::Subcommand;

use super::{CliError, Globals};
use crate::error::ErrorKind;

/// Arguments.
#[derive(Debug, Args)]
pub struct ConsentArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConsentCommand,
}

/// What to do with consents.
#[derive(Debug, Subcommand)]
pub enum ConsentCommand {
    /// Record the consents of a CSV file: record number, form version, date, evidence digest
    Import {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Which hospital the record numbers are of
        #[arg(long, value_name = "ID")]
        contributor: ContributorId,
    },
}

/// Does it.
///
/// # Errors
/// Always, until the flow behind it is wired.
pub fn run(_args: ConsentArgs, _globals: &Globals) -> Result<(), CliError> {
    Err(CliError::failed(ErrorKind::Fault, "this build does not have this command yet"))
}
