//! `almoner count`: counts a cohort.

use clap::Args;
use std::path::PathBuf;

use almoner_model::{DatasetId, Duo, ProjectId};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::owner::Owner;
use super::{CliError, Globals, read_named};
use crate::app::App;
use crate::error::ErrorKind;
use crate::flows::count::{self, CountAnswer, CountRequest, Shown};
use crate::flows::{Act, DataError};

/// Arguments.
#[derive(Debug, Args)]
pub struct CountArgs {
    /// The cohort definition, JSON
    #[arg(value_name = "COHORT.json")]
    pub cohort: PathBuf,
    /// For which project
    #[arg(long, value_name = "ID")]
    pub project: ProjectId,
    /// What for: a DUO term
    #[arg(long, value_name = "DUO", default_value = "DUO:0000006")]
    pub purpose: Duo,
    /// What the recipient binds itself to: a DUO modifier
    #[arg(long = "modifier", value_name = "DUO")]
    pub modifiers: Vec<Duo>,
    /// In which datasets, in order of precedence [default: all]
    #[arg(long = "dataset", value_name = "ID")]
    pub datasets: Vec<DatasetId>,
}

impl From<DataError> for CliError {
    fn from(e: DataError) -> Self {
        let details = match &e {
            DataError::Definition(d) => Some(json!({"pointer": d.pointer, "rule": d.rule})),
            DataError::Nobody { reasons } => Some(json!({"reasons": reasons})),
            _ => None,
        };
        Self::Failed { kind: e.kind(), message: e.to_string(), details }
    }
}

/// Counts. The answer is in the ledger before it is printed.
///
/// # Errors
/// If the definition cannot be read or answered as asked, or the count is refused.
pub fn run(args: CountArgs, globals: &Globals) -> Result<(), CliError> {
    let definition = read_named(&args.cohort)?;
    match Owner::of(globals)? {
        Owner::Here(app) => {
            let answer = here(&app, args, definition)?;
            globals.output().result(&answer, told)
        }
        Owner::There(server) => {
            let not_json = |_| CliError::failed(ErrorKind::Invalid, "the cohort definition is not JSON");
            let cohort: Box<RawValue> = serde_json::from_slice(&definition).map_err(not_json)?;
            let mut body =
                json!({"project": args.project, "purpose": args.purpose, "modifiers": args.modifiers});
            body["cohort"] = serde_json::to_value(cohort).map_err(not_json)?;
            if !args.datasets.is_empty() {
                body["datasets"] = json!(args.datasets);
            }
            let answer = server.call("POST", "/v1/counts", Some(&body))?;
            globals.output().result(&answer, told_by_server)
        }
    }
}

fn here(app: &App, args: CountArgs, definition: Vec<u8>) -> Result<CountAnswer, CliError> {
    let mut datasets = args.datasets;
    if datasets.is_empty() {
        let all = app.catalog.records().map_err(DataError::from)?;
        datasets = all.into_iter().map(|r| r.dataset).collect();
    }
    if datasets.is_empty() {
        return Err(CliError::failed(
            ErrorKind::Conflict,
            "there is no dataset yet; `almoner ingest` makes one",
        ));
    }
    let request = CountRequest {
        project: args.project,
        purpose: args.purpose,
        modifiers: args.modifiers,
        definition,
        datasets,
    };
    let act = Act::operator(&*app.entropy);
    Ok(app.with_data(|ctx| count::count(ctx, &act, &request))?)
}

fn told(answer: &CountAnswer) -> String {
    let number = match answer.count {
        Shown::About(n) => format!("about {n} people"),
        Shown::FewerThan(n) => format!("fewer than {n} people, possibly none"),
    };
    tell(&number, &answer.reasons, &answer.notes, answer.protection.how, answer.seq)
}

fn told_by_server(answer: &Value) -> String {
    let number = match (answer["about"].as_u64(), answer["fewer_than"].as_u64()) {
        (Some(n), _) => format!("about {n} people"),
        (None, Some(n)) => format!("fewer than {n} people, possibly none"),
        (None, None) => "no answer".to_owned(),
    };
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let list =
        |key: &str| -> Vec<String> { answer[key].as_array().into_iter().flatten().map(text).collect() };
    let (reasons, notes) = (list("reasons"), list("notes"));
    tell(&number, &reasons, &notes, &text(&answer["protection"]), answer["seq"].as_u64().unwrap_or_default())
}

fn tell(number: &str, reasons: &[String], notes: &[String], how: &str, seq: u64) -> String {
    let mut out = format!("{number} (ledger entry {seq})");
    for reason in reasons {
        out.push_str("\n  because ");
        out.push_str(reason);
    }
    for note in notes {
        out.push_str("\n  note: ");
        out.push_str(note);
    }
    out.push('\n');
    out.push_str(how);
    out
}
