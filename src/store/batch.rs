//! The sequencer's decision, shared by every backend: given what is stored and a queue of requests, what is written.
//!
//! A [`Batch`] stages requests one after the other on top of a [`Base`]. A request that is refused leaves no trace; one
//! that passes is visible to the next. Nothing is written here: the backend writes a whole batch in one transaction, and
//! acknowledges afterwards.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use almoner_ledger::tree::{Edge, Hash};
use almoner_ledger::{Leaf, leaf};
use almoner_model::{Clock, Digest, Seq, SubjectId, Timestamp};
use serde_json::Value;

use super::prepare::{Prepared, Request};
use super::{Appended, Precondition, ProjectedEntry, Projector, StoreError, View, Write};
use crate::state::topic;

/// What the sequencer needs to know of what is stored.
pub trait Base {
    /// Position of an act.
    fn event_seq(&self, event_id: &str) -> Result<Option<Seq>, StoreError>;
    /// Position, time, leaf hash, kind and content (unless erased) of a stored entry.
    fn stored(&self, seq: Seq) -> Result<Option<Stored>, StoreError>;
    /// The last entry of a topic.
    fn topic_last(&self, topic: &str) -> Result<Option<Seq>, StoreError>;
    /// One record of the folded state.
    fn get(&self, kind: &str, key: &str) -> Result<Option<Value>, StoreError>;
    /// Records of the folded state.
    fn scan(
        &self,
        kind: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, StoreError>;
}

/// What a repeated act is compared with.
pub struct Stored {
    pub appended: Appended,
    pub kind: String,
    /// `None` where it was erased.
    pub content: Option<Content>,
}

/// What is under an entry's commitments: whom it concerns, and actor and payload in canonical form. The salts of two
/// calls differ, so this is compared and not the commitments.
#[derive(PartialEq, Eq)]
pub struct Content {
    pub subject: Option<SubjectId>,
    pub actor_json: Vec<u8>,
    pub payload_json: Vec<u8>,
}

impl Content {
    /// Of an entry that is in memory.
    pub fn of(entry: &Prepared) -> Self {
        Self {
            subject: entry.subject,
            actor_json: entry.actor_json.clone(),
            payload_json: entry.payload_json.clone(),
        }
    }
}

/// The end of the log.
#[derive(Clone, Debug)]
pub struct Tip {
    /// The tree's right edge.
    pub edge: Edge,
    /// Leaf hash of the last entry.
    pub last: Hash,
    /// Time of the last entry.
    pub time: Timestamp,
}

impl Tip {
    /// The end of the empty log.
    pub fn empty() -> Self {
        Self { edge: Edge::new(), last: leaf::NO_PREV, time: Timestamp::from_millis(0) }
    }
}

/// An entry with its place.
pub struct Row {
    pub appended: Appended,
    pub leaf: Vec<u8>,
    pub prepared: Prepared,
}

type Overlay = BTreeMap<(String, String), Option<Value>>;

/// Requests staged for one transaction.
pub struct Batch {
    /// The end of the log once the batch is written.
    pub tip: Tip,
    /// New entries in order.
    pub rows: Vec<Row>,
    /// Changes of the folded state.
    pub writes: Overlay,
    events: HashMap<String, usize>,
    topics: HashMap<String, Seq>,
}

impl Batch {
    /// An empty batch at the end of the log.
    pub fn new(tip: Tip) -> Self {
        Self { tip, rows: Vec::new(), writes: Overlay::new(), events: HashMap::new(), topics: HashMap::new() }
    }

    /// Stages one request; what it returns may be said to the caller once the batch is durable.
    ///
    /// # Errors
    /// [`StoreError`]; the batch is as before.
    pub fn stage(
        &mut self,
        request: Request,
        base: &dyn Base,
        projector: &dyn Projector,
        clock: &dyn Clock,
    ) -> Result<Vec<Appended>, StoreError> {
        if let Some(earlier) = self.repeated(&request.entries, base)? {
            return Ok(earlier);
        }
        self.check(&request.preconditions, base)?;
        let (rows, writes) = self.place(request.entries, base, projector, clock)?;
        let appended = rows.iter().map(|r| r.appended).collect();
        for row in rows {
            self.tip.edge.push(row.appended.leaf_hash.0);
            (self.tip.last, self.tip.time) = (row.appended.leaf_hash.0, row.appended.time);
            self.events.insert(row.prepared.event_id.clone(), self.rows.len());
            for topic in &row.prepared.topics {
                self.topics.insert(topic.clone(), row.appended.seq);
            }
            self.rows.push(row);
        }
        self.writes.extend(writes);
        Ok(appended)
    }

    fn repeated(&self, entries: &[Prepared], base: &dyn Base) -> Result<Option<Vec<Appended>>, StoreError> {
        let mut earlier = Vec::new();
        for entry in entries {
            let found = match self.events.get(&entry.event_id) {
                Some(at) => {
                    let row = &self.rows[*at];
                    let content = Some(Content::of(&row.prepared));
                    Some(Stored { appended: row.appended, kind: row.prepared.kind.into(), content })
                }
                None => match base.event_seq(&entry.event_id)? {
                    Some(seq) => base.stored(seq)?,
                    None => None,
                },
            };
            let Some(found) = found else { continue };
            // What was erased cannot be compared, and is not taken for the same act: who is told so may hold a receipt
            // for something that was never recorded.
            if found.kind != entry.kind || found.content != Some(Content::of(entry)) {
                return Err(StoreError::EventReused(entry.event_id.clone()));
            }
            earlier.push(found.appended);
        }
        if !earlier.is_empty() && earlier.len() < entries.len() {
            let known = entries.iter().map(|e| e.event_id.clone()).next().unwrap_or_default();
            return Err(StoreError::EventReused(known));
        }
        Ok((!earlier.is_empty()).then_some(earlier))
    }

