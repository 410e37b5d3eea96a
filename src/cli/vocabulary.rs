//! `almoner vocabulary`: loads OMOP vocabularies.

use clap::Args;
use std::path::PathBuf;

use almoner_model::DatasetId;
use clap::Subcommand;

use super::{CliError, Globals};
use crate::error::ErrorKind;

/// Arguments.
#[derive(Debug, Args)]
pub struct VocabularyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: VocabularyCommand,
}

/// What to do with vocabularies.
#[derive(Debug, Subcommand)]
pub enum VocabularyCommand {
    /// Load a folder of Athena CSVs (CONCEPT.csv …) and SOURCE_TO_CONCEPT_MAP
    Load {
        /// The folder
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Map a dataset anew with the loaded vocabulary, into a new version
    Remap {
        /// The dataset
        #[arg(value_name = "DATASET")]
        dataset: DatasetId,
    },
}

/// Does it.
///
/// # Errors
/// Always, until the flow behind it is wired.
pub fn run(_args: VocabularyArgs, _globals: &Globals) -> Result<(), CliError> {
    Err(CliError::failed(ErrorKind::Fault, "this build does not have this command yet"))
}
