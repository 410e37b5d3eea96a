//! `almoner ledger`: works with the ledger.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{CliError, Globals};
use crate::app::ledger_options;
use crate::flows::checkpoint::export;
use crate::store::sqlite::{Options, SqliteStore};
use crate::system::{SystemClock, SystemEntropy};

/// Arguments.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: LedgerCommand,
}

/// What to do with the ledger.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Write checkpoint, tiles and key as files that `almoner-verify` checks offline
    Export {
        /// The folder to make
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// Does it, also while a server owns the data folder: the ledger is only read.
///
/// # Errors
/// If the data folder, its key or its ledger cannot be opened, or the files cannot be written.
pub fn run(args: LedgerArgs, globals: &Globals) -> Result<(), CliError> {
    let LedgerCommand::Export { dir } = args.command;
    let options = options(globals)?;
    let store = SqliteStore::open_read_only(options)?;
    let done = export(&store, &dir).map_err(|e| CliError::failed(e.kind(), e))?;
    globals.output().result(&done, |done| {
        format!(
            "{} entries of {} in {}: {} files, {} bytes written\nCheck them anywhere with: almoner-verify ledger {}\n",
            done.entries, done.origin, dir.display(), done.files_written, done.bytes_written, dir.display()
        )
    })
}

/// What the ledger of the data folder is opened with.
///
/// # Errors
/// If the folder is none, or its root key is missing or another.
pub(super) fn options(globals: &Globals) -> Result<Options, CliError> {
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
    Ok(ledger_options(&globals.folder(), &globals.config()?, clock, entropy)?)
}
