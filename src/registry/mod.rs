//! The subject registry: keyed tokens of patients → the exchange's random [`SubjectId`].
//!
//! Layer 2. Its own SQLite file (WAL, `synchronous=FULL`), the only way back from a subject to a hospital's patient, and
//! even it holds nothing in clear: every row is a 128-bit HMAC token under a key of the key ring, a random number, or a
//! counter. Whoever has the file without the root key learns how many patients there are.
//!
//! * A **source token** is scoped by contributor: one for the patient's id, one for each record number. Hospitals that
//!   use the same numbers do not meet in it.
//! * A **linkage token** (`schemas/linkage`) is made of normalised traits and not scoped: two hospitals whose patients
//!   share one hold the same person. A contributor that did not opt in hands in none, and so is never linked.
//! * A subject id is random, in `1 .. 2^53`, drawn again on a collision; it does not depend on the person (45 CFR
//!   164.514(c)(1)), and no rotation of keys changes it.
//! * A **late match** (a token that shows two known subjects to be one person) writes an alias, loser → winner; the
//!   older subject wins. What was published under the loser is published again by the flow.
//! * After an **erasure** only suppression tokens stay, which are checked at every intake.
//!
//! Crash story: a batch is one transaction. Either all its tokens, subjects and aliases are there or none, and since ids
//! are given before anything is published under them, repeating the batch is always right.

mod linkage;
mod resolve;
mod schema;
mod token;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use almoner_model::{ContributorId, Entropy, SourcePatientId, SubjectId};
use rusqlite::{Connection, OptionalExtension, params};

pub use almoner_deid::offset::{offset_days, release_offset_days};
pub use linkage::{LinkageError, LinkageRules, Traits};
pub use token::{PatientTokens, Token, Tokens};

use crate::error::ErrorKind;
use crate::keys::{Keyring, label};

/// Why the registry did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The file was made under another root key.
    #[error("the registry was made under another root key; put the right key file back (see `root_key`)")]
    WrongKey,
    /// The file is of another format.
    #[error("the registry file has format {0}, this program knows {1}")]
    Format(i64, i64),
    /// SQLite.
    #[error("the registry's database: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file could not be made or opened.
    #[error("the registry's file: {0}")]
    File(#[from] std::io::Error),
    /// An alias of a subject to itself.
    #[error("a subject cannot be an alias of itself")]
    SelfAlias,
    /// The person was erased and may not come back.
    #[error("this person was erased; their records are not taken in again")]
    Suppressed,
}

impl RegistryError {
    /// What kind of "no" it is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Suppressed => ErrorKind::Denied,
            Self::SelfAlias => ErrorKind::Invalid,
            _ => ErrorKind::Fault,
        }
    }
}

/// What a batch of patients came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resolved {
    /// For each patient of the batch, in order, the subject; `None` for one who was erased.
    pub subjects: Vec<Option<SubjectId>>,
    /// Subjects that were made.
    pub created: u64,
    /// Patients that were new here and linked to a subject known from another contributor.
    pub linked: u64,
    /// Late matches found: (loser, winner). Data published under the loser must be published again.
    pub merged: Vec<(SubjectId, SubjectId)>,
    /// Record numbers that two patients of the batch share, and which therefore did not decide anything.
    pub ambiguous_records: u64,
    /// Linkage tokens that two patients of one contributor share, and which therefore link nobody.
    pub ambiguous_links: u64,
}

/// An open registry. Calls are serialised; each is one transaction.
pub struct Registry {
    db: Mutex<Connection>,
    tokens: Tokens,
    offset_key: crate::keys::Key,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registry(…)")
    }
}

impl Registry {
    /// Opens the file at `path`, or makes it (mode 0600).
    ///
    /// # Errors
    /// [`RegistryError::WrongKey`] if it was made under another root key; else format, file and database errors.
    pub fn open(path: &Path, keys: &Keyring) -> Result<Self, RegistryError> {
        Self::with(schema::open(path)?, keys)
    }

    /// A registry that is gone when dropped, for tests and rehearsals.
    ///
    /// # Errors
    /// Database errors.
    pub fn in_memory(keys: &Keyring) -> Result<Self, RegistryError> {
        Self::with(Connection::open_in_memory()?, keys)
    }

