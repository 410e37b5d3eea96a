//! What the flows of the access plane work on, and how they say no.

use std::collections::{BTreeMap, BTreeSet};

use almoner_control::judge::JudgeError;
use almoner_model::{Clock, ContributorId, Digest, Entropy, Seq, SourcePatientId, SubjectId, Timestamp};
use serde_json::Value;

use super::Act;
use super::permitted::ConsentIndex;
use crate::blob::{BlobError, Blobs};
use crate::error::ErrorKind;
use crate::events::Event;
use crate::keys::Keyring;
use crate::registry::{Registry, RegistryError};
use crate::state::{Read, ReadError};
use crate::store::{Appended, NewEntry, Precondition, Store, StoreError};

/// Why the registry said no.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PeopleError {
    /// The person was erased and is never taken in again.
    #[error("this person was erased and is not taken in again")]
    Suppressed,
    /// The record number does not tell two patients apart.
    #[error(
        "more than one patient has or had this record number, or it is another's id, so it names nobody: name the patient \
         by Patient/<id>"
    )]
    Ambiguous,
    /// It is no record number.
    #[error("a record number has 1 to 200 characters")]
    NotOne,
    /// The registry failed.
    #[error("{0}")]
    Failed(String),
}

/// The subject registry, as far as these flows need it.
pub trait People: Send + Sync {
    /// The person with this record number at this hospital, made if there is none yet: consents may come before data.
    ///
    /// # Errors
    /// [`PeopleError`]; `Ambiguous` for a number that is not one patient's alone.
    fn subject_of_record(
        &self,
        contributor: &ContributorId,
        record_number: &SourcePatientId,
        entropy: &dyn Entropy,
    ) -> Result<SubjectId, PeopleError>;

    /// The same for several at once: whom each names, or why it names nobody.
    ///
    /// # Errors
    /// [`PeopleError::Failed`]; nobody is then made.
    fn subjects_of_records(
        &self,
        contributor: &ContributorId,
        record_numbers: &[SourcePatientId],
        entropy: &dyn Entropy,
    ) -> Result<Vec<Result<SubjectId, PeopleError>>, PeopleError> {
        let one = |number| match self.subject_of_record(contributor, number, entropy) {
            Err(failed @ PeopleError::Failed(_)) => Err(failed),
            said => Ok(said),
        };
        record_numbers.iter().map(one).collect()
    }

    /// The person with this record number, if there is one.
    ///
    /// # Errors
    /// [`PeopleError`].
    fn find_record(
        &self,
        contributor: &ContributorId,
        record_number: &SourcePatientId,
    ) -> Result<Option<SubjectId>, PeopleError>;

    /// Pairs of ids that turned out to be one person's.
    ///
    /// # Errors
    /// [`PeopleError`].
    fn aliases(&self) -> Result<Vec<(SubjectId, SubjectId)>, PeopleError>;
}

impl People for Registry {
    fn subject_of_record(
        &self,
        contributor: &ContributorId,
        record_number: &SourcePatientId,
        entropy: &dyn Entropy,
    ) -> Result<SubjectId, PeopleError> {
        may_be_one(record_number)?;
        Ok(Self::subject_of_record(self, contributor, record_number, entropy)?)
    }

    fn subjects_of_records(
        &self,
        contributor: &ContributorId,
        record_numbers: &[SourcePatientId],
        entropy: &dyn Entropy,
    ) -> Result<Vec<Result<SubjectId, PeopleError>>, PeopleError> {
        let fit: Vec<_> = record_numbers.iter().filter(|n| may_be_one(n).is_ok()).cloned().collect();
        let mut said = Self::subjects_of_records(self, contributor, &fit, entropy)?.into_iter();
        let one = |number| {
            may_be_one(number)?;
            said.next().unwrap_or(Err(RegistryError::Ambiguous)).map_err(PeopleError::from)
        };
        Ok(record_numbers.iter().map(one).collect())
    }

    fn find_record(
        &self,
        contributor: &ContributorId,
        record_number: &SourcePatientId,
    ) -> Result<Option<SubjectId>, PeopleError> {
        may_be_one(record_number)?;
        Ok(Self::find_record(self, contributor, record_number)?)
    }

