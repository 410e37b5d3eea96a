//! Collecting against real witnesses in this process, and against scripted answers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use almoner_ledger::cosignature::{WitnessKey, WitnessVerifierKey, split};
use almoner_ledger::receipt::Receipt;
use almoner_ledger::witness::Logs;
use almoner_ledger::{LogKey, tree::EMPTY_ROOT};
use almoner_model::{ManualClock, SeededEntropy};

use super::exchange::Reply;
use super::*;
use crate::flows::witness::Witness;
use crate::store::NoProjections;
use crate::store::conformance::entry as numbered;
use crate::store::memory::MemoryStore;

const NOW: i64 = 1_700_000_000_000;

fn store(seed: u64) -> Arc<dyn Store> {
    let key = LogKey::new("almoner.example/log", &[5; 32]).expect("a name");
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(NOW)));
    let entropy = Arc::new(SeededEntropy::new(seed));
    Arc::new(MemoryStore::new(key, clock, entropy, Arc::new(NoProjections)).expect("opens"))
}

fn grow(store: &dyn Store, to: u64) {
    for n in store.size()..to {
        let entry = numbered(n, "a.done", None, json!({"n": n}));
        store.append(vec![entry], &[]).expect("appends");
    }
}

/// Three witnesses in this process.
struct Three {
    _folder: tempfile::TempDir,
    witnesses: Vec<Arc<Witness>>,
    /// Which of them do not answer.
    down: [Arc<AtomicBool>; 3],
}

/// A way to one of them.
struct Way(Arc<Witness>, Arc<AtomicBool>);

impl Endpoint for Way {
    fn add_checkpoint(&self, body: &[u8]) -> Result<Reply, String> {
        if self.1.load(Ordering::SeqCst) {
            return Err("it is down".into());
        }
        let answer = self.0.add_checkpoint(body);
        let media_type = answer.media_type.split(';').next().unwrap_or_default().to_owned();
        Ok(Reply { status: answer.status, media_type, body: answer.body.into_bytes() })
    }
}

fn three(store: &dyn Store) -> Three {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(NOW)));
    let witnesses = (0..3).map(|n| {
        let path = folder.path().join(n.to_string());
        Witness::init(&path, &format!("w{n}.example"), &SeededEntropy::new(n)).expect("made");
        let logs = Logs::new([VerifierKey::parse(&store.vkey()).expect("a key")]);
        Arc::new(Witness::open(&path, logs, clock.clone()).expect("opens"))
    });
    let witnesses = witnesses.collect();
    Three { _folder: folder, witnesses, down: Default::default() }
}

impl Three {
    fn policy(&self) -> Policy {
        let mut text = String::new();
        for (n, witness) in self.witnesses.iter().enumerate() {
            text += &format!("witness w{n} {} http://w{n}.example/\n", witness.vkey());
        }
        Policy::parse((text + "group two 2 w0 w1 w2\nquorum two\n").as_bytes()).expect("a policy")
    }

    fn start(&self, store: &Arc<dyn Store>) -> Cosigner {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(NOW)));
        let way = |(witness, down): (&Arc<Witness>, &Arc<AtomicBool>)| -> Option<Box<dyn Endpoint>> {
            Some(Box::new(Way(witness.clone(), down.clone())))
        };
        let ways = self.witnesses.iter().zip(&self.down).map(way).collect();
        let quick = Duration::from_millis(5);
        let timing = Timing { look: quick, round_min: quick, retry: (quick, quick * 4), ..Timing::default() };
        Cosigner::start(store.clone(), clock, self.policy(), ways, timing).expect("starts")
    }

    fn set_down(&self, down: [bool; 3]) {
        for (switch, down) in self.down.iter().zip(down) {
            switch.store(down, Ordering::SeqCst);
        }
    }
}

/// Waits for a condition; fails where it does not come.
fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..4000 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("never came: {what}");
}

