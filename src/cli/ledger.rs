//! `almoner ledger`: works with the ledger.

use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use almoner_model::{ContributorId, Seq};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::{CliError, Globals};
use crate::app::{accept_rollback, keyring, ledger_options};
use crate::blob::Blobs;
use crate::error::ErrorKind;
use crate::flows::checkpoint::{Exported, export, write_receipt};
use crate::flows::opened::{self, Opened, Source};
use crate::flows::release::members_in;
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
        /// Write `payloads.ndjson` too: what an auditor needs to make every decision again. It names people by the exchange's
        /// ids and opens what members of releases said
        #[arg(long)]
        payloads: bool,
        /// Only what a board of this contributor may see; may be given several times
        #[arg(long, value_name = "CONTRIBUTOR", requires = "payloads")]
        board: Vec<ContributorId>,
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
        LedgerCommand::Export { dir, payloads, board } => {
            write_files(&dir, payloads.then_some(&*board), globals)
        }
        LedgerCommand::Receipt { seq, dir } => receipt(seq, &dir, globals),
        LedgerCommand::AcceptRollback => accept(globals),
    }
}

/// Also while a server owns the data folder: the ledger is only read. `board` are the contributors that the reader of payloads
/// speaks for, all if there are none.
fn write_files(dir: &Path, board: Option<&[ContributorId]>, globals: &Globals) -> Result<(), CliError> {
    let options = options(globals)?;
    let store = SqliteStore::open_read_only(options)?;
    // Before the log, which may grow meanwhile: the log is then never shorter than what is opened of it.
    let payloads = match board {
        None => None,
        Some(board) => Some(write_payloads(dir, &store, board, globals)?),
    };
    let log = export(&store, dir).map_err(|e| CliError::failed(e.kind(), e))?;
    let done = Done { log, payloads };
    globals.output().result(&done, |done| {
        let (log, dir) = (&done.log, dir.display());
        let mut text = format!(
            "{} entries of {} in {dir}: {} files, {} bytes written\nCheck them anywhere with: almoner-verify ledger {dir}\n",
            log.entries, log.origin, log.files_written, log.bytes_written
        );
        if let Some(opened) = &done.payloads {
            text += &format!(
                "{} entries opened, {} members of {} releases, in {dir}/payloads.ndjson: keep it as a list of patients is kept\n\
                 Decide again with: almoner-verify replay {dir} {dir}/payloads.ndjson\n",
                opened.entries, opened.members, opened.releases
            );
        }
        text
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

/// What an export wrote.
#[derive(Serialize)]
struct Done {
    #[serde(flatten)]
    log: Exported,
    #[serde(skip_serializing_if = "Option::is_none")]
    payloads: Option<Opened>,
}

/// For the owner of the file only; under its name it is whole or not there.
fn write_payloads(
    dir: &Path,
    store: &SqliteStore,
    board: &[ContributorId],
    globals: &Globals,
) -> Result<Opened, CliError> {
    let failed = |e: &dyn std::fmt::Display| CliError::failed(ErrorKind::Fault, e);
    let folder = globals.folder();
    let keys = keyring(&folder, &globals.config()?)?;
    let documents = Blobs::local(&folder.blobs()).map_err(|e| failed(&e))?;
    let source =
        Source { store, documents: &documents, members: &|id| members_in(&folder.releases(), &keys, id) };
    fs::create_dir_all(dir).map_err(|e| failed(&e))?;
    let (new, path) = (dir.join("payloads.ndjson.new"), dir.join("payloads.ndjson"));
    let mut file = fs::OpenOptions::new();
    file.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    let mut out = BufWriter::new(file.open(&new).map_err(|e| failed(&e))?);
    let done = opened::write(source, (!board.is_empty()).then_some(board), &mut out).map_err(|e| {
        // It names people; what is half is of use to nobody.
        let _ = fs::remove_file(&new);
        CliError::failed(e.kind(), e)
    })?;
    out.get_ref().sync_all().and_then(|()| fs::rename(&new, &path)).map_err(|e| failed(&e))?;
    Ok(done)
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
