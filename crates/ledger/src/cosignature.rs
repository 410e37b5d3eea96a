//! Cosignatures (C2SP tlog-cosignature, `cosignature/v1`): a witness's dated word that a checkpoint only adds to every
//! earlier one that it saw of the log.
//!
//! A cosignature is a signature line of the checkpoint's note. Its key has the signature type 0x04 (§ Format), its
//! signature is `u64 big-endian seconds ‖ Ed25519 signature`, and what is signed is (§ Ed25519 signed message)
//!
//! ```text
//! cosignature/v1
//! time <seconds since the epoch>
//! <the whole text of the note>
//! ```
//!
//! ML-DSA-44 cosignatures (type 0x06) are not read: no policy can name such a key.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::{Signature as Ed25519, Signer as _, SigningKey, VerifyingKey};
use signed_note::{Note, Signature};

use crate::note::KeyError;

/// Signature type of an Ed25519 cosignature.
const TYPE: u8 = 4;

/// The latest second that can be written: 2⁶³ − 1 (§ Format).
const TIME_MAX: u64 = i64::MAX.unsigned_abs();

/// The key a witness cosigns with.
pub struct WitnessKey {
    key: SigningKey,
    public: WitnessVerifierKey,
}

impl WitnessKey {
    /// The key called `name` (best a URL without scheme that identifies the witness) made from 32 secret bytes.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn new(name: &str, secret: &[u8; 32]) -> Result<Self, KeyError> {
        let control = name.chars().any(char::is_control);
        if !signed_note::is_key_name_valid(name) || control || name.len() > 255 {
            return Err(KeyError::Name);
        }
        let key = SigningKey::from_bytes(secret);
        let public = WitnessVerifierKey::new(name, key.verifying_key());
        Ok(Self { key, public })
    }

    /// The public half.
    pub const fn public(&self) -> &WitnessVerifierKey {
        &self.public
    }

    /// Cosigns `text`, the text of a checkpoint's note, at `time` in seconds since the epoch.
    pub fn cosign(&self, text: &str, time: u64) -> Cosignature {
        let time = time.min(TIME_MAX);
        let signed = self.key.sign(message(text, time).as_bytes());
        Cosignature { time, line: self.public.line_of(time, &signed) }
    }
}

impl std::fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WitnessKey").field("name", &self.public.name).finish_non_exhaustive()
    }
}

/// The public half of a [`WitnessKey`].
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessVerifierKey {
    name: String,
    id: u32,
    line: String,
    key: VerifyingKey,
}

impl WitnessVerifierKey {
    fn new(name: &str, key: VerifyingKey) -> Self {
        let encoded = [&[TYPE], key.as_bytes().as_slice()].concat();
        let id = signed_note::key_id(name, &encoded);
        let line = format!("{name}+{id:08x}+{}", BASE64_STANDARD.encode(&encoded));
        Self { name: name.to_owned(), id, line, key }
    }

    /// Reads a vkey line of signature type 0x04 (surrounding white space is ignored).
    ///
    /// # Errors
    /// [`KeyError::WitnessKey`].
    pub fn parse(line: &str) -> Result<Self, KeyError> {
        Self::read(line.trim()).ok_or(KeyError::WitnessKey)
    }

    fn read(line: &str) -> Option<Self> {
        let mut parts = line.splitn(3, '+');
        let (name, _id, encoded) = (parts.next()?, parts.next()?, parts.next()?);
        let encoded = BASE64_STANDARD.decode(encoded).ok()?;
        let (kind, key) = encoded.split_first()?;
        let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok().filter(|key| !key.is_weak())?;
        let read = Self::new(name, key);
        // The same line again: its key id is the one of this name and key.
        (*kind == TYPE && signed_note::is_key_name_valid(name) && read.line == line).then_some(read)
    }

