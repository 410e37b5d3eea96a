//! The crash table, and what tampering cannot hide.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use almoner_ledger::commitment::{Field, Salt, canonical_value};
use almoner_ledger::tree::Edge;
use almoner_ledger::{Checkpoint, Leaf, leaf};
use almoner_model::{Digest, ManualClock};
use rusqlite::{Connection, params};
use serde_json::json;

mod erased;

use super::audit::{StoreAudit, audit_file};
use super::{FaultHook, SqliteStore, Step, schema};
use crate::store::conformance::{Tally, assert_log_is_whole, entry, log_key, noon, options};
use crate::store::signing::SigningKeys;
use crate::store::{EntryFilter, Projector, Store, StoreError, Write};

fn open(dir: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(options(dir, Arc::new(ManualClock::at(noon()))))
}

fn audit_of(dir: &Path) -> StoreAudit {
    let keys = SigningKeys::new(|_| Ok(log_key()));
    let projector: Arc<dyn Projector> = Arc::new(Tally);
    audit_file(&dir.join("ledger.sqlite"), &keys, &[3; 32], &projector).expect("opens")
}

/// Copies the database and its write-ahead log as they lie on disk: what is left when the process is killed now.
fn image(from: &Path, to: &Path) {
    for name in ["ledger.sqlite", "ledger.sqlite-wal"] {
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name)).expect("copies");
        }
    }
}

/// Fails one step once, and takes an image of the disk at that moment.
struct Fault {
    step: Step,
    after: bool,
    armed: AtomicUsize,
    from: std::path::PathBuf,
    to: Mutex<Option<tempfile::TempDir>>,
}

impl Fault {
    fn strike(&self, step: Step, after: bool) -> Result<(), StoreError> {
        let hit = step == self.step && after == self.after && self.armed.swap(0, Ordering::SeqCst) == 1;
        if !hit {
            return Ok(());
        }
        let dir = tempfile::tempdir().expect("a folder");
        image(&self.from, dir.path());
        *self.to.lock().expect("not poisoned") = Some(dir);
        Err(StoreError::Unavailable(format!("fault at {step:?}")))
    }
}

impl FaultHook for Fault {
    fn before(&self, step: Step) -> Result<(), StoreError> {
        self.strike(step, false)
    }
    fn after(&self, step: Step) -> Result<(), StoreError> {
        self.strike(step, true)
    }
}

fn three(first: u64) -> Vec<crate::store::NewEntry> {
    (first..first + 3).map(|n| entry(n, "a.done", Some(1 + (n % 2) as i64), json!({"n": n}))).collect()
}

/// What must hold after any fault, in the process that went on and in one started from the disk image.
fn assert_recovered(store: &SqliteStore, done: bool, what: &str) {
    assert_log_is_whole(store);
    let found = store.audit().expect("readable");
    assert!(found.intact, "{what}: {:?}", found.findings);
    let size = store.size();
    assert_eq!(size, if done { 6 } else { 3 }, "{what}");
    let again = store.append(three(4), &[]).expect("the same act can be repeated");
    assert_eq!(again.iter().map(|a| a.seq).collect::<Vec<_>>(), [3, 4, 5], "{what}");
    assert_eq!(store.size(), 6, "{what}");
    assert_eq!(store.get("tally", "a.done"), Ok(Some(json!(6))), "{what}");
    assert_eq!(store.append(three(1), &[]).expect("known")[2].seq, 2, "{what}");
}

#[test]
fn the_crash_table() {
    for step in Step::ALL {
        for after in [false, true] {
            let what = format!("{step:?} {}", if after { "done" } else { "not done" });
            let dir = tempfile::tempdir().expect("a folder");
            let fault = Arc::new(Fault {
                step,
                after,
                armed: AtomicUsize::new(0),
                from: dir.path().into(),
                to: Mutex::default(),
            });
            let mut given = options(dir.path(), Arc::new(ManualClock::at(noon())));
            given.faults = Some(fault.clone());
            let store = SqliteStore::open(given).expect("opens");
            store.append(three(1), &[]).expect("acknowledged");
            fault.armed.store(1, Ordering::SeqCst);
            let failed = store.append(three(4), &[]);
            assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{what}: {failed:?}");
            // Durable exactly if the commit was done, though nobody was told so.
            let done = step == Step::Publish || (step == Step::Commit && after);
            let killed = fault.to.lock().expect("not poisoned").take().expect("struck");
            let restarted = open(killed.path()).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_recovered(&restarted, done, &format!("{what}, killed"));
            assert_recovered(&store, done, &format!("{what}, went on"));
        }
    }
}

