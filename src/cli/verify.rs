//! `almoner verify`: checks ledger, datasets and releases against each other.

use std::fmt::Write as _;

use clap::{Args, Subcommand};

use super::{CliError, Globals};
use crate::error::ErrorKind;
use crate::flows::verify::{Verification, verify};

/// Arguments.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Only the ledger, not the bytes of datasets and releases
    #[arg(long)]
    pub ledger_only: bool,
    /// One check only
    #[command(subcommand)]
    pub only: Option<Only>,
}

/// One check.
#[derive(Debug, Subcommand)]
pub enum Only {
    /// That the stored state is what the ledger's entries make of it, record by record
    State,
}

/// Checks, also while a server owns the data folder, and where a server refuses to start from it.
///
/// # Errors
/// If anything is not as it must be (what was found is on standard output), or the data folder cannot be opened.
pub fn run(args: VerifyArgs, globals: &Globals) -> Result<(), CliError> {
    let folder = globals.folder();
    let options = super::ledger::options(globals)?;
    let all = !args.ledger_only && args.only.is_none();
    let found = verify(options, &folder.datasets(), &folder.releases(), &folder.blobs(), all)?;
    globals.output().result(&found, tell)?;
    if found.intact {
        Ok(())
    } else {
        let first = found.ledger.findings.first().map(|f| format!("{} {}: {}", f.class, f.row, f.problem));
        let mut files = found.files();
        let first =
            first.or_else(|| files.find_map(|c| Some(format!("{}: {}", c.name, c.problem.as_ref()?))));
        let message = format!("not intact: {}", first.unwrap_or_default());
        Err(CliError::failed(ErrorKind::Fault, message))
    }
}

fn tell(found: &Verification) -> String {
    let mut text = String::new();
    let ledger = &found.ledger;
    let state = if ledger.intact { "intact" } else { "NOT INTACT" };
    let _ = writeln!(text, "ledger: {state}, {} entries ({} erased)", ledger.entries, ledger.erased);
    let _ = match (ledger.records, ledger.differing) {
        (0, 0) if !ledger.intact => writeln!(text, "state: not compared"),
        (records, 0) => writeln!(text, "state: {records} records equal the fold of the entries"),
        (records, n) => writeln!(text, "state: {n} of {records} records are NOT what the entries say"),
    };
    for d in &ledger.differences {
        let entry = d.entry.map(|seq| format!(", which entry {seq} wrote last")).unwrap_or_default();
        let _ = writeln!(text, "  {}{entry}: {}", d.record, d.problem);
    }
    for finding in &ledger.findings {
        let _ = writeln!(text, "  {} {}: {}", finding.class, finding.row, finding.problem);
    }
    for checked in found.files() {
        let _ = match &checked.problem {
            None => {
                writeln!(text, "{}: intact, {} files, {} bytes", checked.name, checked.files, checked.bytes)
            }
            Some(problem) => writeln!(text, "{}: NOT INTACT: {problem}", checked.name),
        };
    }
    text
}
