//! The fold's two sides: what it is given (an entry, a view of the state so far) and what it gives back (writes).
//!
//! `store` runs a [`Projector`] inside the transaction of each append, and again from nothing to prove that the stored
//! state is the fold of the log. A projector is pure: the same entries in the same order give the same writes.

use almoner_model::{Seq, SubjectId, Timestamp};
use serde_json::Value;

use crate::events::Actor;

/// An entry as the fold sees it.
#[derive(Debug)]
pub struct ProjectedEntry<'a> {
    /// Position.
    pub seq: Seq,
    /// Ledger time.
    pub time: Timestamp,
    /// The leaf's `type`.
    pub kind: &'a str,
    /// Who acted.
    pub actor: &'a Actor,
    /// Whom it concerns.
    pub subject: Option<SubjectId>,
    /// What is said.
    pub payload: &'a Value,
}

/// One change of state.
#[derive(Clone, PartialEq, Debug)]
pub struct Write {
    /// Kind of record, e.g. `request`.
    pub kind: String,
    /// Key within the kind.
    pub key: String,
    /// The new value; `None` removes it.
    pub value: Option<Value>,
}

/// The fold found the entry impossible in the present state; nothing is appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection(
    /// Why, without any patient's value.
    pub String,
);

/// The state as it is before an entry.
pub trait View {
    /// One record.
    fn get(&self, kind: &str, key: &str) -> Option<Value>;
    /// Records of a kind whose key begins with `prefix` and comes after `after`, in order of keys.
    fn scan(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Value)>;
}

/// The fold: what an entry does to the state. Pure: the same entry and view give the same writes.
pub trait Projector: Send + Sync {
    /// The writes of one entry.
    ///
    /// # Errors
    /// [`Rejection`] if the entry is impossible in this state.
    fn project(&self, entry: &ProjectedEntry<'_>, view: &dyn View) -> Result<Vec<Write>, Rejection>;
}
