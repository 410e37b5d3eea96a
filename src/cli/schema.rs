//! `almoner schema`: prints the machine-readable descriptions that are checked in, so that they can be made again.

use clap::{Args, ValueEnum};

use super::{CliError, Globals, Output};
use crate::config::Config;

/// Arguments.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Of what
    pub of: SchemaOf,
}

/// What can be described.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SchemaOf {
    /// The configuration file: schemas/config.schema.json
    Config,
    /// The HTTP interface: openapi/almoner.json
    Openapi,
}

/// Prints it.
///
/// # Errors
/// If standard output is closed.
pub fn run(args: SchemaArgs, _globals: &Globals) -> Result<(), CliError> {
    let value = match args.of {
        SchemaOf::Config => Config::schema(),
        SchemaOf::Openapi => {
            serde_json::to_value(crate::web::openapi::document()).map_err(std::io::Error::other)?
        }
    };
    Output::new(false).result(&value, |v| format!("{v:#}"))
}
