//! Checkpoints (C2SP tlog-checkpoint): the log's signed statement of its size and root.
//!
//! ```text
//! almoner.example/log
//! 3
//! base64 of the root
//! ```

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::note::{KeyError, LogKey, VerifierKey, unverified_text};
use crate::tree::Hash;

/// What a checkpoint says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Root of the tree of that size.
    pub root: Hash,
}

/// A checkpoint and the note it was read from or signed as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedCheckpoint {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The exact bytes of the signed note.
    pub note: Vec<u8>,
}

/// Why a checkpoint was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The note or its signature.
    #[error(transparent)]
    Note(#[from] KeyError),
    /// The text is not in the format of C2SP tlog-checkpoint.
    #[error("the signed text is not a checkpoint")]
    Malformed,
    /// Signed by the right key for another log.
    #[error("the checkpoint is of the log {0}, not of the key's")]
    Origin(String),
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64_STANDARD.encode(self.root))
    }

    /// Reads the text of a checkpoint. Extension lines are allowed and ignored.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size_text, root) = (lines.next()?, lines.next()?, lines.next()?);
        let size: u64 = size_text.parse().ok()?;
        let root: Hash = BASE64_STANDARD.decode(root).ok()?.try_into().ok()?;
        let extensions_ok = lines.all(|line| !line.is_empty());
        let ok = !origin.is_empty() && size.to_string() == size_text && extensions_ok;
        ok.then(|| Self { origin: origin.to_owned(), size, root })
    }

    /// Signs it.
    ///
    /// # Errors
    /// [`KeyError`] if the origin cannot stand in a note.
    pub fn sign(self, key: &LogKey) -> Result<SignedCheckpoint, KeyError> {
        self.sign_with([key])
    }

    /// Signs it with each of several keys of the log.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub fn sign_with<'k>(
        self,
        keys: impl IntoIterator<Item = &'k LogKey>,
    ) -> Result<SignedCheckpoint, KeyError> {
        Ok(SignedCheckpoint { note: LogKey::sign_with(keys, &self.text())?, checkpoint: self })
    }

    /// Opens a signed checkpoint with the log's verifier key, whose name is the origin. Where the log has had several keys,
    /// it must be signed by that of its size.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(note: &[u8], key: &VerifierKey) -> Result<SignedCheckpoint, CheckpointError> {
        let stated = unverified_text(note).and_then(|text| Self::parse(&text));
        let text = key.open_at(stated.map_or(u64::MAX, |stated| stated.size), note)?;
        let checkpoint = Self::parse(&text).ok_or(CheckpointError::Malformed)?;
        if checkpoint.origin == key.name() {
            Ok(SignedCheckpoint { checkpoint, note: note.to_vec() })
        } else {
            Err(CheckpointError::Origin(checkpoint.origin))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::EMPTY_ROOT;

    #[test]
    fn what_is_signed_opens_and_only_the_exact_format_is_read() {
        let key = LogKey::new("log.example/a", &[7; 32]).expect("name");
        let vkey = VerifierKey::parse(&key.vkey()).expect("vkey");
        let checkpoint = Checkpoint { origin: "log.example/a".into(), size: 0, root: EMPTY_ROOT };
        let signed = checkpoint.clone().sign(&key).expect("signs");
        assert_eq!(Checkpoint::open(&signed.note, &vkey).expect("opens"), signed);
        let stranger = Checkpoint { origin: "log.example/b".into(), ..checkpoint }.sign(&key).expect("signs");
        assert_eq!(
            Checkpoint::open(&stranger.note, &vkey),
            Err(CheckpointError::Origin("log.example/b".into()))
        );
        let root = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert!(Checkpoint::parse(&format!("o\n5\n{root}\nextension\n")).is_some());
        for bad in
            ["", "o\n5\n", "o\n05\nR\n", "o\n+5\nR\n", "o\n5\nAAAA\n", "\n5\nR\n", "o\n5\nR", "o\n5\nR\n\n"]
        {
            assert_eq!(Checkpoint::parse(&bad.replace('R', root)), None, "{bad:?}");
        }
    }
}