/// A disk that fails to make one commit durable, and then seems well again.
struct BadDisk(AtomicUsize);

impl FaultHook for BadDisk {
    fn before(&self, _: Step) -> Result<(), StoreError> {
        Ok(())
    }
    fn after(&self, step: Step) -> Result<(), StoreError> {
        let hit = step == Step::Commit && self.0.swap(0, Ordering::SeqCst) == 1;
        if hit { Err(StoreError::NotDurable("fsync failed".into())) } else { Ok(()) }
    }
}

#[test]
fn after_a_failed_sync_nothing_more_is_accepted() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = Arc::new(BadDisk(AtomicUsize::new(0)));
    let mut given = options(dir.path(), Arc::new(ManualClock::at(noon())));
    given.faults = Some(disk.clone());
    let store = SqliteStore::open(given).expect("opens");
    store.append(three(1), &[]).expect("acknowledged");
    assert_eq!(store.accepting(), Ok(()));
    disk.0.store(1, Ordering::SeqCst);
    assert!(matches!(store.append(three(4), &[]), Err(StoreError::NotDurable(_))));
    assert!(matches!(store.accepting(), Err(StoreError::NotDurable(_))));
    assert!(
        matches!(store.append(three(7), &[]), Err(StoreError::NotDurable(_))),
        "whatever the disk says now"
    );
    let write = Write { kind: "job".into(), key: "1".into(), value: Some(json!({})) };
    assert!(matches!(store.put_primary(vec![write]), Err(StoreError::NotDurable(_))));
    assert_eq!(store.size(), 3, "what was published is served");
    assert_log_is_whole(&store);
    drop(store);
    let again = open(dir.path()).expect("opens");
    assert_eq!(again.accepting(), Ok(()));
    assert_log_is_whole(&again);
    assert_eq!(again.append(three(4), &[]).expect("repeated")[0].seq, 3);
}

#[test]
fn a_failed_sync_is_told_from_other_trouble() {
    let error =
        |extended| schema::trouble(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(extended), None));
    for sync in [rusqlite::ffi::SQLITE_IOERR_FSYNC, rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC] {
        assert!(matches!(error(sync), StoreError::NotDurable(_)));
    }
    for other in [rusqlite::ffi::SQLITE_IOERR_WRITE, rusqlite::ffi::SQLITE_FULL, rusqlite::ffi::SQLITE_BUSY] {
        assert!(matches!(error(other), StoreError::Unavailable(_)));
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let before = {
        let store = open(dir.path()).expect("opens");
        for n in 0..300 {
            store.append(vec![entry(n, "a.done", Some(1), json!(n))], &[]).expect("appends");
        }
        let write = Write { kind: "token".into(), key: "t".into(), value: Some(json!("hash")) };
        store.put_primary(vec![write]).expect("writes");
        store.checkpoint()
    };
    let store = open(dir.path()).expect("opens again");
    assert_eq!(store.checkpoint(), before);
    assert_eq!(store.get_primary("token", "t"), Ok(Some(json!("hash"))));
    assert_recovered_tail(&store);
}

fn assert_recovered_tail(store: &SqliteStore) {
    let appended = store.append(vec![entry(900, "b.done", None, json!(0))], &[]).expect("appends");
    assert_eq!(appended[0].seq, 300);
    assert_log_is_whole(store);
    let topic = EntryFilter { topic: Some("subject:1".into()), ..EntryFilter::default() };
    assert_eq!(store.entries(290, 100, &topic).expect("readable").len(), 10);
}

#[test]
fn another_key_or_origin_does_not_open_it() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(open(dir.path()).expect("opens"));
    let mut other = options(dir.path(), Arc::new(ManualClock::at(noon())));
    other.keys = SigningKeys::new(|_| almoner_ledger::LogKey::new("almoner.example/log", &[1; 32]));
    assert!(matches!(SqliteStore::open(other), Err(StoreError::NotIntact(_))));
}