    fn aliases(&self) -> Result<Vec<(SubjectId, SubjectId)>, PeopleError> {
        Ok(Self::aliases(self).into_iter().collect())
    }
}

fn may_be_one(record_number: &SourcePatientId) -> Result<(), PeopleError> {
    let text = record_number.expose();
    let fits = !text.trim().is_empty() && text.chars().count() <= 200;
    if fits { Ok(()) } else { Err(PeopleError::NotOne) }
}

impl From<RegistryError> for PeopleError {
    fn from(e: RegistryError) -> Self {
        match e {
            RegistryError::Suppressed => Self::Suppressed,
            RegistryError::Ambiguous => Self::Ambiguous,
            other => Self::Failed(other.to_string()),
        }
    }
}

impl Documents for Blobs {
    fn put(&self, bytes: &[u8]) -> Result<Digest, String> {
        self.put_document(bytes.to_vec()).map_err(|e| e.to_string())
    }

    fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, String> {
        match self.document(digest) {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(BlobError::Absent(_)) => Ok(None),
            Err(e) => Err(e.to_string()),
        }
    }
}

impl From<PeopleError> for AccessError {
    fn from(e: PeopleError) -> Self {
        match e {
            PeopleError::Suppressed => Self::Denied(e.to_string()),
            PeopleError::Ambiguous | PeopleError::NotOne => Self::invalid("/record_number", e.to_string()),
            PeopleError::Failed(reason) => Self::Failed(reason),
        }
    }
}

impl From<JudgeError> for AccessError {
    fn from(e: JudgeError) -> Self {
        match e {
            JudgeError::Read(e) => Self::Read(e),
            JudgeError::Unknown(what) => Self::Unknown(what),
            JudgeError::Document(reason) => Self::Failed(reason),
        }
    }
}

/// Documents by the digest of their exact bytes.
pub trait Documents: Send + Sync {
    /// Keeps a document; durable on return.
    ///
    /// # Errors
    /// A sentence, if it cannot be kept.
    fn put(&self, bytes: &[u8]) -> Result<Digest, String>;

    /// A document that was kept.
    ///
    /// # Errors
    /// A sentence, if it cannot be read.
    fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, String>;
}

/// Ids that stand for one person, for everyone who has more than one.
#[derive(Clone, Default, Debug)]
pub struct SamePeople(BTreeMap<SubjectId, BTreeSet<SubjectId>>);

impl SamePeople {
    /// From pairs of ids that were found to be one person.
    pub fn new(aliases: impl IntoIterator<Item = (SubjectId, SubjectId)>) -> Self {
        let mut groups: BTreeMap<SubjectId, BTreeSet<SubjectId>> = BTreeMap::new();
        for (a, b) in aliases {
            let mut all = BTreeSet::from([a, b]);
            for id in [a, b] {
                all.extend(groups.get(&id).into_iter().flatten().copied());
            }
            for id in &all {
                groups.insert(*id, all.clone());
            }
        }
        Self(groups)
    }

    /// All ids of a person, that one included. What was said under any of them was said by the person.
    pub fn of(&self, subject: SubjectId) -> BTreeSet<SubjectId> {
        self.0.get(&subject).cloned().unwrap_or_else(|| BTreeSet::from([subject]))
    }

    /// Whether the person has more than one id.
    pub fn is_merged(&self, subject: SubjectId) -> bool {
        self.0.contains_key(&subject)
    }
}

/// What the flows of the access plane work on.
#[derive(Clone, Copy)]
pub struct AccessContext<'a> {
    /// Ledger and state.
    pub store: &'a dyn Store,
    /// The subject registry.
    pub people: &'a dyn People,
    /// Documents.
    pub documents: &'a dyn Documents,
    /// Keys, for event ids.
    pub keys: &'a Keyring,
    /// Who permits what, kept between calls.
    pub index: &'a ConsentIndex,
    /// Time.
    pub clock: &'a dyn Clock,
    /// Randomness.
    pub entropy: &'a dyn Entropy,
}