    /// The witness's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The vkey line.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The 32 bytes of the Ed25519 key, by which a witness is known whatever its name (C2SP tlog-policy § Public key
    /// representation).
    pub fn bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    fn line_of(&self, time: u64, signed: &Ed25519) -> String {
        let bytes = [&self.id.to_be_bytes()[..], &time.to_be_bytes(), &signed.to_bytes()].concat();
        format!("— {} {}\n", self.name, BASE64_STANDARD.encode(bytes))
    }

    fn made(&self, line: &Signature) -> bool {
        line.name() == self.name && line.id() == self.id
    }

    /// The cosignature of `text` by this key among signature lines; `None` if there is none.
    ///
    /// # Errors
    /// [`KeyError::BadSignature`] if a line by this key does not fit the text, [`KeyError::Malformed`] if a line is none.
    pub fn find(&self, text: &str, lines: &str) -> Result<Option<Cosignature>, KeyError> {
        let mut found: Option<Cosignature> = None;
        for line in lines.lines() {
            let line = Signature::from_bytes(line.as_bytes()).map_err(|_| KeyError::Malformed)?;
            if !self.made(&line) {
                continue;
            }
            let cosignature = self.check(text, line.signature());
            let cosignature = cosignature.ok_or_else(|| KeyError::BadSignature(self.name.clone()))?;
            if found.as_ref().is_none_or(|earlier| earlier.time < cosignature.time) {
                found = Some(cosignature);
            }
        }
        Ok(found)
    }

    fn check(&self, text: &str, signature: &[u8]) -> Option<Cosignature> {
        let (time, signed) = signature.split_first_chunk::<8>()?;
        let time = u64::from_be_bytes(*time);
        let signed = Ed25519::from_slice(signed).ok()?;
        let fits = self.key.verify_strict(message(text, time).as_bytes(), &signed).is_ok();
        (fits && time <= TIME_MAX).then(|| Cosignature { time, line: self.line_of(time, &signed) })
    }
}

impl std::fmt::Debug for WitnessVerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.line)
    }
}

/// A cosignature that was made or checked here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cosignature {
    /// When it was made, in seconds since the epoch, by the witness's clock.
    pub time: u64,
    /// Its signature line, with the newline.
    pub line: String,
}

