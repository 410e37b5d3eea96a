//! Erasure in the database: all or nothing at any fault, and no byte left in the files.

use almoner_model::SubjectId;

use super::*;
use crate::store::{Destroy, Payload, ProjectedEntry, Rejection, Shared, View};

/// Keeps the last word of each person, and each word once.
struct Words;

impl Projector for Words {
    fn project(&self, entry: &ProjectedEntry<'_>, view: &dyn View) -> Result<Vec<Write>, Rejection> {
        let Some((subject, word)) = entry.subject.zip(entry.payload["word"].as_str()) else {
            return Ok(Vec::new());
        };
        let write =
            |kind: &str, key: String| Write { kind: kind.into(), key, value: Some(json!({"word": word})) };
        let mut writes = vec![write("last", subject.to_string())];
        if view.get("word", word).is_none() {
            writes.push(write("word", word.to_owned()));
        }
        Ok(writes)
    }
}

fn given(dir: &Path, faults: Option<Arc<dyn FaultHook>>) -> super::super::Options {
    let mut given = options(dir, Arc::new(ManualClock::at(noon())));
    (given.projector, given.faults) = (Arc::new(Words), faults);
    given
}

const ERASED: i64 = 6_054_091_277_218_901;

fn subject(id: i64) -> SubjectId {
    SubjectId::new(id).expect("in range")
}

fn said(n: u64, who: i64, word: &str) -> crate::store::NewEntry {
    entry(n, "a.said", Some(who), json!({"word": word}))
}

/// Two people: one says two words, of which the other says one too.
fn two(store: &SqliteStore) {
    let all = [(1, ERASED, "everyones"), (2, 7, "everyones"), (3, ERASED, "peculiar-word")];
    store.append(all.map(|(n, who, word)| said(n, who, word)).into(), &[]).expect("acknowledged");
    let primary = |value| Write { kind: "index".into(), key: ERASED.to_string(), value };
    store.put_primary(vec![primary(Some(json!("peculiar-index")))]).expect("written");
}

fn destroy() -> Destroy {
    let removed = |kind: &str, key: String| Write { kind: kind.into(), key, value: None };
    let shared = |word: &str| Shared { kind: "word".into(), key: word.into(), named_by: "last".into() };
    Destroy {
        entries: vec![0, 2],
        subjects: vec![subject(ERASED)],
        folded: vec![removed("last", ERASED.to_string())],
        shared: vec![shared("everyones"), shared("peculiar-word")],
        primary: vec![removed("index", ERASED.to_string())],
    }
}

fn erasure() -> crate::store::NewEntry {
    entry(9, "subject.erased", None, json!({"entries": [0, 2]}))
}

/// What the database holds of the person, as bytes: payloads, the wrapped key, id and words.
fn held(dir: &Path) -> Vec<Vec<u8>> {
    let db = Connection::open(dir.join("ledger.sqlite")).expect("opens");
    let mut needles: Vec<Vec<u8>> = Vec::new();
    for sql in [
        "SELECT sealed FROM payload WHERE subject = ?1",
        "SELECT wrapped FROM subject_key WHERE subject = ?1",
    ] {
        let mut rows = db.prepare(sql).expect("SQL");
        let rows = rows.query_map([ERASED], |row| row.get(0)).expect("reads");
        needles.extend(rows.collect::<Result<Vec<Vec<u8>>, _>>().expect("reads"));
    }
    assert_eq!(needles.len(), 3);
    needles.extend(["peculiar-word", "peculiar-index", &ERASED.to_string()].map(|w| w.as_bytes().to_vec()));
    needles.push(ERASED.to_be_bytes().to_vec());
    needles
}

fn found(dir: &Path, needles: &[Vec<u8>]) -> usize {
    let files = ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"].map(|name| dir.join(name));
    let all: Vec<Vec<u8>> = files.iter().filter_map(|file| std::fs::read(file).ok()).collect();
    needles.iter().filter(|n| all.iter().any(|bytes| bytes.windows(n.len()).any(|w| w == **n))).count()
}

fn audited(store: &SqliteStore, erased: u64) {
    assert_log_is_whole(store);
    let audit = store.audit().expect("readable");
    assert!(audit.intact && audit.erased == erased, "{audit:?}");
}

