//! The state folded again from nothing, beside the stored one, and their comparison record by record.
//!
//! It lies in a database of its own on disk, so that memory stays the same however long the log is. The file is made in the
//! folder of the ledger, for its owner only, and unlinked as soon as it is open: it holds what `folded` holds, is never seen
//! under a name, and is gone with the process.
//!
//! A record that differs is named by kind and key; one that concerns a person by its place among its kind and the entry that
//! wrote it last, because its key is the person's id.

use std::cell::RefCell;
use std::path::Path;

use almoner_model::Seq;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;
use serde_json::Value;

use super::schema::trouble;
use crate::store::rebuild::writes;
use crate::store::{Entry, Projector, StoreError, View, Write};

/// Differences that are named.
const NAMED_MAX: usize = 20;
/// Pages of the file that are kept in memory, in KiB.
const CACHE_KIB: i64 = 32_768;
/// Kinds whose keys are people's ids, or hold one.
const OF_PEOPLE: [&str; 2] = ["subject-directives", "consent-lineage"];

/// A record of the stored state that is not what the log says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// Kind and key; for what concerns a person its kind and place in the order of keys, from 1.
    pub record: String,
    /// The entry that wrote it last; none for a record that no entry writes.
    pub entry: Option<Seq>,
    /// What is wrong.
    pub problem: &'static str,
}

/// All differences.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Compared {
    /// Stored records.
    pub records: u64,
    /// How many records differ.
    pub differing: u64,
    /// The first of them, in the order of kinds and keys.
    pub differences: Vec<Difference>,
}

/// The state folded so far.
pub struct Scratch {
    db: Connection,
    /// Why it could not be read or written: the fold's view cannot say so, and it is no fault of the ledger.
    failed: RefCell<Option<StoreError>>,
}

type Row = (String, String, String);

impl Scratch {
    /// An empty one, in the folder of `ledger`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file cannot be made.
    pub fn beside(ledger: &Path) -> Result<Self, StoreError> {
        let unmade = |e: std::io::Error| {
            StoreError::Unavailable(format!("no file can be made beside the ledger: {}", e.kind()))
        };
        let folder = ledger.parent().unwrap_or(Path::new("."));
        let file = tempfile::Builder::new().prefix(".verify-").tempfile_in(folder).map_err(unmade)?;
        let db = Connection::open(file.path()).map_err(trouble)?;
        // Nothing of it is to survive, so nothing is journalled or synced. The first statement opens the file.
        let set = format!(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA cache_size = -{CACHE_KIB};
             CREATE TABLE record (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, seq INTEGER NOT NULL,
                                  PRIMARY KEY (kind, key)) WITHOUT ROWID;
             BEGIN"
        );
        db.execute_batch(&set).map_err(trouble)?;
        file.close().map_err(unmade)?;
        Ok(Self { db, failed: RefCell::new(None) })
    }

    /// Folds one more entry.
    ///
    /// # Errors
    /// [`StoreError::NotIntact`] if the fold refuses it; as [`Scratch::has_room`].
    pub fn apply(&self, entry: &Entry, projector: &dyn Projector) -> Result<(), StoreError> {
        let done = writes(entry, projector, self);
        self.has_room()?;
        for Write { kind, key, value } in done? {
            let sql = match value {
                Some(_) => "INSERT OR REPLACE INTO record VALUES (?1, ?2, ?3, ?4)",
                None => "DELETE FROM record WHERE kind = ?1 AND key = ?2 AND ?3 IS NULL AND ?4 IS NOT NULL",
            };
            let text = value.map(|v| v.to_string());
            self.read(|db| db.prepare_cached(sql)?.execute(params![kind, key, text, entry.seq as i64]));
        }
        self.has_room()
    }

    /// Whether all could be written and read so far.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if not: the disk is full, for instance. Nothing is known then of the state.
    pub fn has_room(&self) -> Result<(), StoreError> {
        self.failed.borrow().clone().map_or(Ok(()), Err)
    }

