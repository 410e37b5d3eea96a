//! `almoner token`: makes, lists and ends API tokens.

use clap::Args;
use clap::Subcommand;

use super::{CliError, Globals};
use crate::error::ErrorKind;

/// Arguments.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown once
    Create {
        /// operator, contributor, board or researcher
        #[arg(long)]
        role: String,
        /// The contributors (contributor, board) or projects (researcher) it is limited to
        #[arg(long = "for", value_name = "ID")]
        scope: Vec<String>,
        /// A name for people
        #[arg(long, default_value = "")]
        label: String,
        /// Days until it stops working
        #[arg(long, value_name = "DAYS")]
        days: Option<u32>,
    },
    /// List tokens, without their secrets
    List,
    /// End a token
    Revoke {
        /// Its public id
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// Does it.
///
/// # Errors
/// Always, until the flow behind it is wired.
pub fn run(_args: TokenArgs, _globals: &Globals) -> Result<(), CliError> {
    Err(CliError::failed(ErrorKind::Fault, "this build does not have this command yet"))
}
