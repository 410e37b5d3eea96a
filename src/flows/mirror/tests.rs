//! A mirror of logs that grow, stop half way, are damaged, and fork.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use almoner_ledger::LogKey;
use almoner_ledger::audit::audit;
use almoner_model::{ManualClock, SeededEntropy, Timestamp};
use serde_json::json;

use super::*;
use crate::flows::checkpoint::published;
use crate::store::conformance::entry as numbered;
use crate::store::memory::MemoryStore;
use crate::store::{NoProjections, Store};

/// A log as its server shows it.
struct Log(MemoryStore);

fn log(seed: u64) -> Log {
    let key = LogKey::new("almoner.example/log", &[5; 32]).expect("a name");
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
    let store = MemoryStore::new(key, clock, Arc::new(SeededEntropy::new(seed)), Arc::new(NoProjections));
    Log(store.expect("opens"))
}

impl Log {
    fn grow(&self, to: u64, what: &str) -> &Self {
        let entry = |n| numbered(n, "a.done", None, json!({"n": n, "what": what}));
        for n in self.0.size()..to {
            self.0.append(vec![entry(n)], &[]).expect("appends");
        }
        self
    }

    fn key(&self) -> VerifierKey {
        VerifierKey::parse(&self.0.vkey()).expect("a key")
    }
}

impl Source for Log {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        let file = published(&self.0, path).expect("readable");
        Ok(file.ok_or_else(|| SourceError::Missing(path.into()))?.bytes)
    }
}

fn open(folder: &tempfile::TempDir, log: &Log) -> Mirror {
    Mirror::open(&folder.path().join("m"), Some(log.key())).expect("opens")
}

fn intact(folder: &tempfile::TempDir, log: &Log, size: u64) {
    let found = audit(&Folder(folder.path().join("m")), &log.key(), None, 2);
    assert!(found.intact && found.size == size, "{:?}", found.findings);
}

#[test]
fn a_copy_grows_with_its_log_and_is_served_byte_for_byte() {
    let (folder, real) = (tempfile::tempdir().expect("a folder"), log(1));
    let mirror = open(&folder, &real);
    assert!(mirror.published("checkpoint").expect("readable").is_none());
    let mut before = 0;
    for size in [0, 1, 255, 256, 257, 700, 1030] {
        real.grow(size, "real");
        let done = mirror.sync(&real, None).expect("copied");
        assert_eq!((done.entries, done.new), (size, size - before), "{size}");
        assert_eq!(mirror.sync(&real, None).expect("nothing new").new, 0);
        intact(&folder, &real, size);
        before = size;
    }
    assert!(!folder.path().join("m/.incoming").exists());
    assert!(!folder.path().join("m/tile/0/000.p").exists(), "in the full tile");
    for path in [
        "checkpoint",
        "vkey",
        "tile/0/000",
        "tile/0/004.p/6",
        "tile/0/004.p/2",
        "tile/1/000.p/4",
        "tile/entries/001",
        "tile/entries/002.p/9",
        "tile/entries/004.p/1",
    ] {
        let ours = mirror.published(path).expect("readable").expect(path);
        assert_eq!(ours.bytes, real.read(path).expect("there"), "{path}");
    }
    for absent in ["tile/0/005", "tile/0/004", "../m/vkey", ".lock", "evidence/x", ""] {
        assert!(mirror.published(absent).expect("readable").is_none(), "{absent}");
    }
    assert!(matches!(Mirror::open(&folder.path().join("m"), None), Err(MirrorError::Owned(_))));
    let other = LogKey::new("almoner.example/log", &[6; 32]).expect("a name");
    let other = VerifierKey::parse(&other.vkey()).expect("a key");
    assert!(matches!(Mirror::open(&folder.path().join("m"), Some(other)), Err(MirrorError::OtherLog(_))));
    assert!(matches!(Mirror::open(folder.path(), Some(real.key())), Err(MirrorError::Elsewhere(_))));
}

/// Shows a log and breaks off after so many bundles of entries.
struct Cut<'a>(&'a Log, AtomicUsize);

