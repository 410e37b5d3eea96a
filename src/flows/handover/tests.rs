//! A ledger whose key changes: what it signs, what a crash leaves, and whether those who knew the old key follow.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use almoner_ledger::audit::audit;
use almoner_ledger::cose::CoseReceipt;
use almoner_ledger::receipt::Receipt;
use almoner_ledger::source::{Folder, Source, SourceError, keys_of};
use almoner_ledger::{LogKey, VerifierKey, handover};
use almoner_model::{Clock as _, Entropy as _, ManualClock, SeededEntropy};
use serde_json::json;

use super::*;
use crate::flows::access::Documents;
use crate::flows::checkpoint::{cose_receipt, export, leaf, published, receipt};
use crate::flows::mirror::{Mirror, MirrorError};
use crate::flows::permitted::ConsentIndex;
use crate::keys::Keyring;
use crate::registry::Registry;
use crate::state::Projections;
use crate::store::conformance::{noon, options};
use crate::store::sqlite::{FaultHook, Options, SqliteStore, Step};

fn keys() -> SigningKeys {
    SigningKeys::new(|epoch| LogKey::new("almoner.example/log", &[9 + epoch as u8; 32]))
}

struct Nowhere;

impl Documents for Nowhere {
    fn put(&self, bytes: &[u8]) -> Result<almoner_model::Digest, String> {
        Ok(almoner_model::Digest::of(bytes))
    }
    fn get(&self, _: &almoner_model::Digest) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }
}

/// A store that can be closed and opened again, and what flows need beside it.
struct House {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    entropy: SeededEntropy,
    keyring: Keyring,
    people: Registry,
    index: ConsentIndex,
}

impl House {
    fn new() -> Self {
        let keyring = Keyring::from_root(&[1; 32]);
        Self {
            dir: tempfile::tempdir().expect("a folder"),
            clock: Arc::new(ManualClock::at(noon())),
            entropy: SeededEntropy::new(5),
            people: Registry::in_memory(&keyring).expect("opens"),
            keyring,
            index: ConsentIndex::default(),
        }
    }

    fn options(&self) -> Options {
        Options {
            keys: keys(),
            projector: Arc::new(Projections),
            anchor: Some(self.dir.path().join("anchor")),
            ..options(self.dir.path(), self.clock.clone())
        }
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.options()).expect("opens")
    }

    fn with<T>(&self, store: &SqliteStore, run: impl FnOnce(&AccessContext<'_>) -> T) -> T {
        run(&AccessContext {
            store,
            people: &self.people,
            documents: &Nowhere,
            keys: &self.keyring,
            index: &self.index,
            clock: &*self.clock,
            entropy: &self.entropy,
        })
    }

    fn rotate(&self, store: &SqliteStore, days: u32) -> Result<Rotated, AccessError> {
        self.with(store, |ctx| rotate(ctx, &Act::operator(&self.entropy), &keys(), days))
    }

    /// Some entry.
    fn say(&self, store: &SqliteStore) -> Seq {
        let token = format!("tok_{:016x}", self.entropy.u64());
        let event =
            Event::TokenIssued(crate::events::TokenIssued { token, role: "board".into(), scope: vec![] });
        let act = Act::operator(&self.entropy);
        let done = self.with(store, |ctx| ctx.append(&event, &act, None, vec![], &[]));
        done.expect("appended").seq
    }

    fn pass(&self, days: i64) {
        self.clock.advance_days(days);
    }
}

fn public(epoch: u32) -> VerifierKey {
    keys().public(epoch).expect("a key")
}

/// Which of the first three keys signed.
fn signers(note: &[u8]) -> Vec<u32> {
    (0..3).filter(|epoch| public(*epoch).open(note).is_ok()).collect()
}