/// A store of 300 entries, closed, with its write-ahead log folded in.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path()).expect("opens");
    for first in (0..300).step_by(3) {
        store.append(three(first), &[]).expect("appends");
    }
    drop(store);
    dir
}

fn flip(db: &Connection, table: &str, column: &str, row: &str) {
    let sql = format!("SELECT CAST({column} AS BLOB) FROM {table} WHERE {row}");
    let mut bytes: Vec<u8> = db.query_row(&sql, [], |r| r.get(0)).expect("a row");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let kind: String = db
        .query_row(&format!("SELECT typeof({column}) FROM {table} WHERE {row}"), [], |r| r.get(0))
        .expect("a row");
    let value = if kind == "text" { "CAST(?1 AS TEXT)" } else { "?1" };
    db.execute(&format!("UPDATE {table} SET {column} = {value} WHERE {row}"), params![bytes])
        .expect("updates");
}

#[test]
fn one_flipped_byte_in_any_class_of_rows_is_found_and_named() {
    let whole = filled();
    assert!(audit_of(whole.path()).intact);
    for (table, column, row, class, name) in [
        ("entry", "leaf", "seq = 7", "entry", "7"),
        ("entry", "leaf", "seq = 299", "entry", "299"),
        ("tile", "hashes", "id = 0", "entry", "128"),
        ("tile", "hashes", "id = 1 << 48", "tile", "1/0"),
        ("payload", "sealed", "seq = 8", "payload", "8"),
        ("subject_key", "wrapped", "subject = 2", "payload", "1"),
        ("event", "event_id", "seq = 9", "event", "9"),
        ("checkpoint", "note", "id = 1", "checkpoint", "checkpoint"),
        ("folded", "value", "kind = 'last' AND key LIKE '%2'", "state", "last/0000000000000002"),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        image(whole.path(), dir.path());
        let db = Connection::open(dir.path().join("ledger.sqlite")).expect("opens");
        flip(&db, table, column, row);
        drop(db);
        let found = audit_of(dir.path());
        let named: BTreeMap<_, _> = found.findings.iter().map(|f| (f.class, f.row.as_str())).collect();
        assert_eq!(named.get(class), Some(&name), "{table} {row}: {:?}", found.findings);
    }
}

#[test]
fn a_missing_row_of_any_class_is_found() {
    let whole = filled();
    for (sql, class) in [
        ("DELETE FROM entry WHERE seq = 5", "entry"),
        ("DELETE FROM entry WHERE seq = 299", "checkpoint"),
        ("DELETE FROM tile WHERE id = 0", "tile"),
        ("DELETE FROM payload WHERE seq = 5", "payload"),
        ("DELETE FROM subject_key WHERE subject = 1", "payload"),
        ("DELETE FROM event WHERE seq = 5", "event"),
        ("DELETE FROM topic WHERE seq = 5", "topic"),
        ("DELETE FROM checkpoint", "checkpoint"),
        ("DELETE FROM folded WHERE kind = 'tally'", "state"),
        ("INSERT INTO folded VALUES ('token', 'x', '1')", "state"),
        ("INSERT INTO topic VALUES ('subject:1', 999)", "topic"),
        ("UPDATE payload SET subject = 2 WHERE subject = 1 AND seq = 4", "payload"),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        image(whole.path(), dir.path());
        let db = Connection::open(dir.path().join("ledger.sqlite")).expect("opens");
        db.execute_batch(sql).expect("tampers");
        drop(db);
        let found = audit_of(dir.path());
        assert!(found.findings.iter().any(|f| f.class == class), "{sql}: {:?}", found.findings);
    }
}