#[test]
fn a_quorum_is_collected_kept_and_lost() {
    let store = store(1);
    let three = three(&*store);
    let policy = three.policy();
    let standing = |note: &[u8]| policy.standing(note).expect("a note");
    let receipt_of = |seq| Receipt::parse(&receipt(&*store, seq).expect("made")).expect("reads");
    grow(&*store, 3);
    let cosigner = three.start(&store);
    until("the quorum", || cosigner.status().quorum.is_some_and(|(size, _)| size == 3));
    let shown = cosigner.shown();
    assert!(shown.checkpoint.size == 3 && standing(&shown.note).reached);
    until("it is kept", || standing(&receipt_of(2).checkpoint).reached);
    until("all three", || cosigner.status().witnesses.iter().all(|w| w.size == Some(3)));
    assert!(cosigner.status().alarms.is_empty());
    // Two do not answer: the log goes on, without its quorum.
    three.set_down([false, true, true]);
    grow(&*store, 5);
    until("the one that is left", || cosigner.status().witnesses[0].size == Some(5));
    until("it is kept", || standing(&receipt_of(4).checkpoint).cosignatures[0].is_some());
    until("what is new is shown", || cosigner.shown().checkpoint.size == 5);
    let receipt = receipt_of(4);
    let said = standing(&receipt.checkpoint).to_string();
    assert_eq!(said, "quorum NOT reached: 1 of 3 of two, 2 needed; cosigned: w0; not: w1, w2");
    assert!(
        receipt
            .check(&store.leaves(4..5).expect("there")[0], &VerifierKey::parse(&store.vkey()).expect("a key"))
            .is_ok()
    );
    assert!(standing(&receipt_of(2).checkpoint).reached, "an older entry keeps its quorum");
    until("they are known to be silent", || {
        cosigner.status().witnesses[1..].iter().all(|w| w.state == "unreachable")
    });
    drop(cosigner);
    // Started again, what was collected is there at once; and they come back.
    let cosigner = three.start(&store);
    assert!(standing(&receipt_of(2).checkpoint).reached && cosigner.status().quorum.is_some());
    three.set_down([false; 3]);
    until("the quorum is back", || cosigner.status().quorum.is_some_and(|(size, _)| size == 5));
    assert!(standing(&cosigner.shown().note).reached);
    until("it is kept", || standing(&newest(&*store).expect("read").note).reached);
    assert!(standing(&receipt_of(4).checkpoint).reached);
}

#[test]
fn a_witness_that_hangs_holds_nobody_up() {
    struct Hangs(crossbeam_channel::Receiver<()>);
    impl Endpoint for Hangs {
        fn add_checkpoint(&self, _: &[u8]) -> Result<Reply, String> {
            let _ = self.0.recv();
            Err("it hung".into())
        }
    }
    let store = store(1);
    let three = three(&*store);
    let (release, hung) = crossbeam_channel::bounded::<()>(0);
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(NOW)));
    let mut ways: Vec<Option<Box<dyn Endpoint>>> = Vec::new();
    for (witness, down) in three.witnesses.iter().zip(&three.down).take(2) {
        ways.push(Some(Box::new(Way(witness.clone(), down.clone()))));
    }
    ways.push(Some(Box::new(Hangs(hung))));
    let timing = Timing { round_min: Duration::from_millis(5), ..Timing::default() };
    let cosigner = Cosigner::start(store.clone(), clock, three.policy(), ways, timing).expect("starts");
    for size in [1, 2, 40] {
        grow(&*store, size);
        until("the quorum of the others", || cosigner.status().quorum.is_some_and(|(has, _)| has == size));
    }
    assert_eq!(cosigner.status().witnesses[2].size, None);
    drop(release);
}

