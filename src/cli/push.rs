//! `almoner push`: sends an export to a server.

use clap::Args;
use std::path::PathBuf;

use almoner_model::{ContributorId, DatasetId};

use super::{CliError, Globals};
use crate::error::ErrorKind;

/// Arguments.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// The export: FHIR R4 bulk NDJSON, or OMOP tables as CSV or Parquet
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The server, e.g. https://almoner.example.org
    #[arg(long, value_name = "URL", env = "ALMONER_SERVER")]
    pub server: String,
    /// An API token of the contributor
    #[arg(long, value_name = "TOKEN", env = "ALMONER_TOKEN", hide_env_values = true)]
    pub token: String,
    /// Whose data it is [default: the contributor of the token]
    #[arg(long, value_name = "ID")]
    pub contributor: Option<ContributorId>,
    /// The dataset [default: the id of the contributor]
    #[arg(long, value_name = "ID")]
    pub dataset: Option<DatasetId>,
    /// De-identification profile [default: that of the server]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Changes since the version before, instead of everything
    #[arg(long)]
    pub incremental: bool,
    /// Where the key of an unfinished push is kept, so that the same command resumes it
    /// [default: $XDG_STATE_HOME/almoner or ~/.local/state/almoner]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Certificates to trust beside the usual ones, PEM
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Pushes.
///
/// # Errors
/// Always, until the flow behind it is wired.
pub fn run(_args: PushArgs, _globals: &Globals) -> Result<(), CliError> {
    Err(CliError::failed(ErrorKind::Fault, "this build does not have this command yet"))
}
