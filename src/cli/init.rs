//! `almoner init`: makes a data folder, its root key and the first operator token.

use clap::Args;
use serde_json::json;

use super::{CliError, Globals};
use crate::app::App;
use crate::system::{SystemClock, SystemEntropy};

/// Arguments.
#[derive(Debug, Args)]
pub struct InitArgs {}

/// Makes what is missing.
///
/// # Errors
/// If the folder cannot be made or is in use.
pub fn run(_args: InitArgs, globals: &Globals) -> Result<(), CliError> {
    let made = App::init(&globals.folder(), &globals.config()?, &SystemClock, &SystemEntropy)?;
    let app = globals.app()?;
    let key = app.config.root_key.clone().unwrap_or_else(|| app.folder.default_root_key());
    let value =
        json!({"data": app.folder.root(), "made": made, "root_key": key, "origin": app.marker.origin});
    globals.output().result(&value, |_| {
        let what = if made { "Made" } else { "Already there:" };
        format!(
            "{what} {}\nRoot key: {} — back it up apart from the data; without it the data cannot be used.",
            app.folder.root().display(),
            key.display()
        )
    })
}
