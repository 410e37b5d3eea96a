//! The store in one SQLite file: ledger, folded state and primary state, written by one thread in one transaction.
//!
//! # How an append goes, and what a crash does to it
//!
//! The caller's thread checks the entries, draws their salts, makes the commitments and encrypts the payloads
//! (`prepare`, `seal`); nothing of that is stored. Then the request stands in the writer's queue (`queue`). The writer takes the
//! whole queue and goes through these [`Step`]s:
//!
//! 1. **Begin** a transaction, and stage every request on top of what is stored: has this act been appended already, do
//!    its preconditions hold, what does the fold make of it, what is its leaf. A request that is refused is answered and
//!    leaves no trace. *A crash here loses requests that nobody was told of; their callers repeat them.*
//! 2. **State**: the changes of the folded state and of the primary state.
//! 3. **Entries**: leaves, encrypted payloads, what is to be indexed, and the keys of people who are new.
//! 4. **Tiles**: the hash tiles of the right edge.
//! 5. **Checkpoint**: the new size and root, signed. It stands in the same transaction as the entries, so there is never
//!    an entry without a signature over it, and never a signature over an entry that is not stored.
//!    *Until here all is in the write-ahead log without a commit record: after a crash SQLite ignores it.*
//! 6. **Commit**: with `synchronous=FULL` SQLite writes the commit record and syncs the write-ahead log before it
//!    returns. *A crash during the sync leaves all of the transaction or nothing. If all, its callers were told nothing;
//!    they repeat, and by their event ids learn the positions that the acts already have.*
//! 7. **Publish** the new checkpoint to readers, and only then answer the callers.
//!    *A crash here is the same: durable, and found by event id.*
//!
//! Now and then, and when the store is closed, a transaction of its own (**Index**) moves what is to be indexed into the
//! tables of the indexes (`recent`). *A crash there leaves it where it was, which is as good.*
//!
//! An erasure is an append of one entry, in a transaction of its own, with a step **Destroy** after the third (`erase`).
//!
//! A failure that is no crash (disk full or read-only, an I/O error) rolls the transaction back, tells every caller in it,
//! reads the end of the log again and goes on; readers are not disturbed. Until a transaction succeeds again the store says
//! that it does not accept ([`Store::accepting`]); appends are still tried, and where none comes the writer itself tries
//! every second by writing the stored checkpoint again. So it accepts again without a restart when there is room: nothing of
//! the failed transaction counts, because its commit record was never written whole. An error of the sync itself is another matter: the system
//! may have forgotten the pages it could not write while it goes on showing them, so what a later sync makes durable may
//! stand on what is not. Then the writer stops ([`StoreError::NotDurable`]): reading goes on at the last published end,
//! nothing is accepted, and the next start takes up what the disk holds.
//!
//! At every start [`boot`] compares the end of the log with what was last signed, and `anchor` with what was last
//! published; on a mismatch the store refuses to start.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;

use almoner_ledger::cose::SignedRoot;
use almoner_ledger::{LogKey, SignedCheckpoint, VerifierKey};
use almoner_model::{Clock, Entropy, Seq, Timestamp};
use rusqlite::Connection;
use serde::Serialize;
use serde_json::Value;

use super::batch::{Base as _, Tip};
use super::prepare::{Request, event_key, prepare};
use super::signing::{Signing, SigningKeys};
use super::{
    Appended, Destroy, Entry, EntryFilter, NewEntry, Precondition, Projector, Store, StoreError, Write,
};
use anchor::{Anchor, Keeper, Kept};
use queue::{Callers, To};
use read::{Index, Reader, Records};
use recent::Recent;
use seal::Sealer;
use writer::{Job, Writer};

pub use snapshot::snapshot;
pub use standing::{Lacking, Standing, standing};

mod anchor;
pub mod audit;
pub mod boot;
mod erase;
mod queue;
mod read;
mod recent;
mod schema;
mod scratch;
mod seal;
mod snapshot;
mod standing;
mod writer;

