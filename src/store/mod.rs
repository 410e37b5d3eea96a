//! The store: the ledger, the state folded from it, and the little primary state beside it, behind one narrow trait.
//!
//! This is where `flows` end: a flow decides, appends, and the entry is durable before anything is revealed. Two
//! backends, [`memory`] for tests and [`sqlite`] for keeps, run the same sequencing code (`batch`) and pass the same
//! conformance suite.
//!
//! Invariants:
//! - An append is all or nothing, durable when it returns, and idempotent by `event_id`.
//! - Projections change only inside the append that causes them; they are a fold of [`Projector`] over the entries.
//! - Leaf time never goes back. What a participant does carries the day only (or the time of the entry before it, where
//!   that is later), so the log does not say at what hour a patient acted.
//!
//! What it does not do: decide anything, or know what a payload means.

use std::ops::Range;

use almoner_ledger::commitment::{Field, Salt};
use almoner_ledger::cose::SignedRoot;
use almoner_ledger::{Leaf, SignedCheckpoint, VerifierKey};
use almoner_model::{Digest, Seq, SubjectId, Timestamp};
use serde::Serialize;
use serde_json::Value;

pub use crate::events::Actor;
pub use crate::state::projection::{ProjectedEntry, Projector, Rejection, View, Write};

mod batch;
mod destroy;
pub mod memory;
mod prepare;
pub mod rebuild;
pub mod signing;
pub mod sqlite;

pub use destroy::{Destroy, Shared};

use crate::error::ErrorKind;

/// An act to be appended.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// A random UUID of this act (RFC 9562 version 4), lower case with hyphens. Appending it again is not a second act.
    pub event_id: String,
    /// The leaf's `type` ([`crate::events::Event::kind`]).
    pub kind: &'static str,
    /// Who acts.
    pub actor: Actor,
    /// Whom it concerns, if one person.
    pub subject: Option<SubjectId>,
    /// What is said. Stands in the leaf as a commitment only.
    pub payload: Value,
    /// For decisions: SHA-256 of the rules applied.
    pub policy: Option<Digest>,
    /// For decisions: the outcome in one word.
    pub decision: Option<String>,
    /// For decisions: the ledger size it was made at.
    pub as_of: Option<Seq>,
    /// For decisions: the last instant at which they hold. At a later ledger time nothing is appended: what comes of the rules
    /// then is to be decided then.
    pub until: Option<Timestamp>,
    /// What the entry is about, for [`Precondition`]s and [`EntryFilter`]s; kept in the database only. `subject:<id>` is
    /// added for an entry with a subject.
    pub topics: Vec<String>,
}

/// "Nothing has been said about this since I looked": no entry of `topic` stands at `as_of` or after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Precondition {
    /// The topic.
    pub topic: String,
    /// The ledger size that was seen.
    pub as_of: Seq,
}

/// Where an act stands in the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Appended {
    /// Position.
    pub seq: Seq,
    /// Ledger time.
    pub time: Timestamp,
    /// RFC 6962 hash of the leaf.
    pub leaf_hash: Digest,
}

/// An entry with what is kept beside it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Position.
    pub seq: Seq,
    /// The leaf's exact bytes.
    pub bytes: Vec<u8>,
    /// The leaf, read.
    pub leaf: Leaf,
    /// Whom it concerns; `None` also when erased.
    pub subject: Option<SubjectId>,
    /// What is under the commitments.
    pub payload: Payload,
}

/// What is kept beside a leaf.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Who acted, what was said, and the salt of the commitments.
    Present {
        /// Who acted.
        actor: Actor,
        /// What was said.
        value: Value,
        /// Opens the leaf's commitments; see [`Payload::opening`].
        salt: Salt,
    },
    /// Destroyed, as the entry at this position says.
    Erased(Option<Seq>),
}

impl Payload {
    /// What was said, unless erased.
    pub const fn value(&self) -> Option<&Value> {
        match self {
            Self::Present { value, .. } => Some(value),
            Self::Erased(_) => None,
        }
    }

    /// Who acted, unless erased.
    pub const fn actor(&self) -> Option<&Actor> {
        match self {
            Self::Present { actor, .. } => Some(actor),
            Self::Erased(_) => None,
        }
    }

    /// The key that opens one commitment of the leaf and says nothing about the others; unless erased.
    pub fn opening(&self, field: Field) -> Option<[u8; 32]> {
        match self {
            Self::Present { salt, .. } => Some(salt.opening(field)),
            Self::Erased(_) => None,
        }
    }
}

/// Which entries to list. An empty filter lists all.
#[derive(Clone, Default, Debug)]
pub struct EntryFilter {
    /// Only of these kinds; all if empty.
    pub kinds: Vec<String>,
    /// Only of this topic.
    pub topic: Option<String>,
}

/// A fold that keeps nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoProjections;

impl Projector for NoProjections {
    fn project(&self, _: &ProjectedEntry<'_>, _: &dyn View) -> Result<Vec<Write>, Rejection> {
        Ok(Vec::new())
    }
}

