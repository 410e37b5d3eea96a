//! The sequencer's decision, shared by every backend: given what is stored and a queue of requests, what is written.
//!
//! A [`Batch`] stages requests one after the other on top of a [`Base`]. A request that is refused leaves no trace; one
//! that passes is visible to the next. Nothing is written here: the backend writes a whole batch in one transaction, and
//! acknowledges afterwards.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use almoner_ledger::leaf;
use almoner_ledger::tree::{Edge, Hash};
use almoner_model::{Clock, Digest, Seq, SubjectId, Timestamp};
use serde_json::Value;

use super::prepare::{EventKey, Prepared, Request};
use super::{Appended, Precondition, ProjectedEntry, Projector, StoreError, View, Write};
use crate::state::topic;

/// What the sequencer needs to know of what is stored.
pub trait Base {
    /// Position of an act.
    fn event_seq(&self, event: &EventKey) -> Result<Option<Seq>, StoreError>;
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
    pub prepared: Box<Prepared>,
}

/// Records by kind and key.
type Records<T> = BTreeMap<String, BTreeMap<String, T>>;

/// Changes of the state; `None` removes.
#[derive(Default)]
pub struct Overlay(Records<Option<Value>>);

impl Overlay {
    /// What became of a record; `None` where nothing did.
    pub fn get(&self, kind: &str, key: &str) -> Option<&Option<Value>> {
        self.0.get(kind)?.get(key)
    }

    fn put(&mut self, kind: String, key: String, value: Option<Value>) {
        self.0.entry(kind).or_default().insert(key, value);
    }

    fn extend(&mut self, other: Self) {
        for (kind, records) in other.0 {
            self.0.entry(kind).or_default().extend(records);
        }
    }

    /// The changes of a kind whose key begins with `prefix` and comes after `after`.
    fn of<'o>(
        &'o self,
        kind: &str,
        prefix: &'o str,
        after: Option<&'o str>,
    ) -> impl Iterator<Item = (&'o str, Option<&'o Value>)> + use<'o> {
        let from = after.unwrap_or(prefix).max(prefix).to_owned();
        let records = self.0.get(kind).map(|records| records.range(from..));
        let own = records.into_iter().flatten().take_while(move |(key, _)| key.starts_with(prefix));
        let wanted = own.filter(move |(key, _)| after.is_none_or(|after| key.as_str() > after));
        wanted.map(|(key, value)| (key.as_str(), value.as_ref()))
    }

    /// All of them: kind, key and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, Option<&Value>)> {
        self.0.iter().flat_map(|(kind, records)| {
            records.iter().map(move |(key, value)| (kind.as_str(), key.as_str(), value.as_ref()))
        })
    }

    /// All of them, taken.
    pub fn into_writes(self) -> impl Iterator<Item = Write> {
        self.0.into_iter().flat_map(|(kind, records)| {
            records.into_iter().map(move |(key, value)| Write { kind: kind.clone(), key, value })
        })
    }
}

/// Requests staged for one transaction.
pub struct Batch {
    /// The end of the log once the batch is written.
    pub tip: Tip,
    /// New entries in order.
    pub rows: Vec<Row>,
    /// Changes of the folded state.
    pub writes: Overlay,
    events: HashMap<EventKey, usize>,
    topics: HashMap<String, Seq>,
    /// Stored records that were read: only this batch changes them, and what it changes is in `writes`.
    read: RefCell<Records<Option<Value>>>,
}

