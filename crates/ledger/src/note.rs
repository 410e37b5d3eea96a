//! Signed notes (C2SP signed-note) with Ed25519 (RFC 8032): the keys of the log and of its readers.
//!
//! A note is a text, a blank line, and signature lines `— <name> base64(key id ‖ signature)`. A verifier key ("vkey") is
//! one line `<name>+<key id, 8 hex digits>+base64(0x01 ‖ public key)`; the key id is the first 4 bytes of
//! `SHA-256(name ‖ "\n" ‖ 0x01 ‖ public key)`.

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use signed_note::{Note, NoteError, Signer, StandardVerifier, Verifier, VerifierList};

/// Why a note or a key was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// Empty, or with white space or `+`.
    #[error("a key name is not empty and has no white space and no '+'")]
    Name,
    /// The text is no verifier key.
    #[error("not a verifier key: expected one line NAME+8 HEX DIGITS+BASE64 of an Ed25519 key")]
    VerifierKey,
    /// The text is no verifier key of a witness.
    #[error(
        "not a witness's verifier key: expected one line NAME+8 HEX DIGITS+BASE64 of an Ed25519 cosignature key (type 4)"
    )]
    WitnessKey,
    /// Not in the format of C2SP signed-note.
    #[error("not a signed note")]
    Malformed,
    /// No signature by the given key.
    #[error("the note carries no signature by {0}")]
    Unsigned(String),
    /// A signature by the given key that does not fit the text.
    #[error("the signature by {0} does not fit the text")]
    BadSignature(String),
}

/// The key a log signs its checkpoints with.
pub struct LogKey {
    name: String,
    id: u32,
    key: SigningKey,
}

impl LogKey {
    /// The key called `name` (the log's origin) made from 32 secret bytes.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn new(name: &str, secret: &[u8; 32]) -> Result<Self, KeyError> {
        if !signed_note::is_key_name_valid(name) {
            return Err(KeyError::Name);
        }
        let key = SigningKey::from_bytes(secret);
        let mut encoded = vec![1];
        encoded.extend_from_slice(key.verifying_key().as_bytes());
        Ok(Self { name: name.to_owned(), id: signed_note::key_id(name, &encoded), key })
    }

    /// The name: the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The verifier key line, without a newline.
    pub fn vkey(&self) -> String {
        signed_note::new_ed25519_verifier_key(&self.name, &self.key.verifying_key())
    }

    /// `text` (which ends in a newline) as a note with this key's signature.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] if the text has control characters or no final newline.
    pub fn sign(&self, text: &str) -> Result<Vec<u8>, KeyError> {
        Self::sign_with([self], text)
    }

    /// `text` as a note with the signature of each of several keys, in their order.
    ///
    /// # Errors
    /// As [`Self::sign`], and if two keys are the same.
    pub fn sign_with<'k>(keys: impl IntoIterator<Item = &'k Self>, text: &str) -> Result<Vec<u8>, KeyError> {
        let mut note = Note::new(text.as_bytes(), &[]).map_err(|_| KeyError::Malformed)?;
        let keys: Vec<&dyn Signer> = keys.into_iter().map(|key| key as &dyn Signer).collect();
        note.add_sigs(&keys).map_err(|_| KeyError::Malformed)?;
        Ok(note.to_bytes())
    }

    /// The signature over bytes that are no note. Within the crate: what is signed must not be taken for a note's text.
    pub(crate) fn sign_bytes(&self, message: &[u8]) -> Result<[u8; 64], KeyError> {
        self.key.try_sign(message).map(|s| s.to_bytes()).map_err(|_| KeyError::Malformed)
    }
}

impl Signer for LogKey {
    fn name(&self) -> &str {
        &self.name
    }
    fn key_id(&self) -> u32 {
        self.id
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ed25519_dalek::SignatureError> {
        Ok(self.key.try_sign(message)?.to_bytes().to_vec())
    }
}

impl std::fmt::Debug for LogKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The public half of a [`LogKey`].
#[derive(Clone)]
struct One {
    line: String,
    inner: StandardVerifier,
    key: [u8; 32],
}

/// Whom a reader trusts: the key of a log, and where the log has had several ([`crate::handover`]) each for its time.
///
/// A log's keys follow each other by entries of the log. Whatever says more than the log had before such an entry is signed
/// by the key that came with it; so it is told by a checkpoint's size which key it needs.
#[derive(Clone)]
pub struct VerifierKey {
    /// With the least size that each signs, ascending; the first signs from 0. Never empty.
    keys: Vec<(u64, One)>,
}

impl VerifierKey {
    /// Reads a vkey line (surrounding white space is ignored).
    ///
    /// # Errors
    /// [`KeyError::VerifierKey`].
    pub fn parse(line: &str) -> Result<Self, KeyError> {
        let line = line.trim();
        let inner = StandardVerifier::new(line).map_err(|_| KeyError::VerifierKey)?;
        let key64 = line.splitn(3, '+').nth(2).unwrap_or_default();
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, key64).unwrap_or_default();
        let key: [u8; 32] = bytes.get(1..).and_then(|k| k.try_into().ok()).ok_or(KeyError::VerifierKey)?;
        match VerifyingKey::from_bytes(&key) {
            Ok(key) if !key.is_weak() => {
                Ok(Self { keys: vec![(0, One { line: line.to_owned(), inner, key: key.to_bytes() })] })
            }
            _ => Err(KeyError::VerifierKey),
        }
    }

