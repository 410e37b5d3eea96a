//! `almoner ledger`: works with the ledger.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use almoner_model::Seq;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{CliError, Globals};
use crate::app::{accept_rollback, ledger_options};
use crate::flows::checkpoint::{export, write_receipt};
use crate::store::sqlite::{Options, Rollback, SqliteStore};
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
    /// Write an entry with its proof and COSE receipt, for somebody to keep and check offline
    Receipt {
        /// The entry's number
        #[arg(value_name = "ENTRY")]
        seq: Seq,
        /// The folder to write to; made where it is not there
        #[arg(value_name = "DIR", default_value = ".")]
        dir: PathBuf,
    },
    /// Go on with an older ledger after a restore, though newer entries had been published
    AcceptRollback,
}

/// Does it.
///
/// # Errors
/// If the data folder, its key or its ledger cannot be opened, or the files cannot be written.
pub fn run(args: LedgerArgs, globals: &Globals) -> Result<(), CliError> {
    match args.command {
        LedgerCommand::Export { dir } => write_files(&dir, globals),
        LedgerCommand::Receipt { seq, dir } => receipt(seq, &dir, globals),
        LedgerCommand::AcceptRollback => accept(globals),
    }
}

/// Also while a server owns the data folder: the ledger is only read.
fn write_files(dir: &Path, globals: &Globals) -> Result<(), CliError> {
    let options = options(globals)?;
    let store = SqliteStore::open_read_only(options)?;
    let done = export(&store, dir).map_err(|e| CliError::failed(e.kind(), e))?;
    globals.output().result(&done, |done| {
        format!(
            "{} entries of {} in {}: {} files, {} bytes written\nCheck them anywhere with: almoner-verify ledger {}\n",
            done.entries, done.origin, dir.display(), done.files_written, done.bytes_written, dir.display()
        )
    })
}

/// Also while a server owns the data folder.
fn receipt(seq: Seq, dir: &Path, globals: &Globals) -> Result<(), CliError> {
    let store = SqliteStore::open_read_only(options(globals)?)?;
    let written = write_receipt(&store, seq, dir).map_err(|e| CliError::failed(e.kind(), e))?;
    globals.output().result(&written, |w| {
        let (entry, vkey) = (w.entry.display(), w.vkey.display());
        let check = |file: &Path| format!("almoner-verify receipt {} {entry} --vkey {vkey}", file.display());
        format!(
            "Entry {} of {}: {entry}\nEither file proves it, with the key in {vkey}, which its keeper should compare with one got by another \
             way:\n  {}\n  {}\n",
            w.seq,
            w.size,
            check(&w.proof),
            check(&w.receipt)
        )
    })
}

/// Only while nobody owns the data folder.
fn accept(globals: &Globals) -> Result<(), CliError> {
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
    let rollback = accept_rollback(&globals.folder(), &globals.config()?, clock, entropy)?;
    let value = json!({"accepted": rollback.is_some(), "rollback": rollback});
    globals.output().result(&value, |_| match &rollback {
        None => "The ledger continues what was published; there is nothing to accept.\n".to_owned(),
        Some(Rollback { entries, published, kept }) => {
            let lost = match published {
                Some(published) => format!("{published} had been published"),
                None => "it is not the one that was published from this place".to_owned(),
            };
            format!(
                "The ledger goes on with {entries} entries; {lost}.\nThe checkpoint that shows it is kept in {}.\n\
                 Withdrawals and refusals since then are not known any more: record them again before anything is \
                 released. Receipts of lost entries do not verify; say so to those who hold them or mirror the log.\n",
                kept.display()
            )
        }
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
