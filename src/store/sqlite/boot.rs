//! The check before the first append after a start: does the end of the log fit what was last signed?
//!
//! O(log n): the root is computed again from the stored tiles of the right edge and compared with the signed checkpoint,
//! the number of entries with its size, the leaves of the last tile with their hashes, and the last leaf with the chain.
//! Because every transaction that appends also replaces the checkpoint, there is no unsigned tail. Anything older that
//! was changed is found by [`super::audit`]; whoever changes it *and* the tree cannot sign the new root.

use almoner_ledger::tree::{Edge, TILE_WIDTH, tile_hashes};
use almoner_ledger::{Checkpoint, Leaf, SignedCheckpoint, VerifierKey, leaf};

use super::read::Reader;
use super::schema::{FORMAT, trouble};
use crate::store::StoreError;
use crate::store::batch::Tip;

fn not_intact(what: impl Into<String>) -> StoreError {
    StoreError::NotIntact(what.into())
}

/// The end of the log, if it fits the last signed checkpoint.
///
/// # Errors
/// [`StoreError::NotIntact`] naming what does not fit.
pub fn check(reader: &Reader<'_>, vkey: &VerifierKey) -> Result<(Tip, SignedCheckpoint), StoreError> {
    match reader.meta("format")?.as_deref() {
        Some(FORMAT) => {}
        _ => return Err(not_intact(format!("the database is not of the format {FORMAT}"))),
    }
    let note = reader.checkpoint_note()?.ok_or_else(|| not_intact("the signed checkpoint is missing"))?;
    let signed = Checkpoint::open(&note, vkey)
        .map_err(|e| not_intact(format!("the checkpoint is not one this server signed ({e})")))?;
    let size = signed.checkpoint.size;
    let last: Option<i64> =
        reader.db.query_row("SELECT max(seq) FROM entry", [], |row| row.get(0)).map_err(trouble)?;
    let stored = last.map_or(0, |seq| seq as u64 + 1);
    if stored != size {
        return Err(not_intact(format!("{stored} entries are stored, {size} were signed")));
    }
    let mut failure = None;
    let edge = Edge::load(size, |level, index| {
        reader.tile(level, index).unwrap_or_else(|e| {
            failure.get_or_insert(e);
            None
        })
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let edge = edge.ok_or_else(|| not_intact("a hash tile at the end of the log is missing or cut"))?;
    if edge.root() != signed.checkpoint.root {
        return Err(not_intact(format!("the tree's root at size {size} is not the one that was signed")));
    }
    let mut tip = Tip { edge, ..Tip::empty() };
    if size > 0 {
        check_end(reader, size, &mut tip)?;
    }
    Ok((tip, signed))
}

/// The leaves of the last tile against its hashes, and their chain.
fn check_end(reader: &Reader<'_>, size: u64, tip: &mut Tip) -> Result<(), StoreError> {
    let index = (size - 1) / TILE_WIDTH as u64;
    let start = index * TILE_WIDTH as u64;
    let hashes = reader.tile(0, index)?.as_deref().and_then(tile_hashes).unwrap_or_default();
    let leaves = reader.leaves(start, size)?;
    if hashes.len() != leaves.len() {
        return Err(not_intact("the last hash tile does not fit the last entries"));
    }
    let mut prev = match start {
        0 => Some(leaf::NO_PREV),
        _ => reader.tile(0, index - 1)?.as_deref().and_then(tile_hashes).and_then(|h| h.last().copied()),
    };
    for ((seq, bytes), hash) in (start..).zip(&leaves).zip(&hashes) {
        let leaf = Leaf::parse(bytes).map_err(|e| not_intact(format!("entry {seq}: {e}")))?;
        if leaf::hash(bytes) != *hash {
            return Err(not_intact(format!("entry {seq} is not the one that was signed")));
        }
        if leaf.seq != seq || Some(leaf.prev.0) != prev || leaf.time < tip.time {
            return Err(not_intact(format!("entry {seq} does not follow the one before it")));
        }
        prev = Some(*hash);
        (tip.last, tip.time) = (*hash, leaf.time);
    }
    Ok(())
}