/// An insider with the database and the payload key, but not the signing key, changes what one person agreed to, and
/// everything that follows from it: payload, commitment, leaf, every later `prev`, every hash tile, the folded state.
#[test]
fn a_consistent_rewrite_without_the_signing_key_is_found_at_the_next_start() {
    let dir = filled();
    let path = dir.path().join("ledger.sqlite");
    let sealer = super::seal::Sealer::new(&[3; 32]);
    let db = Connection::open(&path).expect("opens");
    let reader = super::read::Reader { db: &db, sealer: &sealer, index: super::read::Index::Table };
    let (mut edge, mut prev) = (Edge::new(), leaf::NO_PREV);
    for seq in 0..300 {
        let mut leaf = Leaf::parse(&reader.leaf(seq).expect("readable").expect("stored")).expect("canonical");
        if seq == 120 {
            let opened = reader.opened(seq, &leaf).expect("opens").1.expect("present");
            let forged = canonical_value(&json!({"n": "everything is permitted"})).expect("canonical");
            let Salt(salt) = opened.salt;
            leaf.payload = Digest(Salt(salt).commit(Field::Payload, &forged));
            let clear =
                [&salt[..], &(opened.actor_json.len() as u32).to_be_bytes(), &opened.actor_json, &forged]
                    .concat();
            let sealed =
                sealer.seal_again(1 + (seq % 2) as i64, &clear, &leaf.event_id, &leaf.payload, &reader);
            db.execute("UPDATE payload SET sealed = ?1 WHERE seq = ?2", params![sealed, seq as i64])
                .expect("writes");
        }
        leaf.prev = Digest(prev);
        let bytes = leaf.to_bytes().expect("fits");
        prev = leaf::hash(&bytes);
        edge.push(prev);
        db.execute("UPDATE entry SET leaf = ?1 WHERE seq = ?2", params![bytes, seq as i64]).expect("writes");
    }
    for tile in edge.take_changes() {
        let id = schema::tile_id(tile.level, tile.index);
        db.execute("INSERT OR REPLACE INTO tile VALUES (?1, ?2)", params![id, tile.bytes]).expect("writes");
    }
    drop(db);
    let found = audit_of(dir.path());
    let classes: Vec<&str> = found.findings.iter().map(|f| f.class).collect();
    assert_eq!(classes, ["checkpoint"], "all but the signature fits: {:?}", found.findings);
    match open(dir.path()) {
        Err(StoreError::NotIntact(what)) => assert!(what.contains("not the one that was signed"), "{what}"),
        other => panic!("started from a forged ledger: {:?}", other.map(|s| s.size())),
    }
    // Signing it with a key of one's own does not help.
    let forger = almoner_ledger::LogKey::new("almoner.example/log", &[66; 32]).expect("a name");
    let note = Checkpoint { origin: forger.name().into(), size: 300, root: edge.root() }
        .sign(&forger)
        .expect("signs")
        .note;
    let db = Connection::open(&path).expect("opens");
    db.execute("UPDATE checkpoint SET note = ?1", [note]).expect("writes");
    drop(db);
    assert!(matches!(open(dir.path()), Err(StoreError::NotIntact(_))));
}

#[test]
fn nothing_said_about_a_person_lies_in_clear() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path()).expect("opens");
    let secret = json!({"remove": true, "reason": "Quixotic-Needle-4711"});
    store.append(vec![entry(1, "a.done", Some(77), secret)], &[]).expect("appends");
    drop(store);
    for file in std::fs::read_dir(dir.path()).expect("readable") {
        let bytes = std::fs::read(file.expect("readable").path()).expect("readable");
        assert!(!bytes.windows(20).any(|w| w == b"Quixotic-Needle-4711"));
    }
}

/// A store with more entries than stay unindexed, whose next move of them into the indexes fails.
fn failing_index(after: bool) -> (tempfile::TempDir, SqliteStore, Arc<Fault>) {
    let dir = tempfile::tempdir().expect("a folder");
    let fault = Arc::new(Fault {
        step: Step::Index,
        after,
        armed: AtomicUsize::new(1),
        from: dir.path().into(),
        to: Mutex::default(),
    });
    let mut given = options(dir.path(), Arc::new(ManualClock::at(noon())));
    given.faults = Some(fault.clone());
    let store = SqliteStore::open(given).expect("opens");
    for first in (0..60).step_by(3) {
        store.append(three(first), &[]).expect("acknowledged");
    }
    (dir, store, fault)
}

