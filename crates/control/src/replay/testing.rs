//! A log made by hand with the bundle that opens it, for tests and measurements: whatever is said is signed, also what no
//! exchange would say.

use std::fmt::Write as _;
use std::path::Path;

use almoner_ledger::commitment::{Field, Salt, canonical, canonical_value};
use almoner_ledger::evidence::OpenedSubject;
use almoner_ledger::tile::{TilePath, bundle};
use almoner_ledger::tree::{Edge, TILE_WIDTH};
use almoner_ledger::{Checkpoint, KeyError, Leaf, LogKey, leaf};
use almoner_model::{Digest, Seq, Timestamp};
use serde_json::Value;
use serde_json::value::RawValue;

use super::bundle::{FORMAT, Line};

/// What is said.
#[derive(Clone, Debug, Default)]
pub struct Say<'a> {
    /// The leaf's `type`.
    pub kind: &'a str,
    /// The payload.
    pub payload: Value,
    /// Whom it concerns.
    pub subject: Option<i64>,
    /// The ledger size of a decision.
    pub as_of: Option<Seq>,
    /// The outcome of a decision.
    pub decision: Option<&'a str>,
    /// The house rules of a decision.
    pub policy: Option<Digest>,
    /// Whether the bundle opens the payload; otherwise the subject only.
    pub closed: bool,
}

/// A log.
#[derive(Debug)]
pub struct Log {
    key: LogKey,
    edge: Edge,
    /// The leaves.
    pub leaves: Vec<Vec<u8>>,
    /// The bundle's lines before the entries.
    pub head: String,
    /// The bundle's lines of entries, one for each leaf.
    pub lines: Vec<String>,
    prev: Digest,
    time: i64,
}

impl Log {
    /// An empty one that begins at `time`.
    ///
    /// # Errors
    /// Never.
    pub fn new(time: Timestamp) -> Result<Self, KeyError> {
        Ok(Self {
            key: LogKey::new("almoner.test/log", &[9; 32])?,
            edge: Edge::new(),
            leaves: Vec::new(),
            head: String::new(),
            lines: Vec::new(),
            prev: Digest(leaf::NO_PREV),
            time: time.millis(),
        })
    }

    /// The next entry's position.
    pub fn size(&self) -> Seq {
        self.edge.size()
    }

    /// Lets time pass.
    pub fn wait(&mut self, millis: i64) {
        self.time += millis;
    }

    /// Says something; `None` if it is not representable.
    pub fn say(&mut self, say: Say<'_>) -> Option<Seq> {
        let seq = self.size();
        let mut salt = [0; 32];
        salt[..8].copy_from_slice(&seq.to_be_bytes());
        let (salt, payload) = (Salt(salt), canonical_value(&say.payload).ok()?);
        let subject = say.subject.map(|id| canonical(&id)).transpose().ok()?;
        let leaf = Leaf {
            actor: Digest([0; 32]),
            as_of: say.as_of,
            decision: say.decision.map(str::to_owned),
            event_id: format!("00000000-0000-4000-8000-{seq:012x}"),
            payload: Digest(salt.commit(Field::Payload, &payload)),
            policy: say.policy,
            prev: self.prev,
            seq,
            subject: subject.map(|id| Digest(salt.commit(Field::Subject, &id))),
            time: Timestamp::from_millis(self.time),
            kind: say.kind.to_owned(),
            v: 1,
        };
        let bytes = leaf.to_bytes().ok()?;
        self.prev = Digest(leaf::hash(&bytes));
        self.edge.push(self.prev.0);
        self.leaves.push(bytes);
        let raw = RawValue::from_string(String::from_utf8(payload).ok()?).ok()?;
        let opening = |field| Digest(salt.opening(field));
        let line = Line {
            seq: Some(seq),
            opening: (!say.closed).then(|| opening(Field::Payload)),
            payload: (!say.closed).then_some(&*raw),
            subject: say.subject.map(|subject| OpenedSubject { subject, opening: opening(Field::Subject) }),
            ..Line::default()
        };
        self.lines.push(serde_json::to_string(&line).ok()?);
        Some(seq)
    }

    /// The head of the tree, with its signed note.
    pub fn checkpoint(&self) -> Option<(Checkpoint, Vec<u8>)> {
        let tree = Checkpoint { origin: self.key.name().into(), size: self.size(), root: self.edge.root() };
        let note = tree.clone().sign(&self.key).ok()?.note;
        Some((tree, note))
    }

    /// The bundle.
    pub fn bundle(&self) -> String {
        let mut text = format!(
            "{{\"format\":\"{FORMAT}\",\"origin\":\"{}\",\"size\":{}}}\n{}",
            self.key.name(),
            self.size(),
            self.head
        );
        for line in self.lines.iter().filter(|line| !line.is_empty()) {
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// Writes the log as a folder that is published, and the bundle beside its tiles.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&mut self, dir: &Path) -> std::io::Result<()> {
        let size = self.size();
        let put = |path: &str, bytes: &[u8]| {
            let path = dir.join(path);
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(path, bytes)
        };
        for index in 0..size.div_ceil(TILE_WIDTH as u64) {
            let from = index as usize * TILE_WIDTH;
            let part = &self.leaves[from..(from + TILE_WIDTH).min(self.leaves.len())];
            let path = TilePath::entries(index, size).map(|p| p.to_string()).unwrap_or_default();
            put(&path, &bundle(part))?;
        }
        for tile in self.edge.take_changes() {
            let path = TilePath::hashes(tile.level, tile.index, size).map(|p| p.to_string());
            put(&path.unwrap_or_default(), &tile.bytes)?;
        }
        let note = self.checkpoint().map(|(_, note)| note).unwrap_or_default();
        put("checkpoint", &note)?;
        put("vkey", self.key.vkey().as_bytes())?;
        put("payloads.ndjson", self.bundle().as_bytes())
    }
}
