//! The store in memory, for tests: the same sequencing as the SQLite store, with maps in place of tables and nothing
//! kept when it is dropped.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use almoner_ledger::cose::SignedRoot;
use almoner_ledger::{Checkpoint, Leaf, LogKey, SignedCheckpoint};
use almoner_model::{Clock, Entropy, Seq, SubjectId};
use serde_json::Value;

use super::batch::{Base, Batch, Content, Stored, Tip};
use super::destroy::ERASED;
use super::prepare::{EventKey, Prepared, event_key, prepare, subject_topic};
use super::{
    Appended, Destroy, Entry, EntryFilter, NewEntry, Payload, Precondition, Projector, Store, StoreError,
    Write,
};

/// A ledger and its state in memory.
pub struct MemoryStore {
    key: LogKey,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    projector: Arc<dyn Projector>,
    inner: Mutex<Inner>,
}

struct Inner {
    tip: Tip,
    checkpoint: SignedCheckpoint,
    rows: Vec<(Appended, Vec<u8>, Box<Prepared>)>,
    events: HashMap<EventKey, Seq>,
    topics: BTreeMap<String, BTreeSet<Seq>>,
    tiles: HashMap<(u8, u64), Vec<u8>>,
    /// By which entry an entry was erased.
    erased: HashMap<Seq, Seq>,
    /// People of whom nothing stays.
    gone: BTreeSet<SubjectId>,
    folded: Records,
    primary: Records,
}

#[derive(Default)]
struct Records(BTreeMap<String, BTreeMap<String, Value>>);

impl Records {
    fn get(&self, kind: &str, key: &str) -> Option<Value> {
        self.0.get(kind)?.get(key).cloned()
    }

    fn put(&mut self, kind: String, key: String, value: Option<Value>) {
        let records = self.0.entry(kind).or_default();
        match value {
            Some(value) => records.insert(key, value),
            None => records.remove(&key),
        };
    }

    fn scan(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Value)> {
        let Some(records) = self.0.get(kind) else { return Vec::new() };
        records
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|a| key.as_str() > a))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

