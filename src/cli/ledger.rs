//! `almoner ledger`: works with the ledger.

use clap::Args;
use std::path::PathBuf;

use clap::Subcommand;

use super::{CliError, Globals};
use crate::error::ErrorKind;

/// Arguments.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: LedgerCommand,
}

/// What to do with the ledger.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Write checkpoint, tiles and key as files that `almoner-verify` checks offline
    Export {
        /// The folder to make
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// Does it.
///
/// # Errors
/// Always, until the flow behind it is wired.
pub fn run(_args: LedgerArgs, _globals: &Globals) -> Result<(), CliError> {
    Err(CliError::failed(ErrorKind::Fault, "this build does not have this command yet"))
}
