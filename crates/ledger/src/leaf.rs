//! The leaf: the bytes of one entry that are hashed, chained and published.
//!
//! A leaf is one JSON object in the canonical form of RFC 8785 (JCS): strings and whole numbers below 2^53 only, members
//! in the order of their names, no white space, at most [`MAX_BYTES`]. Its stored bytes are hashed as they are and never
//! serialised again; [`Leaf::parse`] accepts exactly what [`Leaf::to_bytes`] writes.
//!
//! | member | meaning |
//! |---|---|
//! | `actor` | commitment to who acted |
//! | `as_of` | ledger size a decision was made at; only in decisions |
//! | `decision` | outcome in one word; only in decisions |
//! | `event_id` | random UUID given by the caller: the same act appended twice is one entry |
//! | `payload` | commitment to the payload |
//! | `policy` | SHA-256 of the rules applied; only in decisions |
//! | `prev` | leaf hash of the entry before; 64 zeros in the first |
//! | `seq` | position, from 0 |
//! | `subject` | commitment to the person it concerns; absent when it concerns none |
//! | `time` | RFC 3339 in UTC with milliseconds, never before the entry before |
//! | `type` | kind of act, in the past tense: `consent.withdrawn` |
//! | `v` | 1 |
//!
//! What a leaf does not do: name a person, a purpose, or an institution.

use almoner_model::{Digest, Seq, Timestamp};
use serde::{Deserialize, Serialize};

pub mod scan;

use crate::tree::{self, Hash};

/// Longest leaf in bytes.
pub const MAX_BYTES: usize = 8 * 1024;

/// `prev` of the first entry.
pub const NO_PREV: Hash = [0; 32];

/// The members of a leaf, in the order of the canonical form.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaf {
    /// Commitment to who acted.
    pub actor: Digest,
    /// Ledger size a decision was made at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Seq>,
    /// Outcome of a decision, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// UUID of the act.
    pub event_id: String,
    /// Commitment to the payload.
    pub payload: Digest,
    /// SHA-256 of the rules applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Digest>,
    /// Leaf hash of the entry before.
    pub prev: Digest,
    /// Position in the ledger.
    pub seq: Seq,
    /// Commitment to the person it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// When, in ledger time.
    pub time: Timestamp,
    /// Kind of act.
    #[serde(rename = "type")]
    pub kind: String,
    /// Version of this format.
    pub v: u8,
}

/// Why bytes are not a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LeafError {
    /// Longer than [`MAX_BYTES`].
    #[error("a leaf is longer than 8 KiB")]
    TooLong,
    /// Not the canonical form of this format.
    #[error("a leaf is not in the canonical form of version 1")]
    NotCanonical,
    /// A member holds what it may not.
    #[error("a leaf's `{0}` holds what it may not")]
    Member(&'static str),
}

