//! The witness against real stores: it answers as the specification says, remembers across restarts, and no race rolls a
//! log back.

use almoner_ledger::fork::Fork;
use almoner_ledger::witness::Request;
use almoner_ledger::{LogKey, SignedCheckpoint, VerifierKey};
use almoner_model::{ManualClock, SeededEntropy};
use serde_json::json;

use super::*;
use crate::flows::checkpoint::consistency_between;
use crate::store::conformance::entry as numbered;
use crate::store::memory::MemoryStore;
use crate::store::{NoProjections, Store};

/// A log and every checkpoint that it signed, by size.
struct Log {
    store: MemoryStore,
    notes: Vec<SignedCheckpoint>,
}

fn log(seed: u64) -> Log {
    let key = LogKey::new("almoner.example/log", &[5; 32]).expect("a name");
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
    let store = MemoryStore::new(key, clock, Arc::new(SeededEntropy::new(seed)), Arc::new(NoProjections));
    let store = store.expect("opens");
    let notes = vec![store.checkpoint()];
    Log { store, notes }
}

impl Log {
    fn grow(&mut self, to: usize, what: &str) {
        for n in self.notes.len()..=to {
            let entry = numbered(n as u64, "a.done", None, json!({"n": n, "what": what}));
            self.store.append(vec![entry], &[]).expect("appends");
            self.notes.push(self.store.checkpoint());
        }
    }

    fn request(&self, old: usize, size: usize) -> Vec<u8> {
        let (old, new) = (old as u64, size as u64);
        let proof = if old == 0 || old >= new {
            vec![]
        } else {
            consistency_between(&self.store, old, new).expect("proves")
        };
        Request { old, proof, note: self.notes[size].note.clone() }.to_bytes()
    }

    fn logs(&self) -> Logs {
        Logs::new([VerifierKey::parse(&self.store.vkey()).expect("a key")])
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)))
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    Witness::init(&folder.path().join("w"), "witness.example/w", &SeededEntropy::new(1)).expect("made");
    folder
}

fn open(folder: &tempfile::TempDir, log: &Log) -> Witness {
    Witness::open(&folder.path().join("w"), log.logs(), clock()).expect("opens")
}

#[test]
fn it_cosigns_what_grows_and_remembers_it() {
    let (folder, mut real) = (folder(), log(1));
    real.grow(9, "real");
    let witness = open(&folder, &real);
    let vkey = witness.vkey().to_owned();
    let key = almoner_ledger::cosignature::WitnessVerifierKey::parse(&vkey).expect("a key");
    for (old, size) in [(0, 4), (4, 7), (7, 7)] {
        let answer = witness.add_checkpoint(&real.request(old, size));
        assert_eq!(answer.status, 200, "{answer:?}");
        let (text, _) = split(&real.notes[size].note).expect("a note");
        let cosignature = key.find(text, &answer.body).expect("fits").expect("there");
        assert_eq!(cosignature.time, 1_700_000_000);
    }
    let stale = witness.add_checkpoint(&real.request(4, 9));
    let expected = Answer { status: 409, media_type: "text/x.tlog.size", body: "7\n".into() };
    assert_eq!(stale, expected);
    assert!(matches!(
        Witness::open(&folder.path().join("w"), real.logs(), clock()),
        Err(WitnessError::Owned(_))
    ));
    drop(witness);
    let witness = open(&folder, &real);
    assert_eq!(witness.add_checkpoint(&real.request(0, 9)), expected);
    assert_eq!(witness.add_checkpoint(&real.request(7, 9)).status, 200);
    let name = log_name("almoner.example/log");
    let served = witness.cosigned(&name).expect("cosigned");
    let log_key = VerifierKey::parse(&real.store.vkey()).expect("a key");
    assert_eq!(Checkpoint::open(&served, &log_key).expect("opens").checkpoint.size, 9);
    assert!(
        key.find(split(&served).expect("a note").0, split(&served).expect("a note").1)
            .expect("fits")
            .is_some()
    );
    assert_eq!(witness.cosigned("0"), None);
    let status = witness.status().remove(0);
    assert_eq!((status.size, status.forks, status.suspicions), (Some(9), 0, 0));
}

#[test]
fn a_fork_and_a_rollback_are_refused_and_kept() {
    let (folder, mut real) = (folder(), log(1));
    real.grow(7, "real");
    let witness = open(&folder, &real);
    assert_eq!(witness.add_checkpoint(&real.request(0, 7)).status, 200);
    // The same key on an older copy of the database, which then went another way.
    let mut forked = log(1);
    forked.grow(4, "real");
    forked.grow(9, "another");
    assert_eq!(forked.notes[4].checkpoint, real.notes[4].checkpoint);
    let rolled_back = witness.add_checkpoint(&forked.request(4, 5));
    assert_eq!((rolled_back.status, rolled_back.body.as_str()), (409, "7\n"));
    let same_size = witness.add_checkpoint(&forked.request(7, 7));
    assert_eq!((same_size.status, same_size.body.as_str()), (409, "7\n"));
    assert_eq!(witness.add_checkpoint(&forked.request(7, 9)).status, 422);
    assert_eq!(witness.add_checkpoint(&forked.request(7, 9)).status, 422, "kept once");
    let key = VerifierKey::parse(&real.store.vkey()).expect("a key");
    let mut shown = BTreeMap::new();
    for file in fs::read_dir(folder.path().join("w/evidence")).expect("a folder") {
        let path = file.expect("a file").path();
        let fork = Fork::parse(&fs::read(&path).expect("readable")).expect("evidence");
        shown.insert(fork.note.clone(), fork.check(&key).map(|(a, b)| (a.size, b.size)));
    }
    assert_eq!(shown.remove("two roots of one size"), Some(Ok((7, 7))));
    assert_eq!(shown.remove("another beginning"), Some(Ok((7, 9))));
    assert!(shown.remove("fewer entries than cosigned").is_some_and(|s| s.is_err()));
    assert!(shown.is_empty(), "{shown:?}");
    drop(witness);
    let status = open(&folder, &real).status().remove(0);
    assert_eq!((status.size, status.forks, status.suspicions), (Some(7), 2, 1));
}

