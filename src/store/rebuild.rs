//! The fold run again: what an entry that stands in the log makes of the state before it. The proof that the stored state is
//! the fold of the log compares the two record by record (`sqlite::scratch`).

use super::{Entry, Payload, ProjectedEntry, Projector, StoreError, View, Write};

/// The writes of an entry. An erased entry gives none.
///
/// # Errors
/// [`StoreError::NotIntact`] if the fold refuses an entry that stands in the log.
pub fn writes(entry: &Entry, projector: &dyn Projector, view: &dyn View) -> Result<Vec<Write>, StoreError> {
    let Payload::Present { actor, value, .. } = &entry.payload else { return Ok(Vec::new()) };
    let projected = ProjectedEntry {
        seq: entry.seq,
        time: entry.leaf.time,
        kind: &entry.leaf.kind,
        actor,
        subject: entry.subject,
        payload: value,
    };
    let refused = |r: super::Rejection| format!("the fold refuses entry {}: {}", entry.seq, r.0);
    projector.project(&projected, view).map_err(|r| StoreError::NotIntact(refused(r)))
}
