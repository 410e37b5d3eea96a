//! `almoner inspect`: says what an export or a file is.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::{CliError, Globals};
use crate::flows::inspect::{Inspected, inspect};
use crate::intake::Limits;

/// Arguments.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// An export folder, a dataset version, a release, or a Parquet file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Of an export: name every file, with the number that reports give it
    #[arg(long)]
    pub files: bool,
}

/// Says what it is.
///
/// # Errors
/// If it is none of these, or is damaged.
pub fn run(args: InspectArgs, globals: &Globals) -> Result<(), CliError> {
    let found =
        inspect(&args.path, &Limits::default(), args.files).map_err(|e| CliError::failed(e.kind(), e))?;
    globals.output().result(&found, human)
}

/// What people read. Writing to a string does not fail.
fn human(found: &Inspected) -> String {
    let mut text = String::new();
    match found {
        Inspected::Export { inputs, strangers, files } => {
            let _ = writeln!(text, "an export\n");
            for (kind, of) in inputs {
                let _ = writeln!(text, "  {kind:28} {:>6} files {:>14} bytes", of.files, of.bytes);
            }
            for (reason, n) in strangers {
                let _ = writeln!(text, "  left alone: {reason:16} {n:>6} entries");
            }
            for (at, file) in files.iter().flatten().enumerate() {
                let _ = writeln!(
                    text,
                    "{}  {:>5}  {:20} {}",
                    if at == 0 { "\n" } else { "" },
                    file.ordinal,
                    file.kind.or(file.left_alone).unwrap_or_default(),
                    file.path
                );
            }
        }
        Inspected::Dataset { name, created, profile, persons, tables, verified, .. } => {
            let _ = writeln!(text, "dataset {name}, {profile}, made {created}, {persons} people");
            let _ = writeln!(
                text,
                "{} files agree with the manifest ({} bytes)\n",
                verified.files, verified.bytes
            );
            for (table, rows) in tables {
                let _ = writeln!(text, "  {table:24} {rows:>12}");
            }
        }
        Inspected::Release { manifest } => {
            let said =
                |name: &str| manifest.get(name).and_then(serde_json::Value::as_str).unwrap_or("?").to_owned();
            let _ =
                writeln!(text, "release {} for {} ({})", said("release"), said("recipient"), said("created"));
            let _ = writeln!(text, "check it with `almoner-verify release`");
        }
        Inspected::Parquet { rows, row_groups, columns } => {
            let _ = writeln!(text, "Parquet, {rows} rows in {row_groups} row groups\n");
            for column in columns {
                let _ = writeln!(text, "  {column}");
            }
        }
    }
    text
}
