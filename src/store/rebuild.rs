//! The proof that the folded state is the fold of the log: run the fold again from nothing, and compare.

use std::collections::BTreeMap;

use almoner_model::Seq;
use serde_json::Value;

use super::{Entry, EntryFilter, Payload, ProjectedEntry, Projector, Store, StoreError, View, Write};

/// Records by kind and key.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Folded(BTreeMap<(String, String), Value>);

impl Folded {
    /// All records in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        self.0.iter().map(|((kind, key), value)| (kind.as_str(), key.as_str(), value))
    }

    /// Applies one entry.
    ///
    /// # Errors
    /// [`StoreError::NotIntact`] if the fold refuses an entry that stands in the log.
    pub fn apply(&mut self, entry: &Entry, projector: &dyn Projector) -> Result<(), StoreError> {
        let Payload::Present { actor, value, .. } = &entry.payload else { return Ok(()) };
        let projected = ProjectedEntry {
            seq: entry.seq,
            time: entry.leaf.time,
            kind: &entry.leaf.kind,
            actor,
            subject: entry.subject,
            payload: value,
        };
        let writes = projector.project(&projected, self);
        let refused = |r: super::Rejection| format!("the fold refuses entry {}: {}", entry.seq, r.0);
        for Write { kind, key, value } in writes.map_err(|r| StoreError::NotIntact(refused(r)))? {
            match value {
                Some(value) => self.0.insert((kind, key), value),
                None => self.0.remove(&(kind, key)),
            };
        }
        Ok(())
    }

    /// The first record, in order of kind and key, that is not the same in `stored` (sorted, of all kinds).
    pub fn first_difference(&self, stored: impl Iterator<Item = (String, String, Value)>) -> Option<String> {
        let mut computed = self.0.iter();
        for (kind, key, value) in stored {
            match computed.next() {
                Some(((k, y), v)) if *k == kind && *y == key && *v == value => {}
                Some(((k, y), _)) if *k == kind && *y == key => {
                    return Some(format!("{kind}/{key}: not what the log says"));
                }
                Some(((k, y), _)) if (k, y) < (&kind, &key) => {
                    return Some(format!("{k}/{y}: missing, though the log says it"));
                }
                _ => return Some(format!("{kind}/{key}: there, though the log does not say it")),
            }
        }
        computed.next().map(|((k, y), _)| format!("{k}/{y}: missing, though the log says it"))
    }
}

impl View for Folded {
    fn get(&self, kind: &str, key: &str) -> Option<Value> {
        self.0.get(&(kind.to_owned(), key.to_owned())).cloned()
    }

    fn scan(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Value)> {
        let from = (kind.to_owned(), after.unwrap_or(prefix).max(prefix).to_owned());
        self.0
            .range(from..)
            .take_while(|((k, key), _)| k == kind && key.starts_with(prefix))
            .filter(|((_, key), _)| after.is_none_or(|a| key.as_str() > a))
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect()
    }
}

/// The state that the entries of `store` give, computed from nothing. Erased entries give nothing.
///
/// # Errors
/// [`StoreError`] if an entry cannot be read or the fold refuses it.
pub fn replay(store: &dyn Store, projector: &dyn Projector) -> Result<Folded, StoreError> {
    const PAGE: usize = 1_024;
    let (mut folded, mut next, size): (_, Seq, _) = (Folded::default(), 0, store.size());
    while next < size {
        let page = store.entries(next, PAGE, &EntryFilter::default())?;
        let Some(last) = page.last() else { break };
        next = last.seq + 1;
        for entry in page.iter().filter(|e| e.seq < size) {
            folded.apply(entry, projector)?;
        }
    }
    Ok(folded)
}