fn message(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// The text of a note and its signature lines.
///
/// # Errors
/// [`KeyError::Malformed`] if it is not in the format of C2SP signed-note.
pub fn split(note: &[u8]) -> Result<(&str, &str), KeyError> {
    Note::from_bytes(note).map_err(|_| KeyError::Malformed)?;
    let note = std::str::from_utf8(note).map_err(|_| KeyError::Malformed)?;
    let at = note.rfind("\n\n").ok_or(KeyError::Malformed)?;
    Ok((&note[..=at], &note[at + 2..]))
}

/// `note` with `lines` (each with its newline) after the signatures that it has. A line whose key has one there already
/// takes its place.
///
/// # Errors
/// [`KeyError::Malformed`] if the note or a line is not in the format.
pub fn attach<'a>(note: &'a [u8], lines: impl IntoIterator<Item = &'a str>) -> Result<Vec<u8>, KeyError> {
    let (text, have) = split(note)?;
    let read = |line: &str| Signature::from_bytes(line.trim_end_matches('\n').as_bytes());
    let mut signatures: Vec<Signature> = Vec::new();
    for line in have.lines().chain(lines) {
        let line = read(line).map_err(|_| KeyError::Malformed)?;
        signatures.retain(|s| (s.name(), s.id()) != (line.name(), line.id()));
        signatures.push(line);
    }
    Ok(Note::new(text.as_bytes(), &signatures).map_err(|_| KeyError::Malformed)?.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Checkpoint, LogKey, VerifierKey};

    #[test]
    fn keys_and_lines_are_those_of_another_implementation() {
        // Made with the Python package aics-tlog 0.2.1 from the same secret, text and time.
        let witness = WitnessKey::new("witness.example/w", &[8; 32]).expect("name");
        let vkey = "witness.example/w+71a4f7af+BBOY9ixtGkV8UbpqS189vS9p/KkyFiGNyJl+QWvRfZPK";
        assert_eq!(witness.public().line(), vkey);
        let text = "log.example/a\n1\nAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\n";
        let line = "— witness.example/w caT3rwAAAABlU/EAdmbE5z+piJxRTCOsuubGfzrjSpDqbn3pu0AEIka+1gIpsiGNprp0Tfw1NmszAxC9l7sIw92eRrvGy7rhxdpFDw==\n";
        assert_eq!(witness.cosign(text, 1_700_000_000).line, line);
        assert_eq!(witness.public().find(text, line), Ok(Some(witness.cosign(text, 1_700_000_000))));
    }

    #[test]
    fn a_cosignature_is_by_one_key_of_one_text_at_one_time() {
        let log = LogKey::new("log.example/a", &[7; 32]).expect("name");
        let witness = WitnessKey::new("witness.example/w", &[8; 32]).expect("name");
        let vkey = WitnessVerifierKey::parse(&format!(" {}\n", witness.public().line())).expect("vkey");
        assert_eq!(&vkey, witness.public());
        let signed =
            Checkpoint { origin: "log.example/a".into(), size: 1, root: [3; 32] }.sign(&log).expect("signs");
        let text = signed.checkpoint.text();
        assert_eq!(vkey.find(&text, split(&signed.note).expect("a note").1), Ok(None));
        let first = witness.cosign(&text, 100);
        let note = attach(&signed.note, [first.line.as_str()]).expect("a note");
        let (_, lines) = split(&note).expect("a note");
        assert_eq!(vkey.find(&text, lines), Ok(Some(first.clone())));
        // The log's own signature still counts, and cosignatures do not stand for it.
        let log_key = VerifierKey::parse(&log.vkey()).expect("vkey");
        assert_eq!(Checkpoint::open(&note, &log_key).expect("opens").checkpoint, signed.checkpoint);
        assert_eq!(
            vkey.find("another text\n", lines),
            Err(KeyError::BadSignature("witness.example/w".into()))
        );
        let other = WitnessKey::new("witness.example/w", &[9; 32]).expect("name");
        assert_eq!(other.public().find(&text, lines), Ok(None));
        let second = witness.cosign(&text, 200);
        let note = attach(&note, [second.line.as_str()]).expect("a note");
        assert_eq!(vkey.find(&text, split(&note).expect("a note").1), Ok(Some(second)));
        assert_eq!(note.iter().filter(|b| **b == b'\n').count(), 6, "the earlier line is gone");
        // A time that was not signed.
        let read = Signature::from_bytes(first.line.trim_end().as_bytes()).expect("a line");
        let mut bytes = read.signature().to_vec();
        bytes[7] += 1;
        let moved = Signature::new(read.name().into(), read.id(), bytes).expect("a name").to_bytes();
        let moved = String::from_utf8(moved).expect("text");
        assert_eq!(vkey.find(&text, &moved), Err(KeyError::BadSignature("witness.example/w".into())));
    }

    #[test]
    fn a_log_key_is_no_witness_key_and_the_other_way_round() {
        let log = LogKey::new("a", &[7; 32]).expect("name");
        let witness = WitnessKey::new("a", &[7; 32]).expect("name");
        assert_eq!(WitnessVerifierKey::parse(&log.vkey()), Err(KeyError::WitnessKey));
        assert!(VerifierKey::parse(witness.public().line()).is_err());
        for bad in ["", "a", "a+00000000+BA==", &witness.public().line().replace("a+", "b+")] {
            assert_eq!(WitnessVerifierKey::parse(bad), Err(KeyError::WitnessKey), "{bad}");
        }
        assert!(matches!(WitnessKey::new("a b", &[0; 32]), Err(KeyError::Name)));
    }
}