#[test]
fn the_old_key_signs_until_its_overlap_ends_and_the_new_one_from_its_entry_on() {
    let house = House::new();
    let store = house.open();
    house.say(&store);
    let old_receipt = receipt(&store, 0).expect("proves");
    assert_eq!(signers(&store.checkpoint().note), [0]);
    let done = house.rotate(&store, 10).expect("rotates");
    assert_eq!((done.seq, done.change.epoch), (1, 1));
    assert_eq!((done.change.old.as_str(), done.change.new.as_str()), (public(0).line(), public(1).line()));
    assert_eq!((signers(&store.checkpoint().note), store.vkey()), (vec![0, 1], public(1).line().to_owned()));
    house.pass(10);
    house.say(&store);
    assert_eq!(signers(&store.checkpoint().note), [0, 1], "until, and then");
    house.pass(1);
    let seq = house.say(&store);
    assert_eq!(signers(&store.checkpoint().note), [1]);
    house.rotate(&store, 1).expect("rotates again");
    assert_eq!(signers(&store.checkpoint().note), [1, 2]);

    let handovers = all(&store).expect("told");
    for pinned in 0..3 {
        let all = handover::follow(&public(pinned), &handovers).expect("leads to all");
        let held = |receipt: &[u8], seq| {
            let leaf = leaf(&store, seq).expect("there");
            Receipt::parse(receipt).expect("reads").check(&leaf, &all).expect("holds")
        };
        held(&old_receipt, 0);
        held(&receipt(&store, seq).expect("proves"), seq);
        let cose = CoseReceipt::parse(&cose_receipt(&store, seq).expect("signs")).expect("reads");
        cose.check(&leaf(&store, seq).expect("there"), &all).expect("holds");
    }
    let told = keys_of_state(&store, house.clock.now());
    assert_eq!(told, [(0, 0, false), (1, 2, true), (2, 5, true)]);
    house.pass(2);
    assert_eq!(keys_of_state(&store, house.clock.now())[1], (1, 2, false));
}

/// A clock that never says the same twice.
struct Running(ManualClock);

impl almoner_model::Clock for Running {
    fn now(&self) -> Timestamp {
        self.0.advance_millis(1);
        self.0.now()
    }
}

#[test]
fn a_key_that_ends_at_once_signs_what_ends_it() {
    let house = House::new();
    let clock = Arc::new(Running(ManualClock::at(noon())));
    let store = SqliteStore::open(Options { clock: clock.clone(), ..house.options() }).expect("opens");
    for epoch in 1..3 {
        house.rotate(&store, 0).expect("rotates");
        assert_eq!(signers(&store.checkpoint().note), [epoch - 1, epoch]);
        house.say(&store);
        assert_eq!(signers(&store.checkpoint().note), [epoch]);
    }
    handover::follow(&public(0), &all(&store).expect("told")).expect("leads on");
}

fn keys_of_state(store: &dyn Store, now: Timestamp) -> Vec<(u32, u64, bool)> {
    super::keys(store, now).expect("told").into_iter().map(|k| (k.epoch, k.from, k.signs)).collect()
}

#[test]
fn a_repeated_act_changes_the_key_once_and_nonsense_never() {
    let house = House::new();
    let store = house.open();
    let act = Act::operator(&house.entropy);
    let once = house.with(&store, |ctx| rotate(ctx, &act, &keys(), 3)).expect("rotates");
    assert_eq!(house.with(&store, |ctx| rotate(ctx, &act, &keys(), 3)).expect("the same"), once);
    assert_eq!(store.size(), 1);
    assert!(matches!(house.rotate(&store, OVERLAP_DAYS_MAX + 1), Err(AccessError::Invalid { .. })));
    let until = once.change.until;
    for wrong in [
        KeyRotated { epoch: 3, old: public(1).line().into(), new: public(3).line().into(), until },
        KeyRotated { epoch: 2, old: public(0).line().into(), new: public(2).line().into(), until },
        KeyRotated { epoch: 2, old: public(1).line().into(), new: public(1).line().into(), until },
    ] {
        let done = house.with(&store, |ctx| {
            ctx.append(&Event::KeyRotated(wrong), &Act::operator(&house.entropy), None, vec![], &[])
        });
        assert!(matches!(done, Err(AccessError::Store(StoreError::Rejected(_)))), "{done:?}");
    }
    // A key that the root key does not make is not signed with, and does not stop the ledger.
    let strange = LogKey::new("almoner.example/log", &[200; 32]).expect("a name").vkey();
    let strange = KeyRotated { epoch: 2, old: public(1).line().into(), new: strange, until };
    let done = house.with(&store, |ctx| {
        ctx.append(&Event::KeyRotated(strange), &Act::operator(&house.entropy), None, vec![], &[])
    });
    assert!(matches!(done, Err(AccessError::Store(StoreError::NotIntact(_)))), "{done:?}");
    house.say(&store);
    assert_eq!(signers(&store.checkpoint().note), [0, 1]);
}

/// Fails at one step, once.
struct Once(Step, bool, AtomicBool);

impl Once {
    fn at(&self, step: Step, after: bool) -> Result<(), StoreError> {
        if (step, after) == (self.0, self.1) && self.2.swap(false, Ordering::Relaxed) {
            return Err(StoreError::Unavailable("planted".into()));
        }
        Ok(())
    }
}

impl FaultHook for Once {
    fn before(&self, step: Step) -> Result<(), StoreError> {
        self.at(step, false)
    }
    fn after(&self, step: Step) -> Result<(), StoreError> {
        self.at(step, true)
    }
}

