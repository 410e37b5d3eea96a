//! `almoner restore`: puts a data folder back from a backup.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::{CliError, Globals};
use crate::app::restore::{Restored, restore};
use crate::system::{SystemClock, SystemEntropy};

/// Arguments.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup; the data folder (`--data`) that it becomes is new or empty, and the root key in its place
    #[arg(value_name = "SRC")]
    pub source: PathBuf,
    /// A checkpoint of the ledger that is known from elsewhere, to prove by that nothing was rolled back: a file, or the folder
    /// of a mirror. The last one that was published from the data folder's place is always looked at, where it is still there
    #[arg(long, value_name = "PATH")]
    pub known: Vec<PathBuf>,
    /// Go on though entries are lacking, or nothing says whether any are
    #[arg(long)]
    pub accept_loss: bool,
}

/// Restores.
///
/// # Errors
/// If the backup is damaged, entries are lacking from it, or the folder is not empty.
pub fn run(args: RestoreArgs, globals: &Globals) -> Result<(), CliError> {
    let (output, progress) = (globals.output(), globals.output().progress());
    let tools = (Arc::new(SystemClock) as _, Arc::new(SystemEntropy) as _);
    let how = (args.known.as_slice(), args.accept_loss);
    // The server that is to go on is configured by the file that comes back with the folder, so its key, its last checkpoint and
    // its list of the erased are looked for where that says. An altered one is no file of the backup, and nothing is restored.
    let config = globals.config_or(&args.source.join("data").join("config.toml"))?;
    let done = restore(&args.source, &globals.folder(), &config, how, tools, &*progress)?;
    drop(progress);
    output.result(&done, tell)
}

fn tell(done: &Restored) -> String {
    let mut text = format!(
        "{} entries, {} files, {} bytes, all as they were backed up\n",
        done.entries, done.files, done.bytes
    );
    for known in &done.proven_by {
        let _ = writeln!(
            text,
            "Nothing was rolled back: the ledger continues the checkpoint in {}",
            known.display()
        );
    }
    if let Some(lost) = &done.lost {
        let _ = write!(text, "LOST: entries {} to {}", lost.from, lost.known - 1);
        let types: Vec<_> = lost.types.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        let _ = writeln!(text, "{}{}", if types.is_empty() { "" } else { ": " }, types.join(", "));
    }
    if done.proven_by.is_empty() || done.lost.is_some() {
        text += "What was said since the backup is not known any more: withdrawals, refusals, erasures, revoked tokens. Record \
                 and do it again before anything is released. Receipts of lost entries do not verify; say so to those who hold \
                 them, and to witnesses and mirrors.\n";
    }
    if let Some(kept) = &done.kept {
        let _ = writeln!(text, "The checkpoint that shows the loss is kept in {}", kept.display());
    }
    text
}