#[test]
fn a_fault_while_indexing_loses_nothing() {
    for after in [false, true] {
        let (dir, store, fault) = failing_index(after);
        let killed = fault.to.lock().expect("not poisoned").take().expect("struck");
        let restarted = open(killed.path()).expect("opens");
        assert_eq!(restarted.size(), 42, "the entry that filled the memory was durable before the fault");
        for (store, entries) in [(&restarted, 42), (&store, 60)] {
            assert_log_is_whole(store);
            let audit = store.audit().expect("readable");
            assert!(audit.intact, "{:?}", audit.findings);
            for n in 0..entries {
                let known = entry(n, "a.done", Some(1 + (n % 2) as i64), json!({"n": n}));
                assert_eq!(store.find_event(&known.event_id), Ok(Some(n)), "after: {after}");
                assert_eq!(store.append(vec![known], &[]).expect("known")[0].seq, n);
            }
            let topic = EntryFilter { topic: Some("subject:1".into()), ..EntryFilter::default() };
            let listed = store.entries(0, 100, &topic).expect("readable");
            assert_eq!(listed.len() as u64, entries / 2);
            assert!(listed.is_sorted_by_key(|e| e.seq));
        }
        drop(store);
        assert!(audit_of(dir.path()).intact);
    }
}

#[test]
fn who_only_reads_finds_what_is_not_yet_indexed() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path()).expect("opens");
    for first in (0..90).step_by(3) {
        store.append(three(first), &[]).expect("acknowledged");
    }
    let unindexed: i64 = Connection::open(dir.path().join("ledger.sqlite"))
        .and_then(|db| db.query_row("SELECT count(*) FROM unindexed", [], |row| row.get(0)))
        .expect("readable");
    assert!(unindexed > 0 && unindexed < 90, "some are in the indexes and some are not: {unindexed}");
    let reading = SqliteStore::open_read_only(options(dir.path(), Arc::new(ManualClock::at(noon()))));
    let reading = reading.expect("opens");
    for n in 0..90 {
        let known = entry(n, "a.done", Some(1 + (n % 2) as i64), json!({"n": n}));
        assert_eq!(reading.find_event(&known.event_id), Ok(Some(n)));
    }
    let topic = EntryFilter { topic: Some("subject:2".into()), ..EntryFilter::default() };
    let listed = reading.entries(0, 100, &topic).expect("readable");
    assert_eq!(
        listed.iter().map(|e| e.seq).collect::<Vec<_>>(),
        (0..90).filter(|n| n % 2 == 1).collect::<Vec<_>>()
    );
    let db = Connection::open(dir.path().join("ledger.sqlite")).expect("opens");
    flip(&db, "unindexed", "event_id", "seq = (SELECT max(seq) FROM unindexed)");
    assert_eq!(audit_of(dir.path()).findings[0].class, "event");
}

#[test]
fn an_entry_sealed_under_a_key_that_came_second_is_readable_like_any_other() {
    let dir = tempfile::tempdir().expect("a folder");
    let said = |n: u64| entry(n, "a.done", Some(1), json!({"n": n}));
    {
        let store = open(dir.path()).expect("opens");
        store.append(vec![said(0)], &[]).expect("appends");
        let entropy = almoner_model::SeededEntropy::new(5);
        for n in (1..7).step_by(3) {
            store.published.sealer.hold_another_key(1, &entropy);
            assert!(store.entry(0).expect("readable").is_some(), "what is stored opens under the stored key");
            for n in n..n + 3 {
                store.append(vec![said(n)], &[]).expect("appends");
                let read = store.entry(n).expect("opens").expect("stored");
                assert_eq!(read.payload.value(), Some(&json!({"n": n})));
            }
        }
    }
    let store = open(dir.path()).expect("opens");
    for n in 0..7 {
        let read = store.entry(n).expect("opens").expect("stored");
        assert_eq!(read.payload.value(), Some(&json!({"n": n})));
    }
    assert!(audit_of(dir.path()).intact);
}

fn open_anchored(dir: &Path, anchor: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(anchored(dir, anchor))
}

fn anchored(dir: &Path, anchor: &Path) -> super::Options {
    let given = options(dir, Arc::new(ManualClock::at(noon())));
    super::Options { anchor: Some(anchor.into()), ..given }
}

