//! `almoner count`: counts a cohort.

use clap::Args;
use std::path::PathBuf;

use almoner_model::{DatasetId, Duo, ProjectId};

use super::{CliError, Globals};
use crate::error::ErrorKind;

/// Arguments.
#[derive(Debug, Args)]
pub struct CountArgs {
    /// The cohort definition, JSON
    #[arg(value_name = "COHORT.json")]
    pub cohort: PathBuf,
    /// For which project
    #[arg(long, value_name = "ID")]
    pub project: ProjectId,
    /// What for: a DUO term
    #[arg(long, value_name = "DUO", default_value = "DUO:0000006")]
    pub purpose: Duo,
    /// In which datasets, in order of precedence [default: all]
    #[arg(long = "dataset", value_name = "ID")]
    pub datasets: Vec<DatasetId>,
}

/// Counts.
///
/// # Errors
/// Always, until the flow behind it is wired.
pub fn run(_args: CountArgs, _globals: &Globals) -> Result<(), CliError> {
    Err(CliError::failed(ErrorKind::Fault, "this build does not have this command yet"))
}
