//! Hand-overs that hold, from either key and over several, and every way in which one does not.

use almoner_model::Digest;
use almoner_model::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::checkpoint::Checkpoint;
use crate::commitment::{Field, Salt};
use crate::leaf::{self, Leaf};
use crate::note::LogKey;
use crate::proof::{Tiles, prove_inclusion};
use crate::tree::{Hash, root_of};

const ORIGIN: &str = "almoner.example/log";

fn key(seed: u8) -> LogKey {
    LogKey::new(ORIGIN, &[seed; 32]).expect("a name")
}

fn public(seed: u8) -> VerifierKey {
    VerifierKey::parse(&key(seed).vkey()).expect("a key")
}

/// A log of fewer than 256 entries, whose keys are told by seeds.
#[derive(Default)]
struct Log {
    leaves: Vec<Vec<u8>>,
    opened: Vec<OpenedEntry>,
    hashes: Vec<Hash>,
}

impl Tiles for Log {
    type Error = std::convert::Infallible;
    fn tile(&self, _: u8, _: u64, _: u16) -> Result<Vec<u8>, Self::Error> {
        Ok(self.hashes.concat())
    }
}

impl Log {
    fn say(&mut self, kind: &str, payload: Value) -> u64 {
        let (salt, seq) = (Salt([7; 32]), self.leaves.len() as u64);
        let canonical = crate::commitment::canonical_value(&payload).expect("canonical");
        let leaf = Leaf {
            actor: Digest(salt.commit(Field::Actor, b"{}")),
            as_of: None,
            decision: None,
            event_id: format!("00000000-0000-4000-8000-{seq:012x}"),
            payload: Digest(salt.commit(Field::Payload, &canonical)),
            policy: None,
            prev: Digest(self.hashes.last().copied().unwrap_or(leaf::NO_PREV)),
            seq,
            subject: None,
            time: Timestamp::from_millis(1_000),
            kind: kind.into(),
            v: 1,
        };
        let bytes = leaf.to_bytes().expect("a leaf");
        self.hashes.push(leaf::hash(&bytes));
        let text = String::from_utf8(bytes.clone()).expect("text");
        self.opened.push(OpenedEntry { leaf: text, opening: Digest(salt.opening(Field::Payload)), payload });
        self.leaves.push(bytes);
        seq
    }

    fn rotate(&mut self, old: u8, new: u8) -> Handover {
        let payload = json!({"epoch": 1, "new": key(new).vkey(), "old": key(old).vkey(), "until": "2026-11-27T00:00:00Z"});
        let seq = self.say(KIND, payload);
        self.handover(seq, &[old, new])
    }

    fn note(&self, signers: &[u8]) -> Vec<u8> {
        let checkpoint =
            Checkpoint { origin: ORIGIN.into(), size: self.leaves.len() as u64, root: root_of(&self.hashes) };
        let keys: Vec<LogKey> = signers.iter().map(|seed| key(*seed)).collect();
        checkpoint.sign_with(&keys).expect("signs").note
    }

    fn handover(&self, seq: u64, signers: &[u8]) -> Handover {
        let hashes = prove_inclusion(self, seq, self.leaves.len() as u64).expect("in range");
        let proof = Receipt { extra: None, index: seq, hashes, checkpoint: self.note(signers) }.to_bytes();
        Handover { entry: self.opened[seq as usize].clone(), proof: String::from_utf8(proof).expect("text") }
    }
}

#[test]
fn from_any_key_of_a_log_all_are_known_each_for_its_time() {
    let mut log = Log::default();
    log.say("a.done", json!({"n": 0}));
    let first = log.note(&[1]);
    let one = log.rotate(1, 2);
    let overlap = log.note(&[1, 2]);
    log.say("a.done", json!({"n": 1}));
    let two = log.rotate(2, 3);
    let last = log.note(&[3]);
    let chain = [one, two];
    for pinned in [1, 2, 3] {
        let keys = follow(&public(pinned), &chain).expect("leads on");
        assert_eq!(keys.lines().len(), 3);
        for note in [&first, &overlap, &last] {
            Checkpoint::open(note, &keys).expect("signed by the key of its time");
        }
        // What only an old key signed says nothing about what came after it.
        for late in [log.note(&[1]), log.note(&[2]), log.note(&[1, 2])] {
            assert!(Checkpoint::open(&late, &keys).is_err());
        }
        assert_eq!(keys.line(), public(3).line());
    }
    assert!(
        Checkpoint::open(&overlap, &public(1)).is_ok(),
        "who knows nothing of it reads on during the overlap"
    );
    assert!(Checkpoint::open(&last, &public(1)).is_err());
    assert_eq!(follow(&public(4), &chain).unwrap_err(), HandoverError::OtherKey(key(4).vkey()));
    assert_eq!(follow(&public(4), &[]).expect("nothing to follow").line(), public(4).line());
    assert_eq!(or_alone(&public(4), &chain).lines().len(), 1);
    let text = serde_json::to_vec(&chain).expect("JSON");
    assert_eq!(read(&text).expect("reads"), chain);
    assert_eq!(read(b"").expect("nothing"), []);
    assert_eq!(read(b"{}"), Err(HandoverError::Malformed));
}

#[test]
fn a_hand_over_that_one_of_the_keys_did_not_sign_is_none() {
    let mut log = Log::default();
    let good = log.rotate(1, 2);
    for signers in [&[1][..], &[2], &[1, 3]] {
        let bad = log.handover(0, signers);
        assert!(matches!(follow(&public(1), &[bad]), Err(HandoverError::Proof(0, _))), "{signers:?}");
    }
    // Another entry, another payload, a proof of another place, an entry that is not in the tree.
    let mut other = Log::default();
    other.say("a.done", json!({}));
    other.rotate(1, 2);
    let elsewhere = other.handover(1, &[1, 2]);
    let renamed = Handover {
        entry: OpenedEntry {
            payload: json!({"new": key(3).vkey(), "old": key(1).vkey()}),
            ..good.entry.clone()
        },
        ..good.clone()
    };
    let not_one = Handover { entry: other.opened[0].clone(), proof: other.handover(0, &[1, 2]).proof };
    for (what, bad) in [
        ("payload", renamed),
        ("kind", not_one),
        ("place", Handover { proof: elsewhere.proof.clone(), ..good.clone() }),
        ("leaf", Handover { entry: good.entry.clone(), proof: other.handover(0, &[1, 2]).proof }),
        ("proof", Handover { proof: "c2sp.org/tlog-proof@v1\n".into(), ..good.clone() }),
    ] {
        assert!(follow(&public(1), &[bad]).is_err(), "{what}");
    }
    let strange = LogKey::new("almoner.example/other", &[2; 32]).expect("a name").vkey();
    for (old, new) in [(key(1).vkey(), strange), (key(1).vkey(), key(1).vkey()), (key(1).vkey(), "x".into())]
    {
        let mut log = Log::default();
        let seq = log.say(KIND, json!({"old": old, "new": new}));
        assert!(matches!(follow(&public(1), &[log.handover(seq, &[1, 2])]), Err(HandoverError::Entry(0, _))));
    }
    let two = log.rotate(2, 3);
    assert_eq!(follow(&public(1), &[two.clone(), good.clone()]).unwrap_err(), HandoverError::Gap(1));
    assert_eq!(follow(&public(1), &[good.clone(), good]).unwrap_err(), HandoverError::Gap(1));
}
