//! The full check of a stored ledger: every row of every class against what was signed, and the folded state against the
//! fold. Names the first bad row of each class.
//!
//! It reads one snapshot, so it runs while a server appends. It takes nothing on trust but the key: the signed checkpoint
//! covers the root, the root every leaf, a leaf (through its commitments) its payload, and the payloads the state.

use std::path::Path;
use std::sync::{Arc, RwLock};

use almoner_ledger::tree::{Edge, Hash};
use almoner_ledger::{Checkpoint, Leaf, VerifierKey, leaf};
use almoner_model::{Seq, Timestamp};
use rusqlite::Connection;
use serde::Serialize;

use super::SqliteStore;
use super::read::{Index, Reader};
use super::recent::Recent;
use super::schema::{self, tile_id, trouble};
pub use super::scratch::Difference;
use super::scratch::{Compared, Scratch};
use super::seal::Sealer;
use crate::store::batch::Base as _;
use crate::store::prepare::{event_key, subject_topic};
use crate::store::signing::SigningKeys;
use crate::store::{Payload, Projector, StoreError};

/// The kind of entries by which payloads go.
const ERASURE: &str = "subject.erased";

/// What was found in one class of rows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// `database`, `checkpoint`, `entry`, `tile`, `payload`, `event`, `topic` or `state`.
    pub class: &'static str,
    /// Which row: an entry's number, a tile's level and position, a record's kind and key.
    pub row: String,
    /// What is wrong.
    pub problem: String,
}

/// The result of a full check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StoreAudit {
    /// Whether nothing was found.
    pub intact: bool,
    /// Entries that were checked.
    pub entries: u64,
    /// Of them, entries whose payload was erased.
    pub erased: u64,
    /// Records of folded state that were compared.
    pub records: u64,
    /// Of them and of those that are missing, how many are not what the log says.
    pub differing: u64,
    /// The first of those.
    pub differences: Vec<Difference>,
    /// The first bad row of each class.
    pub findings: Vec<Finding>,
}

impl StoreAudit {
    fn add(&mut self, class: &'static str, row: impl ToString, problem: impl ToString) {
        self.intact = false;
        if !self.findings.iter().any(|f| f.class == class) {
            self.findings.push(Finding { class, row: row.to_string(), problem: problem.to_string() });
        }
    }

    /// Adds what was found by another check of the same ledger.
    pub fn reject(&mut self, class: &'static str, row: impl ToString, error: StoreError) {
        self.check(class, row, Err(error));
    }

    fn check(&mut self, class: &'static str, row: impl ToString, checked: Result<(), StoreError>) {
        if let Err(error) = checked {
            let text = match error {
                StoreError::NotIntact(text) => text,
                other => other.to_string(),
            };
            self.add(class, row, text);
        }
    }
}

impl SqliteStore {
    /// Checks everything that is stored, in one snapshot.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the database cannot be opened, or there is no room beside it to fold its entries
    /// again; what is wrong inside it is in the result.
    pub fn audit(&self) -> Result<StoreAudit, StoreError> {
        let db = schema::open_reader(&self.path)?;
        audit(&db, &self.path, &self.published.sealer, self.published.signing().verifier(), &self.projector)
    }
}

/// Checks the database at `path` without opening it for writing or starting from it: for a folder that a server refuses.
///
/// # Errors
/// [`StoreError::Unavailable`] if the file cannot be opened, or there is no room beside it to fold its entries again.
pub fn audit_file(
    path: &Path,
    keys: &SigningKeys,
    wrapping_key: &[u8; 32],
    projector: &Arc<dyn Projector>,
) -> Result<StoreAudit, StoreError> {
    let db = schema::open_reader(path)?;
    let sealer = Sealer::new(wrapping_key);
    let reader = Reader { db: &db, sealer: &sealer, index: Index::Table };
    // Which keys have ended is of no account: all that the log has had are asked for.
    let signing = reader.signing(keys, Timestamp::from_millis(0))?;
    audit(&db, path, &sealer, signing.verifier(), projector)
}

