//! The subject registry: keyed tokens of patients → the exchange's random [`SubjectId`].
//!
//! Layer 2. Its own SQLite file (WAL, `synchronous=FULL`), the only way back from a subject to a hospital's patient, and
//! even it holds nothing in clear: every row is a 128-bit HMAC token under a key of the key ring, a random number, or a
//! counter. Whoever has the file without the root key learns how many patients there are.
//!
//! * A **source token** is scoped by contributor: one for the patient's id, two for each record number. Hospitals that
//!   use the same numbers do not meet in it. A patient is known by id alone. A record number says whom a consent names,
//!   and only while it is one patient's; it never makes two patients one.
//! * A **linkage token** (`schemas/linkage`) is made of normalised traits and not scoped: two hospitals whose patients
//!   share one hold the same person. A contributor that did not opt in hands in none, and so is never linked.
//! * Two patients whom a contributor **holds** apart are two subjects. What other contributors' data shows does not join
//!   them, and what their own hospital declares joins them only where it joins no patients of others.
//! * A subject id is random, in `1 .. 2^53`, drawn again on a collision; it does not depend on the person (45 CFR
//!   164.514(c)(1)), and no rotation of keys changes it.
//! * A **late match** (a token that shows two known subjects to be one person) writes an alias, loser → winner; the
//!   older subject wins. What was published under the loser is published again by the flow.
//! * After an **erasure** only suppression tokens stay, which are checked at every intake. They are scoped as source tokens
//!   are: whoever was erased at one hospital can come as another's patient.
//!
//! Crash story: a batch is one transaction. Either all its tokens, subjects and aliases are there or none, and since ids
//! are given before anything is published under them, repeating the batch is always right.

mod aliases;
mod awaiting;
mod erasure;
mod forms;
mod joins;
mod linkage;
mod numbers;
mod resolve;
mod schema;
mod token;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use almoner_model::{ContributorId, Entropy, SourcePatientId, SubjectId};
use rusqlite::{Connection, params};

pub use almoner_deid::offset::{offset_days, release_offset_days};
pub use erasure::Refused;
pub use linkage::{LinkageError, LinkageRules, Traits};
pub use numbers::{Claim, Claimed, Claims};
pub use resolve::Shared;
pub use token::{PatientTokens, RecordNumber, RecordTokens, Token, Tokens};

use aliases::Aliases;
use awaiting::Awaiting;
use joins::Joins;
use numbers::Name;

use crate::error::ErrorKind;
use crate::keys::{Keyring, label};
use crate::mapping::{Form, IdSpace, IdSpaces, Whose};

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
    /// A record number that does not tell two patients apart.
    #[error("more than one patient has or had this record number; it names nobody")]
    Ambiguous,
    /// It comes too late to say that equal ids are one person.
    #[error(
        "people of FHIR and of OMOP tables of this contributor were taken in as different people before, whatever their \
         ids: that equal ids are the same person can be said only when the second form first comes"
    )]
    FormsApart,
    /// The person was erased and may not come back.
    #[error("this person was erased; their records are not taken in again")]
    Suppressed,
    /// Somebody reads what is to be removed.
    #[error(
        "somebody reads an older state of the registry, as a backup does, so its write-ahead log could not be emptied"
    )]
    Read,
}

impl RegistryError {
    /// What kind of "no" it is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Suppressed => ErrorKind::Denied,
            Self::Ambiguous | Self::FormsApart => ErrorKind::Invalid,
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
}

/// A merge that a hospital declares (`Patient.link`, `replaced-by`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Merge {
    /// Token of the patient id that is no longer used.
    pub loser: Token,
    /// Its subject.
    pub from: SubjectId,
    /// Token of the patient id that took its place.
    pub winner: Token,
    /// Its subject.
    pub into: SubjectId,
}