/// The steps of an append, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The transaction is opened.
    Begin,
    /// Folded and primary state are written.
    State,
    /// Leaves, payloads, indexes and keys are written.
    Entries,
    /// An erasure's payloads, keys and records go; no step of another append.
    Destroy,
    /// Hash tiles are written.
    Tiles,
    /// The signed checkpoint is written.
    Checkpoint,
    /// The transaction becomes durable.
    Commit,
    /// Readers see it.
    Publish,
    /// What was deleted is removed from the files; no step of an append.
    Scrub,
    /// Event ids and topics are moved into their indexes; no step of an append.
    Index,
}

impl Step {
    /// All steps of an append.
    pub const ALL: [Self; 7] =
        [Self::Begin, Self::State, Self::Entries, Self::Tiles, Self::Checkpoint, Self::Commit, Self::Publish];
}

/// A place for tests to make a step fail, not done (`before`) or done (`after`).
pub trait FaultHook: Send + Sync {
    /// Called before a step; an error means the step is not done.
    ///
    /// # Errors
    /// The failure.
    fn before(&self, step: Step) -> Result<(), StoreError>;
    /// Called after a step; an error means the step is done and its success was not noticed.
    ///
    /// # Errors
    /// The failure.
    fn after(&self, step: Step) -> Result<(), StoreError>;
    /// Whether a commit is synced. A test that says no shows that it would notice.
    fn synced(&self) -> bool {
        true
    }
}

/// What a store is opened with.
pub struct Options {
    /// The database file.
    pub path: PathBuf,
    /// Sign checkpoints; their name is the log's origin.
    pub keys: SigningKeys,
    /// Wraps the keys of payloads (label `payload-wrap/v1` of the keyring).
    pub wrapping_key: [u8; 32],
    /// Where the last published checkpoint is kept, outside the data folder; an older database is then refused.
    pub anchor: Option<PathBuf>,
    /// Ledger time.
    pub clock: Arc<dyn Clock>,
    /// Salts, keys and nonces.
    pub entropy: Arc<dyn Entropy>,
    /// The fold.
    pub projector: Arc<dyn Projector>,
    /// For tests.
    pub faults: Option<Arc<dyn FaultHook>>,
}

/// What the writer shows to readers.
struct Published {
    checkpoint: RwLock<SignedCheckpoint>,
    signing: RwLock<Arc<Signing>>,
    sealer: Sealer,
    recent: RwLock<Recent>,
    /// Why nothing more is written.
    stopped: OnceLock<StoreError>,
    /// Why the last transaction was not written, though a next one may be: a full disk, a read-only one.
    waiting: Mutex<Option<StoreError>>,
}

impl Published {
    fn new(signed: SignedCheckpoint, signing: Signing, sealer: Sealer, recent: Recent) -> Self {
        Self {
            checkpoint: RwLock::new(signed),
            signing: RwLock::new(Arc::new(signing)),
            sealer,
            recent: RwLock::new(recent),
            stopped: OnceLock::new(),
            waiting: Mutex::default(),
        }
    }

    fn wait(&self, why: Option<StoreError>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn waiting(&self) -> Option<StoreError> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys in force.
    fn signing(&self) -> Arc<Signing> {
        self.signing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_signing(&self, signing: Arc<Signing>) {
        *self.signing.write().unwrap_or_else(PoisonError::into_inner) = signing;
    }

    fn set(&self, signed: SignedCheckpoint) {
        *self.checkpoint.write().unwrap_or_else(PoisonError::into_inner) = signed;
    }
}

/// A ledger and its state in `ledger.sqlite`.
pub struct SqliteStore {
    path: PathBuf,
    entropy: Arc<dyn Entropy>,
    projector: Arc<dyn Projector>,
    published: Arc<Published>,
    readers: Mutex<Vec<Connection>>,
    queue: Option<Callers<Job>>,
    writer: Option<JoinHandle<()>>,
    /// Ends after the writer, with a last checkpoint to keep.
    _keeper: Option<Keeper>,
}

/// What the operator gives up by going on with an older ledger.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Rollback {
    /// Entries in the ledger as it is.
    pub entries: u64,
    /// Entries that had been published; `None` where the file held no checkpoint of this log.
    pub published: Option<u64>,
    /// Where the checkpoint that was published is kept now.
    pub kept: PathBuf,
}

impl SqliteStore {
    /// Makes the database of an empty log, where there is none. An anchor of another log, which was there before, gives way.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it cannot be made.
    pub fn create(path: &Path, keys: &SigningKeys, anchor: PathBuf) -> Result<(), StoreError> {
        let first = Signing::new(keys, None, Timestamp::from_millis(0))?;
        let empty = first.sign(&Tip::empty())?;
        let anchor = Anchor::new(anchor, &first, keys)?;
        if !matches!(anchor.read()?, Kept::Note(_)) {
            anchor.write(&empty.note)?;
        }
        schema::open_writer(path, &empty.note).map(drop)
    }