#[test]
fn a_failure_anywhere_leaves_entry_and_key_or_neither_also_for_the_next_start() {
    for step in Step::ALL {
        for after in [false, true] {
            let house = House::new();
            drop(house.open());
            let hook = Arc::new(Once(step, after, AtomicBool::new(true)));
            let store = SqliteStore::open(Options { faults: Some(hook), ..house.options() }).expect("opens");
            let failed = house.rotate(&store, 3).is_err();
            let check = |store: &SqliteStore| {
                let rotated = store.size() == 1;
                let expected = if rotated { vec![0, 1] } else { vec![0] };
                assert_eq!(signers(&store.checkpoint().note), expected, "{step:?} {after} {failed}");
                assert_eq!(store.vkey(), public(u32::from(rotated)).line());
                assert_eq!(all(store).expect("told").len(), usize::from(rotated));
            };
            check(&store);
            drop(store);
            let store = house.open();
            check(&store);
            house.say(&store);
            house.pass(4);
            house.say(&store);
            assert_eq!(signers(&store.checkpoint().note), [u32::from(store.size() == 3)]);
        }
    }
}

#[test]
fn a_start_knows_what_was_published_under_the_old_key_and_an_audit_goes_over_the_change() {
    let house = House::new();
    let store = house.open();
    house.say(&store);
    drop(store);
    let anchor = std::fs::read(house.dir.path().join("anchor")).expect("kept");
    let store = house.open();
    house.rotate(&store, 0).expect("rotates");
    house.pass(1);
    house.say(&store);
    drop(store);
    // As a crash may leave it: the last that was kept is from before the change.
    std::fs::write(house.dir.path().join("anchor"), anchor).expect("written");
    let store = house.open();
    assert!(store.audit().expect("reads").intact);
    assert_eq!(signers(&store.checkpoint().note), [1]);
    SqliteStore::open_read_only(house.options()).expect("opens beside it");
}

#[test]
fn an_older_copy_is_told_what_was_published_under_a_key_that_it_does_not_know() {
    let house = House::new();
    house.say(&house.open());
    let (file, aside) = (house.options().path, house.dir.path().join("older.sqlite"));
    std::fs::copy(&file, &aside).expect("copied");
    let store = house.open();
    for _ in 0..2 {
        house.rotate(&store, 0).expect("rotates");
        house.pass(1);
        house.say(&store);
    }
    assert_eq!(signers(&store.checkpoint().note), [2]);
    drop(store);
    std::fs::copy(&aside, &file).expect("put back");
    for opened in [SqliteStore::open(house.options()), SqliteStore::open_read_only(house.options())] {
        let Err(StoreError::RolledBack(why)) = opened else { panic!("it is older") };
        assert!(why.starts_with("it has 1 entries, and 5 had been published"), "{why}");
    }
    let given_up = SqliteStore::accept_rollback(&house.options()).expect("accepted").expect("older");
    assert_eq!((given_up.entries, given_up.published), (1, Some(5)));
    house.say(&house.open());
    // What no key made from the root key signed is not this ledger's.
    let other = LogKey::new("almoner.example/log", &[200; 32]).expect("a name");
    let other =
        Checkpoint { origin: other.name().into(), size: 1, root: [7; 32] }.sign(&other).expect("signs");
    std::fs::write(house.dir.path().join("anchor"), other.note).expect("written");
    let Err(StoreError::RolledBack(why)) = SqliteStore::open(house.options()) else { panic!("foreign") };
    assert!(why.contains("is not a checkpoint of this ledger"), "{why}");
}

#[test]
fn no_more_than_eight_keys_sign_at_a_time() {
    let house = House::new();
    let store = house.open();
    for n in 1..SIGNING_MAX {
        assert_eq!(house.rotate(&store, 10).expect("rotates").change.epoch, n as u32);
    }
    let size = store.size();
    let refused = house.rotate(&store, 10);
    assert!(matches!(refused, Err(AccessError::Conflict(_))), "{refused:?}");
    assert_eq!(store.size(), size);
    assert_eq!(super::keys(&store, house.clock.now()).expect("told").iter().filter(|k| k.signs).count(), 8);
    house.rotate(&store, 0).expect("one that nobody trusts any more is changed all the same");
    house.pass(1);
    assert_eq!(super::keys(&store, house.clock.now()).expect("told").iter().filter(|k| k.signs).count(), 8);
    house.pass(11);
    house.rotate(&store, 10).expect("there is room again");
}