/// Why the store said no.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// Something was said about `topic` since the caller looked; of [`crate::state::topic::TIME`], that the last instant is over
    /// at which the entry was to hold.
    #[error("entry {seq} came in between; look again and decide again")]
    Precondition {
        /// About what.
        topic: String,
        /// The entry that came in between.
        seq: Seq,
    },
    /// The fold refused the entry.
    #[error("{0}")]
    Rejected(String),
    /// The event id stands in the ledger with another content.
    #[error("event {0} is in the ledger already with another content; give a new act a new event id")]
    EventReused(String),
    /// The entry itself is malformed.
    #[error("{0}")]
    Invalid(String),
    /// What is stored does not fit what was signed.
    #[error("the store is not intact: {0}. Stop, keep the folder as it is, and run `almoner verify`")]
    NotIntact(String),
    /// The database is older than what was published from it, or another one.
    #[error(
        "the ledger is an older copy, or another one: {0}. Served from, it would forget what was said since. Put the \
         newest copy in its place; if there is none, accept the loss with `almoner ledger accept-rollback`"
    )]
    RolledBack(String),
    /// The disk failed to make something durable. What it holds is not known any more, whatever the page cache says, so
    /// nothing is accepted until the store is opened again.
    #[error(
        "the disk failed to make the ledger durable ({0}); nothing was acknowledged, and nothing more is accepted. Look at \
         the disk, then start the server again"
    )]
    NotDurable(String),
    /// Disk, lock or database trouble; nothing was acknowledged.
    #[error("the store cannot be read or written: {0}")]
    Unavailable(String),
}

impl StoreError {
    /// What kind of refusal it is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Precondition { .. } | Self::Rejected(_) | Self::EventReused(_) => ErrorKind::Conflict,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::NotIntact(_) | Self::RolledBack(_) | Self::NotDurable(_) | Self::Unavailable(_) => {
                ErrorKind::Fault
            }
        }
    }
}

/// Ledger, projections and primary state. Every method may be called from many threads at once and may block.
pub trait Store: Send + Sync {
    /// Appends `entries` in order, all or none, and returns when they are durable. If all their `event_id`s stand in the
    /// ledger already, with the same content, nothing is appended and the earlier positions are returned.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was appended.
    fn append(
        &self,
        entries: Vec<NewEntry>,
        preconditions: &[Precondition],
    ) -> Result<Vec<Appended>, StoreError>;

    /// Appends an entry, and in the same transaction destroys what `destroy` names. The same act again destroys nothing.
    /// What is gone can still lie in the files until [`Store::scrub`].
    ///
    /// # Errors
    /// [`StoreError`]; nothing was appended and nothing is gone. [`StoreError::Invalid`] for an entry that is not there or
    /// was erased before.
    fn erase(
        &self,
        entry: NewEntry,
        destroy: Destroy,
        preconditions: &[Precondition],
    ) -> Result<Appended, StoreError>;

    /// Removes from the store's files whatever was deleted: free pages, free space in pages, the write-ahead log.
    ///
    /// # Errors
    /// [`StoreError`]; what was deleted may still lie there.
    fn scrub(&self) -> Result<(), StoreError>;

    /// Whether the store takes appends and writes.
    ///
    /// # Errors
    /// Why it does not.
    fn accepting(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Number of entries.
    fn size(&self) -> u64 {
        self.checkpoint().checkpoint.size
    }

    /// The last signed checkpoint. It always covers every acknowledged entry.
    fn checkpoint(&self) -> SignedCheckpoint;

    /// The verifier key line (C2SP signed-note) of the log's newest key.
    fn vkey(&self) -> String;

    /// Every key that the log has had, each for its time.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if the key's line is none.
    fn verifier(&self) -> Result<VerifierKey, StoreError> {
        VerifierKey::parse(&self.vkey()).map_err(|e| StoreError::Invalid(e.to_string()))
    }

    /// The root of the last signed checkpoint, signed for COSE receipts too (RFC 9942). Nothing else is signed on request.
    ///
    /// # Errors
    /// [`StoreError::NotIntact`] if the checkpoint is not one that the log's key signed.
    fn signed_root(&self) -> Result<SignedRoot, StoreError>;

    /// The leaves at `range`, as stored.
    ///
    /// # Errors
    /// [`StoreError`] if it reaches beyond the log, or the store cannot be read.
    fn leaves(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError>;

    /// All hashes of the tile at `level`, `index` so far (1 to 256, 32 bytes each); `None` if there are none.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, StoreError>;

    /// The entry at `seq` with its payload; `None` beyond the end.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read or the payload does not fit its leaf.
    fn entry(&self, seq: Seq) -> Result<Option<Entry>, StoreError>;

    /// At most `limit` entries from `from` on that pass `filter`, in order.
    ///
    /// # Errors
    /// As [`Store::entry`].
    fn entries(&self, from: Seq, limit: usize, filter: &EntryFilter) -> Result<Vec<Entry>, StoreError>;

    /// Where an act stands, by its event id.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    fn find_event(&self, event_id: &str) -> Result<Option<Seq>, StoreError>;

    /// One record of the folded state.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    fn get(&self, kind: &str, key: &str) -> Result<Option<Value>, StoreError>;

    /// Records of a kind whose key begins with `prefix` and comes after `after`, in order of keys.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    fn scan(
        &self,
        kind: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, StoreError>;

    /// Writes primary state (what is not a fold: tokens, jobs, idempotency keys), all or none, durable on return.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was written.
    fn put_primary(&self, writes: Vec<Write>) -> Result<(), StoreError>;

    /// Sets one primary record if it now is `expected`; says whether it did. Two callers with the same expectation: one
    /// succeeds.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was written.
    fn swap_primary(&self, write: Write, expected: Option<&Value>) -> Result<bool, StoreError>;

    /// One primary record.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    fn get_primary(&self, kind: &str, key: &str) -> Result<Option<Value>, StoreError>;

    /// Primary records, as [`Store::scan`].
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    fn scan_primary(
        &self,
        kind: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, StoreError>;
}

#[cfg(test)]
pub(crate) mod conformance;