#[test]
fn a_log_that_went_back_is_told_so() {
    let (real, other) = (store(1), store(2));
    let three = three(&*real);
    grow(&*real, 7);
    let cosigner = three.start(&real);
    until("the quorum", || cosigner.status().witnesses.iter().all(|w| w.size == Some(7)));
    drop(cosigner);
    // Another database under the same key: first with fewer entries, then as many, then more.
    grow(&*other, 4);
    let cosigner = three.start(&other);
    let refused = |words: &str| {
        let status = cosigner.status();
        status.quorum.is_none()
            && status.witnesses.iter().all(|w| w.state == "refusing" && w.size.is_none())
            && status.alarms.iter().filter(|alarm| alarm.contains(words)).count() == 3
    };
    until("rolled back", || refused("it cosigned 7 entries, and this log has fewer"));
    grow(&*other, 7);
    until("forked", || refused("it cosigned 7 entries with another root"));
    grow(&*other, 9);
    until("forked, and grown", || refused("it answered 422"));
    assert!(three.witnesses.iter().all(|w| w.status()[0].forks >= 1), "each has evidence");
    assert_eq!(cosigner.shown().checkpoint.size, 9);
}

/// Gives prepared answers, and keeps what it was sent.
struct Scripted(Mutex<(VecDeque<Answer>, Vec<String>)>);

type Answer = Result<Reply, String>;

impl Endpoint for Scripted {
    fn add_checkpoint(&self, body: &[u8]) -> Result<Reply, String> {
        let mut inner = self.0.lock().expect("not poisoned");
        inner.1.push(String::from_utf8_lossy(body).lines().next().unwrap_or_default().to_owned());
        inner.0.pop_front().expect("an answer is prepared")
    }
}

#[test]
fn answers_mean_what_the_specification_says() {
    let log = LogKey::new("almoner.example/log", &[5; 32]).expect("a name");
    let signed =
        Checkpoint { origin: log.name().into(), size: 9, root: EMPTY_ROOT }.sign(&log).expect("signs");
    let witness = WitnessKey::new("w.example", &[6; 32]).expect("a name");
    let other = WitnessKey::new("o.example", &[7; 32]).expect("a name");
    let (text, _) = split(&signed.note).expect("a note");
    let line = |key: &WitnessKey, time| key.cosign(text, time).line;
    let reply = |status, media_type: &str, body: &str| -> Result<Reply, String> {
        Ok(Reply { status, media_type: media_type.into(), body: body.into() })
    };
    let size = |size: &str| reply(409, SIZE, size);
    const SIZE: &str = "text/x.tlog.size";
    let run = |known: u64, answers: Vec<Result<Reply, String>>| {
        let endpoint = Scripted(Mutex::new((answers.into(), vec![])));
        let key: &WitnessVerifierKey = witness.public();
        let mut known = known;
        let result = exchange(&endpoint, key, &mut known, &signed, &|_, _| Ok(vec![]), &|| 1000);
        let sent = endpoint.0.into_inner().expect("not poisoned").1;
        (result.map(|c| c.time), known, sent)
    };
    let good = || reply(200, "text/plain", &(line(&other, 990) + &line(&witness, 990)));
    assert_eq!(run(0, vec![good()]), (Ok(990), 9, vec!["old 0".into()]));
    let asked_again = (Ok(990), 9, vec!["old 0".to_owned(), "old 4".to_owned()]);
    assert_eq!(run(0, vec![size("4\n"), good()]), asked_again);
    assert_eq!(run(9, vec![good()]).2, ["old 9"]);
    assert_eq!(run(0, vec![size("9\n"), size("9\n")]).0, Err(Trouble::Forked { size: 9 }));
    assert_eq!(run(0, vec![size("12\n")]).0, Err(Trouble::Ahead { size: 12 }));
    let undecided = run(0, vec![size("4\n"), size("5\n"), size("6\n")]);
    assert!(matches!(undecided.0, Err(Trouble::Unreachable(_))) && undecided.2.len() == 3);
    for (answer, status) in
        [(reply(422, "text/plain", "bad\nproof"), 422), (reply(403, "", ""), 403), (size("0\n"), 409)]
    {
        assert!(matches!(run(0, vec![answer]).0, Err(Trouble::Refused { status: s, .. }) if s == status));
    }
    for answer in [reply(503, "", ""), reply(429, "", ""), reply(302, "", ""), Err("no route".into())] {
        assert!(matches!(run(0, vec![answer]).0, Err(Trouble::Unreachable(_))));
    }
    for bad in [
        reply(200, "", ""),
        reply(200, "", "ok\n"),
        reply(200, "", &line(&other, 990)),
        reply(200, "", &line(&witness, 1601)),
        reply(200, "", &line(&witness, 399)),
        reply(200, "", &witness.cosign("another\n", 990).line),
        size("4"),
        size("04\n"),
        size("x\n"),
    ] {
        assert!(matches!(run(0, vec![bad]).0, Err(Trouble::BadAnswer(_))));
    }
}