    /// Compares with the stored state of `ledger`, record by record.
    ///
    /// # Errors
    /// [`StoreError`] if either cannot be read.
    pub fn compare(&self, ledger: &Connection) -> Result<Compared, StoreError> {
        let sql = "SELECT kind, key, value FROM folded ORDER BY kind, key";
        let mut stored = ledger.prepare(sql).map_err(trouble)?;
        let mut stored = stored.query([]).map_err(trouble)?;
        let sql = "SELECT kind, key, value, seq FROM record ORDER BY kind, key";
        let mut folded = self.db.prepare(sql).map_err(trouble)?;
        let mut folded = folded.query([]).map_err(trouble)?;
        let mut next_stored =
            || -> Result<Option<Row>, StoreError> { stored.next().map_err(trouble)?.map(row).transpose() };
        let mut next_folded = || -> Result<Option<(Row, Seq)>, StoreError> {
            let next = folded.next().map_err(trouble)?;
            next.map(|r| Ok((row(r)?, r.get::<_, i64>(3).map_err(trouble)? as Seq))).transpose()
        };
        let (mut compared, mut place) = (Compared::default(), Place::default());
        let (mut there, mut said) = (next_stored()?, next_folded()?);
        loop {
            let order = match (&there, &said) {
                (None, None) => return Ok(compared),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(there), Some((said, _))) => (&there.0, &there.1).cmp(&(&said.0, &said.1)),
            };
            let entry = said.as_ref().map(|(_, seq)| *seq);
            let problem = match (order, &there, &said) {
                (std::cmp::Ordering::Less, Some(there), _) => {
                    Some((place.name(there), None, "there, though the log does not say it"))
                }
                (std::cmp::Ordering::Greater, _, Some((said, _))) => {
                    Some((place.name(said), entry, "missing, though the log says it"))
                }
                (_, Some(there), Some((said, _))) => {
                    let name = place.name(there);
                    (!same(&there.2, &said.2)).then_some((name, entry, "not what the log says"))
                }
                _ => None,
            };
            if let Some((record, entry, problem)) = problem {
                compared.differing += 1;
                if compared.differences.len() < NAMED_MAX {
                    compared.differences.push(Difference { record, entry, problem });
                }
            }
            if order.is_le() {
                compared.records += 1;
                there = next_stored()?;
            }
            if order.is_ge() {
                said = next_folded()?;
            }
        }
    }
}

fn row(row: &rusqlite::Row<'_>) -> Result<Row, StoreError> {
    let text = |n| row.get::<_, String>(n).map_err(trouble);
    Ok((text(0)?, text(1)?, text(2)?))
}

fn same(a: &str, b: &str) -> bool {
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    a == b || value(a).is_some_and(|a| Some(a) == value(b))
}

/// Where in a kind a record stands.
#[derive(Default)]
struct Place {
    kind: String,
    number: u64,
}

impl Place {
    fn name(&mut self, (kind, key, _): &Row) -> String {
        if self.kind != *kind {
            *self = Self { kind: kind.clone(), number: 0 };
        }
        self.number += 1;
        if OF_PEOPLE.contains(&kind.as_str()) {
            format!("{kind} number {}", self.number)
        } else {
            format!("{kind}/{key}")
        }
    }
}

impl Scratch {
    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Option<T> {
        let why = |e: rusqlite::Error| {
            let code = e.sqlite_error_code().map_or_else(|| "trouble".to_owned(), |c| format!("{c:?}"));
            let what = format!("the state cannot be folded again beside the ledger: SQLite says {code}");
            self.failed.borrow_mut().get_or_insert(StoreError::Unavailable(what));
        };
        read(&self.db).map_err(why).ok()
    }
}

impl View for Scratch {
    fn get(&self, kind: &str, key: &str) -> Option<Value> {
        let sql = "SELECT value FROM record WHERE kind = ?1 AND key = ?2";
        let text: Option<String> =
            self.read(|db| db.prepare_cached(sql)?.query_row([kind, key], |row| row.get(0)).optional())?;
        serde_json::from_str(&text?).ok()
    }

