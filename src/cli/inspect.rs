//! `almoner inspect`: says what an export or a file is.

use clap::Args;
use std::path::PathBuf;

use super::{CliError, Globals};
use crate::error::ErrorKind;

/// Arguments.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// An export folder, a dataset version, a release, or a Parquet file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
}

/// Says what it is.
///
/// # Errors
/// Always, until the flow behind it is wired.
pub fn run(_args: InspectArgs, _globals: &Globals) -> Result<(), CliError> {
    Err(CliError::failed(ErrorKind::Fault, "this build does not have this command yet"))
}