    /// Takes the ledger as it is for the one to go on with, though it does not continue what was published; `None` if it
    /// does. Nobody else may have it open.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn accept_rollback(options: &Options) -> Result<Option<Rollback>, StoreError> {
        let Some(path) = options.anchor.clone() else { return Ok(None) };
        let (db, sealer) = (schema::open_reader(&options.path)?, Sealer::new(&options.wrapping_key));
        let reader = Reader { db: &db, sealer: &sealer, index: Index::Table };
        let signing = reader.signing(&options.keys, options.clock.now())?;
        let anchor = Anchor::new(path, &signing, &options.keys)?;
        let (_, signed) = boot::check(&reader, signing.verifier())?;
        let kept = anchor.read()?;
        match anchor.check(&kept, &signed.checkpoint, &reader) {
            Ok(()) => return Ok(None),
            Err(StoreError::RolledBack(_)) => {}
            Err(error) => return Err(error),
        }
        let published = if let Kept::Note(kept) = kept { Some(kept.size) } else { None };
        let suffix = published.map_or_else(|| "other".to_owned(), |size| size.to_string());
        let kept = anchor.set_aside(&suffix)?;
        anchor.write(&signed.note)?;
        Ok(Some(Rollback { entries: signed.checkpoint.size, published, kept }))
    }

