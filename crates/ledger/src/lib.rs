//! The ledger: its format, and everything needed to verify it. This page is the specification.
//!
//! The ledger is one append-only log of what was done: consents, withdrawals, requests, decisions, releases, downloads.
//! It is a C2SP tiled transparency log (tlog-tiles) whose leaves also carry the hash of the leaf before, so that it is
//! literally a hash chain *and* has logarithmic proofs. It has no token, no mining and no consensus: one sequencer, and
//! as many readers, mirrors and witnesses as care.
//!
//! | part | norm | module |
//! |---|---|---|
//! | leaf | RFC 8785 (JCS) | [`leaf`] |
//! | commitments under the leaf | RFC 2104 (HMAC), SHA-256 | [`commitment`] |
//! | tree, proofs | RFC 6962 §2.1, RFC 9162 §2.1 | [`tree`], [`proof`] |
//! | files and paths | C2SP tlog-tiles | [`tile`] |
//! | checkpoint and its signature | C2SP tlog-checkpoint, signed-note; Ed25519 (RFC 8032) | [`checkpoint`], [`note`] |
//! | cosignatures of witnesses | C2SP tlog-cosignature, `cosignature/v1` | [`cosignature`] |
//! | whom a reader trusts | C2SP tlog-policy | [`policy`] |
//! | what a witness answers | C2SP tlog-witness | [`witness`] |
//! | receipt | C2SP tlog-proof | [`receipt`] |
//! | evidence of a fork | this page | [`fork`] |
//! | change of the log's key | this page | [`handover`] |
//! | receipt for COSE | RFC 9942, RFC 9052, RFC 9162 | [`cose`] |
//! | members of a release | this page | [`members`] |
//! | audit of a published log | this page | [`audit`] |
//!
//! # What is public
//!
//! Leaves, tiles and checkpoints are. They hold commitments, never a person, an institution or a purpose. What is under a
//! commitment is kept beside the log by the operator, encrypted under one key per person, and shown to those with a right
//! to it with the *opening* of that one commitment. Destroying payload, salt and key leaves every proof intact.
//!
//! # A worked example
//!
//! The operator registers a hospital in an empty ledger. With the salt `01` × 32 (a real one is random) the entry's
//! payload, its opening key and its commitment are
//!
//! ```text
//! payload      {"contributor":"north","k_min":null,"linkage":true,"name":"North General"}
//! opening      HMAC-SHA256(salt, "almoner-ledger/1 payload") = 6a32ed3d…79dbcd
//! commitment   HMAC-SHA256(opening, payload)                 = 70172df2…c55a22
//! ```
//!
//! The leaf is one line; its RFC 6962 hash is the next leaf's `prev`, and the root of the log of one entry, which the
//! checkpoint signs:
//!
//! ```
//! use almoner_ledger::commitment::{Field, Salt};
//! use almoner_ledger::{Checkpoint, Leaf, LogKey, VerifierKey, leaf, tree};
//! use almoner_model::{Digest, Timestamp};
//!
//! let salt = Salt([1; 32]);
//! let actor = br#"{"id":"local","role":"operator"}"#;
//! let payload = br#"{"contributor":"north","k_min":null,"linkage":true,"name":"North General"}"#;
//! let entry = Leaf {
//!     actor: Digest(salt.commit(Field::Actor, actor)),
//!     as_of: None,
//!     decision: None,
//!     event_id: "0e9a41f5-7c3b-4d7e-9a51-0c1d2e3f4a5b".into(),
//!     payload: Digest(salt.commit(Field::Payload, payload)),
//!     policy: None,
//!     prev: Digest(leaf::NO_PREV),
//!     seq: 0,
//!     subject: None,
//!     time: Timestamp::parse("2026-11-22T09:30:00Z").unwrap(),
//!     kind: "contributor.registered".into(),
//!     v: 1,
//! };
//! let bytes = entry.to_bytes()?;
//! assert_eq!(
//!     String::from_utf8(bytes.clone()).unwrap(),
//!     concat!(
//!         r#"{"actor":"29cb84834a55b14ff31608336fe6ba133bd7f2ade98a7ad991264146127dd6be","#,
//!         r#""event_id":"0e9a41f5-7c3b-4d7e-9a51-0c1d2e3f4a5b","#,
//!         r#""payload":"70172df20a03ce53f983d3ee0b7fb8f1d18476b7a0e4371d89685faec6a55a22","#,
//!         r#""prev":"0000000000000000000000000000000000000000000000000000000000000000","#,
//!         r#""seq":0,"time":"2026-11-22T09:30:00.000Z","type":"contributor.registered","v":1}"#,
//!     )
//! );
//! let root = leaf::hash(&bytes);
//! assert_eq!(Digest(root).to_string(), "1ddc5da6203749934b98a54ea30b86b7bd830bf56e6f90dc04317b94c4265bbc");
//!
//! let key = LogKey::new("almoner.example/log", &[7; 32]).unwrap();
//! let signed = Checkpoint { origin: key.name().into(), size: 1, root }.sign(&key).unwrap();
//! assert!(signed.note.starts_with(b"almoner.example/log\n1\nHdxdpiA3SZNLmKVOowuGt72DC/Vub5DcBDF7lMQmW7w=\n\n"));
//! assert_eq!(Checkpoint::open(&signed.note, &VerifierKey::parse(&key.vkey()).unwrap()).unwrap(), signed);
//! # assert_eq!(tree::root_of(&[root]), root);
//! # Ok::<(), almoner_ledger::LeafError>(())
//! ```
//!
//! # Order and time
//!
//! Order is the order of entries. An entry's `time` is never before that of the entry before it. What a participant does
//! carries the day only, or the time of the entry before where that is later: the log does not say at what hour a
//! patient acted.
//!
//! # What a verifier does
//!
//! [`audit::audit`] reads every leaf and tile, checks form, position, chain and time of each leaf, computes the tree and
//! holds it against every tile and the signed root; `almoner-verify ledger` is that. A [`receipt::Receipt`] shows one
//! entry offline, and so does a [`cose::CoseReceipt`]. That two readers are shown the same log is for them to compare, by
//! checkpoints.
//!
//! Layer 1: no clock, no randomness, no async. Only [`source`] reads files or the network, for those who verify.

pub mod audit;
pub mod checkpoint;
pub mod commitment;
pub mod cose;
pub mod cosignature;
pub mod evidence;
pub mod fork;
pub mod handover;
pub mod leaf;
pub mod members;
pub mod note;
pub mod package;
pub mod policy;
pub mod proof;
pub mod receipt;
pub mod source;
#[cfg(test)]
mod testing;
pub mod tile;
pub mod tree;
pub mod witness;

pub use checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
pub use leaf::{Leaf, LeafError};
pub use note::{KeyError, LogKey, VerifierKey};
pub use tree::Hash;
