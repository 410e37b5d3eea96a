//! `almoner ingest`: takes in an export from a local folder.

use clap::Args;
use std::path::PathBuf;

use almoner_model::{ContributorId, DatasetId};

use super::{CliError, Globals};
use crate::error::ErrorKind;

/// Arguments.
#[derive(Debug, Args)]
pub struct IngestArgs {
    /// The export: FHIR R4 bulk NDJSON, or OMOP tables as CSV or Parquet
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Whose data it is; registered where unknown
    #[arg(long, value_name = "ID")]
    pub contributor: ContributorId,
    /// The dataset [default: the id of the contributor]
    #[arg(long, value_name = "ID")]
    pub dataset: Option<DatasetId>,
    /// De-identification profile [default: from the configuration]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Changes since the version before, instead of everything
    #[arg(long)]
    pub incremental: bool,
    /// When the contributor is new: link its patients with those of other hospitals that also opted in
    #[arg(long)]
    pub linkage: bool,
}

/// Takes the export in.
///
/// # Errors
/// Always, until the flow behind it is wired.
pub fn run(_args: IngestArgs, _globals: &Globals) -> Result<(), CliError> {
    Err(CliError::failed(ErrorKind::Fault, "this build does not have this command yet"))
}