#[test]
fn a_witness_cosigns_on_over_a_change_if_it_is_told_the_new_key_in_time_or_late() {
    use crate::flows::checkpoint::consistency_between;
    use crate::flows::witness::Witness;
    use almoner_ledger::witness::{Logs, Request};
    let house = House::new();
    let store = house.open();
    let place = tempfile::tempdir().expect("a folder");
    let folder = |name: &str| place.path().join(name);
    for name in ["told", "late", "only-new"] {
        Witness::init(&folder(name), &format!("witness.example/{name}"), &house.entropy).expect("made");
    }
    let ask = |name: &str, epochs: &[u32], old: u64| {
        let logs = Logs::new(epochs.iter().map(|epoch| public(*epoch)));
        let witness = Witness::open(&folder(name), logs, house.clock.clone()).expect("opens");
        let proof = if old == 0 || old == store.size() {
            vec![]
        } else {
            consistency_between(&store, old, store.size()).expect("proves")
        };
        witness.add_checkpoint(&Request { old, proof, note: store.checkpoint().note }.to_bytes())
    };
    house.say(&store);
    for name in ["told", "late"] {
        assert_eq!(ask(name, &[0], 0).status, 200);
    }
    house.rotate(&store, 1).expect("rotates");
    // Both sign: whoever knows either cosigns.
    assert_eq!(ask("late", &[0], 1).status, 200);
    assert_eq!(ask("told", &[0, 1], 1).status, 200);
    assert_eq!(ask("only-new", &[1], 0).status, 200);
    house.pass(2);
    house.say(&store);
    assert_eq!(signers(&store.checkpoint().note), [1]);
    assert_eq!(ask("told", &[0, 1], 2).status, 200);
    assert_eq!(ask("only-new", &[1], 2).status, 200);
    // Not told: it does not know who signs, keeps what it had, and goes on once it is told.
    assert_eq!(ask("late", &[0], 2).status, 403);
    let answer = ask("late", &[0, 1], 1);
    assert_eq!((answer.status, answer.body.as_str()), (409, "2\n"), "it remembers");
    assert_eq!(ask("late", &[0, 1], 2).status, 200);
}

/// The log as its server shows it.
struct Shown<'a>(&'a SqliteStore);

impl Source for Shown<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        let file = published(self.0, path).expect("readable");
        Ok(file.ok_or_else(|| SourceError::Missing(path.into()))?.bytes)
    }
}

#[test]
fn exports_and_mirrors_follow_and_no_mirror_follows_what_the_old_key_did_not_say() {
    let house = House::new();
    let store = house.open();
    house.say(&store);
    let place = tempfile::tempdir().expect("a folder");
    let at = |name: &str| place.path().join(name);
    let sync = |name: &str| {
        let mirror = Mirror::open(&at(name), Some(public(0))).expect("opens");
        mirror.sync(&Shown(&store), None)
    };
    sync("early").expect("copied");
    export(&store, &at("export")).expect("exports");
    house.rotate(&store, 1).expect("rotates");
    sync("between").expect("copied during the overlap");
    house.pass(2);
    house.say(&store);
    for name in ["early", "between", "late"] {
        assert_eq!(sync(name).expect("follows").entries, 3, "{name}");
        sync(name).expect("and again");
        let mirror = Mirror::open(&at(name), Some(public(1))).expect("either key is the log's");
        assert!(mirror.checkpoint().expect("its own").is_some());
    }
    export(&store, &at("export")).expect("exports on");
    for place in ["export", "early", "late"] {
        let folder = Folder(at(place));
        for pinned in 0..2 {
            let key = keys_of(&folder, &public(pinned)).expect("readable");
            assert!(audit(&folder, &key, None, 1).intact, "{place} {pinned}");
        }
    }
    // Whoever shows another key without its hand-over, or with a forged one, is not followed.
    for forged in [json!([]), forged(&store)] {
        let bytes = serde_json::to_vec(&forged).expect("JSON");
        let refused =
            Mirror::open(&at("victim"), Some(public(0))).expect("opens").sync(&Forged(&store, bytes), None);
        assert!(matches!(refused, Err(MirrorError::Checkpoint(_))), "{refused:?}");
        assert!(!exists(&at("victim"), "handovers") && !exists(&at("victim"), "checkpoint"));
    }
}

fn exists(folder: &Path, name: &str) -> bool {
    folder.join(name).exists()
}

/// The log's own hand-over, under a checkpoint that the new key alone signed.
fn forged(store: &SqliteStore) -> serde_json::Value {
    let mut handovers = all(store).expect("told");
    handovers[0].proof = String::from_utf8(receipt(store, 1).expect("proves")).expect("text");
    serde_json::to_value(handovers).expect("JSON")
}

struct Forged<'a>(&'a SqliteStore, Vec<u8>);

impl Source for Forged<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        if path == "handovers" { Ok(self.1.clone()) } else { Shown(self.0).read(path) }
    }
}
