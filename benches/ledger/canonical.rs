//! Random leaves and payloads, each as two lines: plain JSON, and the canonical bytes that are hashed (RFC 8785).
//! `.ci/checker/foreign.py` makes the second line from the first with another implementation.

use std::io::{BufWriter, Write as _};

use almoner_ledger::commitment;
use almoner_ledger::leaf::{Leaf, scan};
use almoner_model::{Digest, Entropy as _, SeededEntropy, Timestamp};
use serde_json::{Map, Number, Value};

/// Prints `count` leaves, and a payload after each.
pub fn run(count: u64) -> bool {
    let random = Random(SeededEntropy::new(8785));
    let mut out = BufWriter::new(std::io::stdout().lock());
    for _ in 0..count {
        let leaf = random.leaf();
        let payload = random.value(3);
        for (plain, canonical) in [
            (serde_json::to_string(&leaf), leaf.to_bytes().unwrap()),
            (serde_json::to_string(&payload), commitment::canonical_value(&payload).unwrap()),
        ] {
            writeln!(out, "{}", plain.unwrap()).unwrap();
            out.write_all(&canonical).unwrap();
            out.write_all(b"\n").unwrap();
        }
    }
    out.flush().unwrap();
    true
}

struct Random(SeededEntropy);

impl Random {
    fn below(&self, limit: u64) -> u64 {
        self.0.u64() % limit
    }

    fn maybe<T>(&self, value: impl FnOnce() -> T) -> Option<T> {
        (self.below(2) == 0).then(value)
    }

    fn digest(&self) -> Digest {
        Digest(self.0.bytes32())
    }

    fn word(&self) -> String {
        let letters = b"abcdefghijklmnopqrstuvwxyz0123456789._-";
        let length = 1 + self.below(64);
        (0..length).map(|_| char::from(letters[self.below(letters.len() as u64) as usize])).collect()
    }

    fn leaf(&self) -> Leaf {
        let id = hex::encode(&self.0.bytes32()[..16]);
        Leaf {
            actor: self.digest(),
            as_of: self.maybe(|| self.below(1 << 53)),
            decision: self.maybe(|| self.word()),
            event_id: format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]),
            payload: self.digest(),
            policy: self.maybe(|| self.digest()),
            prev: self.digest(),
            seq: self.below(1 << 53),
            subject: self.maybe(|| self.digest()),
            time: Timestamp::from_millis(self.below(scan::LAST_MILLIS as u64) as i64),
            kind: self.word(),
            v: 1,
        }
    }

    /// A character of any plane; those that are escaped, and those whose order in UTF-16 is not that in UTF-8, often.
    fn character(&self) -> char {
        let drawn = match self.below(6) {
            0 => self.below(0x20),
            1 => *[0x22, 0x5c, 0x2f, 0x7f, 0x2028, 0xfeff].get(self.below(6) as usize).unwrap_or(&0x22),
            2 => 0xe000 + self.below(0x2000),
            3 => 0x1_0000 + self.below(0x10_0000),
            _ => 0x20 + self.below(0x5f),
        };
        char::from_u32(drawn as u32).unwrap_or('\u{fffd}')
    }

    fn text(&self) -> String {
        (0..self.below(12)).map(|_| self.character()).collect()
    }

    fn number(&self) -> Value {
        let decimal = match self.below(3) {
            0 => return Value::from(self.below(1 << 53) as i64 - self.below(1 << 53) as i64),
            1 => f64::from_bits(self.0.u64()),
            _ => (self.below(2_000_000) as f64 - 1e6) / 1e3,
        };
        Number::from_f64(decimal).map_or(Value::Null, Value::Number)
    }

    fn value(&self, depth: u64) -> Value {
        match self.below(if depth > 0 { 7 } else { 5 }) {
            0 => Value::Null,
            1 => Value::Bool(self.below(2) == 0),
            2 => self.number(),
            3 | 4 => Value::String(self.text()),
            5 => (0..self.below(5)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let members = (0..self.below(7)).map(|_| (self.text(), self.value(depth - 1)));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }
}
