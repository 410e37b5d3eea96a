//! Reading: one connection's view of the database, for the sequencer (inside its transaction) and for everyone else (a
//! snapshot).

use std::sync::{PoisonError, RwLock};

use almoner_control::state::records::LogKeys;
use almoner_ledger::commitment::{Field, commit};
use almoner_ledger::{Leaf, leaf};
use almoner_model::{Digest, Seq, SubjectId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::Value;

use super::recent::{Recent, joined};
use super::schema::{tile_id, trouble};
use super::seal::{Opened, Sealer};
use crate::store::batch::{Base, Content, Stored};
use crate::store::prepare::EventKey;
use crate::store::signing::{Signing, SigningKeys};
use crate::store::{Appended, Entry, Payload, StoreError};

/// What is kept beside a leaf: whom it concerns, and what is under its commitments or by which entry it was erased.
pub type Beside = (Option<SubjectId>, Result<Opened, Option<Seq>>);

/// A connection, the keys to what it reads, and the newest part of its indexes.
pub struct Reader<'a> {
    pub db: &'a Connection,
    pub sealer: &'a Sealer,
    pub index: Index<'a>,
}

/// Where what is not yet in the tables of the indexes is looked up.
#[derive(Clone, Copy)]
pub enum Index<'a> {
    /// In the memory of the process that writes, or of a snapshot.
    Memory(&'a RwLock<Recent>),
    /// In the table `unindexed`: for a process that only reads, while another writes.
    Table,
}

/// Which of the two tables of records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Records {
    Folded,
    Primary,
}

impl Records {
    const fn get(self) -> &'static str {
        match self {
            Self::Folded => "SELECT value FROM folded WHERE kind = ?1 AND key = ?2",
            Self::Primary => "SELECT value FROM primary_state WHERE kind = ?1 AND key = ?2",
        }
    }

    const fn scan(self) -> &'static str {
        match self {
            Self::Folded => "SELECT key, value FROM folded WHERE kind = ?1 AND key >= ?2 ORDER BY key",
            Self::Primary => {
                "SELECT key, value FROM primary_state WHERE kind = ?1 AND key >= ?2 ORDER BY key"
            }
        }
    }

    pub const fn put(self) -> &'static str {
        match self {
            Self::Folded => "INSERT OR REPLACE INTO folded VALUES (?1, ?2, ?3)",
            Self::Primary => "INSERT OR REPLACE INTO primary_state VALUES (?1, ?2, ?3)",
        }
    }

    pub const fn remove(self) -> &'static str {
        match self {
            Self::Folded => "DELETE FROM folded WHERE kind = ?1 AND key = ?2",
            Self::Primary => "DELETE FROM primary_state WHERE kind = ?1 AND key = ?2",
        }
    }
}

fn json(text: &str) -> Result<Value, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::NotIntact("a record of state is not JSON".into()))
}

