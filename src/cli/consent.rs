//! `almoner consent`: records the consents that a hospital has on paper.

use std::path::PathBuf;

use almoner_model::ContributorId;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::owner::Owner;
use super::{CliError, Globals, read_named};
use crate::error::ErrorKind;
use crate::flows::AccessError;
use crate::flows::consent::{ERRORS_MAX, ImportError, import};
use crate::store::Actor;

/// Bytes of a list that are sent to a server at a time; well below what a call may hold, escaping and forms included.
const PART_BYTES: usize = 1 << 20;

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
            let mut total = json!({"rejected": {}});
            for (line, part) in parts(&list, PART_BYTES) {
                let body = json!({"contributor": contributor, "list": part, "forms": forms});
                add(&mut total, &server.call("POST", "/v1/consents/import", Some(&body))?["summary"], line);
            }
            total
        }
    };
    globals.output().result(&summary, told)?;
    let number = |key: &str| summary[key].as_u64().unwrap_or_default();
    if number("read") > 0 && number("recorded") + number("already") == 0 {
        let message = "nothing was recorded: see the lines and rules above".to_owned();
        return Err(CliError::Failed { kind: ErrorKind::Invalid, message, details: None });
    }
    Ok(())
}

/// A list in parts of about `bytes_max`, each with the header and the line on which its first row stands. Rows are not cut,
/// also where a quoted field has line breaks in it.
fn parts(list: &str, bytes_max: usize) -> Vec<(u64, String)> {
    let mut rows = Vec::new();
    let (mut from, mut line, mut first, mut quoted) = (0, 1, 1, false);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' => {
                line += 1;
                if !quoted {
                    rows.push((first, &list[from..=at]));
                    (from, first) = (at + 1, line);
                }
            }
            _ => {}
        }
    }
    rows.push((first, &list[from..]));
    let header = rows.remove(0).1;
    let mut parts: Vec<(u64, String)> = vec![(2, header.to_owned())];
    for (line, row) in rows {
        match parts.last_mut() {
            Some((_, part)) if part.len() == header.len() || part.len() + row.len() <= bytes_max => {
                part.push_str(row);
            }
            _ => parts.push((line, format!("{header}{row}"))),
        }
    }
    parts
}

/// Adds what became of a part whose first row stands on `line`.
fn add(total: &mut Value, part: &Value, line: u64) {
    let number = |v: &Value| v.as_u64().unwrap_or_default();
    for key in ["read", "recorded", "already", "withdrawn", "not_understood", "waiting"] {
        total[key] = json!(number(&total[key]) + number(&part[key]));
    }
    for (rule, count) in part["rejected"].as_object().into_iter().flatten() {
        total["rejected"][rule] = json!(number(&total["rejected"][rule]) + number(count));
    }
    let mut errors = total["errors"].take().as_array().cloned().unwrap_or_default();
    for error in part["errors"].as_array().into_iter().flatten() {
        errors.push(json!({"line": number(&error["line"]) + line - 2, "rule": error["rule"]}));
    }
    errors.truncate(ERRORS_MAX);
    total["errors"] = json!(errors);
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
        ("waiting", "name no patient yet, and hold for the data when it comes: check the record numbers"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_sent_in_parts_that_keep_rows_and_line_numbers() {
        let mut list = String::from("record_number,form_version\r\n");
        for n in 0..100 {
            list += &format!("\"n\"\"{n}\n second line\",1\r\n");
        }
        let all = parts(&list, 200);
        assert!(all.len() > 10 && all.iter().all(|(_, part)| part.len() <= 200));
        assert_eq!(all[0].0, 2);
        let mut next = 2;
        let mut rows = Vec::new();
        for (line, part) in &all {
            assert_eq!(*line, next);
            let mut reader = csv::Reader::from_reader(part.as_bytes());
            for row in reader.records() {
                rows.push(row.expect("a row")[0].to_owned());
                next += 2;
            }
        }
        let expected: Vec<String> = (0..100).map(|n| format!("n\"{n}\n second line")).collect();
        assert_eq!(rows, expected);
        assert_eq!(parts("", 200), [(2, String::new())]);
        assert_eq!(parts("a,b", 1), [(2, "a,b".to_owned())]);
        let long = format!("a\n{}\nc", "x".repeat(300));
        assert_eq!(parts(&long, 200).len(), 2, "a row that is too long goes alone");
    }

    #[test]
    fn what_became_of_parts_is_added_up() {
        let mut total = json!({});
        let part = json!({"read": 3, "recorded": 2, "already": 0, "withdrawn": 0, "not_understood": 0,
            "rejected": {"invalid-date": 1}, "errors": [{"line": 3, "rule": "invalid-date"}]});
        add(&mut total, &part, 2);
        add(&mut total, &part, 100);
        assert_eq!(total["read"], 6);
        assert_eq!(total["rejected"]["invalid-date"], 2);
        assert_eq!(total["errors"][0]["line"], 3);
        assert_eq!(total["errors"][1]["line"], 101);
    }
}