fn audit(
    db: &Connection,
    path: &Path,
    sealer: &Sealer,
    vkey: &VerifierKey,
    projector: &Arc<dyn Projector>,
) -> Result<StoreAudit, StoreError> {
    let mut found = StoreAudit {
        intact: true,
        entries: 0,
        erased: 0,
        records: 0,
        differing: 0,
        differences: Vec::new(),
        findings: Vec::new(),
    };
    let begun = db.execute_batch("BEGIN").map_err(trouble);
    found.check("database", "ledger.sqlite", begun.and_then(|()| whole(db)));
    let recent = Recent::load(db).unwrap_or_else(|error| {
        found.check("event", "?", Err(error));
        Recent::default()
    });
    let recent = RwLock::new(recent);
    let reader = &Reader { db, sealer, index: Index::Memory(&recent) };
    let mut walk =
        Walk { reader, edge: Edge::new(), last: leaf::NO_PREV, time: Timestamp::from_millis(0), topics: 0 };
    let folded = Scratch::beside(path)?;
    let walked = walk.entries(&mut found, &folded, &**projector);
    folded.has_room()?;
    found.check("entry", walk.edge.size(), walked);
    let checked = walk.tiles(&mut found);
    found.check("tile", "?", checked);
    let signed = walk.checkpoint(vkey);
    found.check("checkpoint", "checkpoint", signed);
    let counted = walk.indexes(&mut found);
    found.check("event", "?", counted);
    let compared = compare(reader.db, &folded, &mut found);
    folded.has_room()?;
    found.check("state", "?", compared);
    Ok(found)
}

/// SQLite's own check of its pages.
fn whole(db: &Connection) -> Result<(), StoreError> {
    let said: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(trouble)?;
    if said == "ok" { Ok(()) } else { Err(StoreError::NotIntact("SQLite finds its pages damaged".into())) }
}

struct Walk<'a> {
    reader: &'a Reader<'a>,
    edge: Edge,
    last: Hash,
    time: Timestamp,
    topics: u64,
}