impl MemoryStore {
    /// An empty ledger that signs with `key`.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if the key's name cannot stand in a checkpoint.
    pub fn new(
        key: LogKey,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        projector: Arc<dyn Projector>,
    ) -> Result<Self, StoreError> {
        let tip = Tip::empty();
        let checkpoint = sign(&tip, &key)?;
        let inner = Inner {
            tip,
            checkpoint,
            rows: Vec::new(),
            events: HashMap::new(),
            topics: BTreeMap::new(),
            tiles: HashMap::new(),
            erased: HashMap::new(),
            gone: BTreeSet::new(),
            folded: Records::default(),
            primary: Records::default(),
        };
        Ok(Self { key, clock, entropy, projector, inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryStore {
    /// Appends, and does something more when it is new, which is given the position of the first entry.
    fn append_and(
        &self,
        entries: Vec<NewEntry>,
        preconditions: &[Precondition],
        more: impl FnOnce(&mut Inner, Seq) -> Result<(), StoreError>,
    ) -> Result<Vec<Appended>, StoreError> {
        let request = prepare(entries, preconditions, &*self.entropy)?;
        let mut inner = self.lock();
        if request.entries.iter().filter_map(|e| e.subject).any(|s| inner.gone.contains(&s)) {
            return Err(StoreError::Rejected(ERASED.into()));
        }
        let mut batch = Batch::new(inner.tip.clone());
        let appended = batch.stage(request, &*inner, &*self.projector, &*self.clock)?;
        let checkpoint = sign(&batch.tip, &self.key)?;
        if let Some(first) = batch.rows.first() {
            more(&mut inner, first.appended.seq)?;
        }
        for tile in batch.tip.edge.take_changes() {
            inner.tiles.insert((tile.level, tile.index), tile.bytes);
        }
        for row in batch.rows {
            inner.events.insert(row.prepared.event, row.appended.seq);
            for topic in &row.prepared.topics {
                inner.topics.entry(topic.clone()).or_default().insert(row.appended.seq);
            }
            inner.rows.push((row.appended, row.leaf, row.prepared));
        }
        for Write { kind, key, value } in batch.writes.into_writes() {
            inner.folded.put(kind, key, value);
        }
        (inner.tip, inner.checkpoint) = (batch.tip, checkpoint);
        Ok(appended)
    }
}

/// The checkpoint of the log that ends at `tip`.
pub(super) fn sign(tip: &Tip, key: &LogKey) -> Result<SignedCheckpoint, StoreError> {
    let checkpoint =
        Checkpoint { origin: key.name().to_owned(), size: tip.edge.size(), root: tip.edge.root() };
    checkpoint.sign(key).map_err(|e| StoreError::Invalid(e.to_string()))
}

/// The root of a signed checkpoint, signed in the way of COSE.
pub(super) fn sign_root(signed: &SignedCheckpoint, key: &LogKey) -> Result<SignedRoot, StoreError> {
    SignedRoot::new(signed, key).map_err(|e| StoreError::NotIntact(e.to_string()))
}

impl Inner {
    fn destroy(&mut self, destroy: Destroy, by: Seq) -> Result<(), StoreError> {
        let bad = |seq: &&Seq| **seq >= self.rows.len() as Seq || self.erased.contains_key(seq);
        if let Some(seq) = destroy.entries.iter().find(bad) {
            return Err(StoreError::Invalid(format!("entry {seq} is not there, or was erased before")));
        }
        for seq in destroy.entries {
            let subject = self.rows[seq as usize].2.subject;
            if let Some(listed) = subject.and_then(|s| self.topics.get_mut(&subject_topic(s))) {
                listed.remove(&seq);
            }
            self.erased.insert(seq, by);
        }
        self.gone.extend(destroy.subjects);
        for Write { kind, key, value } in destroy.folded {
            self.folded.put(kind, key, value);
        }
        for shared in destroy.shared {
            let named = self.folded.0.get(&shared.named_by).into_iter().flatten();
            if !named.into_iter().any(|(_, value)| value.to_string().contains(&shared.key)) {
                self.folded.put(shared.kind, shared.key, None);
            }
        }
        for Write { kind, key, value } in destroy.primary {
            self.primary.put(kind, key, value);
        }
        Ok(())
    }

    fn entry(&self, seq: Seq) -> Result<Option<Entry>, StoreError> {
        let Some((_, bytes, prepared)) = usize::try_from(seq).ok().and_then(|at| self.rows.get(at)) else {
            return Ok(None);
        };
        let leaf = Leaf::parse(bytes).map_err(|e| StoreError::NotIntact(e.to_string()))?;
        if let Some(by) = self.erased.get(&seq) {
            let payload = Payload::Erased(Some(*by));
            return Ok(Some(Entry { seq, bytes: bytes.clone(), leaf, subject: None, payload }));
        }
        let payload = Payload::Present {
            actor: prepared.actor.clone(),
            value: prepared.payload.clone(),
            salt: prepared.salt,
        };
        Ok(Some(Entry { seq, bytes: bytes.clone(), leaf, subject: prepared.subject, payload }))
    }
}

impl Base for Inner {
    fn event_seq(&self, event: &EventKey) -> Result<Option<Seq>, StoreError> {
        Ok(self.events.get(event).copied())
    }

    fn stored(&self, seq: Seq) -> Result<Option<Stored>, StoreError> {
        Ok(self.rows.get(seq as usize).map(|(appended, _, prepared)| Stored {
            appended: *appended,
            kind: prepared.leaf.kind.clone(),
            content: (!self.erased.contains_key(&seq)).then(|| Content::of(prepared)),
        }))
    }

    fn topic_last(&self, topic: &str) -> Result<Option<Seq>, StoreError> {
        Ok(self.topics.get(topic).and_then(|seqs| seqs.last().copied()))
    }

    fn get(&self, kind: &str, key: &str) -> Result<Option<Value>, StoreError> {
        Ok(self.folded.get(kind, key))
    }

    fn scan(
        &self,
        kind: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, StoreError> {
        Ok(self.folded.scan(kind, prefix, after, limit))
    }
}

impl Store for MemoryStore {
    fn append(
        &self,
        entries: Vec<NewEntry>,
        preconditions: &[Precondition],
    ) -> Result<Vec<Appended>, StoreError> {
        self.append_and(entries, preconditions, |_, _| Ok(()))
    }

    fn erase(
        &self,
        entry: NewEntry,
        destroy: Destroy,
        preconditions: &[Precondition],
    ) -> Result<Appended, StoreError> {
        let appended = self.append_and(vec![entry], preconditions, |inner, by| inner.destroy(destroy, by))?;
        appended.first().copied().ok_or_else(|| StoreError::Invalid("nothing was to be appended".into()))
    }

    fn scrub(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn checkpoint(&self) -> SignedCheckpoint {
        self.lock().checkpoint.clone()
    }

    fn vkey(&self) -> String {
        self.key.vkey()
    }

    fn signed_root(&self) -> Result<SignedRoot, StoreError> {
        sign_root(&self.checkpoint(), &self.key)
    }

    fn leaves(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        let inner = self.lock();
        let rows = inner.rows.get(range.start as usize..range.end as usize);
        let rows = rows.ok_or_else(|| StoreError::Invalid("the range reaches beyond the log".into()))?;
        Ok(rows.iter().map(|(_, leaf, _)| leaf.clone()).collect())
    }

    fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().tiles.get(&(level, index)).cloned())
    }

    fn entry(&self, seq: Seq) -> Result<Option<Entry>, StoreError> {
        self.lock().entry(seq)
    }

    fn entries(&self, from: Seq, limit: usize, filter: &EntryFilter) -> Result<Vec<Entry>, StoreError> {
        let inner = self.lock();
        let seqs: Vec<Seq> = match &filter.topic {
            Some(topic) => {
                inner.topics.get(topic).map(|s| s.range(from..).copied().collect()).unwrap_or_default()
            }
            None => (from..inner.rows.len() as Seq).collect(),
        };
        seqs.into_iter()
            .filter(|seq| {
                let kind = &inner.rows[*seq as usize].2.leaf.kind;
                filter.kinds.is_empty() || filter.kinds.iter().any(|k| k == kind)
            })
            .take(limit)
            .filter_map(|seq| inner.entry(seq).transpose())
            .collect()
    }

    fn find_event(&self, event_id: &str) -> Result<Option<Seq>, StoreError> {
        self.lock().event_seq(&event_key(event_id))
    }

    fn get(&self, kind: &str, key: &str) -> Result<Option<Value>, StoreError> {
        Ok(self.lock().folded.get(kind, key))
    }

    fn scan(
        &self,
        kind: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, StoreError> {
        Ok(self.lock().folded.scan(kind, prefix, after, limit))
    }

    fn put_primary(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let mut inner = self.lock();
        for Write { kind, key, value } in writes {
            inner.primary.put(kind, key, value);
        }
        Ok(())
    }

    fn swap_primary(&self, write: Write, expected: Option<&Value>) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        let now = inner.primary.get(&write.kind, &write.key);
        let as_expected = now.as_ref() == expected;
        if as_expected {
            inner.primary.put(write.kind, write.key, write.value);
        }
        Ok(as_expected)
    }

    fn get_primary(&self, kind: &str, key: &str) -> Result<Option<Value>, StoreError> {
        Ok(self.lock().primary.get(kind, key))
    }

    fn scan_primary(
        &self,
        kind: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, StoreError> {
        Ok(self.lock().primary.scan(kind, prefix, after, limit))
    }
}