    /// The same log with a later key, which signs from the size `from` on.
    ///
    /// # Errors
    /// [`KeyError::VerifierKey`] if it is a key of another name, or does not come later.
    pub fn followed_by(mut self, from: u64, later: &Self) -> Result<Self, KeyError> {
        let comes_later = self.keys.last().is_some_and(|(last, _)| *last < from);
        if !comes_later || later.name() != self.name() {
            return Err(KeyError::VerifierKey);
        }
        self.keys.push((from, later.newest().clone()));
        Ok(self)
    }

    fn newest(&self) -> &One {
        &self.keys[self.keys.len() - 1].1
    }

    /// The key that signs the log of `size` entries.
    fn at(&self, size: u64) -> &One {
        let after = self.keys.partition_point(|(from, _)| *from <= size);
        &self.keys[after.saturating_sub(1)].1
    }

    /// The key's name: the origin of the log it speaks for.
    pub fn name(&self) -> &str {
        self.newest().inner.name()
    }

    /// The vkey line, of the newest where there are several.
    pub fn line(&self) -> &str {
        &self.newest().line
    }

    /// The vkey lines of all, the newest last.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = &str> {
        self.keys.iter().map(|(_, key)| key.line.as_str())
    }

    /// The 32 bytes of the Ed25519 key (of the newest), by which it is known whatever its name.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.newest().key
    }

    /// The signature line of `note` that is by this key (the newest), with its newline, if it fits.
    pub fn signature_line(&self, note: &[u8]) -> Option<String> {
        let parsed = Note::from_bytes(note).ok()?;
        let known = VerifierList::new(vec![Box::new(self.newest().inner.clone())]);
        let (signed, _) = parsed.verify(&known).ok()?;
        String::from_utf8(signed.first()?.to_bytes()).ok()
    }

    /// The key id (of the newest): the 4 bytes that the line has in hexadecimal.
    pub fn id(&self) -> [u8; 4] {
        self.newest().inner.key_id().to_be_bytes()
    }

    /// The key id of the key that signs the log of `size` entries.
    pub(crate) fn id_at(&self, size: u64) -> [u8; 4] {
        self.at(size).inner.key_id().to_be_bytes()
    }

    /// Whether `signature` is over `message` by the key that signs the log of `size` entries.
    pub(crate) fn signed_at(&self, size: u64, message: &[u8], signature: &[u8]) -> bool {
        self.at(size).inner.verify(message, signature)
    }

    /// The text of `note`, if this key (the newest) signed it.
    ///
    /// # Errors
    /// [`KeyError`]: malformed, not signed by this key, or signed wrongly.
    pub fn open(&self, note: &[u8]) -> Result<String, KeyError> {
        self.open_at(u64::MAX, note)
    }

    /// The text of `note`, if the key that signs the log of `size` entries signed it.
    pub(crate) fn open_at(&self, size: u64, note: &[u8]) -> Result<String, KeyError> {
        let parsed = Note::from_bytes(note).map_err(|_| KeyError::Malformed)?;
        let known = VerifierList::new(vec![Box::new(self.at(size).inner.clone())]);
        parsed.verify(&known).map_err(|e| match e {
            NoteError::UnverifiedNote => KeyError::Unsigned(self.name().to_owned()),
            NoteError::InvalidSignature { .. } => KeyError::BadSignature(self.name().to_owned()),
            _ => KeyError::Malformed,
        })?;
        String::from_utf8(parsed.text().to_vec()).map_err(|_| KeyError::Malformed)
    }
}

/// What a note says, before anybody knows whether it is signed.
pub(crate) fn unverified_text(note: &[u8]) -> Option<String> {
    String::from_utf8(Note::from_bytes(note).ok()?.text().to_vec()).ok()
}

impl std::fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.line())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_opens_with_its_key_only() {
        let key = LogKey::new("log.example/a", &[7; 32]).expect("name");
        let other = LogKey::new("log.example/a", &[8; 32]).expect("name");
        let note = key.sign("hello\n").expect("text");
        let reader = VerifierKey::parse(&format!("{}\n", key.vkey())).expect("vkey");
        assert_eq!(reader.open(&note).as_deref(), Ok("hello\n"));
        let stranger = VerifierKey::parse(&other.vkey()).expect("vkey");
        assert_eq!(stranger.open(&note), Err(KeyError::Unsigned("log.example/a".into())));
        for at in 0..note.len() {
            let mut bad = note.clone();
            bad[at] ^= 1;
            assert!(reader.open(&bad).is_err(), "byte {at}");
        }
        assert!(matches!(LogKey::new("a b", &[0; 32]), Err(KeyError::Name)));
        assert!(VerifierKey::parse("a+00000000+AQ==").is_err());
    }
}