impl Reader<'_> {
    /// The keys in force at `now`, as the stored state says.
    pub fn signing(&self, keys: &SigningKeys, now: Timestamp) -> Result<Signing, StoreError> {
        Signing::new(keys, self.record(Records::Folded, LogKeys::KIND, LogKeys::KEY)?, now)
    }

    pub fn record(&self, table: Records, kind: &str, key: &str) -> Result<Option<Value>, StoreError> {
        let mut statement = self.db.prepare_cached(table.get()).map_err(trouble)?;
        let text: Option<String> =
            statement.query_row([kind, key], |row| row.get(0)).optional().map_err(trouble)?;
        text.map(|t| json(&t)).transpose()
    }

    pub fn records(
        &self,
        table: Records,
        kind: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, StoreError> {
        let mut statement = self.db.prepare_cached(table.scan()).map_err(trouble)?;
        let from = after.unwrap_or(prefix).max(prefix);
        let mut rows = statement.query([kind, from]).map_err(trouble)?;
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(row) = rows.next().map_err(trouble)?
        {
            let key: String = row.get(0).map_err(trouble)?;
            if !key.starts_with(prefix) {
                break;
            }
            if after.is_none_or(|a| key.as_str() > a) {
                let text: String = row.get(1).map_err(trouble)?;
                found.push((key, json(&text)?));
            }
        }
        Ok(found)
    }

    pub fn leaf(&self, seq: Seq) -> Result<Option<Vec<u8>>, StoreError> {
        let mut statement =
            self.db.prepare_cached("SELECT leaf FROM entry WHERE seq = ?1").map_err(trouble)?;
        statement.query_row([seq as i64], |row| row.get(0)).optional().map_err(trouble)
    }

    pub fn leaves(&self, from: Seq, to: Seq) -> Result<Vec<Vec<u8>>, StoreError> {
        let sql = "SELECT leaf FROM entry WHERE seq >= ?1 AND seq < ?2 ORDER BY seq";
        let mut statement = self.db.prepare_cached(sql).map_err(trouble)?;
        let rows = statement.query_map([from as i64, to as i64], |row| row.get(0)).map_err(trouble)?;
        rows.collect::<Result<_, _>>().map_err(trouble)
    }

    pub fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let mut statement =
            self.db.prepare_cached("SELECT hashes FROM tile WHERE id = ?1").map_err(trouble)?;
        statement.query_row([tile_id(level, index)], |row| row.get(0)).optional().map_err(trouble)
    }

    pub fn checkpoint_note(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT note FROM checkpoint WHERE id = 1";
        self.db.query_row(sql, [], |row| row.get(0)).optional().map_err(trouble)
    }

    pub fn meta(&self, name: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT value FROM meta WHERE name = ?1";
        self.db.query_row(sql, [name], |row| row.get(0)).optional().map_err(trouble)
    }

    pub fn wrapped_key(&self, subject: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let mut statement =
            self.db.prepare_cached("SELECT wrapped FROM subject_key WHERE subject = ?1").map_err(trouble)?;
        statement.query_row([subject], |row| row.get(0)).optional().map_err(trouble)
    }

    /// What is under a leaf's commitments, checked against them; `Err(erased by)` where it was erased.
    pub fn opened(&self, seq: Seq, leaf: &Leaf) -> Result<Beside, StoreError> {
        let sql = "SELECT subject, sealed, erased_by FROM payload WHERE seq = ?1";
        let mut statement = self.db.prepare_cached(sql).map_err(trouble)?;
        let row = statement
            .query_row([seq as i64], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Option<Vec<u8>>>(1)?, row.get::<_, Option<i64>>(2)?))
            })
            .optional()
            .map_err(trouble)?;
        let (subject, sealed, erased_by) =
            row.ok_or_else(|| StoreError::NotIntact(format!("entry {seq} has no payload row")))?;
        let Some(sealed) = sealed else { return Ok((None, Err(erased_by.map(|s| s as Seq)))) };
        let load = |subject| self.wrapped_key(subject);
        let at = |e: StoreError| match e {
            StoreError::NotIntact(what) => StoreError::NotIntact(format!("entry {seq}: {what}")),
            other => other,
        };
        let opened = self.sealer.open(subject, &sealed, &leaf.event_id, &leaf.payload, load).map_err(at)?;
        let subject = SubjectId::new(subject).ok();
        let fits = |field, value: &[u8]| commit(&opened.salt.opening(field), value);
        let subject_fits = match (subject, leaf.subject) {
            (Some(id), Some(commitment)) => {
                fits(Field::Subject, id.get().to_string().as_bytes()) == commitment.0
            }
            (None, None) => true,
            _ => false,
        };
        if subject_fits
            && fits(Field::Actor, &opened.actor_json) == leaf.actor.0
            && fits(Field::Payload, &opened.payload_json) == leaf.payload.0
        {
            Ok((subject, Ok(opened)))
        } else {
            Err(StoreError::NotIntact(format!(
                "entry {seq}: the payload does not fit the leaf's commitments"
            )))
        }
    }

    pub fn entry(&self, seq: Seq) -> Result<Option<Entry>, StoreError> {
        let Some(bytes) = self.leaf(seq)? else { return Ok(None) };
        let leaf = Leaf::parse(&bytes).map_err(|e| StoreError::NotIntact(format!("entry {seq}: {e}")))?;
        let (subject, opened) = self.opened(seq, &leaf)?;
        let payload = match opened {
            Err(erased_by) => Payload::Erased(erased_by),
            Ok(opened) => Payload::Present {
                actor: serde_json::from_slice(&opened.actor_json)
                    .map_err(|_| StoreError::NotIntact(format!("entry {seq}: the actor is not readable")))?,
                value: serde_json::from_slice(&opened.payload_json).map_err(|_| {
                    StoreError::NotIntact(format!("entry {seq}: the payload is not readable"))
                })?,
                salt: opened.salt,
            },
        };
        Ok(Some(Entry { seq, bytes, leaf, subject, payload }))
    }

    pub fn is_of_kind(&self, seq: Seq, kinds: &[String]) -> Result<bool, StoreError> {
        let bytes = self.leaf(seq)?.unwrap_or_default();
        let leaf = Leaf::parse(&bytes).map_err(|e| StoreError::NotIntact(format!("entry {seq}: {e}")))?;
        Ok(kinds.contains(&leaf.kind))
    }

    /// Positions from `from` on, of one topic or of all entries, ascending.
    pub fn seqs(&self, from: Seq, topic: Option<&str>, limit: usize) -> Result<Vec<Seq>, StoreError> {
        let Some(topic) = topic else {
            let sql = "SELECT seq FROM entry WHERE seq >= ?1 ORDER BY seq LIMIT ?2";
            return self.positions(sql, params![from as i64, limit as i64]);
        };
        let recent = self.recent_of_topic(topic, from)?;
        let sql = "SELECT seq FROM topic WHERE seq >= ?1 AND topic = ?3 ORDER BY seq LIMIT ?2";
        let mut seqs = self.positions(sql, params![from as i64, limit as i64, topic])?;
        let known = seqs.last().copied();
        // Recent ones come after all that are in the table, unless they have just been moved there.
        seqs.extend(recent.into_iter().filter(|seq| known.is_none_or(|known| *seq > known)));
        seqs.truncate(limit);
        Ok(seqs)
    }

    fn positions(&self, sql: &str, given: impl rusqlite::Params) -> Result<Vec<Seq>, StoreError> {
        let mut statement = self.db.prepare_cached(sql).map_err(trouble)?;
        let rows = statement.query_map(given, |row| row.get::<_, i64>(0)).map_err(trouble)?;
        rows.map(|row| row.map(|seq| seq as Seq).map_err(trouble)).collect()
    }

    /// Positions of a topic that may not yet be in its table, ascending.
    fn recent_of_topic(&self, topic: &str, from: Seq) -> Result<Vec<Seq>, StoreError> {
        match self.index {
            Index::Memory(recent) => {
                let recent = recent.read().unwrap_or_else(PoisonError::into_inner);
                let seqs = recent.of_topic(topic);
                Ok(seqs[seqs.partition_point(|seq| *seq < from)..].to_vec())
            }
            Index::Table => {
                let sql = "SELECT seq FROM unindexed WHERE seq >= ?1 AND instr(topics, ?2) > 0 ORDER BY seq";
                self.positions(sql, params![from as i64, joined(&[topic.to_owned()])])
            }
        }
    }

    fn recent_event(&self, event: &EventKey) -> Result<Option<Seq>, StoreError> {
        match self.index {
            Index::Memory(recent) => {
                Ok(recent.read().unwrap_or_else(PoisonError::into_inner).event_seq(event))
            }
            Index::Table => {
                let sql = "SELECT seq FROM unindexed WHERE event_id = ?1";
                Ok(self.positions(sql, params![event])?.first().copied())
            }
        }
    }
}

