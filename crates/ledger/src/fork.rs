//! Evidence that a log forked or was rolled back: two checkpoints that its key signed, of which one cannot be the
//! beginning of the other.
//!
//! With equal sizes the two roots say it. Else the larger tree's own beginning does: `prefix_root` is the root of its
//! first `first.size` leaves, `proof` is the RFC 9162 §2.1.4 consistency proof from it to the larger root, and it is not
//! the root that was signed for that size. Hashes that lead to a signed root can lead nowhere else, so nobody but the
//! holder of the log's key can make such evidence, and nobody needs to be believed.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::note::VerifierKey;
use crate::proof::{ProofError, check_consistency, consistency_roots};
use crate::tree::Hash;

/// The format's name.
pub const FORMAT: &str = "almoner-fork/1";

/// Two signed checkpoints that do not belong together, and what shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// [`FORMAT`].
    pub format: String,
    /// What happened, in words of whoever kept it. Not evidence.
    pub note: String,
    /// The signed note of the checkpoint with fewer entries, or of the one seen first.
    pub first: String,
    /// The signed note of the other.
    pub second: String,
    /// Root of the first `first.size` leaves of the second tree, in base64; absent where the hashes at hand do not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_root: Option<String>,
    /// The consistency proof, in base64; what was sent, where `prefix_root` is absent.
    pub proof: Vec<String>,
}

/// Why evidence shows no fork.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoFork {
    /// Not in the format.
    #[error("not evidence in the format {FORMAT}")]
    Malformed,
    /// A checkpoint does not open with the log's key.
    #[error("the {which} checkpoint: {error}")]
    Checkpoint {
        /// `first` or `second`.
        which: &'static str,
        /// Why.
        error: CheckpointError,
    },
    /// The two agree.
    #[error("the two checkpoints agree: the first is the beginning of the second")]
    Agree,
    /// It is kept for somebody who has the log's tiles.
    #[error(
        "it does not show the root of the second tree's first entries, so it may be the proof and not the log that is wrong; \
         compare with a copy of the log"
    )]
    Unproven,
    /// The proof does not lead to the second checkpoint.
    #[error("the proof does not lead to the second checkpoint: {0}")]
    Proof(ProofError),
}

impl Fork {
    /// Puts together what was found. `prefix_root` and `proof` as in the format; both are left out for equal sizes.
    pub fn new(note: &str, first: &[u8], second: &[u8], prefix_root: Option<Hash>, proof: &[Hash]) -> Self {
        Self {
            format: FORMAT.into(),
            note: note.to_owned(),
            first: String::from_utf8_lossy(first).into_owned(),
            second: String::from_utf8_lossy(second).into_owned(),
            prefix_root: prefix_root.map(|root| BASE64_STANDARD.encode(root)),
            proof: proof.iter().map(|hash| BASE64_STANDARD.encode(hash)).collect(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`NoFork::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoFork> {
        let read: Self = serde_json::from_slice(bytes).map_err(|_| NoFork::Malformed)?;
        if read.format == FORMAT { Ok(read) } else { Err(NoFork::Malformed) }
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let text = serde_json::to_string_pretty(self).expect("text serialises");
        format!("{text}\n").into_bytes()
    }

    /// Checks that the log of `key` signed two histories; returns the two checkpoints.
    ///
    /// # Errors
    /// [`NoFork`]: it is not shown.
    pub fn check(&self, key: &VerifierKey) -> Result<(Checkpoint, Checkpoint), NoFork> {
        let open = |note: &str, which| match Checkpoint::open(note.as_bytes(), key) {
            Ok(signed) => Ok(signed.checkpoint),
            Err(error) => Err(NoFork::Checkpoint { which, error }),
        };
        let (first, second) = (open(&self.first, "first")?, open(&self.second, "second")?);
        if first.size == second.size {
            return if first.root == second.root { Err(NoFork::Agree) } else { Ok((first, second)) };
        }
        let hash = |text: &String| -> Option<Hash> { BASE64_STANDARD.decode(text).ok()?.try_into().ok() };
        let proof = self.proof.iter().map(hash).collect::<Option<Vec<_>>>().ok_or(NoFork::Malformed)?;
        let Some(prefix) = &self.prefix_root else { return Err(NoFork::Unproven) };
        let prefix = hash(prefix).ok_or(NoFork::Malformed)?;
        if first.size == 0 || first.size > second.size {
            return Err(NoFork::Malformed);
        }
        check_consistency(first.size, second.size, &prefix, &second.root, &proof).map_err(NoFork::Proof)?;
        if prefix == first.root { Err(NoFork::Agree) } else { Ok((first, second)) }
    }
}

/// The root of the first `old` leaves of the tree of `new` leaves with `root`, as a consistency proof between them tells
/// it; `None` if the proof does not lead to `root`, or `old` is a power of two, where the proof leaves that root out.
pub fn prefix_root(old: u64, new: u64, root: &Hash, proof: &[Hash]) -> Option<Hash> {
    if old == 0 || old >= new || old.is_power_of_two() {
        return None;
    }
    // The seed is not used: the smaller tree is not one subtree of the larger.
    let (prefix, whole) = consistency_roots(0, old, new, &[0; 32], proof).ok()?;
    (whole == *root).then_some(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LogKey;
    use crate::testing::Tree;

    #[test]
    fn only_the_holder_of_the_logs_key_can_make_evidence() {
        let log = LogKey::new("log.example/a", &[1; 32]).expect("a name");
        let key = VerifierKey::parse(&log.vkey()).expect("a key");
        let (real, other) = (Tree::of(0, 12), Tree::forked(0, 5, 12));
        let note = |tree: &Tree, size| tree.checkpoint(log.name(), size).sign(&log).expect("signs").note;
        let (first, second) = (note(&real, 8), note(&other, 11));
        let proof = other.consistency(8, 11);
        let fork = Fork::new("", &first, &second, Some(other.root(8)), &proof);
        let (a, b) = fork.check(&key).expect("a fork");
        assert_eq!((a.size, b.size), (8, 11));
        assert!(Fork::new("", &note(&real, 9), &note(&other, 9), None, &[]).check(&key).is_ok());
        let check = |first: &[u8], second: &[u8], root, proof: &[Hash]| {
            Fork::new("", first, second, root, proof).check(&key).expect_err("no fork")
        };
        let (honest, longer) = (note(&other, 8), note(&real, 11));
        assert_eq!(check(&honest, &second, Some(other.root(8)), &proof), NoFork::Agree);
        assert_eq!(check(&honest, &honest, None, &[]), NoFork::Agree);
        assert_eq!(check(&first, &second, None, &proof), NoFork::Unproven);
        // Another beginning than the second tree has, or the proof of another tree.
        assert_eq!(
            check(&first, &longer, Some([7; 32]), &real.consistency(8, 11)),
            NoFork::Proof(ProofError::Root)
        );
        assert_eq!(check(&first, &longer, Some(other.root(8)), &proof), NoFork::Proof(ProofError::Root));
        assert_eq!(check(&second, &first, Some(other.root(8)), &proof), NoFork::Malformed);
        let stranger = LogKey::new("log.example/a", &[2; 32]).expect("a name");
        let forged = other.checkpoint(log.name(), 11).sign(&stranger).expect("signs").note;
        assert!(matches!(
            check(&first, &forged, Some(other.root(8)), &proof),
            NoFork::Checkpoint { which: "second", .. }
        ));
        assert_eq!(Fork::parse(b"{}"), Err(NoFork::Malformed));
    }
}
