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

#[test]
fn a_copy_that_was_cut_short_just_before_its_checkpoint_is_whole_as_it_was() {
    let (folder, real) = (tempfile::tempdir().expect("a folder"), log(1));
    let (mirror, copy) = (open(&folder, &real), folder.path().join("m"));
    mirror.sync(real.grow(300, "real"), None).expect("copied");
    let before = fs::read(copy.join("checkpoint")).expect("there");
    real.grow(1500, "real");
    // Everything is in its place but the checkpoint.
    fs::create_dir(copy.join("checkpoint.new")).expect("in the way");
    assert!(matches!(mirror.sync(&real, None), Err(MirrorError::File { .. })));
    intact(&folder, &real, 300);
    let served = |path: &str| mirror.published(path).expect("readable").expect(path).bytes;
    let first = |log: &Log| {
        let leaves = log.0.leaves(256..300).expect("there");
        almoner_ledger::tile::bundle(&leaves)
    };
    assert_eq!(served("tile/entries/001.p/44"), first(&real));
    fs::remove_dir(copy.join("checkpoint.new")).expect("out of the way");
    assert_eq!(mirror.sync(&real, None).expect("goes on").new, 1200);
    intact(&folder, &real, 1500);

    // A copy that once lost its partial tiles so is whole too: they are in the full ones.
    fs::write(copy.join("checkpoint"), before).expect("writes");
    assert!(!copy.join("tile/entries/001.p").exists());
    intact(&folder, &real, 300);
    assert_eq!(served("tile/entries/001.p/44"), first(&real));
    assert_eq!(mirror.sync(&real, None).expect("goes on").new, 1200);
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
    // What has no quorum is signed all the same.
    let forked = log(1);
    forked.grow(260, "real").grow(650, "another");
    assert!(matches!(mirror.sync(&forked, Some(&policy)), Err(MirrorError::Quorum(_))));
    assert!(matches!(mirror.sync(&real, None), Err(MirrorError::Forked { .. })));
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

/// Shows the checkpoint of one log and the files of another, or none.
struct Mixed<'a>(&'a Log, Option<&'a Log>);

impl Source for Mixed<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        match (path, self.1) {
            ("checkpoint", _) => self.0.read(path),
            (_, Some(other)) => other.read(path),
            (_, None) => Err(SourceError::Unreadable { path: path.into(), reason: "cut".into() }),
        }
    }
}

#[test]
fn what_the_log_signed_and_did_not_bear_out_is_proven_later_or_settled() {
    for files in [false, true] {
        let (folder, real, forked) = (tempfile::tempdir().expect("a folder"), log(1), log(1));
        real.grow(300, "real");
        forked.grow(260, "real").grow(320, "another");
        let mirror = open(&folder, &real);
        mirror.sync(&real, None).expect("copied");
        // A fork whose entries are not shown, and a log that is away for a while.
        let hidden =
            mirror.sync(&Mixed(&forked, files.then_some(&real)), None).expect_err("nothing can be copied");
        assert!(matches!(hidden, MirrorError::Source(_) | MirrorError::Broken(_)), "{hidden}");
        real.grow(310, "real");
        mirror.sync(&Mixed(&real, None), None).expect_err("away");
        assert_eq!(mirror.sync(&real, None).expect("back").forks, 0);
        assert_eq!(mirror.names(UNSETTLED).expect("listed").len(), 1, "the longer one waits");
        real.grow(400, "real");
        let Err(MirrorError::Forked { evidence }) = mirror.sync(&real, None) else { panic!("not noticed") };
        let fork = Fork::parse(&fs::read(evidence).expect("kept")).expect("evidence");
        let (first, second) = fork.check(&real.key()).expect("proven to anybody");
        assert_eq!((first.size, second.size), (320, 400));
        intact(&folder, &real, 400);
        assert_eq!(mirror.sync(&real, None).expect("nothing new").forks, 1, "that is not forgotten");
        assert!(mirror.names(UNSETTLED).expect("listed").is_empty());
    }
}

#[test]
fn cosignatures_that_the_copy_has_are_not_taken_back() {
    use almoner_ledger::cosignature::{WitnessKey, attach};
    let (folder, real) = (tempfile::tempdir().expect("a folder"), log(1));
    real.grow(3, "real");
    let mirror = open(&folder, &real);
    mirror.sync(&real, None).expect("copied");
    let signed = mirror.checkpoint().expect("reads").expect("there");
    let witness = WitnessKey::new("w.example", &[1; 32]).expect("a name");
    let line = witness.cosign(&signed.checkpoint.text(), 7).line;
    let cosigned = attach(&signed.note, [line.as_str()]).expect("a note");
    struct Noted<'a>(&'a Log, &'a [u8]);
    impl Source for Noted<'_> {
        fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
            if path == "checkpoint" { Ok(self.1.to_vec()) } else { self.0.read(path) }
        }
    }
    let note = || mirror.checkpoint().expect("reads").expect("there").note;
    mirror.sync(&Noted(&real, &cosigned), None).expect("cosignatures came");
    assert_eq!(note(), cosigned);
    mirror.sync(&real, None).expect("nothing new");
    assert_eq!(note(), cosigned, "what came stays");
}
