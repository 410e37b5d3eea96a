//! COSE receipts (RFC 9942): the same proof as a [`crate::receipt`], in the binary format of COSE, for those who keep
//! receipts of many logs.
//!
//! A receipt is a COSE_Sign1 (RFC 9052 §4.2, tag 18) over the root of the tree, which it does not carry: whoever checks it
//! computes the root from the entry and the proof.
//!
//! ```text
//! 18([
//!   << {1: -8,                        alg: EdDSA (RFC 9053 §2.2), with the log's Ed25519 key
//!       4: key id,                    the 4 bytes that the verifier key has in hexadecimal
//!       15: {1: origin,               CWT claims (RFC 9597): the log is the issuer, and speaks of
//!            2: "tree/" + size},      its tree of so many entries
//!       395: 1} >>,                   verifiable data structure: RFC9162_SHA256
//!   {396: {-1: [<< [size, position, [hash, …]] >>]}},          verifiable data proofs: one of inclusion
//!   nil,                              the root, detached
//!   signature
//! ])
//! ```
//!
//! The key that signs checkpoints signs these roots too. One cannot be taken for the other: what COSE signs begins with the
//! byte 0x84, and no text in UTF-8, as a signed note is, begins so. [`SignedRoot::new`] signs nothing but the root of a
//! checkpoint that stands signed already, so a receipt never says more than a checkpoint.
//!
//! The proof stands outside of what is signed. From the root alone its size is not known for sure, since trees of several
//! sizes have paths of one form; so the signed claims say it, and [`CoseReceipt::check`] holds the proof to them.
//!
//! Read is exactly what is written here, in deterministic encoding (RFC 8949 §4.2.1): one receipt is one file.

use coset::cbor::value::Value;
use coset::{
    Algorithm, CoseSign1, CoseSign1Builder, Header, HeaderBuilder, Label, TaggedCborSerializable as _, iana,
};

use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::note::{LogKey, VerifierKey};
use crate::proof::{ProofError, root_from_inclusion};
use crate::tree::{Hash, leaf_hash};

/// CWT claims in a header (RFC 9597), and those of who says it and of what (RFC 8392 §3.1.1, §3.1.2).
const CWT_CLAIMS: i64 = 15;
const ISSUER: i64 = 1;
const SUBJECT: i64 = 2;
/// Verifiable data structure, and the one of RFC 9162 (RFC 9942).
const STRUCTURE: i64 = 395;
const RFC9162_SHA256: i64 = 1;
/// Verifiable data proofs, and those of inclusion (RFC 9942).
const PROOFS: i64 = 396;
const INCLUSION: i64 = -1;

/// Media type of a receipt (RFC 9052 §11.3.1).
pub const MEDIA_TYPE: &str = "application/cose; cose-type=\"cose-sign1\"";

/// Hashes in a proof at most: a tree of 2^63 leaves.
const HASHES_MAX: usize = 63;

/// The root of a signed checkpoint, signed in the way of COSE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedRoot {
    /// Leaves under the root.
    pub size: u64,
    origin: String,
    key_id: [u8; 4],
    signature: Vec<u8>,
}

/// A receipt, read but not yet checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CoseReceipt {
    /// Leaves in the tree.
    pub size: u64,
    /// Position of the entry.
    pub index: u64,
    /// Inclusion proof.
    pub hashes: Vec<Hash>,
    /// Which log.
    pub origin: String,
    key_id: [u8; 4],
    signature: Vec<u8>,
}

/// Why a receipt was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CoseError {
    /// Not in the format.
    #[error("not a COSE receipt as this log writes it (RFC 9942)")]
    Malformed,
    /// Of another log, or by another key of it.
    #[error("the receipt is of the log {0}, or by another of its keys")]
    OtherKey(String),
    /// The signature: also where entry, position or proof are not those that were signed.
    #[error("the signature by {0} does not fit the entry at this position")]
    BadSignature(String),
    /// Its proof.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The checkpoint that was to be signed in this way too.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl SignedRoot {
    /// Signs the root of `signed`, after making sure that `key` signed that checkpoint, and just that one.
    ///
    /// # Errors
    /// [`CoseError::Checkpoint`] if `key` did not sign it.
    pub fn new(signed: &SignedCheckpoint, key: &LogKey) -> Result<Self, CoseError> {
        let verifier = VerifierKey::parse(&key.vkey()).map_err(CheckpointError::from)?;
        let opened = Checkpoint::open(&signed.note, &verifier)?.checkpoint;
        if opened != signed.checkpoint {
            return Err(CoseError::Checkpoint(CheckpointError::Malformed));
        }
        let (origin, key_id) = (opened.origin, verifier.id());
        let signature = key.sign_bytes(&signed_bytes(&origin, key_id, opened.size, &opened.root));
        let signature = signature.map_err(CheckpointError::from)?.to_vec();
        Ok(Self { size: opened.size, origin, key_id, signature })
    }

    /// The receipt of the entry at `index`, whose inclusion under this root `hashes` prove.
    pub fn receipt(self, index: u64, hashes: Vec<Hash>) -> CoseReceipt {
        let Self { size, origin, key_id, signature } = self;
        CoseReceipt { size, index, hashes, origin, key_id, signature }
    }
}