    fn check(&self, preconditions: &[Precondition], base: &dyn Base) -> Result<(), StoreError> {
        for Precondition { topic, as_of } in preconditions {
            let last = match self.topics.get(topic) {
                Some(seq) => Some(*seq),
                None => base.topic_last(topic)?,
            };
            if let Some(seq) = last.filter(|seq| seq >= as_of) {
                return Err(StoreError::Precondition { topic: topic.clone(), seq });
            }
        }
        Ok(())
    }

    fn place(
        &self,
        entries: Vec<Prepared>,
        base: &dyn Base,
        projector: &dyn Projector,
        clock: &dyn Clock,
    ) -> Result<(Vec<Row>, Overlay), StoreError> {
        let now = clock.now();
        let (mut last, mut time, mut seq) = (self.tip.last, self.tip.time, self.tip.edge.size());
        let layers =
            Layers { base, below: &self.writes, own: RefCell::default(), trouble: RefCell::default() };
        let mut rows = Vec::with_capacity(entries.len());
        for prepared in entries {
            let own = if prepared.actor.role == "participant" { now.coarse() } else { now };
            time = time.max(own);
            if prepared.until.is_some_and(|last| time > last) {
                return Err(StoreError::Precondition { topic: topic::TIME.to_owned(), seq });
            }
            let leaf = leaf_of(&prepared, seq, time, last)?;
            last = leaf::hash(&leaf);
            let entry = ProjectedEntry {
                seq,
                time,
                kind: prepared.kind,
                actor: &prepared.actor,
                subject: prepared.subject,
                payload: &prepared.payload,
            };
            let writes = projector.project(&entry, &layers);
            if let Some(error) = layers.trouble.borrow_mut().take() {
                return Err(error);
            }
            for Write { kind, key, value } in writes.map_err(|r| StoreError::Rejected(r.0))? {
                layers.own.borrow_mut().insert((kind, key), value);
            }
            rows.push(Row { appended: Appended { seq, time, leaf_hash: Digest(last) }, leaf, prepared });
            seq += 1;
        }
        Ok((rows, layers.own.into_inner()))
    }
}

fn leaf_of(p: &Prepared, seq: Seq, time: Timestamp, prev: Hash) -> Result<Vec<u8>, StoreError> {
    let leaf = Leaf {
        actor: p.actor_commitment,
        as_of: p.as_of,
        decision: p.decision.clone(),
        event_id: p.event_id.clone(),
        payload: p.payload_commitment,
        policy: p.policy,
        prev: Digest(prev),
        seq,
        subject: p.subject_commitment,
        time,
        kind: p.kind.to_owned(),
        v: 1,
    };
    leaf.to_bytes().map_err(|e| StoreError::Invalid(e.to_string()))
}

/// The state as a staged entry sees it: its request's writes over the batch's over what is stored.
struct Layers<'a> {
    base: &'a dyn Base,
    below: &'a Overlay,
    own: RefCell<Overlay>,
    /// The first trouble in reading, which fails the request after the fold has returned.
    trouble: RefCell<Option<StoreError>>,
}

impl View for Layers<'_> {
    fn get(&self, kind: &str, key: &str) -> Option<Value> {
        let at = (kind.to_owned(), key.to_owned());
        if let Some(value) = self.own.borrow().get(&at).or_else(|| self.below.get(&at)) {
            return value.clone();
        }
        self.base.get(kind, key).unwrap_or_else(|e| {
            self.trouble.borrow_mut().get_or_insert(e);
            None
        })
    }

    fn scan(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Value)> {
        let own = self.own.borrow();
        let pending: BTreeMap<&str, Option<&Value>> = [self.below, &*own]
            .into_iter()
            .flat_map(|layer| {
                let from = (kind.to_owned(), after.unwrap_or(prefix).max(prefix).to_owned());
                layer
                    .range(from..)
                    .take_while(move |((k, key), _)| k == kind && key.starts_with(prefix))
                    .filter(move |((_, key), _)| after.is_none_or(|a| key.as_str() > a))
                    .map(|((_, key), value)| (key.as_str(), value.as_ref()))
            })
            .collect();
        // Each pending removal may hide one stored record, so that many more are asked for.
        let stored =
            self.base.scan(kind, prefix, after, limit.saturating_add(pending.len())).unwrap_or_else(|e| {
                self.trouble.borrow_mut().get_or_insert(e);
                Vec::new()
            });
        let mut merged: BTreeMap<String, Value> = stored.into_iter().collect();
        for (key, value) in pending {
            match value {
                Some(value) => merged.insert(key.to_owned(), value.clone()),
                None => merged.remove(key),
            };
        }
        merged.into_iter().take(limit).collect()
    }
}