impl Leaf {
    /// The canonical bytes.
    ///
    /// # Errors
    /// [`LeafError::Member`] if `event_id`, `type` or `decision` hold other characters than the format allows or a
    /// number is not below 2^53; [`LeafError::TooLong`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, LeafError> {
        self.check()?;
        let mut out = Vec::with_capacity(512);
        out.push(b'{');
        hex_member(&mut out, "\"actor\":\"", &self.actor);
        if let Some(as_of) = self.as_of {
            number_member(&mut out, "\"as_of\":", as_of);
        }
        if let Some(decision) = &self.decision {
            text_member(&mut out, "\"decision\":\"", decision);
        }
        text_member(&mut out, "\"event_id\":\"", &self.event_id);
        hex_member(&mut out, "\"payload\":\"", &self.payload);
        if let Some(policy) = &self.policy {
            hex_member(&mut out, "\"policy\":\"", policy);
        }
        hex_member(&mut out, "\"prev\":\"", &self.prev);
        number_member(&mut out, "\"seq\":", self.seq);
        if let Some(subject) = &self.subject {
            hex_member(&mut out, "\"subject\":\"", subject);
        }
        text_member(&mut out, "\"time\":\"", &self.time.to_string());
        text_member(&mut out, "\"type\":\"", &self.kind);
        number_member(&mut out, "\"v\":", u64::from(self.v));
        let last = out.len() - 1;
        out[last] = b'}';
        if out.len() > MAX_BYTES { Err(LeafError::TooLong) } else { Ok(out) }
    }

    /// Reads a leaf, accepting exactly the canonical form.
    ///
    /// # Errors
    /// [`LeafError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LeafError> {
        let read = scan::scan(bytes)?;
        let digest = |hex: &[u8; 64]| {
            let mut out = [0; 32];
            hex::decode_to_slice(hex, &mut out).map_or(Err(LeafError::NotCanonical), |()| Ok(Digest(out)))
        };
        let text = |word: &[u8]| String::from_utf8(word.to_vec()).map_err(|_| LeafError::NotCanonical);
        Ok(Self {
            actor: digest(read.actor)?,
            as_of: read.as_of,
            decision: read.decision.map(text).transpose()?,
            event_id: text(read.event_id)?,
            payload: digest(read.payload)?,
            policy: read.policy.map(digest).transpose()?,
            prev: digest(read.prev)?,
            seq: read.seq,
            subject: read.subject.map(digest).transpose()?,
            time: Timestamp::from_millis(read.time_millis),
            kind: text(read.kind)?,
            v: 1,
        })
    }

    fn check(&self) -> Result<(), LeafError> {
        const LIMIT: u64 = 1 << 53;
        if self.v != 1 {
            return Err(LeafError::Member("v"));
        }
        if self.seq >= LIMIT {
            return Err(LeafError::Member("seq"));
        }
        if self.as_of.is_some_and(|n| n >= LIMIT) {
            return Err(LeafError::Member("as_of"));
        }
        if !is_event_id(&self.event_id) {
            return Err(LeafError::Member("event_id"));
        }
        if !(0..=scan::LAST_MILLIS).contains(&self.time.millis()) {
            return Err(LeafError::Member("time"));
        }
        if !is_word(&self.kind) {
            return Err(LeafError::Member("type"));
        }
        if self.decision.as_ref().is_some_and(|d| !is_word(d)) {
            return Err(LeafError::Member("decision"));
        }
        Ok(())
    }
}

/// Whether `text` is a UUID in its lower-case form with hyphens (RFC 9562 §4).
pub fn is_event_id(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
        })
}

/// Whether `text` may stand as a `type` or `decision`: 1 to 64 characters of `a-z 0-9 . _ -`.
pub fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}

fn text_member(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\",");
}

fn hex_member(out: &mut Vec<u8>, name: &str, value: &Digest) {
    let mut text = [0; 64];
    hex::encode_to_slice(value.0, &mut text).expect("64 digits for 32 bytes");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&text);
    out.extend_from_slice(b"\",");
}

fn number_member(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(value.to_string().as_bytes());
    out.push(b',');
}