/// A board of three witnesses, of which the quorum is two, and checkpoints for it.
struct Table {
    board: Board,
    keys: [WitnessKey; 3],
    log: LogKey,
}

fn table() -> Table {
    let keys = [1, 2, 3].map(|n| WitnessKey::new(&format!("w{n}.example"), &[n; 32]).expect("a name"));
    let mut text = String::new();
    for (n, key) in keys.iter().enumerate() {
        text += &format!("witness w{n} {} http://w{n}.example\n", key.public().line());
    }
    let policy = Policy::parse((text + "group two 2 w0 w1 w2\nquorum two\n").as_bytes()).expect("a policy");
    let log = LogKey::new("almoner.example/log", &[5; 32]).expect("a name");
    Table { board: Board::new(policy, Timing::default(), None), keys, log }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Table {
    fn signed(&self, size: u64) -> SignedCheckpoint {
        let origin = self.log.name().into();
        Checkpoint { origin, size, root: [size as u8; 32] }.sign(&self.log).expect("signs")
    }

    fn look(&mut self, now: u64, size: u64) -> bool {
        let signed = self.signed(size);
        self.board.look(ms(now), &signed)
    }

    /// Witness `at` takes its task and cosigns; returns the size.
    fn cosign(&mut self, at: usize, now: u64) -> Option<u64> {
        let Task::Ask(round, signed) = self.board.task(at, ms(now)) else { return None };
        let cosignature = self.keys[at].cosign(split(&signed.note).expect("a note").0, now / 1000);
        self.board.cosigned(at, round, &signed, cosignature, ms(now));
        Some(signed.checkpoint.size)
    }

    /// The size that is shown, and how many cosigned it.
    fn shown(&mut self, now: u64, newest: u64) -> (u64, usize) {
        let newest = self.signed(newest);
        let shown = self.board.shown(ms(now), &newest);
        let standing = self.board.policy().standing(&shown.note).expect("a note");
        (shown.checkpoint.size, standing.cosignatures.iter().flatten().count())
    }
}

#[test]
fn what_is_shown_has_its_quorum_or_every_entry_older_than_a_second() {
    let mut t = table();
    assert!(t.look(0, 5));
    assert_eq!(t.shown(10, 5), (5, 0), "nothing with a quorum yet");
    assert_eq!(t.cosign(0, 20), Some(5));
    assert_eq!(t.shown(30, 5), (5, 1), "with what it has");
    assert_eq!(t.cosign(1, 40), Some(5));
    assert_eq!(t.shown(50, 5), (5, 2));
    // The log grows: for 800 ms the one with its quorum is shown, then the newest.
    assert!(!t.look(100, 6), "a round has a least length");
    assert!(t.look(250, 7));
    assert_eq!(t.shown(260, 7), (5, 2));
    assert_eq!(t.shown(899, 7), (5, 2));
    assert_eq!(t.shown(900, 7), (7, 0), "entry 5 is in the log since 100");
    assert_eq!(t.cosign(2, 910), Some(7));
    assert_eq!(t.shown(920, 7), (7, 1));
    // A quorum for less than what was shown comes too late.
    assert_eq!(t.shown(930, 8), (8, 0));
    assert_eq!(t.cosign(1, 940), Some(7));
    t.look(945, 8);
    assert_eq!(t.shown(950, 8), (8, 0), "never smaller than before");
    assert_eq!((t.cosign(0, 960), t.cosign(1, 970)), (Some(8), Some(8)));
    assert_eq!(t.shown(980, 8), (8, 2));
    // Nobody has looked for a second: how late the quorum is is not known.
    assert_eq!(t.shown(2000, 9), (9, 0));
    // Two in trouble: no quorum can come, and nothing waits for one.
    t.look(2010, 9);
    assert_eq!((t.cosign(0, 2020), t.cosign(1, 2020)), (Some(9), Some(9)));
    assert!(t.look(2300, 10));
    t.board.failed(0, Trouble::Unreachable("down".into()), ms(2310));
    assert_eq!(t.shown(2320, 10), (9, 2));
    t.board.failed(1, Trouble::Unreachable("down".into()), ms(2330));
    assert_eq!(t.shown(2340, 10), (10, 0));
}

#[test]
fn rounds_wait_for_those_who_answer_and_not_for_those_who_do_not() {
    let mut t = table();
    assert!(t.look(0, 5));
    assert!(!t.look(300, 6), "all three are still to be asked");
    let Task::Ask(..) = t.board.task(2, ms(310)) else { panic!("to be asked") };
    for at in [0, 1] {
        let Task::Ask(..) = t.board.task(at, ms(310)) else { panic!("to be asked") };
        t.board.failed(at, Trouble::Unreachable("down".into()), ms(320));
    }
    assert!(!t.look(400, 6), "one is under way");
    assert!(t.look(1001, 6), "but not for ever");
    assert_eq!(t.cosign(2, 1010), Some(6));
    assert!(t.look(1300, 7), "those in trouble are not waited for");
    // After trouble the waits double: 1 s, 2 s, 4 s.
    assert_eq!(t.board.task(0, ms(1319)), Task::Wait(ms(1)));
    for (now, wait) in [(1320, 2000), (3320, 4000), (7320, 8000)] {
        let Task::Ask(..) = t.board.task(0, ms(now)) else { panic!("to be asked at {now}") };
        t.board.failed(0, Trouble::Unreachable("down".into()), ms(now));
        assert_eq!(t.board.task(0, ms(now)), Task::Wait(ms(wait)));
    }
    // A log that rests is cosigned again now and then, and keeps its cosignatures meanwhile.
    assert_eq!((t.cosign(1, 9000), t.cosign(2, 9000)), (Some(7), Some(7)));
    assert!(!t.look(300_000, 7));
    assert!(t.look(301_300, 7));
    assert_eq!(t.shown(301_310, 7), (7, 2));
    assert_eq!(t.cosign(2, 301_320), Some(7));
}

#[test]
fn a_lost_quorum_and_a_refusal_are_alarms_and_told_once() {
    let mut t = table();
    t.look(0, 5);
    assert_eq!((t.cosign(0, 10), t.cosign(1, 10)), (Some(5), Some(5)));
    let forked = Trouble::Forked { size: 5 };
    for now in [20, 30] {
        t.board.failed(2, forked.clone(), ms(now));
    }
    assert_eq!(t.board.take_news(), [News::Trouble(2, forked)]);
    assert_eq!(t.board.alarms(ms(40)).len(), 1, "a refusal at once");
    t.board.failed(1, Trouble::Unreachable("down".into()), ms(100));
    assert_eq!(t.board.alarms(ms(200)).len(), 1, "silence after a while");
    for now in (200..31_000).step_by(100) {
        t.look(now, 5 + now / 100);
    }
    assert_eq!(t.board.alarms(ms(31_000)).len(), 3);
    let news = t.board.take_news();
    assert_eq!(news.iter().filter(|n| **n == News::QuorumLost).count(), 1, "{news:?}");
    assert!(t.cosign(0, 31_000).is_some());
    assert!(t.cosign(1, 31_000).is_some());
    let (size, _) = t.board.quorum().expect("reached");
    t.look(31_010, size);
    assert_eq!(t.board.take_news(), [News::Well(1), News::QuorumBack]);
    assert_eq!(t.board.alarms(ms(31_020)).len(), 1);
}
