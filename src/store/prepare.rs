//! What can be done for an entry before its turn: check it, put it in canonical form, and make its commitments.
//!
//! Runs on the caller's thread, so that the sequencer does only what depends on the order.

use almoner_ledger::Leaf;
use almoner_ledger::commitment::{self, Field, Salt};
use almoner_ledger::leaf::{self, is_event_id, is_word};
use almoner_model::{Digest, Entropy, SubjectId, Timestamp};
use serde_json::Value;

use super::{Actor, NewEntry, Precondition, StoreError};

/// Longest payload in canonical form. Longer documents are blobs named by digest.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// The 16 bytes of an act's UUID: what it is found by.
pub type EventKey = [u8; 16];

/// The [`EventKey`] of an event id; of what is none, bytes that no act has.
pub fn event_key(event_id: &str) -> EventKey {
    let (mut key, mut digits) = (EventKey::default(), [0; 32]);
    for (at, digit) in event_id.bytes().filter(|b| *b != b'-').enumerate() {
        match digits.get_mut(at) {
            Some(slot) => *slot = digit,
            None => return EventKey::default(),
        }
    }
    match hex::decode_to_slice(digits, &mut key) {
        Ok(()) => key,
        Err(_) => EventKey::default(),
    }
}

/// An entry ready to be sequenced.
pub struct Prepared {
    pub event: EventKey,
    /// The leaf as far as it is known: place, time and the link to the one before are the sequencer's.
    pub leaf: Leaf,
    pub actor: Actor,
    pub subject: Option<SubjectId>,
    pub payload: Value,
    pub until: Option<Timestamp>,
    pub topics: Vec<String>,
    pub salt: Salt,
    /// JCS of `actor` and `payload`: what the commitments are over, and what is stored.
    pub actor_json: Vec<u8>,
    pub payload_json: Vec<u8>,
    /// Encrypted salt, actor and payload, where the backend keeps them so.
    pub sealed: Vec<u8>,
    /// A subject key to be stored with this entry, wrapped.
    pub new_key: Option<Vec<u8>>,
}

/// One call of `append`.
pub struct Request {
    #[expect(clippy::vec_box, reason = "each is moved through four lists, and is half a kilobyte")]
    pub entries: Vec<Box<Prepared>>,
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
    if entries.len() > 1 {
        let mut seen = std::collections::HashSet::with_capacity(entries.len());
        if let Some(twice) = entries.iter().find(|e| !seen.insert(e.event_id.as_str())) {
            return Err(StoreError::Invalid(format!("event {} stands twice in one append", twice.event_id)));
        }
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

fn prepare_one(new: NewEntry, salt: Salt) -> Result<Box<Prepared>, StoreError> {
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
    let leaf = Leaf {
        actor: Digest(salt.commit(Field::Actor, &actor_json)),
        as_of,
        decision,
        payload: Digest(salt.commit(Field::Payload, &payload_json)),
        policy,
        prev: Digest(leaf::NO_PREV),
        seq: 0,
        subject: subject_commitment,
        time: Timestamp::from_millis(0),
        kind: kind.to_owned(),
        v: 1,
        event_id,
    };
    Ok(Box::new(Prepared {
        event: event_key(&leaf.event_id),
        leaf,
        actor,
        subject,
        payload,
        until,
        topics,
        salt,
        actor_json,
        payload_json,
        sealed: Vec::new(),
        new_key: None,
    }))
}