/// Why a flow of the access plane said no.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum AccessError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Registry or documents.
    #[error("{0}")]
    Failed(String),
    /// A thing that is named does not exist.
    #[error("there is no such {0}")]
    Unknown(&'static str),
    /// What was sent is not right; `pointer` is a JSON Pointer or a name of the field.
    #[error("{pointer}: {reason}")]
    Invalid {
        /// Where.
        pointer: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The caller may not do this.
    #[error("{0}")]
    Denied(String),
    /// No permit, with the reasons.
    #[error(transparent)]
    Refused(#[from] crate::policy::Refusal),
    /// The state is not what this needs.
    #[error("{0}")]
    Conflict(String),
}

impl AccessError {
    /// Which of the five kinds.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(e) => e.kind(),
            Self::Read(_) | Self::Failed(_) => ErrorKind::Fault,
            Self::Unknown(_) | Self::Invalid { .. } => ErrorKind::Invalid,
            Self::Denied(_) | Self::Refused(_) => ErrorKind::Denied,
            Self::Conflict(_) => ErrorKind::Conflict,
        }
    }

    /// The same, of the `n`th of several: a pointer begins with its place.
    #[must_use]
    pub fn of(self, n: usize) -> Self {
        match self {
            Self::Invalid { pointer, reason } => Self::Invalid { pointer: format!("/{n}{pointer}"), reason },
            other => other,
        }
    }

    /// An input that is not right.
    pub fn invalid(pointer: &str, reason: impl Into<String>) -> Self {
        Self::Invalid { pointer: pointer.to_owned(), reason: reason.into() }
    }
}

/// A store as a place to read records from.
#[derive(Clone, Copy)]
pub struct Stored<'a>(pub &'a dyn Store);

impl Read for Stored<'_> {
    fn get(&self, kind: &str, key: &str) -> Result<Option<Value>, ReadError> {
        self.0.get(kind, key).map_err(|e| ReadError::Store(e.to_string()))
    }

    fn scan(
        &self,
        kind: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, ReadError> {
        self.0.scan(kind, prefix, after, limit).map_err(|e| ReadError::Store(e.to_string()))
    }
}

impl<'a> AccessContext<'a> {
    /// The state.
    pub fn state(&self) -> Stored<'a> {
        Stored(self.store)
    }

    /// Which ids stand for one person.
    ///
    /// # Errors
    /// If the registry fails.
    pub fn same_people(&self) -> Result<SamePeople, AccessError> {
        Ok(SamePeople::new(self.people.aliases()?))
    }

    /// Ledger time: the present, never before the last entry.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn now(&self) -> Result<Timestamp, AccessError> {
        let last = match self.store.size() {
            0 => None,
            size => self.store.entry(size - 1)?.map(|e| e.leaf.time),
        };
        Ok(last.map_or(self.clock.now(), |t| t.max(self.clock.now())))
    }

    /// Appends one event.
    pub(super) fn append(
        &self,
        event: &Event,
        act: &Act,
        subject: Option<SubjectId>,
        topics: Vec<String>,
        preconditions: &[Precondition],
    ) -> Result<Appended, AccessError> {
        let entry = entry(event, act.event_id(0), act, subject, topics)?;
        let mut appended = self.store.append(vec![entry], preconditions)?;
        appended.pop().ok_or_else(|| AccessError::Failed("the store acknowledged nothing".into()))
    }

    /// The act, or a new one of the same actor if it stands in the ledger already: for what is answered from the state of
    /// now, so that a repetition after a lost answer is another answer, and is logged as one.
    pub(super) fn unused(&self, act: &Act) -> Result<Act, AccessError> {
        Ok(match self.repeated(act)? {
            None => act.clone(),
            Some(_) => Act::new(act.actor.clone(), self.entropy),
        })
    }

    /// Where an act stands already, if it is being repeated.
    pub(super) fn repeated(&self, act: &Act) -> Result<Option<Seq>, AccessError> {
        Ok(self.store.find_event(&act.event_id)?)
    }
}

/// An entry without a decision.
pub(super) fn entry(
    event: &Event,
    event_id: String,
    act: &Act,
    subject: Option<SubjectId>,
    topics: Vec<String>,
) -> Result<NewEntry, AccessError> {
    let payload = event.payload().map_err(|_| AccessError::Failed("an event is not JSON".into()))?;
    Ok(NewEntry {
        event_id,
        kind: event.kind(),
        actor: act.actor.clone(),
        subject,
        payload,
        policy: None,
        decision: None,
        as_of: None,
        until: None,
        topics,
    })
}