/// Lets an anchored store grow, and closes it. `words` tell one history from another.
fn grow_anchored(dir: &Path, anchor: &Path, to: u64, words: &str) {
    let store = open_anchored(dir, anchor).expect("opens");
    for n in store.size()..to {
        store
            .append(vec![entry(n, "a.done", Some(1), json!({"n": n, "words": words}))], &[])
            .expect("appends");
    }
}

#[test]
fn a_ledger_that_does_not_continue_what_was_published_is_refused_until_accepted() {
    let (dir, older, newer) = (tempfile::tempdir(), tempfile::tempdir(), tempfile::tempdir());
    let (dir, older, newer) = (dir.expect("made"), older.expect("made"), newer.expect("made"));
    let outside = tempfile::tempdir().expect("a folder");
    let anchor = outside.path().join("data.checkpoint");
    let refused = || {
        let before = std::fs::read(&anchor).expect("kept");
        let writing = open_anchored(dir.path(), &anchor).err();
        let reading = SqliteStore::open_read_only(anchored(dir.path(), &anchor)).err();
        assert_eq!(writing, reading);
        assert_eq!(std::fs::read(&anchor).expect("kept"), before);
        assert!(matches!(&writing, Some(StoreError::RolledBack(_))), "{writing:?}");
        writing.map(|e| e.to_string()).unwrap_or_default()
    };
    grow_anchored(dir.path(), &anchor, 300, "one");
    image(dir.path(), older.path());
    grow_anchored(dir.path(), &anchor, 600, "one");
    image(dir.path(), newer.path());
    image(older.path(), dir.path());
    assert!(refused().contains("300 entries, and 600"), "an older copy");

    let accepted = SqliteStore::accept_rollback(&anchored(dir.path(), &anchor)).expect("works");
    let accepted = accepted.expect("something to accept");
    assert_eq!((accepted.entries, accepted.published), (300, Some(600)));
    grow_anchored(dir.path(), &anchor, 500, "two");
    assert_eq!(SqliteStore::accept_rollback(&anchored(dir.path(), &anchor)), Ok(None));
    image(newer.path(), dir.path());
    assert!(refused().contains("first 500 entries"), "a longer copy with another history");

    let fresh = tempfile::tempdir().expect("a folder");
    let alone = outside.path().join("alone");
    grow_anchored(fresh.path(), &alone, 500, "three");
    image(fresh.path(), dir.path());
    assert!(refused().contains("first 500 entries"), "another history of the same length");
    std::fs::write(&anchor, "not a checkpoint").expect("written");
    assert!(refused().contains("not a checkpoint of this ledger"));
}

#[test]
fn what_is_published_is_kept_while_the_store_is_open_and_never_ahead_of_the_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let anchor = dir.path().join("data.checkpoint");
    let vkey = almoner_ledger::VerifierKey::parse(&log_key().vkey()).expect("vkey");
    let kept =
        || Checkpoint::open(&std::fs::read(&anchor).expect("kept"), &vkey).expect("signed").checkpoint.size;
    let store = open_anchored(dir.path(), &anchor).expect("opens");
    assert_eq!(kept(), 0);
    store.append(three(0), &[]).expect("appends");
    for _ in 0..200 {
        if kept() == 3 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(kept(), 3, "kept without being closed");
    store.append(three(3), &[]).expect("appends");
    let killed = tempfile::tempdir().expect("a folder");
    std::fs::copy(&anchor, killed.path().join("data.checkpoint")).expect("copies");
    image(dir.path(), killed.path());
    let restarted = open_anchored(killed.path(), &killed.path().join("data.checkpoint")).expect("opens");
    assert_eq!(restarted.size(), 6);
    drop(store);
    assert_eq!(kept(), 6, "kept when it is closed");
    assert!(!dir.path().join("data.checkpoint.new").exists());
    let nowhere = dir.path().join("missing/data.checkpoint");
    let refused = open_anchored(dir.path(), &nowhere).err().expect("refused");
    assert!(
        matches!(&refused, StoreError::Unavailable(what) if what.contains("ledger.checkpoint")),
        "{refused}"
    );
}
