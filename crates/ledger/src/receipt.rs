//! Receipts: one entry's proof in a file of its own (C2SP tlog-proof, `.tlog-proof`), to be checked offline with nothing
//! but the log's verifier key.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64>                 optional; here never written
//! index <position>
//! <base64 hash>                  the inclusion proof, one hash a line
//!
//! <signed checkpoint>
//! ```

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::note::VerifierKey;
use crate::proof::{ProofError, check_inclusion};
use crate::tree::{Hash, leaf_hash};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// A receipt, read but not yet checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// Opaque data of the application; not covered by any signature.
    pub extra: Option<Vec<u8>>,
    /// Position of the entry.
    pub index: u64,
    /// Inclusion proof.
    pub hashes: Vec<Hash>,
    /// The signed note.
    pub checkpoint: Vec<u8>,
}

/// Why a receipt was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReceiptError {
    /// Not in the format.
    #[error("not a receipt in the format c2sp.org/tlog-proof@v1")]
    Malformed,
    /// Its checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its proof.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl Receipt {
    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{HEADER}\n");
        if let Some(extra) = &self.extra {
            text.push_str(&format!("extra {}\n", BASE64_STANDARD.encode(extra)));
        }
        text.push_str(&format!("index {}\n", self.index));
        for hash in &self.hashes {
            text.push_str(&BASE64_STANDARD.encode(hash));
            text.push('\n');
        }
        text.push('\n');
        [text.as_bytes(), &self.checkpoint].concat()
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`ReceiptError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        Self::read(bytes).ok_or(ReceiptError::Malformed)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, checkpoint) = text.split_once("\n\n")?;
        let mut lines = head.split('\n').peekable();
        if lines.next()? != HEADER {
            return None;
        }
        let extra = match lines.peek()?.strip_prefix("extra ") {
            Some(extra) => {
                lines.next();
                Some(BASE64_STANDARD.decode(extra).ok()?)
            }
            None => None,
        };
        let index_text = lines.next()?.strip_prefix("index ")?;
        let index: u64 = index_text.parse().ok().filter(|n: &u64| n.to_string() == index_text)?;
        let hashes =
            lines.map(|l| BASE64_STANDARD.decode(l).ok()?.try_into().ok()).collect::<Option<Vec<Hash>>>()?;
        (hashes.len() <= 63).then(|| Self { extra, index, hashes, checkpoint: checkpoint.into() })
    }

    /// Checks that `leaf` (the exact bytes of an entry) stands in the log of `key` where the receipt says.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn check(&self, leaf: &[u8], key: &VerifierKey) -> Result<SignedCheckpoint, ReceiptError> {
        let signed = Checkpoint::open(&self.checkpoint, key)?;
        let Checkpoint { size, root, .. } = &signed.checkpoint;
        check_inclusion(self.index, *size, &leaf_hash(leaf), root, &self.hashes)?;
        Ok(signed)
    }
}