impl CoseReceipt {
    /// The bytes of the file.
    ///
    /// # Errors
    /// [`CoseError::Malformed`] if a member cannot be encoded.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CoseError> {
        let hashes = self.hashes.iter().map(|h| Value::Bytes(h.to_vec())).collect();
        let proof = Value::Array(vec![self.size.into(), self.index.into(), Value::Array(hashes)]);
        let mut encoded = Vec::new();
        coset::cbor::into_writer(&proof, &mut encoded).map_err(|_| CoseError::Malformed)?;
        let mut whole = message(&self.origin, self.key_id, self.size, Some(encoded));
        whole.signature.clone_from(&self.signature);
        whole.to_tagged_vec().map_err(|_| CoseError::Malformed)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`CoseError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CoseError> {
        let read = Self::read(bytes).ok_or(CoseError::Malformed)?;
        if read.to_bytes()? == bytes { Ok(read) } else { Err(CoseError::Malformed) }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let CoseSign1 { protected, unprotected, payload, signature } =
            CoseSign1::from_tagged_slice(bytes).ok()?;
        let header = protected.header;
        if payload.is_some() || header.alg != Some(Algorithm::Assigned(iana::Algorithm::EdDSA)) {
            return None;
        }
        let claims = member(&header, CWT_CLAIMS)?.as_map()?;
        let origin = claims.iter().find(|(name, _)| *name == ISSUER.into())?.1.as_text()?.to_owned();
        let proofs = member(&unprotected, PROOFS)?.as_map()?;
        let proof = proofs.iter().find(|(name, _)| *name == INCLUSION.into())?.1.as_array()?;
        let proof: Value = coset::cbor::from_reader(proof.first()?.as_bytes()?.as_slice()).ok()?;
        let [size, index, hashes] = proof.as_array()?.as_slice() else { return None };
        let number = |value: &Value| u64::try_from(value.as_integer()?).ok();
        let hash = |value: &Value| value.as_bytes()?.as_slice().try_into().ok();
        let hashes: Vec<Hash> = hashes.as_array()?.iter().map(hash).collect::<Option<_>>()?;
        let key_id = header.key_id.as_slice().try_into().ok()?;
        (hashes.len() <= HASHES_MAX).then_some(Self {
            size: number(size)?,
            index: number(index)?,
            hashes,
            origin,
            key_id,
            signature,
        })
    }

    /// Checks that `leaf` (the exact bytes of an entry) stands in the log of `key` where the receipt says. Returns the
    /// checkpoint that the receipt amounts to.
    ///
    /// # Errors
    /// [`CoseError`].
    pub fn check(&self, leaf: &[u8], key: &VerifierKey) -> Result<Checkpoint, CoseError> {
        if self.origin != key.name() || self.key_id != key.id_at(self.size) {
            return Err(CoseError::OtherKey(self.origin.clone()));
        }
        let root = root_from_inclusion(self.index, self.size, &leaf_hash(leaf), &self.hashes)?;
        let signed = signed_bytes(&self.origin, self.key_id, self.size, &root);
        if !key.signed_at(self.size, &signed, &self.signature) {
            return Err(CoseError::BadSignature(self.origin.clone()));
        }
        Ok(Checkpoint { origin: self.origin.clone(), size: self.size, root })
    }
}

/// The COSE_Sign1 with everything but its signature.
fn message(origin: &str, key_id: [u8; 4], size: u64, proof: Option<Vec<u8>>) -> CoseSign1 {
    let claims = vec![(ISSUER.into(), origin.into()), (SUBJECT.into(), format!("tree/{size}").into())];
    let protected = HeaderBuilder::new()
        .algorithm(iana::Algorithm::EdDSA)
        .key_id(key_id.to_vec())
        .value(CWT_CLAIMS, Value::Map(claims))
        .value(STRUCTURE, RFC9162_SHA256.into());
    let proofs = proof.map(|proof| Value::Array(vec![Value::Bytes(proof)]));
    let unprotected = proofs.map_or_else(HeaderBuilder::new, |proofs| {
        HeaderBuilder::new().value(PROOFS, Value::Map(vec![(INCLUSION.into(), proofs)]))
    });
    CoseSign1Builder::new().protected(protected.build()).unprotected(unprotected.build()).build()
}

/// What is signed for a root: the Sig_structure of RFC 9052 §4.4 over the protected header and the detached payload.
fn signed_bytes(origin: &str, key_id: [u8; 4], size: u64, root: &Hash) -> Vec<u8> {
    message(origin, key_id, size, None).tbs_detached_data(root, &[])
}

fn member(header: &Header, label: i64) -> Option<&Value> {
    header.rest.iter().find(|(name, _)| *name == Label::Int(label)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::{Tiles, prove_inclusion};
    use crate::tree::{EMPTY_ROOT, Edge};

    struct Stored(std::collections::HashMap<(u8, u64), Vec<u8>>);

    impl Tiles for Stored {
        type Error = std::convert::Infallible;
        fn tile(&self, level: u8, index: u64, _: u16) -> Result<Vec<u8>, Self::Error> {
            Ok(self.0.get(&(level, index)).cloned().unwrap_or_default())
        }
    }

    fn key(seed: u8) -> (LogKey, VerifierKey) {
        let key = LogKey::new("almoner.example/log", &[seed; 32]).expect("a name");
        let vkey = VerifierKey::parse(&key.vkey()).expect("vkey");
        (key, vkey)
    }

    fn log(size: u64, key: &LogKey) -> (Stored, SignedCheckpoint) {
        let mut edge = Edge::new();
        (0..size).for_each(|i| edge.push(leaf_hash(&i.to_be_bytes())));
        let tiles = edge.take_changes().into_iter().map(|t| ((t.level, t.index), t.bytes)).collect();
        let checkpoint = Checkpoint { origin: key.name().into(), size, root: edge.root() };
        (Stored(tiles), checkpoint.sign(key).expect("signs"))
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let (key, vkey) = key(9);
        let (_, signed) = log(1, &key);
        let receipt = SignedRoot::new(&signed, &key).expect("signs").receipt(0, vec![]);
        let text = hex::encode(receipt.to_bytes().expect("encodes"));
        // 18([<<{1: -8, 4: h'…', 15: {1: "almoner.example/log", 2: "tree/1"}, 395: 1}>>,
        //     {396: {-1: [<<[1, 0, []]>>]}}, nil, h'…'])
        let (origin, size, id) = (hex::encode(key.name()), hex::encode("tree/1"), hex::encode(vkey.id()));
        let signed = format!("a4 0127 0444{id} 0fa2 0173{origin} 0266{size} 19018b01");
        let head = format!("d284 582c {signed} a119018ca1208144 83010080 f6 5840");
        assert!(text.starts_with(&head.replace(' ', "")), "{text}");
        assert_eq!(text.len(), head.replace(' ', "").len() + 128);
        assert_eq!(vkey.line().split('+').nth(1), Some(id.as_str()));
    }

    #[test]
    fn a_receipt_holds_for_its_entry_and_key_only() {
        let (key, vkey) = key(9);
        let (stranger_key, stranger) = self::key(8);
        let (tiles, signed) = log(300, &key);
        let root = SignedRoot::new(&signed, &key).expect("signs");
        assert!(matches!(SignedRoot::new(&signed, &stranger_key), Err(CoseError::Checkpoint(_))));
        let forged = SignedCheckpoint {
            checkpoint: Checkpoint { root: EMPTY_ROOT, ..signed.checkpoint.clone() },
            ..signed.clone()
        };
        assert!(SignedRoot::new(&forged, &key).is_err(), "only what the note says is signed");
        for index in [0, 1, 255, 256, 299] {
            let hashes = prove_inclusion(&tiles, index, 300).expect("in range");
            let receipt = root.clone().receipt(index, hashes);
            let bytes = receipt.to_bytes().expect("encodes");
            let again = CoseReceipt::parse(&bytes).expect("reads");
            assert_eq!(again, receipt);
            assert_eq!(again.check(&index.to_be_bytes(), &vkey), Ok(signed.checkpoint.clone()));
            assert!(matches!(again.check(b"other", &vkey), Err(CoseError::BadSignature(_))));
            assert!(matches!(again.check(&index.to_be_bytes(), &stranger), Err(CoseError::OtherKey(_))));
            for at in 0..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[at / 8] ^= 1 << (at % 8);
                let read = CoseReceipt::parse(&bad).and_then(|r| r.check(&index.to_be_bytes(), &vkey));
                assert!(read.is_err(), "bit {at}");
            }
            for cut in 0..bytes.len() {
                assert!(CoseReceipt::parse(&bytes[..cut]).is_err(), "cut to {cut}");
            }
            assert!(CoseReceipt::parse(&[bytes, vec![0]].concat()).is_err(), "longer");
        }
    }
}