/// The RFC 6962 leaf hash of a leaf's stored bytes; also the next leaf's `prev`.
pub fn hash(bytes: &[u8]) -> Hash {
    tree::leaf_hash(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> Leaf {
        Leaf {
            actor: Digest([0xaa; 32]),
            as_of: None,
            decision: None,
            event_id: "0e9a41f5-7c3b-4d7e-9a51-0c1d2e3f4a5b".into(),
            payload: Digest([0xbb; 32]),
            policy: None,
            prev: Digest(NO_PREV),
            seq: 0,
            subject: None,
            time: Timestamp::parse("2026-11-22T09:30:00Z").expect("RFC 3339"),
            kind: "contributor.registered".into(),
            v: 1,
        }
    }

    #[test]
    fn golden_leaves() {
        let (a, b, z) = ("a".repeat(64), "b".repeat(64), "0".repeat(64));
        let first = example();
        assert_eq!(
            String::from_utf8(first.to_bytes().expect("fits")).expect("ASCII"),
            format!(
                r#"{{"actor":"{a}","event_id":"0e9a41f5-7c3b-4d7e-9a51-0c1d2e3f4a5b","payload":"{b}","prev":"{z}","seq":0,"time":"2026-11-22T09:30:00.000Z","type":"contributor.registered","v":1}}"#
            )
        );
        assert_eq!(
            hex::encode(hash(&first.to_bytes().expect("fits"))),
            "6bd5ad839ba14d6f67b3a2bd48c6f4ce0608fcc02e47e8a33de6e799fda6ce4b"
        );
        let full = Leaf {
            as_of: Some(41),
            decision: Some("permit".into()),
            policy: Some(Digest([0xbb; 32])),
            subject: Some(Digest([0xaa; 32])),
            seq: 42,
            ..first
        };
        assert_eq!(
            String::from_utf8(full.to_bytes().expect("fits")).expect("ASCII"),
            format!(
                r#"{{"actor":"{a}","as_of":41,"decision":"permit","event_id":"0e9a41f5-7c3b-4d7e-9a51-0c1d2e3f4a5b","payload":"{b}","policy":"{b}","prev":"{z}","seq":42,"subject":"{a}","time":"2026-11-22T09:30:00.000Z","type":"contributor.registered","v":1}}"#
            )
        );
    }

    #[test]
    fn what_the_format_does_not_allow_is_refused() {
        for bad in [
            Leaf { v: 2, ..example() },
            Leaf { seq: 1 << 53, ..example() },
            Leaf { as_of: Some(1 << 53), ..example() },
            Leaf { kind: "a\"b".into(), ..example() },
            Leaf { decision: Some(String::new()), ..example() },
            Leaf { event_id: "0E9A41F5-7C3B-4D7E-9A51-0C1D2E3F4A5B".into(), ..example() },
            Leaf { time: Timestamp::from_millis(i64::MAX), ..example() },
        ] {
            assert!(bad.to_bytes().is_err(), "{bad:?}");
        }
        let good = String::from_utf8(example().to_bytes().expect("fits")).expect("ASCII");
        for (from, to) in [
            ("\"seq\":0", "\"seq\":00"),
            ("\"seq\":0", "\"seq\": 0"),
            ("\"v\":1", "\"v\":2"),
            ("aaaa", "AAAA"),
            (".000Z", "Z"),
            (".000Z", ".000+00:00"),
            ("09:30", "24:30"),
            ("-11-22", "-11-31"),
            ("}", "} "),
            ("\"actor\"", "\"Actor\""),
            ("\"v\":1", "\"v\":1,\"w\":1"),
            ("\"seq\":0", "\"seq\":9007199254740992"),
        ] {
            assert!(Leaf::parse(good.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
        assert_eq!(Leaf::parse(&vec![b' '; MAX_BYTES + 1]), Err(LeafError::TooLong));
    }

    proptest! {
        #[test]
        fn a_leaf_is_its_jcs_form_and_reads_back(
            hashes: [u8; 32], optional: Option<[u8; 32]>, as_of in proptest::option::of(0u64..1 << 53), seq in 0u64..1 << 53,
            millis in 0i64..253_402_300_800_000, kind in "[a-z0-9._-]{1,64}", decision in proptest::option::of("[a-z]{1,9}"),
            event_id in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        ) {
            let leaf = Leaf {
                actor: Digest(hashes), payload: Digest::of(hashes), prev: Digest(hashes), policy: optional.map(Digest),
                subject: optional.map(Digest::of), as_of, seq, time: Timestamp::from_millis(millis), kind, decision,
                event_id, v: 1,
            };
            let bytes = leaf.to_bytes().expect("fits");
            prop_assert_eq!(&bytes, &serde_json_canonicalizer::to_vec(&leaf).expect("JSON"));
            prop_assert_eq!(Leaf::parse(&bytes), Ok(leaf));
        }

        #[test]
        fn whatever_reads_is_canonical(at in 0usize..300, to: u8) {
            let mut bytes = Leaf { as_of: Some(7), decision: Some("deny".into()), ..example() }.to_bytes().expect("fits");
            let at = at % bytes.len();
            bytes[at] = to;
            if let Ok(leaf) = Leaf::parse(&bytes) {
                prop_assert_eq!(leaf.to_bytes().expect("fits"), bytes);
            }
        }
    }
}
