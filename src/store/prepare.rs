//! What can be done for an entry before its turn: check it, put it in canonical form, and make its commitments.
//!
//! Runs on the caller's thread, so that the sequencer does only what depends on the order.

use almoner_ledger::commitment::{self, Field, Salt};
use almoner_ledger::leaf::{is_event_id, is_word};
use almoner_model::{Digest, Entropy, Seq, SubjectId, Timestamp};
use serde_json::Value;

use super::{Actor, NewEntry, Precondition, StoreError};

/// Longest payload in canonical form. Longer documents are blobs named by digest.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// An entry ready to be sequenced.
pub struct Prepared {
    pub event_id: String,
    pub kind: &'static str,
    pub actor: Actor,
    pub subject: Option<SubjectId>,
    pub payload: Value,
    pub policy: Option<Digest>,
    pub decision: Option<String>,
    pub as_of: Option<Seq>,
    pub until: Option<Timestamp>,
    pub topics: Vec<String>,
    pub salt: Salt,
    /// JCS of `actor` and `payload`: what the commitments are over, and what is stored.
    pub actor_json: Vec<u8>,
    pub payload_json: Vec<u8>,
    pub actor_commitment: Digest,
    pub subject_commitment: Option<Digest>,
    pub payload_commitment: Digest,
    /// Encrypted salt, actor and payload, where the backend keeps them so.
    pub sealed: Vec<u8>,
    /// A subject key to be stored with this entry, wrapped.
    pub new_key: Option<Vec<u8>>,
}

/// One call of `append`.
pub struct Request {
    pub entries: Vec<Prepared>,
    pub preconditions: Vec<Precondition>,
}

/// The topic that every entry about `subject` has.
pub fn subject_topic(subject: SubjectId) -> String {
    format!("subject:{subject}")
}

/// Checks and commits.
///
/// # Errors
/// [`StoreError::Invalid`] if an entry is malformed.
pub fn prepare(
    entries: Vec<NewEntry>,
    preconditions: &[Precondition],
    entropy: &dyn Entropy,
) -> Result<Request, StoreError> {
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = entries.iter().find(|e| !seen.insert(e.event_id.as_str())) {
        return Err(StoreError::Invalid(format!("event {} stands twice in one append", twice.event_id)));
    }
    let mut salts = vec![[0; commitment::LEN]; entries.len()];
    entropy.fill(salts.as_flattened_mut());
    let entries = entries
        .into_iter()
        .zip(salts)
        .map(|(e, salt)| prepare_one(e, Salt(salt)))
        .collect::<Result<_, _>>()?;
    Ok(Request { entries, preconditions: preconditions.to_vec() })
}

fn prepare_one(new: NewEntry, salt: Salt) -> Result<Prepared, StoreError> {
    let NewEntry { event_id, kind, actor, subject, payload, policy, decision, as_of, until, mut topics } =
        new;
    if !is_event_id(&event_id) {
        return Err(StoreError::Invalid("an event id is a UUID in lower case with hyphens".into()));
    }
    if !is_word(kind) || decision.as_ref().is_some_and(|d| !is_word(d)) {
        return Err(StoreError::Invalid(
            "a type or decision is 1 to 64 characters of a-z, 0-9, '.', '_', '-'".into(),
        ));
    }
    let invalid = |e: commitment::CanonicalError| StoreError::Invalid(e.to_string());
    let actor_json = commitment::canonical(&actor).map_err(invalid)?;
    let payload_json = commitment::canonical_value(&payload).map_err(invalid)?;
    if payload_json.len() > PAYLOAD_BYTES_MAX {
        return Err(StoreError::Invalid(
            "a payload is longer than 1 MiB; store the document as a blob".into(),
        ));
    }
    let subject_commitment =
        subject.map(|s| Digest(salt.commit(Field::Subject, s.get().to_string().as_bytes())));
    topics.extend(subject.map(subject_topic));
    topics.sort();
    topics.dedup();
    Ok(Prepared {
        actor_commitment: Digest(salt.commit(Field::Actor, &actor_json)),
        payload_commitment: Digest(salt.commit(Field::Payload, &payload_json)),
        subject_commitment,
        event_id,
        kind,
        actor,
        subject,
        payload,
        policy,
        decision,
        as_of,
        until,
        topics,
        salt,
        actor_json,
        payload_json,
        sealed: Vec::new(),
        new_key: None,
    })
}
