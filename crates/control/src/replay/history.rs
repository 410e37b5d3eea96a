//! The control state at every ledger size: each record with all its versions, so that a decision is made again on the state
//! before its `as_of`.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use almoner_model::Seq;
use serde_json::Value;

use crate::state::{Read, ReadError, View, Write};

type Versions = Vec<(Seq, Option<Value>)>;

/// All versions of all records.
#[derive(Debug, Default)]
pub struct History {
    kinds: HashMap<String, BTreeMap<String, Versions>>,
    last: Option<Seq>,
}

impl History {
    /// Adds what entry `seq` writes.
    pub fn write(&mut self, seq: Seq, writes: Vec<Write>) {
        for Write { kind, key, value } in writes {
            self.kinds.entry(kind).or_default().entry(key).or_default().push((seq, value));
            self.last = Some(seq);
        }
    }

    /// Whether an entry at `as_of` or after wrote anything.
    pub fn changed_since(&self, as_of: Seq) -> bool {
        self.last.is_some_and(|last| last >= as_of)
    }

    /// The state before entry `as_of`.
    pub const fn before(&self, as_of: Seq) -> Before<'_> {
        Before { history: self, as_of }
    }
}

/// The state before an entry.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    history: &'a History,
    as_of: Seq,
}

impl Before<'_> {
    /// The state before an earlier entry still.
    #[must_use]
    pub const fn earlier(self, as_of: Seq) -> Self {
        Self { as_of, ..self }
    }

    fn of<'v>(&self, versions: &'v Versions) -> Option<&'v Value> {
        versions.iter().rev().find(|(seq, _)| *seq < self.as_of)?.1.as_ref()
    }
}

impl View for Before<'_> {
    fn get(&self, kind: &str, key: &str) -> Option<Value> {
        self.of(self.history.kinds.get(kind)?.get(key)?).cloned()
    }

    fn scan(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Value)> {
        let Some(records) = self.history.kinds.get(kind) else { return Vec::new() };
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        records
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, versions)| Some((key.clone(), self.of(versions)?.clone())))
            .take(limit)
            .collect()
    }
}

impl Read for Before<'_> {
    fn get(&self, kind: &str, key: &str) -> Result<Option<Value>, ReadError> {
        Ok(View::get(self, kind, key))
    }

    fn scan(
        &self,
        kind: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, ReadError> {
        Ok(View::scan(self, kind, prefix, after, limit))
    }
}
