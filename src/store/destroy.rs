//! What an erasure destroys, in the transaction of its entry: the store's half of `flows::erase`.
//!
//! The leaves stay as they are, and with them every hash, proof and receipt. What was under their commitments goes: payload,
//! actor, salt, the list of a person's entries, the person's key, and the records that only those entries made.

use almoner_model::{Seq, SubjectId};

use super::Write;

/// Why nothing more is appended about a person.
pub(super) const ERASED: &str = "this person was erased; nothing is recorded about them any more";

/// What goes when an entry is appended by [`super::Store::erase`].
#[derive(Clone, Default, Debug)]
pub struct Destroy {
    /// Entries whose payload goes. They are listed under no person any more, and name the entry that erased them.
    pub entries: Vec<Seq>,
    /// People of whom nothing stays: their key goes, and nothing is appended about them until the store is opened again.
    pub subjects: Vec<SubjectId>,
    /// Changes of the folded state, so that it is the fold of what is left.
    pub folded: Vec<Write>,
    /// Folded records that go as well, unless another one names them.
    pub shared: Vec<Shared>,
    /// Changes of the primary state.
    pub primary: Vec<Write>,
}

/// A folded record that several people's entries may have made: it goes when no record of another kind holds its key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Shared {
    /// Its kind.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// The kind of the records that name it.
    pub named_by: String,
}
