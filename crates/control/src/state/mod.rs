//! Control state: the fold of the log into what is true now.
//!
//! [`Projections`] folds every kind of entry (`events`) into records, and refuses an entry that cannot follow what is
//! already there: a decision on a request that does not exist, a second decision by the same committee, terms signed by
//! another recipient, a consent that lifts a withdrawal it may not lift. A refused entry is not appended.
//! [`read`] is the typed way to the records, for the fold itself and for flows.
//!
//! Pure: time is the entry's own. Everything here can be rebuilt from the entries and their payloads, and nothing else
//! may write it.

mod fold;
pub mod projection;
pub mod read;
pub mod records;
pub mod topic;

pub use fold::Projections;
pub use projection::{ProjectedEntry, Projector, Rejection, View, Write};
pub use read::{Read, ReadError};

#[cfg(test)]
mod tests;
