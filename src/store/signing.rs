//! Which keys sign, as the folded state says: the newest, and until their overlap ends those before it.
//!
//! An entry `key.rotated` changes them in its own transaction: the checkpoint that first has it is signed by the old key and
//! by the new one (`almoner_ledger::handover`). After a crash either both are there or neither, and a start reads from the
//! state which keys sign. A key is made from the root key by its number, so none is ever stored.

use std::fmt;
use std::sync::Arc;

use almoner_control::state::records::LogKeys;
use almoner_ledger::{Checkpoint, KeyError, LogKey, SignedCheckpoint, VerifierKey};
use almoner_model::{Seq, Timestamp};
use serde_json::Value;

use super::StoreError;
use super::batch::Tip;

/// Kind of the records, beside the folded state, of the checkpoints under which a key was changed, by size.
pub const ROTATION: &str = "log-key-handover";

/// Makes the key of an epoch.
type Make = dyn Fn(u32) -> Result<LogKey, KeyError> + Send + Sync;

/// The keys of a log, by epoch: 0 is the first.
#[derive(Clone)]
pub struct SigningKeys(Arc<Make>);

impl SigningKeys {
    /// Keys that `make` makes; always the same for one epoch.
    pub fn new(make: impl Fn(u32) -> Result<LogKey, KeyError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// The key of an epoch.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if its name cannot stand in a checkpoint.
    pub fn of(&self, epoch: u32) -> Result<LogKey, StoreError> {
        (self.0)(epoch).map_err(|e| StoreError::Invalid(e.to_string()))
    }

    /// The public half of the key of an epoch.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn public(&self, epoch: u32) -> Result<VerifierKey, StoreError> {
        VerifierKey::parse(&self.of(epoch)?.vkey()).map_err(|e| StoreError::Invalid(e.to_string()))
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys(…)")
    }
}

/// The keys in force.
pub struct Signing {
    /// Newest first.
    keys: Vec<LogKey>,
    /// Epoch of the newest.
    newest: u32,
    /// When one of them ends.
    ends: Option<Timestamp>,
    verifier: VerifierKey,
}

fn read(record: Value) -> Result<LogKeys, StoreError> {
    serde_json::from_value(record)
        .map_err(|_| StoreError::NotIntact("the record of the log's keys cannot be read".into()))
}

impl Signing {
    /// Those that the record of the state (`LogKeys`, where there is one) says are in force at `now`.
    ///
    /// # Errors
    /// [`StoreError::NotIntact`] if the record names other keys than `keys` makes.
    pub fn new(keys: &SigningKeys, record: Option<Value>, now: Timestamp) -> Result<Self, StoreError> {
        Self::of(keys, &record.map_or_else(|| Ok(LogKeys::default()), read)?, now)
    }

    /// Those that sign the checkpoint that first has the entries from `first` on, which changed a key: also every old one
    /// of which they say that it ends at once.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn changed(keys: &SigningKeys, record: Option<Value>, first: Seq) -> Result<Self, StoreError> {
        let record: LogKeys = record.map_or_else(|| Ok(LogKeys::default()), read)?;
        let new = record.rotations.iter().filter(|change| change.origin.seq >= first);
        let then = new.map(|change| change.origin.time).min().unwrap_or(Timestamp::from_millis(0));
        Self::of(keys, &record, then)
    }

    fn of(keys: &SigningKeys, record: &LogKeys, now: Timestamp) -> Result<Self, StoreError> {
        let mut verifier = keys.public(0)?;
        for change in &record.rotations {
            let new = keys.public(change.body.epoch)?;
            if verifier.line() != change.body.old || new.line() != change.body.new {
                let what = "the log names a signing key that is not made from this root key";
                return Err(StoreError::NotIntact(what.into()));
            }
            verifier = verifier
                .followed_by(change.origin.seq + 1, &new)
                .map_err(|e| StoreError::NotIntact(e.to_string()))?;
        }
        let (epochs, ends) = record.in_force(now);
        let newest = epochs.first().copied().unwrap_or_default();
        let keys = epochs.into_iter().map(|epoch| keys.of(epoch)).collect::<Result<_, _>>()?;
        Ok(Self { keys, newest, ends, verifier })
    }

    /// Whether a key has ended since.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.ends.is_some_and(|ends| now > ends)
    }

    /// Every key that the log has had, each for its time.
    pub const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The next `count` keys that the log would have if it changed them from here on.
    pub fn later<'k>(
        &self,
        keys: &'k SigningKeys,
        count: u32,
    ) -> impl Iterator<Item = Result<VerifierKey, StoreError>> + use<'k> {
        let newest = self.newest;
        (1..=count).map(move |n| keys.public(newest + n))
    }

    /// The keys in force, newest first.
    pub fn keys(&self) -> &[LogKey] {
        &self.keys
    }

    /// The checkpoint of the log that ends at `tip`, signed by every key in force.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if it cannot be signed.
    pub fn sign(&self, tip: &Tip) -> Result<SignedCheckpoint, StoreError> {
        let origin = self.verifier.name().to_owned();
        let checkpoint = Checkpoint { origin, size: tip.edge.size(), root: tip.edge.root() };
        checkpoint.sign_with(&self.keys).map_err(|e| StoreError::Invalid(e.to_string()))
    }
}
