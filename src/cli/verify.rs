//! `almoner verify`: checks ledger, datasets and releases against each other.

use clap::Args;

use super::{CliError, Globals};
use crate::error::ErrorKind;

/// Arguments.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Only the ledger, not the bytes of datasets and releases
    #[arg(long)]
    pub ledger_only: bool,
}

/// Checks.
///
/// # Errors
/// Always, until the flow behind it is wired.
pub fn run(_args: VerifyArgs, _globals: &Globals) -> Result<(), CliError> {
    Err(CliError::failed(ErrorKind::Fault, "this build does not have this command yet"))
}