/// An open registry. Calls that use the database are serialised; each is one transaction. Who stands for whom is asked
/// without the database.
pub struct Registry {
    db: Mutex<Connection>,
    /// Changed only by who has the database.
    aliases: RwLock<Aliases>,
    awaiting: Awaiting,
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
        let aliases = RwLock::new(joins::load(&db)?);
        let (awaiting, offset_key) = (Awaiting::default(), keys.key(label::DATE_OFFSET));
        Ok(Self { db: Mutex::new(db), aliases, awaiting, tokens, offset_key })
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn standing(&self) -> RwLockReadGuard<'_, Aliases> {
        self.aliases.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// One transaction of a contributor. What it joins is seen when it is durable.
    fn write<T>(
        &self,
        contributor: &ContributorId,
        act: impl FnOnce(&mut Joins<'_>) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut db = self.db();
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let (out, joined) = {
            let aliases = self.standing();
            let mut joins = Joins::new(&tx, self.tokens.scope(contributor), &aliases);
            let out = act(&mut joins)?;
            (out, joins.finish()?)
        };
        tx.commit()?;
        let mut aliases = self.aliases.write().unwrap_or_else(PoisonError::into_inner);
        for (loser, winner) in joined {
            aliases.join(loser, winner);
        }
        Ok(out)
    }

    /// Makes tokens; needs no database, and may be cloned into threads.
    pub const fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The spaces of a contributor's ids, if of its data these forms are sent now. `agree`: equal ids of two forms are one
    /// person. Nothing is kept: see [`Self::keep_id_spaces`].
    ///
    /// # Errors
    /// [`RegistryError::FormsApart`] where they were taken to be two before; database errors.
    pub fn id_spaces(
        &self,
        contributor: &ContributorId,
        sent: &[Form],
        agree: bool,
    ) -> Result<IdSpaces, RegistryError> {
        self.write(contributor, |joins| forms::spaces(joins.db, &joins.scope, sent, agree))
    }

    /// Keeps the spaces of forms that are about to be published, and where they agree, of both.
    ///
    /// # Errors
    /// Database errors.
    pub fn keep_id_spaces(
        &self,
        contributor: &ContributorId,
        sent: &[Form],
        spaces: IdSpaces,
        agree: bool,
    ) -> Result<(), RegistryError> {
        self.write(contributor, |joins| forms::keep(joins.db, &joins.scope, sent, spaces, agree))
    }

    /// Those subjects of patients that are known by the patients' ids. Writes nothing.
    ///
    /// # Errors
    /// Database errors.
    pub fn known<'t>(
        &self,
        patients: impl IntoIterator<Item = &'t PatientTokens>,
    ) -> Result<HashSet<SubjectId>, RegistryError> {
        let mut out = HashSet::new();
        for patient in patients {
            let row = resolve::id_row(&self.db(), &patient.id)?;
            out.extend(row.and_then(|(subject, _)| SubjectId::new(self.standing().current(subject)).ok()));
        }
        Ok(out)
    }

    /// Finds or makes the subject of each patient, in one transaction. `shared` is of the whole run that the batch is of.
    ///
    /// # Errors
    /// Database errors; nothing of the batch is then there.
    pub fn resolve_batch(
        &self,
        contributor: &ContributorId,
        patients: &[PatientTokens],
        shared: &Shared,
        entropy: &dyn Entropy,
    ) -> Result<Resolved, RegistryError> {
        self.write(contributor, |joins| resolve::batch(joins, patients, shared, entropy))
    }

    /// Takes merges that a hospital declares, in one transaction. Gives for each whether the two are one person now: they
    /// are not where each of the two subjects is also another contributor's patient, for then the hospital would join
    /// patients that are not its own. `merges` are all of a run, without circles. Of the ids of a person one is left that
    /// is not merged away, also where an earlier merge is turned round.
    ///
    /// # Errors
    /// Database errors; no merge is then made.
    pub fn merge(&self, contributor: &ContributorId, merges: &[Merge]) -> Result<Vec<bool>, RegistryError> {
        self.write(contributor, |joins| resolve::merge(joins, merges))
    }

    /// Writes down whom record numbers name, in one transaction: after subjects were given and merges made, all pieces of a
    /// run's claims one after the other.
    ///
    /// # Errors
    /// Database errors; nothing of the piece is then there.
    pub fn claim(&self, contributor: &ContributorId, claims: &[Claim]) -> Result<Claimed, RegistryError> {
        self.write(contributor, |joins| numbers::claim(joins, claims))
    }

    /// The subject of a patient by the hospital's patient id in the first space, if it is known.
    ///
    /// # Errors
    /// Database errors.
    pub fn lookup(
        &self,
        contributor: &ContributorId,
        source: &SourcePatientId,
    ) -> Result<Option<SubjectId>, RegistryError> {
        self.lookup_in(IdSpace::First, contributor, source)
    }

    /// The subject of a patient by the hospital's patient id, if it is known.
    ///
    /// # Errors
    /// Database errors.
    pub fn lookup_in(
        &self,
        space: IdSpace,
        contributor: &ContributorId,
        source: &SourcePatientId,
    ) -> Result<Option<SubjectId>, RegistryError> {
        let row = resolve::id_row(&self.db(), &self.tokens.id_in(space, contributor, source))?;
        Ok(row.and_then(|(subject, _)| SubjectId::new(self.standing().current(subject)).ok()))
    }

