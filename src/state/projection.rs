//! The fold's two sides: what it is given (an entry, a view of the state so far) and what it gives back (writes).
//!
//! `store` runs a [`Projector`] inside the transaction of each append, and again from nothing to prove that the stored
//! state is the fold of the log. A projector is pure: the same entries in the same order give the same writes.

use almoner_model::{Seq, SubjectId, Timestamp};
use serde_json::Value;

/// One entry on its way into the state.
#[derive(Clone, Copy, Debug)]
pub struct ProjectedEntry<'a> {
    /// Its position.
    pub seq: Seq,
    /// Its time: the only clock of decisions.
    pub time: Timestamp,
    /// Its kind (`consent.recorded`).
    pub kind: &'a str,
    /// The person that it concerns, if it concerns one.
    pub subject: Option<SubjectId>,
    /// Its payload.
    pub payload: &'a Value,
}

/// One change of the state: the value under `(kind, key)`, or its removal.
#[derive(Clone, PartialEq, Debug)]
pub struct Write {
    /// The projection.
    pub kind: &'static str,
    /// The key in it.
    pub key: String,
    /// The new value; `None` removes.
    pub value: Option<Value>,
}

/// The state as far as it has been folded.
pub trait View {
    /// The value under `(kind, key)`.
    fn get(&self, kind: &str, key: &str) -> Option<Value>;

    /// Up to `limit` pairs of a projection whose keys begin with `prefix` and come after `after`, in key order.
    fn scan(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Value)>;
}

/// Why an entry cannot follow what is already in the log. The append that carried it is refused as a conflict.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{rule}: {reason}")]
pub struct Rejection {
    /// The rule that it breaks, a stable name.
    pub rule: &'static str,
    /// What is the matter, without any person's data.
    pub reason: String,
}

/// A fold over the log.
pub trait Projector: Send + Sync {
    /// The writes that `entry` makes on top of `view`.
    ///
    /// # Errors
    /// [`Rejection`] if the entry is impossible after what `view` holds.
    fn project(&self, entry: &ProjectedEntry<'_>, view: &dyn View) -> Result<Vec<Write>, Rejection>;
}