impl Source for Cut<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        if !path.starts_with("tile/entries") {
            return self.0.read(path);
        }
        let left = self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        match left {
            Ok(_) => self.0.read(path),
            Err(_) => Err(SourceError::Unreadable { path: path.into(), reason: "cut".into() }),
        }
    }
}

#[test]
fn a_copy_that_was_cut_short_goes_on_and_shows_nothing_before() {
    let (folder, real) = (tempfile::tempdir().expect("a folder"), log(1));
    real.grow(300, "real");
    open(&folder, &real).sync(&real, None).expect("copied");
    real.grow(1500, "real");
    let mirror = open(&folder, &real);
    let mut tries = 0;
    loop {
        // Each try gets two of the five bundles: what arrived is not asked for again.
        tries += 1;
        match mirror.sync(&Cut(&real, AtomicUsize::new(2)), None) {
            Ok(done) => {
                assert_eq!(done.new, 1200);
                break;
            }
            Err(MirrorError::Source(_)) => intact(&folder, &real, 300),
            Err(e) => panic!("{e}"),
        }
    }
    assert_eq!(tries, 3);
    intact(&folder, &real, 1500);
}

/// Shows a log, with one file changed.
struct Changed<'a>(&'a Log, &'static str);

impl Source for Changed<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        let mut bytes = self.0.read(path)?;
        if path == self.1 {
            let last = bytes.len() - 3;
            bytes[last] ^= 1;
        }
        Ok(bytes)
    }
}

#[test]
fn what_does_not_give_the_signed_root_is_not_taken() {
    let (folder, real) = (tempfile::tempdir().expect("a folder"), log(1));
    real.grow(300, "real");
    let mirror = open(&folder, &real);
    mirror.sync(&real, None).expect("copied");
    real.grow(700, "real");
    for path in ["tile/entries/001", "tile/entries/002.p/188", "tile/0/001", "checkpoint"] {
        let refused = mirror.sync(&Changed(&real, path), None).expect_err(path);
        assert!(matches!(refused, MirrorError::Broken(_) | MirrorError::Checkpoint(_)), "{path}: {refused}");
        intact(&folder, &real, 300);
    }
    let policy = Policy::parse(b"quorum none\n").expect("a policy");
    assert_eq!(mirror.sync(&real, Some(&policy)).expect("copied").entries, 700);
    let witness = almoner_ledger::cosignature::WitnessKey::new("w.example", &[1; 32]).expect("a name");
    let policy = format!("witness w {}\nquorum w\n", witness.public().line());
    let policy = Policy::parse(policy.as_bytes()).expect("a policy");
    assert!(matches!(mirror.sync(&real, Some(&policy)), Err(MirrorError::Quorum(_))));
}

#[test]
fn a_log_that_forked_is_proven_at_every_pair_of_sizes() {
    let (real, same) = (log(1), 260);
    real.grow(700, "real");
    for (have, shown, forks) in [
        (700, 100, false),
        (700, 256, false),
        (700, 300, true),
        (700, 512, true),
        (700, 700, true),
        (700, 900, true),
        (512, 900, true),
        (300, 301, true),
        (256, 900, false),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let (copied, forked) = (log(1), log(1));
        copied.grow(same, "real").grow(have, "real");
        forked.grow(same.min(shown), "real").grow(shown, "another");
        let mirror = open(&folder, &copied);
        mirror.sync(&copied, None).expect("copied");
        let result = mirror.sync(&forked, None);
        if !forks {
            let done = result.expect("the same history");
            assert_eq!((done.entries, done.shown), (have.max(shown), shown));
            continue;
        }
        let Err(MirrorError::Forked { evidence }) = result else { panic!("{have} {shown}: {result:?}") };
        let fork = Fork::parse(&fs::read(evidence).expect("kept")).expect("evidence");
        let (first, second) = fork.check(&real.key()).expect("proven to anybody");
        assert_eq!((first.size, second.size), (have.min(shown), have.max(shown)));
        intact(&folder, &copied, have);
    }
}