impl Base for Reader<'_> {
    fn event_seq(&self, event: &EventKey) -> Result<Option<Seq>, StoreError> {
        if let Some(seq) = self.recent_event(event)? {
            return Ok(Some(seq));
        }
        Ok(self.positions("SELECT seq FROM event WHERE event_id = ?1", params![event])?.first().copied())
    }

    fn stored(&self, seq: Seq) -> Result<Option<Stored>, StoreError> {
        let Some(bytes) = self.leaf(seq)? else { return Ok(None) };
        let leaf = Leaf::parse(&bytes).map_err(|e| StoreError::NotIntact(format!("entry {seq}: {e}")))?;
        let (subject, opened) = self.opened(seq, &leaf)?;
        let content = opened.ok().map(|Opened { actor_json, payload_json, .. }| Content {
            subject,
            actor_json,
            payload_json,
        });
        let appended = Appended { seq, time: leaf.time, leaf_hash: Digest(leaf::hash(&bytes)) };
        Ok(Some(Stored { appended, kind: leaf.kind, content }))
    }

    fn topic_last(&self, topic: &str) -> Result<Option<Seq>, StoreError> {
        if let Some(last) = self.recent_of_topic(topic, 0)?.last() {
            return Ok(Some(*last));
        }
        let sql = "SELECT seq FROM topic WHERE topic = ?1 ORDER BY seq DESC LIMIT 1";
        Ok(self.positions(sql, params![topic])?.first().copied())
    }

    fn get(&self, kind: &str, key: &str) -> Result<Option<Value>, StoreError> {
        self.record(Records::Folded, kind, key)
    }

    fn scan(
        &self,
        kind: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, StoreError> {
        self.records(Records::Folded, kind, prefix, after, limit)
    }
}
