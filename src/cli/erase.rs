//! `almoner erase`: destroys what is kept of patients.

use std::io::BufRead as _;

use almoner_model::{ContributorId, SourcePatientId};
use clap::Args;
use serde_json::{Value, json};

use super::owner::Owner;
use super::{CliError, Globals};
use crate::error::ErrorKind;
use crate::flows::Act;
use crate::flows::erase::{self, Whom};
use crate::jobs::Silent;

/// Arguments.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// Record numbers at the hospital, or Patient/ID [default: read from standard input, one a line]
    #[arg(value_name = "RECORD_NUMBER")]
    pub record_numbers: Vec<String>,
    /// Whose patients
    #[arg(long, value_name = "ID")]
    pub contributor: ContributorId,
    /// At every hospital, and not only at this one
    #[arg(long)]
    pub everywhere: bool,
}

/// Erases them one after the other, here or in the server that owns the data folder. It cannot be undone.
///
/// # Errors
/// At the first that is not known or was erased before, told by its place in the list; those before it are erased.
pub fn run(args: EraseArgs, globals: &Globals) -> Result<(), CliError> {
    let mut numbers = args.record_numbers;
    if numbers.is_empty() {
        let lines = std::io::stdin().lock().lines().collect::<Result<Vec<_>, _>>()?;
        numbers = lines.into_iter().filter(|line| !line.trim().is_empty()).collect();
    }
    if numbers.is_empty() {
        return Err(CliError::failed(ErrorKind::Invalid, "no record number was given; nothing is erased"));
    }
    let owner = Owner::of(globals)?;
    let mut done = Vec::new();
    for (at, number) in numbers.iter().enumerate() {
        let erased = match &owner {
            Owner::Here(app) => {
                let whom = Whom {
                    contributor: args.contributor.clone(),
                    record_number: SourcePatientId::new(number.trim().to_owned()),
                    everywhere: args.everywhere,
                };
                let act = Act::operator(&*app.entropy);
                let erased = app.with_erase(|ctx| erase::erase(ctx, &act, &whom));
                erased.map_err(CliError::from).map(|e| json!({"id": e.erasure, "seq": e.seq, "time": e.time}))
            }
            Owner::There(server) => {
                let body = json!({
                    "contributor": args.contributor, "record_number": number.trim(), "everywhere": args.everywhere,
                });
                let job = server.call("POST", "/v1/erasures", Some(&body));
                job.and_then(|job| server.follow(&job, &Silent))
            }
        };
        match erased {
            Ok(one) => done.push(one),
            Err(CliError::Failed { kind, message, details }) => {
                let message = format!("record number {} of {}: {message}", at + 1, numbers.len());
                return Err(CliError::Failed { kind, message, details });
            }
            Err(other) => return Err(other),
        }
    }
    globals.output().result(&json!({"erased": done}), told)
}

fn told(done: &Value) -> String {
    let all = done["erased"].as_array().map_or(0, Vec::len);
    let entries: Vec<String> =
        done["erased"].as_array().into_iter().flatten().map(|one| one["seq"].to_string()).collect();
    format!(
        "{all} erased (ledger entries {}); run `almoner verify` to see that everything still holds",
        entries.join(", ")
    )
}
