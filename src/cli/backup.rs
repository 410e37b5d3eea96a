//! `almoner backup`: copies the data folder.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::{CliError, Globals};
use crate::app::backup;
use crate::system::{SystemClock, SystemEntropy};

/// Arguments.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The folder to make, outside the data folder
    #[arg(value_name = "DEST")]
    pub dest: PathBuf,
}

/// Copies, also while a server owns the data folder: it is only read, and the server is not held up.
///
/// # Errors
/// If the data folder or its key cannot be opened, or the copy not be written.
pub fn run(args: BackupArgs, globals: &Globals) -> Result<(), CliError> {
    let (output, progress) = (globals.output(), globals.output().progress());
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
    let made = backup(&globals.folder(), &globals.config()?, clock, entropy, &args.dest, &*progress)?;
    drop(progress);
    let value = json!({
        "backup": args.dest, "created": made.created, "origin": made.origin, "entries": made.entries,
        "files": made.files.len(), "bytes": made.bytes(), "checkpoint": made.checkpoint,
    });
    output.result(&value, |_| {
        format!(
            "{} entries, {} files, {} bytes in {}\nThe root key is not in it: keep a copy of that apart, or nobody can read \
             the backup.\n",
            made.entries,
            made.files.len(),
            made.bytes(),
            args.dest.display()
        )
    })
}
