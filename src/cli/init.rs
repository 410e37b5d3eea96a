//! `almoner init`: makes a data folder, its root key and the first operator token.

use clap::Args;
use serde_json::json;

use super::{CliError, Globals};
use crate::app::App;
use crate::flows::Act;
use crate::flows::tokens::NewToken;
use crate::system::{SystemClock, SystemEntropy};

/// Arguments.
#[derive(Debug, Args)]
pub struct InitArgs {}

/// Makes what is missing. The token is made where there has never been one, so repeating the command makes no second.
///
/// # Errors
/// If the folder cannot be made or is in use.
pub fn run(_args: InitArgs, globals: &Globals) -> Result<(), CliError> {
    let made = App::init(&globals.folder(), &globals.config()?, &SystemClock, &SystemEntropy)?;
    let app = globals.app()?;
    let token = if app.tokens().any()? {
        None
    } else {
        let new = NewToken { role: "operator".into(), scope: Vec::new(), label: "first".into(), days: None };
        Some(app.tokens().issue(new, Act::operator(&*app.entropy))?.token)
    };
    let key = app.config.root_key.clone().unwrap_or_else(|| app.folder.default_root_key());
    let value = json!({
        "data": app.folder.root(), "made": made, "root_key": key, "origin": app.marker.origin,
        "vkey": app.store.vkey(), "token": token.as_deref(),
    });
    globals.output().result(&value, |_| {
        let what = if made { "Made" } else { "Already there:" };
        let mut text = format!(
            "{what} {}\nRoot key       {}\n               Back it up apart from the data; without it the data cannot be used.\n\
             Ledger key     {}\n               Give it to those who verify.",
            app.folder.root().display(),
            key.display(),
            app.store.vkey()
        );
        if let Some(token) = &token {
            text += &format!("\nOperator token {}\n               It is shown once.", token.as_str());
        }
        text
    })
}
