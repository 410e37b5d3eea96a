//! `almoner consent`: records the consents that a hospital has on paper.

use std::path::PathBuf;

use almoner_model::ContributorId;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::owner::Owner;
use super::{CliError, Globals, read_named};
use crate::flows::AccessError;
use crate::flows::consent::{ImportError, import};
use crate::store::Actor;

/// Arguments.
#[derive(Debug, Args)]
pub struct ConsentArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConsentCommand,
}

/// What to do with consents.
#[derive(Debug, Subcommand)]
pub enum ConsentCommand {
    /// Record the consents of a CSV file: record number, form version, date, evidence digest
    Import {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Which hospital the record numbers are of
        #[arg(long, value_name = "ID")]
        contributor: ContributorId,
        /// What each version of a form permits [default: forms.toml beside the file]
        #[arg(long, value_name = "FILE.toml")]
        forms: Option<PathBuf>,
    },
}

impl From<AccessError> for CliError {
    fn from(e: AccessError) -> Self {
        Self::failed(e.kind(), e)
    }
}

impl From<ImportError> for CliError {
    fn from(e: ImportError) -> Self {
        Self::failed(e.kind(), e)
    }
}

/// Does it, here or in the server that owns the data folder. Rows that cannot be recorded are told by line and rule; the
/// others are.
///
/// # Errors
/// If a file cannot be read, the header or the form definitions are not right, or the contributor is not registered.
pub fn run(args: ConsentArgs, globals: &Globals) -> Result<(), CliError> {
    let ConsentCommand::Import { file, contributor, forms } = args.command;
    let forms = forms.unwrap_or_else(|| file.with_file_name("forms.toml"));
    let list = read_named(&file)?;
    let forms = std::fs::read_to_string(&forms).map_err(|e| {
        CliError::Usage(format!("{}: {e}; name the definitions with --forms", forms.display()))
    })?;
    let summary = match Owner::of(globals)? {
        Owner::Here(app) => {
            let operator = Actor { role: "operator".into(), id: "local".into() };
            json!(import(&app.access(), &operator, &contributor, &list, &forms)?)
        }
        Owner::There(server) => {
            let list =
                String::from_utf8(list).map_err(|_| CliError::Usage("the list is not UTF-8".into()))?;
            let body = json!({"contributor": contributor, "list": list, "forms": forms});
            server.call("POST", "/v1/consents/import", Some(&body))?["summary"].take()
        }
    };
    globals.output().result(&summary, told)
}

fn told(summary: &Value) -> String {
    let number = |key: &str| summary[key].as_u64().unwrap_or_default();
    let mut out = format!(
        "{} read, {} recorded, {} recorded before",
        number("read"),
        number("recorded"),
        number("already")
    );
    for (key, words) in [
        ("withdrawn", "of people whose withdrawal stands: a consent lifts a withdrawal only by naming it"),
        ("not_understood", "with parts that are not understood and therefore permit nothing"),
    ] {
        if number(key) > 0 {
            out += &format!("\n{} {words}", number(key));
        }
    }
    for (rule, count) in summary["rejected"].as_object().into_iter().flatten() {
        out += &format!("\n{count} not recorded: {rule}");
    }
    for error in summary["errors"].as_array().into_iter().flatten().take(20) {
        let rule = error["rule"].as_str().unwrap_or_default();
        out += &format!("\n  line {}: {rule}", error["line"]);
    }
    out
}