#[test]
fn no_byte_of_an_erased_person_is_left_in_the_files() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(given(dir.path(), None)).expect("opens");
    two(&store);
    // Many others, so that rows move between pages.
    for n in 0..2_000 {
        store.append(vec![said(100 + n, 10 + n as i64, &format!("word {n}"))], &[]).expect("acknowledged");
    }
    let needles = held(dir.path());
    assert_eq!(found(dir.path(), &needles), needles.len(), "the search finds what is there");
    let seq = store.erase(erasure(), destroy(), &[]).expect("erased").seq;
    audited(&store, 2);
    assert_eq!(store.erase(erasure(), destroy(), &[]).expect("the same act").seq, seq);
    let entry = store.entry(2).expect("reads").expect("there");
    assert!(matches!(entry.payload, Payload::Erased(Some(by)) if by == seq) && entry.subject.is_none());
    store.scrub().expect("scrubbed");
    assert_eq!(found(dir.path(), &needles), 0);
    assert_eq!(std::fs::metadata(dir.path().join("ledger.sqlite-wal")).map_or(0, |file| file.len()), 0);
    audited(&store, 2);
    assert_eq!(store.get("word", "everyones").expect("reads"), Some(json!({"word": "everyones"})));
    assert_eq!(store.get("word", "peculiar-word"), Ok(None));
    let late = store.append(vec![said(50, ERASED, "late")], &[]);
    assert!(matches!(late, Err(StoreError::Rejected(_))), "{late:?}");
    let twice = store.erase(entry_again(), destroy(), &[]);
    assert!(matches!(twice, Err(StoreError::Invalid(_))), "{twice:?}");
    store.append(vec![said(51, 7, "goes on")], &[]).expect("the others go on");
    audited(&store, 2);
}

fn entry_again() -> crate::store::NewEntry {
    entry(10, "subject.erased", None, json!({"entries": [0, 2]}))
}

#[test]
fn an_erasure_is_all_or_nothing_at_any_fault() {
    for step in Step::ALL.into_iter().chain([Step::Destroy]) {
        for after in [false, true] {
            let dir = tempfile::tempdir().expect("a folder");
            let (armed, to) = (AtomicUsize::new(0), Mutex::default());
            let fault = Arc::new(Fault { step, after, armed, from: dir.path().into(), to });
            let store = SqliteStore::open(given(dir.path(), Some(fault.clone()))).expect("opens");
            two(&store);
            fault.armed.store(1, Ordering::SeqCst);
            assert!(store.erase(erasure(), destroy(), &[]).is_err(), "{step:?} {after}");
            let killed = fault.to.lock().expect("not poisoned").take().expect("struck");
            let restarted = SqliteStore::open(given(killed.path(), None)).expect("opens");
            let done = step == Step::Publish || (step == Step::Commit && after);
            for store in [&restarted, &store] {
                audited(store, if done { 2 } else { 0 });
                assert_eq!(store.size(), if done { 4 } else { 3 }, "{step:?} {after}");
                store.erase(erasure(), destroy(), &[]).expect("the same act can be repeated");
                audited(store, 2);
                store.append(vec![said(60, 7, "goes on")], &[]).expect("the others go on");
            }
        }
    }
}

/// A disk that fails to make what is written anew durable.
struct BadScrub;

impl FaultHook for BadScrub {
    fn before(&self, _: Step) -> Result<(), StoreError> {
        Ok(())
    }
    fn after(&self, step: Step) -> Result<(), StoreError> {
        if step == Step::Scrub { Err(StoreError::NotDurable("fsync failed".into())) } else { Ok(()) }
    }
}

#[test]
fn after_a_failed_sync_of_what_was_written_anew_nothing_more_is_accepted() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(given(dir.path(), Some(Arc::new(BadScrub)))).expect("opens");
    two(&store);
    store.erase(erasure(), destroy(), &[]).expect("erased");
    assert!(matches!(store.scrub(), Err(StoreError::NotDurable(_))));
    let late = store.append(vec![said(60, 7, "late")], &[]);
    assert!(matches!(late, Err(StoreError::NotDurable(_))), "{late:?}");
    assert!(matches!(store.accepting(), Err(StoreError::NotDurable(_))));
}

#[test]
fn a_scrub_that_a_reader_of_an_older_state_hinders_fails_and_is_repeated() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(given(dir.path(), None)).expect("opens");
    two(&store);
    let reader = Connection::open(dir.path().join("ledger.sqlite")).expect("opens");
    reader.execute_batch("BEGIN; SELECT count(*) FROM entry").expect("reads");
    store.erase(erasure(), destroy(), &[]).expect("erased");
    assert!(matches!(store.scrub(), Err(StoreError::Unavailable(_))));
    assert_eq!(store.accepting(), Ok(()), "the disk is well");
    store.append(vec![said(61, 7, "goes on")], &[]).expect("the others go on");
    reader.execute_batch("COMMIT").expect("ends");
    store.scrub().expect("scrubbed");
    audited(&store, 2);
}

#[test]
fn a_payload_that_went_without_an_erasure_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(given(dir.path(), None)).expect("opens");
    two(&store);
    drop(store);
    let db = Connection::open(dir.path().join("ledger.sqlite")).expect("opens");
    db.execute("UPDATE payload SET subject = 0, sealed = NULL WHERE seq = 1", []).expect("tampered");
    drop(db);
    let store = SqliteStore::open(given(dir.path(), None)).expect("opens");
    let audit = store.audit().expect("readable");
    assert!(!audit.intact && audit.findings.iter().any(|f| f.class == "payload"), "{audit:?}");
}