impl Batch {
    /// An empty batch at the end of the log.
    pub fn new(tip: Tip) -> Self {
        Self {
            tip,
            rows: Vec::new(),
            writes: Overlay::default(),
            events: HashMap::new(),
            topics: HashMap::new(),
            read: RefCell::default(),
        }
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
            self.events.insert(row.prepared.event, self.rows.len());
            for topic in &row.prepared.topics {
                self.topics.insert(topic.clone(), row.appended.seq);
            }
            self.rows.push(row);
        }
        self.writes.extend(writes);
        Ok(appended)
    }

    fn repeated(
        &self,
        entries: &[Box<Prepared>],
        base: &dyn Base,
    ) -> Result<Option<Vec<Appended>>, StoreError> {
        let mut earlier = Vec::new();
        for entry in entries {
            let found = match self.events.get(&entry.event) {
                Some(at) => {
                    let row = &self.rows[*at];
                    let content = Some(Content::of(&row.prepared));
                    Some(Stored { appended: row.appended, kind: row.prepared.leaf.kind.clone(), content })
                }
                None => match base.event_seq(&entry.event)? {
                    Some(seq) => base.stored(seq)?,
                    None => None,
                },
            };
            let Some(found) = found else { continue };
            // What was erased cannot be compared, and is not taken for the same act: who is told so may hold a receipt
            // for something that was never recorded.
            if found.kind != entry.leaf.kind || found.content != Some(Content::of(entry)) {
                return Err(StoreError::EventReused(entry.leaf.event_id.clone()));
            }
            earlier.push(found.appended);
        }
        if !earlier.is_empty() && earlier.len() < entries.len() {
            let known = entries.iter().map(|e| e.leaf.event_id.clone()).next().unwrap_or_default();
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

    #[expect(clippy::vec_box, reason = "as in `Request`")]
    fn place(
        &self,
        entries: Vec<Box<Prepared>>,
        base: &dyn Base,
        projector: &dyn Projector,
        clock: &dyn Clock,
    ) -> Result<(Vec<Row>, Overlay), StoreError> {
        let now = clock.now();
        let (mut last, mut time, mut seq) = (self.tip.last, self.tip.time, self.tip.edge.size());
        let (own, trouble) = (RefCell::default(), RefCell::default());
        let layers = Layers { base, read: &self.read, below: &self.writes, own, trouble };
        let mut rows = Vec::with_capacity(entries.len());
        for mut prepared in entries {
            let own = if prepared.actor.role == "participant" { now.coarse() } else { now };
            time = time.max(own);
            if prepared.until.is_some_and(|last| time > last) {
                return Err(StoreError::Precondition { topic: topic::TIME.to_owned(), seq });
            }
            let known = &mut prepared.leaf;
            (known.seq, known.time, known.prev) = (seq, time, Digest(last));
            let leaf = known.to_bytes().map_err(|e| StoreError::Invalid(e.to_string()))?;
            last = leaf::hash(&leaf);
            let entry = ProjectedEntry {
                seq,
                time,
                kind: &prepared.leaf.kind,
                actor: &prepared.actor,
                subject: prepared.subject,
                payload: &prepared.payload,
            };
            let writes = projector.project(&entry, &layers);
            if let Some(error) = layers.trouble.borrow_mut().take() {
                return Err(error);
            }
            for Write { kind, key, value } in writes.map_err(|r| StoreError::Rejected(r.0))? {
                layers.own.borrow_mut().put(kind, key, value);
            }
            rows.push(Row { appended: Appended { seq, time, leaf_hash: Digest(last) }, leaf, prepared });
            seq += 1;
        }
        Ok((rows, layers.own.into_inner()))
    }
}

/// The state as a staged entry sees it: its request's writes over the batch's over what is stored.
struct Layers<'a> {
    base: &'a dyn Base,
    read: &'a RefCell<Records<Option<Value>>>,
    below: &'a Overlay,
    own: RefCell<Overlay>,
    /// The first trouble in reading, which fails the request after the fold has returned.
    trouble: RefCell<Option<StoreError>>,
}

impl View for Layers<'_> {
    fn get(&self, kind: &str, key: &str) -> Option<Value> {
        let own = self.own.borrow();
        if let Some(value) = own.get(kind, key).or_else(|| self.below.get(kind, key)) {
            return value.clone();
        }
        if let Some(value) = self.read.borrow().get(kind).and_then(|records| records.get(key)) {
            return value.clone();
        }
        match self.base.get(kind, key) {
            Ok(value) => {
                let mut read = self.read.borrow_mut();
                read.entry(kind.to_owned()).or_default().insert(key.to_owned(), value.clone());
                value
            }
            Err(error) => {
                self.trouble.borrow_mut().get_or_insert(error);
                None
            }
        }
    }

    fn scan(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Value)> {
        let own = self.own.borrow();
        let pending: BTreeMap<&str, Option<&Value>> =
            self.below.of(kind, prefix, after).chain(own.of(kind, prefix, after)).collect();
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