    /// Whether a hospital merged the record with this patient id into another's.
    ///
    /// # Errors
    /// Database errors.
    pub fn is_merged_away(
        &self,
        space: IdSpace,
        contributor: &ContributorId,
        source: &SourcePatientId,
    ) -> Result<bool, RegistryError> {
        let row = resolve::id_row(&self.db(), &self.tokens.id_in(space, contributor, source))?;
        Ok(row.is_some_and(|(_, merged_away)| merged_away))
    }

    /// The subject that a record number (or patient id, as such or as `Patient/<id>`) names in a consent, which may come
    /// before the data: if nobody is known by it, a subject is made that the data, when it comes, will take.
    ///
    /// # Errors
    /// [`RegistryError::Ambiguous`] if more than one patient has it, [`RegistryError::Suppressed`] for a person who was
    /// erased; database errors.
    pub fn subject_of_record(
        &self,
        contributor: &ContributorId,
        record_number: &SourcePatientId,
        entropy: &dyn Entropy,
    ) -> Result<SubjectId, RegistryError> {
        let mut subjects =
            self.subjects_of_records(contributor, std::slice::from_ref(record_number), entropy)?;
        subjects.pop().unwrap_or(Err(RegistryError::Ambiguous))
    }

    /// As [`Self::subject_of_record`] for each of several, in one transaction, which callers that come at the same time
    /// share.
    ///
    /// # Errors
    /// Database errors; nothing is then made. What a record number names or why it names nobody is said one by one.
    pub fn subjects_of_records(
        &self,
        contributor: &ContributorId,
        record_numbers: &[SourcePatientId],
        entropy: &dyn Entropy,
    ) -> Result<Vec<Result<SubjectId, RegistryError>>, RegistryError> {
        let names =
            record_numbers.iter().map(|number| Name::new(&self.tokens, contributor, number)).collect();
        awaiting::subjects(self, self.tokens.scope(contributor), names, entropy)
    }

    /// The subject that a record number or patient id (as such or as `Patient/<id>`) names, if one does. Makes nothing.
    ///
    /// # Errors
    /// [`RegistryError::Ambiguous`] if more than one patient has it; database errors.
    pub fn find_record(
        &self,
        contributor: &ContributorId,
        record_number: &SourcePatientId,
    ) -> Result<Option<SubjectId>, RegistryError> {
        let name = Name::new(&self.tokens, contributor, record_number);
        let (db, aliases) = (self.db(), self.standing());
        numbers::named(&Joins::new(&db, self.tokens.scope(contributor), &aliases), &name)
    }

    /// Whose a record number is that a reference of an export names: within `system`, or in whatever system where none is
    /// said.
    ///
    /// # Errors
    /// Database errors.
    pub fn whose(
        &self,
        contributor: &ContributorId,
        system: Option<&str>,
        number: &SourcePatientId,
    ) -> Result<Whose, RegistryError> {
        let token = match system {
            Some(system) => self.tokens.in_system(contributor, system, number),
            None => self.tokens.number(contributor, number),
        };
        let (db, aliases) = (self.db(), self.standing());
        numbers::whose(&Joins::new(&db, self.tokens.scope(contributor), &aliases), &token)
    }

    /// The subject that stands for `subject` after late matches: itself, if there was none. At most log2(n) steps, and no
    /// waiting for the database.
    pub fn current(&self, subject: SubjectId) -> SubjectId {
        SubjectId::new(self.standing().current(subject.get())).unwrap_or(subject)
    }

    /// Makes two subjects one person, whoever holds them.
    ///
    /// # Errors
    /// Database errors.
    #[cfg(test)]
    pub fn alias(&self, loser: SubjectId, winner: SubjectId) -> Result<(), RegistryError> {
        let anybody = "test".parse().expect("a slug");
        self.write(&anybody, |joins| joins.join(loser.get(), winner.get()))
    }

    /// All aliases, loser → the subject that stands for it now. No waiting for the database.
    pub fn aliases(&self) -> BTreeMap<SubjectId, SubjectId> {
        let subject = |id| SubjectId::new(id).ok();
        let pairs = self.standing().pairs();
        pairs.into_iter().filter_map(|(loser, winner)| subject(loser).zip(subject(winner))).collect()
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
