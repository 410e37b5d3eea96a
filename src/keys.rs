//! The key ring: every key of an exchange is derived from one 32-byte root key with HKDF-SHA256 (RFC 5869) under a label.
//!
//! Layer 1, pure: reading and writing the root key file is not done here. The root key lives outside the data folder;
//! the data folder holds only [`Keyring::fingerprint`], by which a wrong or changed key is noticed before anything is
//! written. Keys are wiped when dropped, and nothing here prints one.

use std::fmt;

use almoner_model::Digest;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

/// The labels under which keys are derived. A label names one use; a new format of that use takes a new label.
pub mod label {
    /// Tokens of the subject registry (source ids, record numbers, linkage).
    pub const REGISTRY_TOKEN: &str = "registry-token/v1";
    /// Date offsets at ingest, one for each subject.
    pub const DATE_OFFSET: &str = "date-offset/v1";
    /// Further date offsets at release, one for each project and subject.
    pub const RELEASE_OFFSET: &str = "release-offset/v1";
    /// Pseudonyms in releases.
    pub const RELEASE_PSEUDONYM: &str = "release-pseudonym/v1";
    /// The bucket of a subject in a dataset's layout.
    pub const BUCKET_LAYOUT: &str = "bucket-layout/v1";
    /// Wraps the keys of payloads beside the ledger.
    pub const PAYLOAD_WRAP: &str = "payload-wrap/v1";
    /// Signs checkpoints (an Ed25519 seed).
    pub const LEDGER_SIGN: &str = "ledger-sign/v1";
    /// Hashes the row and visit keys of staged rows, further scoped by contributor.
    pub const ROW_KEY: &str = "row-key/v1";
    /// Digests of input file names in reports.
    pub const FILE_NAME: &str = "file-name/v1";
    /// Names FHIR Consents by keyed digest, so that a later version of one is known.
    pub const CONSENT_LINEAGE: &str = "consent-lineage/v1";
    /// Event ids of acts that are known again by what they say: they stand in the public log, where nobody may try out what
    /// was said of whom.
    pub const EVENT_ID: &str = "event-id/v1";
    /// Secrets of invitations and of the tokens that they are redeemed for.
    pub const INVITATION: &str = "invitation/v1";
    /// Noise of protected counts.
    pub const COUNT_NOISE: &str = "count-noise/v1";
    /// Encrypts blobs that list people (members of a release).
    pub const BLOB_WRAP: &str = "blob-wrap/v1";
    /// Authenticates the list of a backup's files.
    pub const BACKUP: &str = "backup/v1";
}

/// A derived key. Dereferences to its 32 bytes and is wiped when dropped.
pub type Key = Zeroizing<[u8; 32]>;

/// Derives labelled keys from one root key. Cheap to clone; every copy is wiped when dropped.
#[derive(Clone)]
pub struct Keyring {
    root: Zeroizing<[u8; 32]>,
}

impl Keyring {
    /// From the 32 bytes of the root key. The caller wipes its own copy.
    pub fn from_root(root: &[u8; 32]) -> Self {
        Self { root: Zeroizing::new(*root) }
    }

    /// The key for `label`: HKDF-SHA256 with the salt `almoner` and the label as `info` (RFC 5869 §2).
    pub fn key(&self, label: &str) -> Key {
        self.derive(&[label.as_bytes()])
    }

    /// The key for `label` within a scope, such as one contributor. Different (label, scope) pairs give independent keys.
    pub fn scoped(&self, label: &str, scope: &str) -> Key {
        self.derive(&[label.as_bytes(), &[0], scope.as_bytes()])
    }

    /// Tells root keys apart without giving one away: a digest of a key that is derived for nothing else.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(*self.key("fingerprint/v1"))
    }

    fn derive(&self, info: &[&[u8]]) -> Key {
        let mut out = Zeroizing::new([0_u8; 32]);
        let hkdf = Hkdf::<Sha256>::new(Some(b"almoner"), self.root.as_slice());
        hkdf.expand_multi_info(info, out.as_mut_slice()).expect("32 bytes are within HKDF-SHA256's 8160");
        out
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        self.root.zeroize();
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(byte: u8) -> Keyring {
        Keyring::from_root(&[byte; 32])
    }

    #[test]
    fn labels_roots_and_scopes_separate_keys() {
        let keys = [
            ring(1).key(label::REGISTRY_TOKEN),
            ring(1).key(label::DATE_OFFSET),
            ring(2).key(label::DATE_OFFSET),
            ring(1).scoped(label::ROW_KEY, "north"),
            ring(1).scoped(label::ROW_KEY, "south"),
            ring(1).key(label::ROW_KEY),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys[..i].iter().all(|b| **a != **b), "key {i}");
        }
        assert_eq!(*ring(1).key(label::DATE_OFFSET), *ring(1).key(label::DATE_OFFSET));
    }

    /// Golden vector, computed with Python's `hmac`: a change of derivation would orphan every data folder.
    #[test]
    fn derivation_is_pinned() {
        assert_eq!(
            hex::encode(*ring(7).key(label::DATE_OFFSET)),
            "a200c7d4b6db43dbd352036dd136be83e389a737bc6ca755a12adeb76d93ded7"
        );
    }

    #[test]
    fn fingerprints_differ_and_nothing_prints() {
        assert_ne!(ring(1).fingerprint(), ring(2).fingerprint());
        assert_eq!(format!("{:?}", ring(1)), "Keyring(…)");
    }
}
