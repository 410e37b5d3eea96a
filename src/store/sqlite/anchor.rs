//! The anchor: the last published checkpoint, in a file outside the data folder.
//!
//! An older copy of `ledger.sqlite` fits what was signed in it; nothing inside says that it is old. Served from, it would
//! forget what was said since, withdrawals among it, and sign another history at sizes that receipts already name. So
//! the note that was published last is kept elsewhere, and a start refuses a log that does not continue it, until the
//! operator accepts the loss ([`super::SqliteStore::accept_rollback`]).
//!
//! The file is written by a thread of its own, at most once a second, and when the store is closed; no append waits for
//! it. A checkpoint is published after its commit, so the file never says more than is durable. It may say less by what
//! was appended in the last second before a crash: a copy that lacks only that is not noticed. Nor is one whose anchor
//! was put back or removed with it; other witnesses see to that.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use almoner_ledger::proof::{self, Tiles};
use almoner_ledger::{Checkpoint, SignedCheckpoint, VerifierKey};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::Published;
use super::read::Reader;
use crate::store::StoreError;
use crate::store::signing::{Signing, SigningKeys};

/// How long a new checkpoint may wait to be kept.
const EVERY: Duration = Duration::from_secs(1);

/// So many changes of the key may lie between a copy of the database and what was published.
const LATER_KEYS: u32 = 16;

/// The file, and the keys under which it counts.
#[derive(Clone)]
pub struct Anchor {
    path: PathBuf,
    vkey: VerifierKey,
    later: Vec<VerifierKey>,
}

/// What the file says.
pub enum Kept {
    /// There is none.
    Nothing,
    /// It is not a checkpoint of this log.
    Foreign,
    /// This was published.
    Note(Checkpoint),
}

impl Anchor {
    /// The anchor at `path` of the log that these keys sign. By later keys than it knows a copy is recognised that is older
    /// than the change to them.
    pub fn new(path: PathBuf, signing: &Signing, keys: &SigningKeys) -> Result<Self, StoreError> {
        let later = signing.later(keys, LATER_KEYS).collect::<Result<_, _>>()?;
        Ok(Self { path, vkey: signing.verifier().clone(), later })
    }

    fn trouble(&self, what: &str, error: &io::Error) -> StoreError {
        trouble(&self.path, what, error)
    }

    /// Reads it.
    pub fn read(&self) -> Result<Kept, StoreError> {
        read(&self.path).map(|note| self.understood(note))
    }

    /// What a note says that [`read`] gave.
    pub fn understood(&self, note: Option<Vec<u8>>) -> Kept {
        let Some(note) = note else { return Kept::Nothing };
        let mut keys = std::iter::once(&self.vkey).chain(&self.later);
        let signed = keys.find_map(|key| Checkpoint::open(&note, key).ok());
        signed.map_or(Kept::Foreign, |signed| Kept::Note(signed.checkpoint))
    }

    /// Writes it: under its name there is always one whole note.
    pub fn write(&self, note: &[u8]) -> Result<(), StoreError> {
        let new = self.suffixed("new");
        let write = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            file.write_all(note)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|error| self.trouble("written to", &error))
    }

    /// Keeps what is there under another name, which is returned; durable once this is written anew.
    pub fn set_aside(&self, suffix: &str) -> Result<PathBuf, StoreError> {
        let aside = self.suffixed(suffix);
        let copy = || fs::copy(&self.path, &aside).and_then(|_| File::open(&aside)?.sync_all());
        copy().map_err(|error| self.trouble("copied from", &error))?;
        Ok(aside)
    }

    fn suffixed(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".");
        name.push(suffix);
        PathBuf::from(name)
    }

    /// Whether the log under `signed` continues what was kept, by a consistency proof over its stored tiles.
    ///
    /// # Errors
    /// [`StoreError::RolledBack`] if it does not; as [`Reader::tile`].
    pub fn check(&self, kept: &Kept, signed: &Checkpoint, reader: &Reader<'_>) -> Result<(), StoreError> {
        let file = self.path.display();
        let refuse = |what: String| Err(StoreError::RolledBack(what));
        let kept = match kept {
            Kept::Nothing => return Ok(()),
            Kept::Foreign => return refuse(format!("{file} is not a checkpoint of this ledger")),
            Kept::Note(kept) => kept,
        };
        let (old, new) = (kept.size, signed.size);
        if old > new {
            return refuse(format!("it has {new} entries, and {old} had been published, as {file} says"));
        }
        if old == 0 {
            return Ok(());
        }
        let hashes = match proof::prove_consistency(&Stored(reader), old, new) {
            Ok(hashes) => hashes,
            Err(proof::ProveError::Source(error)) => return Err(error),
            Err(error) => return Err(StoreError::NotIntact(error.to_string())),
        };
        match proof::check_consistency(old, new, &kept.root, &signed.root, &hashes) {
            Ok(()) => Ok(()),
            Err(_) => {
                refuse(format!("its first {old} entries are not those that {file} says were published"))
            }
        }
    }
}

fn trouble(path: &Path, what: &str, error: &io::Error) -> StoreError {
    let (path, kind) = (path.display(), error.kind());
    StoreError::Unavailable(format!(
        "the last checkpoint cannot be {what} {path} ({kind}); name another place with `ledger.checkpoint`"
    ))
}

/// The file's bytes, if it is there. Where the database is being written to, read this first: it never says more than the
/// database.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(note) => Ok(Some(note)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(trouble(path, "read from", &error)),
    }
}

/// The tiles of an open database.
struct Stored<'a>(&'a Reader<'a>);

impl Tiles for Stored<'_> {
    type Error = StoreError;
    fn tile(&self, level: u8, index: u64, _width: u16) -> Result<Vec<u8>, StoreError> {
        let missing = || StoreError::NotIntact(format!("hash tile {index} of level {level} is missing"));
        self.0.tile(level, index)?.ok_or_else(missing)
    }
}

/// Keeps the anchor up to date until it is dropped, and writes it a last time then.
pub struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Writes what is published now, and starts keeping it up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file cannot be written.
    pub(super) fn start(anchor: Anchor, published: Arc<Published>) -> Result<Self, StoreError> {
        let first = current(&published);
        if !matches!(anchor.read()?, Kept::Note(kept) if kept == first.checkpoint) {
            anchor.write(&first.note)?;
        }
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let run = move || keep(&anchor, &published, first.checkpoint.size, &stopped);
        let thread = std::thread::Builder::new().name("anchor".into()).spawn(run);
        let thread =
            thread.map_err(|e| StoreError::Unavailable(format!("no thread for the anchor: {}", e.kind())))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn current(published: &Published) -> SignedCheckpoint {
    published.checkpoint.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn keep(anchor: &Anchor, published: &Published, mut kept: u64, stopped: &Receiver<()>) {
    let mut failed = false;
    loop {
        let ended = stopped.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout);
        let signed = current(published);
        if signed.checkpoint.size != kept {
            match anchor.write(&signed.note) {
                Ok(()) => (kept, failed) = (signed.checkpoint.size, false),
                Err(error) if !failed => {
                    failed = true;
                    tracing::error!(%error, "an older ledger might not be noticed at the next start");
                }
                Err(_) => {}
            }
        }
        if ended {
            return;
        }
    }
}
