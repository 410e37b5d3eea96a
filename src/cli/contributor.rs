//! `almoner contributor`: registers contributors and publishes their contracts.

use clap::Args;
use std::path::PathBuf;

use almoner_model::ContributorId;
use clap::Subcommand;

use super::{CliError, Globals};
use crate::error::ErrorKind;

/// Arguments.
#[derive(Debug, Args)]
pub struct ContributorArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ContributorCommand,
}

/// What to do with contributors.
#[derive(Debug, Subcommand)]
pub enum ContributorCommand {
    /// Register a contributor
    Add {
        /// Its id
        #[arg(value_name = "ID")]
        id: ContributorId,
        /// Its name, for people
        #[arg(long)]
        name: String,
        /// Link its patients with those of other hospitals that also opted in
        #[arg(long)]
        linkage: bool,
        /// Smallest class size its data may be released in, above what the tier asks for
        #[arg(long, value_name = "K")]
        k_min: Option<u32>,
    },
    /// List contributors
    List,
    /// Publish its rules for its data, a Cedar policy
    Contract {
        /// The contributor
        #[arg(value_name = "ID")]
        id: ContributorId,
        /// The policy
        #[arg(value_name = "FILE.cedar")]
        file: PathBuf,
    },
}

/// Does it.
///
/// # Errors
/// Always, until the flow behind it is wired.
pub fn run(_args: ContributorArgs, _globals: &Globals) -> Result<(), CliError> {
    Err(CliError::failed(ErrorKind::Fault, "this build does not have this command yet"))
}
