//! `almoner verify`: checks ledger, datasets and releases against each other.

use std::fmt::Write as _;

use clap::Args;

use super::{CliError, Globals};
use crate::error::ErrorKind;
use crate::flows::verify::{Verification, verify};

/// Arguments.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Only the ledger, not the bytes of datasets and releases
    #[arg(long)]
    pub ledger_only: bool,
}

/// Checks, also while a server owns the data folder, and where a server refuses to start from it.
///
/// # Errors
/// If anything is not as it must be (what was found is on standard output), or the data folder cannot be opened.
pub fn run(args: VerifyArgs, globals: &Globals) -> Result<(), CliError> {
    let folder = globals.folder();
    let options = super::ledger::options(globals)?;
    let found = verify(options, &folder.datasets(), &folder.releases(), &folder.blobs(), !args.ledger_only)?;
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
    let _ = writeln!(
        text,
        "ledger: {state}, {} entries ({} erased), {} records of state equal the fold",
        ledger.entries, ledger.erased, ledger.records
    );
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
