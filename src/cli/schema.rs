//! `almoner schema`: prints the machine-readable descriptions that are checked in, so that they can be made again.

use clap::{Args, ValueEnum};

use super::{CliError, Globals};
use crate::config::Config;

/// Arguments.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Of what
    pub of: SchemaOf,
    /// The folder to write to, where there is one file for each kind
    #[arg(long, value_name = "DIR")]
    pub to: Option<std::path::PathBuf>,
}

/// What can be described.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SchemaOf {
    /// The configuration file: schemas/config.schema.json
    Config,
    /// The HTTP interface: openapi/almoner.json
    Openapi,
    /// The payloads of ledger entries, one for each kind: schemas/events
    Events,
}

/// Prints it.
///
/// # Errors
/// If standard output is closed.
pub fn run(args: SchemaArgs, globals: &Globals) -> Result<(), CliError> {
    let value = match args.of {
        SchemaOf::Config => Config::schema(),
        SchemaOf::Openapi => {
            serde_json::to_value(crate::web::openapi::document()).map_err(std::io::Error::other)?
        }
        SchemaOf::Events => {
            let schemas = crate::events::Event::schemas();
            let Some(dir) = &args.to else {
                let all = schemas.into_iter().map(|(kind, schema)| (kind.to_owned(), schema)).collect();
                return globals.output().document(&serde_json::Value::Object(all));
            };
            for (kind, schema) in schemas {
                std::fs::write(dir.join(format!("{kind}.json")), format!("{schema:#}\n"))?;
            }
            return Ok(());
        }
    };
    globals.output().document(&value)
}
