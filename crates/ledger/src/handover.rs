//! How one key of a log hands over to the next, so that who knows one of a log's keys can come to know the others.
//!
//! A log changes its key by an entry of its own, of the type `key.rotated`, whose payload names the old and the new key. The
//! checkpoint that first has the entry is signed by both; so is every other until the overlap ends that the entry names, and
//! from then on the new key signs alone. No checkpoint that has the entry lacks the new key's signature: that is what lets
//! [`VerifierKey`] say of a checkpoint's size by which key it must be signed.
//!
//! A hand-over is that entry, opened, with its proof under a checkpoint that both keys signed. It holds for who trusts either
//! key: the old one names its successor, the new one its predecessor. A log's hand-overs, in order, are one JSON array, served
//! at `handovers` beside `checkpoint`, and kept in exports, release packages and evidence packs.
//!
//! ```text
//! [{"entry": {"leaf": "{…}", "opening": "…", "payload": {"epoch": 1, "new": "…", "old": "…", "until": "…"}},
//!   "proof": "c2sp.org/tlog-proof@v1\nindex 41\n…"}]
//! ```
//!
//! What it does not do: whoever took the old key can sign with it until readers no longer accept it. Of checkpoints larger
//! than the entry they do not once they know the hand-over; a reader who does not, and one who is shown another history from
//! before it, is protected by witnesses only.

use serde::{Deserialize, Serialize};

use crate::note::{KeyError, VerifierKey};
use crate::package::OpenedEntry;
use crate::receipt::{Receipt, ReceiptError};

/// The type of the entry by which a log changes its key.
pub const KIND: &str = "key.rotated";

/// One change of a log's key.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// The entry, opened.
    pub entry: OpenedEntry,
    /// Its proof (C2SP tlog-proof) under a checkpoint that both keys signed.
    pub proof: String,
}

/// Why hand-overs were refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HandoverError {
    /// Not in the format.
    #[error("not a list of hand-overs")]
    Malformed,
    /// The entry does not open, or says something else.
    #[error("hand-over {0}: {1}")]
    Entry(usize, &'static str),
    /// The proof does not hold for both keys.
    #[error("hand-over {0}: {1}")]
    Proof(usize, ReceiptError),
    /// One does not begin where the one before it ends.
    #[error("hand-over {0} does not follow the one before it")]
    Gap(usize),
    /// They are of other keys.
    #[error("the hand-overs do not lead to or from the key {0}")]
    OtherKey(String),
}

/// What the payload of the entry says, as far as it is needed.
#[derive(Deserialize)]
struct Rotated {
    old: String,
    new: String,
}

/// Reads a list of hand-overs; nothing at all is an empty one.
///
/// # Errors
/// [`HandoverError::Malformed`].
pub fn read(bytes: &[u8]) -> Result<Vec<Handover>, HandoverError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(bytes).map_err(|_| HandoverError::Malformed)
}

/// All keys of the log of which `key` is one, each for its time.
///
/// # Errors
/// [`HandoverError`] if one of them does not hold, or none of them is of `key`.
pub fn follow(key: &VerifierKey, handovers: &[Handover]) -> Result<VerifierKey, HandoverError> {
    let mut all: Option<VerifierKey> = None;
    for (n, handover) in handovers.iter().enumerate() {
        let (seq, old, new) = check(n, handover)?;
        let before = match all {
            Some(before) if before.line() == old.line() => before,
            Some(_) => return Err(HandoverError::Gap(n)),
            None => old,
        };
        all = Some(before.followed_by(seq + 1, &new).map_err(|_| HandoverError::Gap(n))?);
    }
    let Some(all) = all else { return Ok(key.clone()) };
    if all.lines().any(|line| line == key.line()) {
        Ok(all)
    } else {
        Err(HandoverError::OtherKey(key.line().to_owned()))
    }
}

/// As [`follow`] where they hold for `key` and it is one alone; else the key as it is, by which what is not signed by it is
/// then refused.
pub fn or_alone(key: &VerifierKey, handovers: &[Handover]) -> VerifierKey {
    match follow(key, handovers) {
        Ok(all) if key.lines().len() == 1 => all,
        _ => key.clone(),
    }
}

/// Position of the entry, and the two keys.
fn check(n: usize, handover: &Handover) -> Result<(u64, VerifierKey, VerifierKey), HandoverError> {
    let wrong = |what| HandoverError::Entry(n, what);
    let leaf = handover.entry.open().map_err(wrong)?;
    if leaf.kind != KIND {
        return Err(wrong("the entry is not a change of the log's key"));
    }
    let said: Rotated = serde_json::from_value(handover.entry.payload.clone())
        .map_err(|_| wrong("the payload is not that of a change of the log's key"))?;
    let parse =
        |line: &str| VerifierKey::parse(line).map_err(|_: KeyError| wrong("it names no verifier key"));
    let (old, new) = (parse(&said.old)?, parse(&said.new)?);
    if old.name() != new.name() || old.bytes() == new.bytes() {
        return Err(wrong("it does not name two keys of one log"));
    }
    let failed = |e| HandoverError::Proof(n, e);
    let proof = Receipt::parse(handover.proof.as_bytes()).map_err(failed)?;
    if proof.index != leaf.seq {
        return Err(wrong("the proof is of another entry"));
    }
    for key in [&old, &new] {
        proof.check(handover.entry.leaf.as_bytes(), key).map_err(failed)?;
    }
    Ok((leaf.seq, old, new))
}

#[cfg(test)]
mod tests;