#[test]
fn a_thousand_races_roll_nothing_back() {
    const RACES: usize = 1000;
    const RACERS: usize = 4;
    let (folder, mut real) = (folder(), log(1));
    real.grow(RACES * RACERS, "real");
    let witness = open(&folder, &real);
    let mut at = 0;
    for race in 0..RACES {
        // Whoever came first decided where the last race ended; all racers begin at the same size and go to their own.
        let from = race * RACERS;
        if at != from {
            assert_eq!(witness.add_checkpoint(&real.request(at, from)).status, 200);
        }
        let bodies: Vec<Vec<u8>> = (1..=RACERS).map(|n| real.request(from, from + n)).collect();
        let witness = &witness;
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let racers: Vec<_> =
                bodies.iter().map(|body| scope.spawn(move || witness.add_checkpoint(body))).collect();
            racers.into_iter().map(|racer| racer.join().expect("no panic")).collect()
        });
        let winners: Vec<usize> = (0..RACERS).filter(|n| answers[*n].status == 200).collect();
        assert_eq!(winners.len(), 1, "race {race}: {answers:?}");
        at = from + winners[0] + 1;
        let lost = Answer { status: 409, media_type: "text/x.tlog.size", body: format!("{at}\n") };
        assert_eq!(answers.iter().filter(|a| **a == lost).count(), RACERS - 1, "race {race}: {answers:?}");
    }
    assert_eq!(witness.status()[0].size, Some(at as u64));
    drop(witness);
    assert_eq!(open(&folder, &real).status()[0].size, Some(at as u64), "what was answered is what is kept");
}

#[test]
fn what_cannot_be_made_durable_is_not_cosigned() {
    let (folder, mut real) = (folder(), log(1));
    real.grow(5, "real");
    let witness = open(&folder, &real);
    assert_eq!(witness.add_checkpoint(&real.request(0, 3)).status, 200);
    let logs = folder.path().join("w/logs");
    fs::rename(&logs, folder.path().join("aside")).expect("moved");
    assert_eq!(witness.add_checkpoint(&real.request(3, 5)).status, 503);
    fs::rename(folder.path().join("aside"), &logs).expect("moved back");
    assert_eq!(witness.add_checkpoint(&real.request(3, 5)).status, 503, "until it is started again");
    assert!(!witness.healthy());
    drop(witness);
    let witness = open(&folder, &real);
    assert_eq!(witness.add_checkpoint(&real.request(3, 5)).status, 200);
}

#[test]
fn a_clock_that_went_back_stops_it_and_a_lost_record_ends_it() {
    let (folder, mut real) = (folder(), log(1));
    real.grow(5, "real");
    let path = folder.path().join("w");
    let time = clock();
    let witness = Witness::open(&path, real.logs(), time.clone()).expect("opens");
    assert_eq!(witness.add_checkpoint(&real.request(0, 3)).status, 200);
    time.advance_millis(-2000);
    assert_eq!(witness.add_checkpoint(&real.request(3, 5)).status, 503);
    time.advance_millis(2000);
    assert_eq!(witness.add_checkpoint(&real.request(3, 5)).status, 200);
    drop(witness);
    let record = log_path(&path, "almoner.example/log");
    let good = fs::read(&record).expect("readable");
    fs::write(&record, &real.notes[5].note).expect("written");
    let opened = Witness::open(&path, real.logs(), clock());
    assert!(matches!(opened, Err(WitnessError::Lost(_))), "not cosigned by this witness");
    fs::write(&record, good).expect("written");
    open(&folder, &real);
    fs::rename(path.join("logs"), path.join("gone")).expect("moved");
    assert!(matches!(Witness::open(&path, real.logs(), clock()), Err(WitnessError::Lost(_))));
    assert!(matches!(Witness::open(&path, Logs::default(), clock()), Err(WitnessError::NoLog)));
    assert!(matches!(
        Witness::init(&path, "witness.example/w", &SeededEntropy::new(2)),
        Err(WitnessError::Exists { .. })
    ));
    let elsewhere = Witness::init(folder.path(), "witness.example/w", &SeededEntropy::new(2));
    assert!(matches!(elsewhere, Err(WitnessError::Elsewhere(_))));
}
