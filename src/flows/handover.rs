//! The change of the key that signs the ledger, and what readers need to follow it (`almoner_ledger::handover`).

use almoner_ledger::handover::Handover;
use almoner_ledger::{Checkpoint, SignedCheckpoint};
use almoner_model::{Seq, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::Act;
use super::access::{AccessContext, AccessError};
use super::checkpoint::{PublishError, receipt_under};
use super::evidence::opened;
use crate::events::{Event, KeyRotated};
use crate::state::read;
use crate::state::records::LogKeys;
use crate::store::signing::{ROTATION, SigningKeys};
use crate::store::{Store, StoreError};

/// How many days the old key signs too, where nothing else is said.
pub const OVERLAP_DAYS: u32 = 30;

/// The longest overlap, in days.
pub const OVERLAP_DAYS_MAX: u32 = 366;

/// So many keys sign at a time at most. Each is a line more in every checkpoint and receipt.
pub const SIGNING_MAX: usize = 8;

/// A change of the key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Rotated {
    /// The entry.
    pub seq: Seq,
    /// What it says.
    #[serde(flatten)]
    pub change: KeyRotated,
}

/// A key of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LogKeyState {
    /// Counted from 0 for the first.
    pub epoch: u32,
    /// Its verifier key line.
    pub vkey: String,
    /// The least size of the log that needs its signature.
    pub from: u64,
    /// Until when it signs, where it was followed by another.
    pub until: Option<Timestamp>,
    /// Whether it signs now.
    pub signs: bool,
}

fn record(store: &dyn Store) -> Result<LogKeys, StoreError> {
    let Some(value) = store.get(LogKeys::KIND, LogKeys::KEY)? else { return Ok(LogKeys::default()) };
    serde_json::from_value(value).map_err(|_| StoreError::NotIntact("the record of the log's keys".into()))
}

/// Lets the next key sign from here on, and the present one beside it for `overlap_days` more.
///
/// # Errors
/// [`AccessError::Invalid`] for an overlap that is too long; the store's, also where somebody else changed it meanwhile.
pub fn rotate(
    ctx: &AccessContext<'_>,
    act: &Act,
    keys: &SigningKeys,
    overlap_days: u32,
) -> Result<Rotated, AccessError> {
    if overlap_days > OVERLAP_DAYS_MAX {
        let reason = format!("0 to {OVERLAP_DAYS_MAX} days");
        return Err(AccessError::invalid("/overlap_days", reason));
    }
    if let Some(seq) = ctx.repeated(act)? {
        let before = record(ctx.store)?.rotations.into_iter().find(|r| r.origin.seq == seq);
        let change = before.ok_or_else(|| AccessError::Conflict("this act was another one".into()))?.body;
        return Ok(Rotated { seq, change });
    }
    let (before, now) = (read::log_keys(&ctx.state(), LogKeys::KEY)?.unwrap_or_default(), ctx.now()?);
    // A key that is not trusted any more can be changed at any time: without an overlap there is none more.
    if before.in_force(now).0.len() - usize::from(overlap_days == 0) >= SIGNING_MAX {
        let why = format!(
            "{SIGNING_MAX} keys of the ledger sign already; change it again when the first has ended, or with an overlap \
             of 0 days"
        );
        return Err(AccessError::Conflict(why));
    }
    let epoch = before.rotations.len() as u32 + 1;
    let change = KeyRotated {
        epoch,
        old: ctx.store.vkey(),
        new: keys.public(epoch)?.line().to_owned(),
        until: Timestamp::from_millis(now.millis() + i64::from(overlap_days) * 86_400_000),
    };
    let appended = ctx.append(&Event::KeyRotated(change.clone()), act, None, Vec::new(), &[])?;
    Ok(Rotated { seq: appended.seq, change })
}

/// Every key that the log has had, the first one first.
///
/// # Errors
/// If the store cannot be read.
pub fn keys(store: &dyn Store, now: Timestamp) -> Result<Vec<LogKeyState>, StoreError> {
    let record = record(store)?;
    let (in_force, _) = record.in_force(now);
    let first = record.rotations.first().map_or_else(|| store.vkey(), |r| r.body.old.clone());
    let new = record.rotations.iter().map(|r| (r.body.epoch, r.body.new.clone(), r.origin.seq + 1));
    let all = std::iter::once((0, first, 0)).chain(new);
    let state = |(epoch, vkey, from): (u32, String, u64)| LogKeyState {
        epoch,
        vkey,
        from,
        until: record.rotations.iter().find(|r| r.body.epoch == epoch + 1).map(|r| r.body.until),
        signs: in_force.contains(&epoch),
    };
    Ok(all.map(state).collect())
}

/// How the log's keys followed each other, each with its proof under a checkpoint that both keys signed.
///
/// # Errors
/// [`PublishError`] if the store cannot be read.
pub fn all(store: &dyn Store) -> Result<Vec<Handover>, PublishError> {
    let rotations = record(store)?.rotations;
    if rotations.is_empty() {
        return Ok(Vec::new());
    }
    let mut notes: Vec<SignedCheckpoint> = Vec::new();
    for (_, kept) in store.scan_primary(ROTATION, "", None, usize::MAX)? {
        notes.extend(signed(&kept));
    }
    notes.sort_by_key(|signed| signed.checkpoint.size);
    let missing =
        |what: &str| StoreError::NotIntact(format!("of a change of the log's key {what} is missing"));
    let one = |change: &crate::state::records::Logged<KeyRotated>| {
        let seq = change.origin.seq;
        let under = notes.iter().find(|signed| signed.checkpoint.size > seq);
        let under = under.ok_or_else(|| missing("the checkpoint"))?.clone();
        let entry = store.entry(seq)?.ok_or_else(|| missing("the entry"))?;
        let entry = opened(&entry).map_err(|_| missing("what it said"))?;
        let proof = String::from_utf8(receipt_under(store, seq, under)?).map_err(|_| missing("the proof"))?;
        Ok(Handover { entry, proof })
    };
    rotations.iter().map(one).collect()
}

/// [`all`] as the file `handovers`.
///
/// # Errors
/// As [`all`].
pub fn file(store: &dyn Store) -> Result<Vec<u8>, PublishError> {
    let mut bytes = serde_json::to_vec_pretty(&all(store)?)
        .map_err(|_| StoreError::NotIntact("a change of the log's key is not JSON".into()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A checkpoint that was kept. Whoever follows the hand-over checks its signatures.
fn signed(kept: &Value) -> Option<SignedCheckpoint> {
    let note = kept.get("note")?.as_str()?;
    let (text, _) = note.split_once("\n\n")?;
    let checkpoint = Checkpoint::parse(&format!("{text}\n"))?;
    Some(SignedCheckpoint { checkpoint, note: note.as_bytes().to_vec() })
}

#[cfg(test)]
mod tests;