    fn scan(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Value)> {
        let sql = "SELECT key, value FROM record WHERE kind = ?1 AND key >= ?2 ORDER BY key";
        let rows = self.read(|db| {
            let mut statement = db.prepare_cached(sql)?;
            let from = after.unwrap_or(prefix).max(prefix);
            let rows = statement.query_map([kind, from], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let wanted = rows
                .filter(|row: &rusqlite::Result<(String, String)>| {
                    row.as_ref().map_or(true, |(key, _)| after.is_none_or(|a| key.as_str() > a))
                })
                .take_while(|row| row.as_ref().map_or(true, |(key, _)| key.starts_with(prefix)));
            wanted.take(limit).collect::<rusqlite::Result<Vec<_>>>()
        });
        let read = |(key, text): (String, String)| Some((key, serde_json::from_str(&text).ok()?));
        rows.unwrap_or_default().into_iter().filter_map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use almoner_ledger::Leaf;
    use almoner_ledger::commitment::Salt;
    use almoner_model::{Digest, Timestamp};
    use serde_json::json;

    use super::*;
    use crate::store::{Actor, Payload, ProjectedEntry, Rejection};

    /// Writes a record of a person and one of nobody, and counts by scanning.
    struct Tally;

    impl Projector for Tally {
        fn project(&self, entry: &ProjectedEntry<'_>, view: &dyn View) -> Result<Vec<Write>, Rejection> {
            let record =
                |kind: &str, key: String, value: Value| Write { kind: kind.into(), key, value: Some(value) };
            let before = view.scan("seen", "", None, 1_000).len();
            assert_eq!(view.get("tally", "all").is_some(), before > 0, "the view shows what was written");
            Ok(vec![
                record(
                    "subject-directives",
                    format!("{:016}", 77_000_000 + entry.seq),
                    entry.payload.clone(),
                ),
                record("seen", format!("{:04}", entry.seq), json!(null)),
                record("tally", "all".into(), json!(before + 1)),
            ])
        }
    }

    fn entry(seq: Seq, payload: Payload) -> Entry {
        let leaf = Leaf {
            actor: Digest([0; 32]),
            as_of: None,
            decision: None,
            event_id: String::new(),
            payload: Digest([0; 32]),
            policy: None,
            prev: Digest([0; 32]),
            seq,
            subject: None,
            time: Timestamp::from_millis(0),
            kind: "a.said".into(),
            v: 1,
        };
        Entry { seq, bytes: Vec::new(), leaf, subject: None, payload }
    }

    fn said(seq: Seq) -> Entry {
        let actor = Actor { role: "system".into(), id: "test".into() };
        entry(seq, Payload::Present { actor, value: json!({"n": seq}), salt: Salt([0; 32]) })
    }

    #[test]
    fn a_full_disk_is_no_fault_of_the_ledger() {
        let dir = tempfile::tempdir().expect("a folder");
        let scratch = Scratch::beside(&dir.path().join("ledger.sqlite")).expect("made");
        scratch.db.execute_batch("PRAGMA max_page_count = 8").expect("set");
        let full = (0..10_000).map(|seq| scratch.apply(&said(seq), &Tally)).find_map(Result::err);
        let Some(StoreError::Unavailable(why)) = full else { panic!("{full:?}") };
        assert!(why.contains("DiskFull"), "{why}");
        assert!(scratch.has_room().is_err(), "and is not forgotten");
    }

    #[test]
    fn every_difference_is_named_and_nobody_by_their_id() {
        let dir = tempfile::tempdir().expect("a folder");
        let scratch = Scratch::beside(&dir.path().join("ledger.sqlite")).expect("made");
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 0, "the file has no name");
        for seq in 0..100 {
            scratch.apply(&said(seq), &Tally).expect("folded");
        }
        scratch.apply(&entry(100, Payload::Erased(Some(101))), &Tally).expect("an erased entry says nothing");
        let stored = Connection::open_in_memory().expect("opens");
        let table = "CREATE TABLE folded (kind TEXT, key TEXT, value TEXT, PRIMARY KEY (kind, key))";
        stored.execute_batch(table).expect("made");
        let mut all = scratch.db.prepare("SELECT kind, key, value FROM record").expect("there");
        let rows = all.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).expect("reads");
        for row in rows {
            let (kind, key, value): Row = row.expect("a row");
            stored.execute("INSERT INTO folded VALUES (?1, ?2, ?3)", [kind, key, value]).expect("copied");
        }
        let compared = scratch.compare(&stored).expect("reads");
        assert_eq!((compared.records, compared.differing), (201, 0));

        let alter = "UPDATE folded SET value = '{\"n\": 3 }' WHERE key = '0000000077000003';
            UPDATE folded SET value = '{\"n\":9}' WHERE key = '0000000077000004';
            DELETE FROM folded WHERE key = '0000000077000007';
            INSERT INTO folded VALUES ('subject-directives', '0000000077000100', '{\"n\":100}');
            UPDATE folded SET value = '99' WHERE kind = 'tally';
            INSERT INTO folded VALUES ('zeal', 'x', '1')";
        stored.execute_batch(alter).expect("altered");
        let compared = scratch.compare(&stored).expect("reads");
        let named: Vec<(&str, Option<Seq>, &str)> = compared
            .differences
            .iter()
            .map(|d| (d.record.as_str(), d.entry, d.problem.split(',').next().expect("a word")))
            .collect();
        assert_eq!(
            named,
            [
                ("subject-directives number 5", Some(4), "not what the log says"),
                ("subject-directives number 8", Some(7), "missing"),
                ("subject-directives number 101", None, "there"),
                ("tally/all", Some(99), "not what the log says"),
                ("zeal/x", None, "there"),
            ]
        );
        assert_eq!((compared.records, compared.differing), (202, 5));
    }
}