impl Walk<'_> {
    fn entries(
        &mut self,
        found: &mut StoreAudit,
        folded: &Scratch,
        projector: &dyn Projector,
    ) -> Result<(), StoreError> {
        let mut statement =
            self.reader.db.prepare("SELECT seq, leaf FROM entry ORDER BY seq").map_err(trouble)?;
        let mut rows = statement.query([]).map_err(trouble)?;
        let mut folding = Some(folded);
        while let Some(row) = rows.next().map_err(trouble)? {
            let stored: i64 = row.get(0).map_err(trouble)?;
            let bytes: Vec<u8> = row.get(1).map_err(trouble)?;
            let seq = self.edge.size();
            if stored as u64 != seq {
                found.add("entry", seq, "the entry is missing");
                return Ok(());
            }
            let before = found.findings.len();
            if let Err(problem) = self.leaf(seq, &bytes) {
                found.add("entry", seq, problem);
            }
            self.edge.push(leaf::hash(&bytes));
            self.last = leaf::hash(&bytes);
            found.entries += 1;
            if found.findings.len() > before {
                continue;
            }
            match (self.beside(seq, found), folding) {
                (Ok(Some(entry)), Some(folded)) => {
                    let applied = folded.apply(&entry, projector);
                    folding = folding.filter(|_| applied.is_ok());
                    found.check("state", seq, applied);
                }
                (Ok(_), _) => {}
                (Err(error), _) => {
                    folding = None;
                    found.check("payload", seq, Err(error));
                }
            }
        }
        Ok(())
    }

    fn leaf(&mut self, seq: Seq, bytes: &[u8]) -> Result<(), String> {
        let leaf = Leaf::parse(bytes).map_err(|e| e.to_string())?;
        let signed_hash = self
            .reader
            .tile(0, seq / 256)
            .ok()
            .flatten()
            .and_then(|t| t.as_chunks::<32>().0.get((seq % 256) as usize).copied());
        let follows = leaf.seq == seq && leaf.prev.0 == self.last && leaf.time >= self.time;
        self.time = leaf.time;
        if !follows {
            return Err("does not follow the entry before it".into());
        }
        match signed_hash {
            Some(hash) if hash != leaf::hash(bytes) => Err("its hash is not the one in the tree".into()),
            _ => Ok(()),
        }
    }

    /// Payload, event index and topics of an entry.
    fn beside(
        &mut self,
        seq: Seq,
        found: &mut StoreAudit,
    ) -> Result<Option<crate::store::Entry>, StoreError> {
        let entry = self.reader.entry(seq)?;
        let Some(entry) = entry else { return Ok(None) };
        if self.reader.event_seq(&event_key(&entry.leaf.event_id))? != Some(seq) {
            found.add("event", seq, "the index of event ids does not lead to it");
        }
        if let Some(subject) = entry.subject {
            let there = self.reader.seqs(seq, Some(&subject_topic(subject)), 1)?;
            if there != [seq] {
                found.add("topic", seq, "it is not listed under its subject");
            }
            self.topics += 1;
        }
        if let Payload::Erased(by) = entry.payload {
            found.erased += 1;
            // Which entries an erasure names is checked by those who know its payload.
            let after = by.filter(|by| *by > seq);
            let kind = after.map(|by| self.reader.is_of_kind(by, &[ERASURE.to_owned()])).transpose()?;
            if kind != Some(true) {
                found.add("payload", seq, "it is gone, and no erasure says so");
            }
        }
        Ok(Some(entry))
    }

    fn tiles(&mut self, found: &mut StoreAudit) -> Result<(), StoreError> {
        let computed = self.edge.take_changes();
        let mut statement =
            self.reader.db.prepare("SELECT id, hashes FROM tile ORDER BY id").map_err(trouble)?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)));
        let mut stored: std::collections::BTreeMap<i64, Vec<u8>> =
            rows.map_err(trouble)?.collect::<Result<_, _>>().map_err(trouble)?;
        for tile in &computed {
            let there = stored.remove(&tile_id(tile.level, tile.index));
            if there.as_ref() != Some(&tile.bytes) {
                let problem =
                    if there.is_some() { "its hashes are not those of the entries" } else { "it is missing" };
                found.add("tile", format!("{}/{}", tile.level, tile.index), problem);
            }
        }
        if let Some((id, _)) = stored.first_key_value() {
            found.add("tile", format!("{}/{}", id >> 48, id & ((1 << 48) - 1)), "it belongs to no entries");
        }
        Ok(())
    }

    fn checkpoint(&self, vkey: &VerifierKey) -> Result<(), StoreError> {
        let not_intact = |what: String| Err(StoreError::NotIntact(what));
        let Some(note) = self.reader.checkpoint_note()? else { return not_intact("it is missing".into()) };
        match Checkpoint::open(&note, vkey) {
            Err(error) => not_intact(error.to_string()),
            Ok(signed) if signed.checkpoint.size != self.edge.size() => not_intact(format!(
                "{} entries are stored, {} were signed",
                self.edge.size(),
                signed.checkpoint.size
            )),
            Ok(signed) if signed.checkpoint.root != self.edge.root() => {
                not_intact("the root of the stored entries is not the one that was signed".into())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Rows that no entry accounts for.
    fn indexes(&self, found: &mut StoreAudit) -> Result<(), StoreError> {
        let count = |sql: &str| -> Result<u64, StoreError> {
            let n: i64 = self.reader.db.query_row(sql, [], |row| row.get(0)).map_err(trouble)?;
            Ok(n as u64)
        };
        let events = "SELECT (SELECT count(*) FROM event) + (SELECT count(*) FROM unindexed)";
        if count(events)? > self.edge.size() {
            found.add("event", "?", "there are more event ids than entries");
        }
        if count("SELECT count(*) FROM payload")? > self.edge.size() {
            found.add("payload", "?", "there are more payloads than entries");
        }
        let subjects = "SELECT (SELECT count(*) FROM topic WHERE topic >= 'subject:' AND topic < 'subject;')
                             + (SELECT count(*) FROM unindexed WHERE instr(topics, char(10) || 'subject:') > 0)";
        let all_read = !found.findings.iter().any(|f| matches!(f.class, "entry" | "payload"));
        if all_read && count(subjects)? > self.topics {
            found.add("topic", "?", "more entries are listed under subjects than there are");
        }
        Ok(())
    }
}

fn compare(db: &Connection, folded: &Scratch, found: &mut StoreAudit) -> Result<(), StoreError> {
    let broken = |f: &&Finding| matches!(f.class, "payload" | "entry" | "state");
    if found.findings.iter().any(|f| broken(&f)) {
        return Ok(()); // What cannot be read cannot be folded; the cause is named already.
    }
    let Compared { records, differing, differences } = folded.compare(db)?;
    if let Some(first) = differences.first() {
        found.add("state", &first.record, first.problem);
    }
    (found.records, found.differing, found.differences) = (records, differing, differences);
    Ok(())
}