    fn with(db: Connection, keys: &Keyring) -> Result<Self, RegistryError> {
        schema::prepare(&db, &keys.fingerprint())?;
        let tokens = Tokens::new(&keys.key(label::REGISTRY_TOKEN));
        Ok(Self { db: Mutex::new(db), tokens, offset_key: keys.key(label::DATE_OFFSET) })
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes tokens; needs no database, and may be cloned into threads.
    pub const fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Finds or makes the subject of each patient, in one transaction.
    ///
    /// # Errors
    /// Database errors; nothing of the batch is then there.
    pub fn resolve_batch(
        &self,
        contributor: &ContributorId,
        patients: &[PatientTokens],
        entropy: &dyn Entropy,
    ) -> Result<Resolved, RegistryError> {
        let mut db = self.db();
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let resolved = resolve::batch(&tx, self.tokens.scope(contributor), patients, entropy)?;
        tx.commit()?;
        Ok(resolved)
    }

    /// The subject of a patient by the hospital's patient id, if it is known.
    ///
    /// # Errors
    /// Database errors.
    pub fn lookup(
        &self,
        contributor: &ContributorId,
        source: &SourcePatientId,
    ) -> Result<Option<SubjectId>, RegistryError> {
        resolve::lookup(&self.db(), &self.tokens.id(contributor, source))
    }

    /// The subject that a record number (or patient id) names in a consent, which may come before the data: if nobody
    /// is known by it, a subject is made that the data, when it comes, will take.
    ///
    /// # Errors
    /// [`RegistryError::Suppressed`] for a person who was erased; database errors.
    pub fn subject_of_record(
        &self,
        contributor: &ContributorId,
        record_number: &SourcePatientId,
        entropy: &dyn Entropy,
    ) -> Result<SubjectId, RegistryError> {
        let (record, id) =
            (self.tokens.record(contributor, record_number), self.tokens.id(contributor, record_number));
        let mut db = self.db();
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let subject = resolve::record(&tx, record, id, entropy)?;
        tx.commit()?;
        Ok(subject)
    }

    /// The subject that a record number or patient id names, if one does. Makes nothing.
    ///
    /// # Errors
    /// Database errors.
    pub fn find_record(
        &self,
        contributor: &ContributorId,
        record_number: &SourcePatientId,
    ) -> Result<Option<SubjectId>, RegistryError> {
        let db = self.db();
        match resolve::lookup(&db, &self.tokens.record(contributor, record_number))? {
            Some(subject) => Ok(Some(subject)),
            None => resolve::lookup(&db, &self.tokens.id(contributor, record_number)),
        }
    }

    /// The subject that stands for `subject` after late matches: itself, if there was none.
    ///
    /// # Errors
    /// Database errors.
    pub fn current(&self, subject: SubjectId) -> Result<SubjectId, RegistryError> {
        let winner: Option<i64> = self
            .db()
            .prepare_cached("SELECT winner FROM alias WHERE loser = ?1")?
            .query_row([subject.get()], |row| row.get(0))
            .optional()?;
        Ok(winner.and_then(|id| SubjectId::new(id).ok()).unwrap_or(subject))
    }

    /// Declares two subjects to be one person (a merge that a hospital reports, `Patient.link`).
    ///
    /// # Errors
    /// [`RegistryError::SelfAlias`] if they are one already; database errors.
    pub fn alias(&self, loser: SubjectId, winner: SubjectId) -> Result<(), RegistryError> {
        let mut db = self.db();
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        resolve::alias(&tx, loser, winner)?;
        tx.commit()?;
        Ok(())
    }

    /// All aliases, loser → the subject that stands for it now.
    ///
    /// # Errors
    /// Database errors.
    pub fn aliases(&self) -> Result<BTreeMap<SubjectId, SubjectId>, RegistryError> {
        let db = self.db();
        let mut rows = db.prepare_cached("SELECT loser, winner FROM alias")?;
        let pairs = rows.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        let mut out = BTreeMap::new();
        for pair in pairs {
            let (loser, winner) = pair?;
            if let (Ok(loser), Ok(winner)) = (SubjectId::new(loser), SubjectId::new(winner)) {
                out.insert(loser, winner);
            }
        }
        Ok(out)
    }

    /// Keeps a token whose bearer is never taken in again.
    ///
    /// # Errors
    /// Database errors.
    pub fn suppress(&self, token: &Token) -> Result<(), RegistryError> {
        self.db().execute("INSERT OR IGNORE INTO suppressed (token) VALUES (?1)", [token.as_bytes()])?;
        Ok(())
    }

    /// Whether a token was suppressed.
    ///
    /// # Errors
    /// Database errors.
    pub fn is_suppressed(&self, token: &Token) -> Result<bool, RegistryError> {
        resolve::is_suppressed(&self.db(), token)
    }

    /// Forgets a person: their source tokens become suppression tokens, their linkage tokens and the subject go. Returns
    /// how many tokens are kept for suppression.
    ///
    /// # Errors
    /// Database errors.
    pub fn erase(&self, subject: SubjectId) -> Result<u64, RegistryError> {
        let mut db = self.db();
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let ids = "(SELECT ?1 UNION SELECT loser FROM alias WHERE winner = ?1)";
        let kept = tx.execute(
            &format!(
                "INSERT OR IGNORE INTO suppressed (token) SELECT token FROM source WHERE subject IN {ids}"
            ),
            [subject.get()],
        )?;
        for table in ["source", "linkage", "subject"] {
            tx.execute(&format!("DELETE FROM {table} WHERE subject IN {ids}"), [subject.get()])?;
        }
        tx.execute("DELETE FROM alias WHERE winner = ?1", [subject.get()])?;
        tx.commit()?;
        Ok(kept as u64)
    }

    /// The current epoch of date offsets, from 0.
    ///
    /// # Errors
    /// Database errors.
    pub fn offset_epoch(&self) -> Result<u32, RegistryError> {
        Ok(self.db().query_row("SELECT value FROM meta WHERE key = 'offset_epoch'", [], |row| row.get(0))?)
    }

    /// Begins a new epoch: every subject has a new offset from now on. Datasets published before keep theirs until they
    /// are published again.
    ///
    /// # Errors
    /// Database errors.
    pub fn advance_offset_epoch(&self) -> Result<u32, RegistryError> {
        self.db().execute("UPDATE meta SET value = value + 1 WHERE key = 'offset_epoch'", params![])?;
        self.offset_epoch()
    }

    /// The date offset of a subject in an epoch, −1 … −365 days.
    pub fn offset_days(&self, subject: SubjectId, epoch: u32) -> i32 {
        offset_days(&self.offset_key, subject, epoch)
    }

    /// How many subjects there are, merged ones counted once.
    ///
    /// # Errors
    /// Database errors.
    pub fn subjects(&self) -> Result<u64, RegistryError> {
        let count: i64 = self.db().query_row(
            "SELECT (SELECT count(*) FROM subject) - (SELECT count(*) FROM alias)",
            [],
            |row| row.get(0),
        )?;
        Ok(count.unsigned_abs())
    }
}

#[cfg(test)]
mod tests;