    /// The origin of the log in a database, where there is one.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn origin(path: &Path) -> Result<Option<String>, StoreError> {
        if !path.exists() {
            return Ok(None);
        }
        let (db, sealer) = (schema::open_reader(path)?, Sealer::new(&[0; 32]));
        let note = Reader { db: &db, sealer: &sealer, index: Index::Table }.checkpoint_note()?;
        // The first line of a checkpoint is its origin (C2SP tlog-checkpoint).
        let line = note.as_deref().and_then(|note| note.split(|b| *b == b'\n').next());
        Ok(line.map(|line| String::from_utf8_lossy(line).into_owned()))
    }

    /// Opens the store, creating it where there is no file, checks the end of the log and starts the writer.
    ///
    /// # Errors
    /// [`StoreError::NotIntact`] if what is stored does not fit what was signed, [`StoreError::RolledBack`] if it does not
    /// continue what was published: do not serve from it. [`StoreError::Unavailable`] if a file cannot be opened.
    pub fn open(options: Options) -> Result<Self, StoreError> {
        let Options { path, keys, wrapping_key, anchor, clock, entropy, projector, faults } = options;
        let empty = Signing::new(&keys, None, clock.now())?.sign(&Tip::empty())?;
        let db = schema::open_writer(&path, &empty.note)?;
        if faults.as_ref().is_some_and(|hook| !hook.synced()) {
            db.pragma_update(None, "synchronous", "NORMAL").map_err(schema::trouble)?;
        }
        let sealer = Sealer::new(&wrapping_key);
        let reader = Reader { db: &db, sealer: &sealer, index: Index::Table };
        let signing = reader.signing(&keys, clock.now())?;
        let (tip, signed) = boot::check(&reader, signing.verifier())?;
        let anchor = anchor.map(|path| Anchor::new(path, &signing, &keys)).transpose()?;
        if let Some(anchor) = &anchor {
            anchor.check(&anchor.read()?, &signed.checkpoint, &reader)?;
        }
        let recent = Recent::load(&db)?;
        let published = Arc::new(Published::new(signed, signing, sealer, recent));
        let keeper = anchor.map(|anchor| Keeper::start(anchor, published.clone())).transpose()?;
        let (queue, jobs) = queue::queue();
        let writer = Writer {
            db,
            tip,
            keys,
            clock,
            entropy: entropy.clone(),
            projector: projector.clone(),
            published: published.clone(),
            faults,
            gone: BTreeSet::new(),
        };
        let thread = std::thread::Builder::new().name("ledger".into()).spawn(move || writer.run(&jobs));
        let thread =
            thread.map_err(|e| StoreError::Unavailable(format!("no thread to write with: {}", e.kind())))?;
        Ok(Self {
            path,
            entropy,
            projector,
            published,
            readers: Mutex::default(),
            queue: Some(queue),
            writer: Some(thread),
            _keeper: keeper,
        })
    }

    /// Opens the store for reading only, also while another process writes to it. Nothing can be appended.
    ///
    /// # Errors
    /// As [`SqliteStore::open`]; the file must exist.
    pub fn open_read_only(options: Options) -> Result<Self, StoreError> {
        let Options { path, keys, wrapping_key, anchor, clock, entropy, projector, .. } = options;
        // What was kept is read before the database, and by which key it is signed is known after.
        let kept = anchor.as_deref().map_or(Ok(None), anchor::read)?;
        let db = schema::open_reader(&path)?;
        let sealer = Sealer::new(&wrapping_key);
        let reader = Reader { db: &db, sealer: &sealer, index: Index::Table };
        db.execute_batch("BEGIN").map_err(schema::trouble)?;
        let signing = reader.signing(&keys, clock.now())?;
        let (_, signed) = boot::check(&reader, signing.verifier())?;
        if let Some(path) = anchor {
            let anchor = Anchor::new(path, &signing, &keys)?;
            anchor.check(&anchor.understood(kept), &signed.checkpoint, &reader)?;
        }
        db.execute_batch("COMMIT").map_err(schema::trouble)?;
        let published = Arc::new(Published::new(signed, signing, sealer, Recent::default()));
        let readers = Mutex::new(vec![db]);
        Ok(Self { path, entropy, projector, published, readers, queue: None, writer: None, _keeper: None })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read<T>(&self, run: impl FnOnce(&Reader<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let db = match idle {
            Some(db) => db,
            None => schema::open_reader(&self.path)?,
        };
        // Who cannot write does not know what the writing process has in memory.
        let index = self.queue.as_ref().map_or(Index::Table, |_| Index::Memory(&self.published.recent));
        let result = run(&Reader { db: &db, sealer: &self.published.sealer, index });
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(db);
        result
    }

    fn ask<T>(&self, job: impl FnOnce(To<Result<T, StoreError>>) -> Job) -> Result<T, StoreError> {
        let stopped = || {
            StoreError::Unavailable("the ledger is open for reading only, or its writer has stopped".into())
        };
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.ask(job).ok_or_else(stopped)?
    }

    fn seal(&self, request: &mut Request) -> Result<(), StoreError> {
        for entry in &mut request.entries {
            let load = |subject| self.read(|r| r.wrapped_key(subject));
            self.published.sealer.seal(entry, &*self.entropy, load)?;
        }
        Ok(())
    }
}

impl Drop for SqliteStore {
    /// Ends the queue and waits until what stands in it is written. The writer's connection is closed last, which folds
    /// the write-ahead log into the database file.
    fn drop(&mut self) {
        self.queue = None;
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}

impl Store for SqliteStore {
    fn append(
        &self,
        entries: Vec<NewEntry>,
        preconditions: &[Precondition],
    ) -> Result<Vec<Appended>, StoreError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let mut request = prepare(entries, preconditions, &*self.entropy)?;
        self.seal(&mut request)?;
        self.ask(|to| Job::Append(request, to))
    }

    fn erase(
        &self,
        entry: NewEntry,
        destroy: Destroy,
        preconditions: &[Precondition],
    ) -> Result<Appended, StoreError> {
        let mut request = prepare(vec![entry], preconditions, &*self.entropy)?;
        self.seal(&mut request)?;
        let appended = self.ask(|to| Job::Erase(request, Box::new(destroy), to))?;
        appended.first().copied().ok_or_else(|| StoreError::Invalid("nothing was to be appended".into()))
    }

    fn scrub(&self) -> Result<(), StoreError> {
        self.ask(Job::Scrub)
    }

    fn accepting(&self) -> Result<(), StoreError> {
        self.published.stopped.get().cloned().or_else(|| self.published.waiting()).map_or(Ok(()), Err)
    }

    fn checkpoint(&self) -> SignedCheckpoint {
        self.published.checkpoint.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn vkey(&self) -> String {
        self.published.signing().verifier().line().to_owned()
    }

    fn verifier(&self) -> Result<VerifierKey, StoreError> {
        Ok(self.published.signing().verifier().clone())
    }

    fn signed_root(&self) -> Result<SignedRoot, StoreError> {
        let signed = self.checkpoint();
        // A change of the keys may come in between.
        let key = |key: &LogKey| super::memory::sign_root(&signed, key).ok();
        let root = self.published.signing().keys().iter().find_map(key);
        root.ok_or_else(|| StoreError::Unavailable("the key is being changed; ask again".into()))
    }

    fn leaves(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        if range.start > range.end || range.end > self.size() {
            return Err(StoreError::Invalid("the range reaches beyond the log".into()));
        }
        self.read(|r| r.leaves(range.start, range.end))
    }

    fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        if index >= 1 << 48 {
            return Ok(None);
        }
        self.read(|r| r.tile(level, index))
    }

    fn entry(&self, seq: Seq) -> Result<Option<Entry>, StoreError> {
        self.read(|r| r.entry(seq))
    }

    fn entries(&self, from: Seq, limit: usize, filter: &EntryFilter) -> Result<Vec<Entry>, StoreError> {
        const PAGE: usize = 512;
        self.read(|r| {
            let (mut found, mut next) = (Vec::new(), from);
            loop {
                let seqs = r.seqs(next, filter.topic.as_deref(), PAGE)?;
                for seq in &seqs {
                    if found.len() == limit {
                        return Ok(found);
                    }
                    let wanted = filter.kinds.is_empty() || r.is_of_kind(*seq, &filter.kinds)?;
                    if wanted {
                        found.extend(r.entry(*seq)?);
                    }
                }
                match seqs.last() {
                    Some(last) if seqs.len() == PAGE => next = last + 1,
                    _ => return Ok(found),
                }
            }
        })
    }

    fn find_event(&self, event_id: &str) -> Result<Option<Seq>, StoreError> {
        self.read(|r| r.event_seq(&event_key(event_id)))
    }

    fn get(&self, kind: &str, key: &str) -> Result<Option<Value>, StoreError> {
        self.read(|r| r.record(Records::Folded, kind, key))
    }

    fn scan(
        &self,
        kind: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, StoreError> {
        self.read(|r| r.records(Records::Folded, kind, prefix, after, limit))
    }

    fn put_primary(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.ask(|to| Job::Primary(writes, None, to)).map(drop)
    }

    fn swap_primary(&self, write: Write, expected: Option<&Value>) -> Result<bool, StoreError> {
        self.ask(|to| Job::Primary(vec![write], Some(expected.cloned()), to))
    }

    fn get_primary(&self, kind: &str, key: &str) -> Result<Option<Value>, StoreError> {
        self.read(|r| r.record(Records::Primary, kind, key))
    }

    fn scan_primary(
        &self,
        kind: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, StoreError> {
        self.read(|r| r.records(Records::Primary, kind, prefix, after, limit))
    }
}

#[cfg(test)]
mod tests;
