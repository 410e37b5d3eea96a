//! One suite for every backend: what a store promises, each promise a function over `&dyn Store`.

use std::collections::BTreeSet;
use std::sync::Arc;

use almoner_ledger::commitment::{Field, canonical_value, commit};
use almoner_ledger::tree::{leaf_hash, root_of, tile_hashes};
use almoner_ledger::{Checkpoint, Leaf, LogKey, VerifierKey};
use almoner_model::{ManualClock, SeededEntropy, SubjectId, Timestamp};
use serde_json::{Value, json};

use super::memory::MemoryStore;
use super::signing::SigningKeys;
use super::sqlite::{Options, SqliteStore};
use super::{
    Actor, EntryFilter, NewEntry, Precondition, ProjectedEntry, Projector, Rejection, Store, StoreError,
    View, Write,
};

/// A fold that exercises a view: counts entries by kind, keeps the last payload of a subject, refuses `forbid`.
pub struct Tally;

impl Projector for Tally {
    fn project(&self, entry: &ProjectedEntry<'_>, view: &dyn View) -> Result<Vec<Write>, Rejection> {
        if entry.payload.get("forbid").is_some() {
            return Err(Rejection("forbidden by the fold".into()));
        }
        let write = |kind: &str, key: &str, value| Write { kind: kind.into(), key: key.into(), value };
        let count = view.get("tally", entry.kind).and_then(|v| v.as_u64()).unwrap_or(0) + 1;
        let mut writes = vec![write("tally", entry.kind, Some(json!(count)))];
        if let Some(subject) = entry.subject {
            let key = format!("{:016}", subject.get());
            let gone = entry.payload.get("remove").is_some();
            writes.push(write("last", &key, (!gone).then(|| entry.payload.clone())));
            let people = view.scan("last", "", None, 1_000).len() as u64;
            writes.push(write("people-before", &entry.seq.to_string(), Some(json!(people))));
        }
        Ok(writes)
    }
}

/// An entry with an event id made from `n`.
pub fn entry(n: u64, kind: &'static str, subject: Option<i64>, payload: Value) -> NewEntry {
    NewEntry {
        event_id: format!("00000000-0000-4000-8000-{n:012x}"),
        kind,
        actor: Actor { role: "operator".into(), id: "t1".into() },
        subject: subject.map(|s| SubjectId::new(s).expect("in range")),
        payload,
        policy: None,
        decision: None,
        as_of: None,
        until: None,
        topics: vec![],
    }
}

/// The time at which test clocks stand.
pub fn noon() -> Timestamp {
    Timestamp::parse("2026-11-22T12:00:00Z").expect("RFC 3339")
}

/// The key with which test ledgers sign.
pub fn log_key() -> LogKey {
    LogKey::new("almoner.example/log", &[9; 32]).expect("a name")
}

/// Options of a test store in `dir`.
pub fn options(dir: &std::path::Path, clock: Arc<ManualClock>) -> Options {
    Options {
        path: dir.join("ledger.sqlite"),
        keys: SigningKeys::new(|_| Ok(log_key())),
        wrapping_key: [3; 32],
        anchor: None,
        clock,
        entropy: Arc::new(SeededEntropy::new(std::process::id().into())),
        projector: Arc::new(Tally),
        faults: None,
    }
}

/// Runs `promise` against every backend, each empty.
fn every_backend(promise: impl Fn(&dyn Store, &ManualClock)) {
    let clock = Arc::new(ManualClock::at(noon()));
    let entropy = Arc::new(SeededEntropy::new(1));
    let memory = MemoryStore::new(log_key(), clock.clone(), entropy, Arc::new(Tally)).expect("opens");
    promise(&memory, &clock);
    let dir = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(ManualClock::at(noon()));
    let sqlite = SqliteStore::open(options(dir.path(), clock.clone())).expect("opens");
    promise(&sqlite, &clock);
}

/// Leaves, chain, tree, tiles and checkpoint agree with each other, by the definitions.
pub fn assert_log_is_whole(store: &dyn Store) {
    let vkey = VerifierKey::parse(&store.vkey()).expect("vkey");
    let signed = Checkpoint::open(&store.checkpoint().note, &vkey).expect("signed");
    let size = signed.checkpoint.size;
    let leaves = store.leaves(0..size).expect("leaves");
    let hashes: Vec<_> = leaves.iter().map(|l| leaf_hash(l)).collect();
    assert_eq!(signed.checkpoint.root, root_of(&hashes));
    let mut prev = [0; 32];
    for (seq, (bytes, hash)) in leaves.iter().zip(&hashes).enumerate() {
        let leaf = Leaf::parse(bytes).expect("canonical");
        assert_eq!((leaf.seq, leaf.prev.0), (seq as u64, prev));
        prev = *hash;
        let tile = store.tile(0, seq as u64 / 256).expect("readable").expect("stored");
        assert_eq!(tile_hashes(&tile).expect("tile")[seq % 256], *hash);
        let entry = store.entry(seq as u64).expect("readable").expect("stored");
        if let Some(value) = entry.payload.value() {
            let opening = entry.payload.opening(Field::Payload).expect("present");
            assert_eq!(commit(&opening, &canonical_value(value).expect("canonical")), leaf.payload.0);
        }
    }
}

#[test]
fn an_empty_log_is_signed_and_whole() {
    every_backend(|store, _| {
        assert_eq!(store.size(), 0);
        assert_log_is_whole(store);
        assert_eq!(store.append(vec![], &[]), Ok(vec![]));
        assert!(store.entry(0).expect("readable").is_none());
        assert!(store.leaves(0..1).is_err());
    });
}

#[test]
fn entries_stand_in_order_under_a_signed_root() {
    every_backend(|store, clock| {
        for n in 0..600 {
            clock.advance_millis(1);
            let appended = store.append(vec![entry(n, "a.done", Some(5), json!({"n": n, "d": 0.5}))], &[]);
            assert_eq!(appended.expect("appends")[0].seq, n);
        }
        assert_eq!(store.size(), 600);
        assert_log_is_whole(store);
        let entry = store.entry(577).expect("readable").expect("stored");
        assert_eq!(entry.payload.value(), Some(&json!({"n": 577, "d": 0.5})));
        assert_eq!(entry.subject.map(SubjectId::get), Some(5));
        assert_eq!(store.get("tally", "a.done").expect("readable"), Some(json!(600)));
    });
}

#[test]
fn the_same_act_is_appended_once() {
    every_backend(|store, _| {
        let twice = vec![entry(1, "a.done", None, json!({})), entry(2, "b.done", None, json!(1))];
        let first = store.append(twice.clone(), &[]).expect("appends");
        store.append(vec![entry(3, "c.done", None, json!(null))], &[]).expect("appends");
        assert_eq!(store.append(twice.clone(), &[]).expect("repeats"), first);
        let late = [Precondition { topic: "x".into(), as_of: 0 }];
        assert_eq!(store.append(twice.clone(), &late).expect("a repeat needs no precondition"), first);
        assert_eq!(store.size(), 3);
        let reused = store.append(vec![entry(1, "a.done", None, json!({"other": 1}))], &[]);
        assert!(matches!(reused, Err(StoreError::EventReused(_))), "{reused:?}");
        let mixed = store.append(vec![twice[0].clone(), entry(9, "a.done", None, json!({}))], &[]);
        assert!(matches!(mixed, Err(StoreError::EventReused(_))), "{mixed:?}");
        let doubled =
            store.append(vec![entry(8, "a.done", None, json!({})), entry(8, "a.done", None, json!({}))], &[]);
        assert!(matches!(doubled, Err(StoreError::Invalid(_))), "{doubled:?}");
        assert_eq!(store.find_event(&twice[1].event_id), Ok(Some(1)));
        assert_eq!(store.size(), 3);
    });
}

#[test]
fn the_same_words_by_another_or_about_another_are_not_the_same_act() {
    every_backend(|store, _| {
        let first = entry(1, "a.done", Some(7), json!({"mode": "all"}));
        let appended = store.append(vec![first.clone()], &[]).expect("appends");
        let about = |subject| entry(1, "a.done", subject, json!({"mode": "all"}));
        let by = |role: &str, id: &str| NewEntry {
            actor: Actor { role: role.into(), id: id.into() },
            ..first.clone()
        };
        for other in [about(Some(8)), about(None), by("operator", "t2"), by("board", "t1")] {
            let reused = store.append(vec![other], &[]);
            assert_eq!(reused, Err(StoreError::EventReused(first.event_id.clone())));
        }
        assert_eq!(store.append(vec![first], &[]), Ok(appended));
        assert_eq!(store.size(), 1);
    });
}

#[test]
fn a_precondition_fails_when_something_came_in_between() {
    every_backend(|store, _| {
        let about =
            |n, topic: &str| NewEntry { topics: vec![topic.into()], ..entry(n, "a.done", Some(7), json!(n)) };
        store.append(vec![about(1, "request:r1")], &[]).expect("appends");
        let seen = store.size();
        let unless = |topic: &str| [Precondition { topic: topic.into(), as_of: seen }];
        store.append(vec![about(2, "request:r2")], &unless("request:r1")).expect("nothing in between");
        let refused = store.append(vec![about(3, "request:r1")], &unless("subject:7"));
        assert_eq!(refused, Err(StoreError::Precondition { topic: "subject:7".into(), seq: 1 }));
        assert_eq!(store.size(), 2);
        let topic = EntryFilter { topic: Some("subject:7".into()), ..EntryFilter::default() };
        assert_eq!(store.entries(0, 10, &topic).expect("readable").len(), 2);
        assert_eq!(store.entries(1, 10, &topic).expect("readable").len(), 1);
        let kinds = EntryFilter { kinds: vec!["b.done".into()], ..EntryFilter::default() };
        assert_eq!(store.entries(0, 10, &kinds).expect("readable").len(), 0);
    });
}

#[test]
fn nothing_is_appended_after_the_last_instant_at_which_it_was_to_hold() {
    every_backend(|store, clock| {
        let until = |n, until| NewEntry { until: Some(until), ..entry(n, "a.done", None, json!(n)) };
        let first = store.append(vec![until(1, noon())], &[]).expect("at its last instant");
        clock.advance_millis(1);
        let late = store.append(vec![until(2, noon())], &[]);
        assert_eq!(late, Err(StoreError::Precondition { topic: "time".into(), seq: 1 }));
        assert_eq!(store.append(vec![until(1, noon())], &[]), Ok(first), "the same act again");
        assert_eq!(store.size(), 1);
    });
}

#[test]
fn a_refused_request_leaves_no_trace() {
    every_backend(|store, _| {
        store.append(vec![entry(1, "a.done", Some(1), json!({"n": 1}))], &[]).expect("appends");
        let before = (store.checkpoint(), store.scan("last", "", None, 10));
        let refused = store.append(
            vec![
                entry(2, "a.done", Some(2), json!({"n": 2})),
                entry(3, "a.done", None, json!({"forbid": 1})),
            ],
            &[],
        );
        assert_eq!(refused, Err(StoreError::Rejected("forbidden by the fold".into())));
        assert_eq!((store.checkpoint(), store.scan("last", "", None, 10)), before);
        for bad in [
            NewEntry { event_id: "1".into(), ..entry(4, "a.done", None, json!(1)) },
            NewEntry { kind: "Bad Kind", ..entry(4, "a.done", None, json!(1)) },
            NewEntry { decision: Some("yes\"".into()), ..entry(4, "a.done", None, json!(1)) },
            entry(4, "a.done", None, json!(u64::MAX)),
            entry(4, "a.done", None, json!("x".repeat(2 << 20))),
        ] {
            assert!(matches!(store.append(vec![bad], &[]), Err(StoreError::Invalid(_))));
        }
        assert_eq!(store.size(), 1);
    });
}

#[test]
fn the_fold_sees_earlier_entries_of_its_own_request() {
    every_backend(|store, _| {
        let three = (1..=3).map(|n| entry(n, "a.done", Some(n as i64), json!({"n": n}))).collect();
        store.append(three, &[]).expect("appends");
        assert_eq!(store.get("tally", "a.done").expect("readable"), Some(json!(3)));
        assert_eq!(store.get("people-before", "2").expect("readable"), Some(json!(2)));
        let both = vec![
            entry(4, "a.done", Some(2), json!({"remove": 1})),
            entry(5, "a.done", Some(9), json!({"n": 9})),
        ];
        store.append(both, &[]).expect("appends");
        assert_eq!(store.get("people-before", "4").expect("readable"), Some(json!(2)));
        let keys = |r: Vec<(String, Value)>| r.into_iter().map(|(k, _)| k).collect::<Vec<_>>();
        let key = |n: u64| format!("{n:016}");
        assert_eq!(keys(store.scan("last", "", None, 10).expect("readable")), [key(1), key(3), key(9)]);
        assert_eq!(keys(store.scan("last", "0", Some(&key(1)), 1).expect("readable")), [key(3)]);
        assert!(store.scan("last", "1", None, 10).expect("readable").is_empty());
    });
}

#[test]
fn ledger_time_never_goes_back_and_a_participant_shows_the_day_only() {
    every_backend(|store, clock| {
        let by = |n, role: &str| NewEntry {
            actor: Actor { role: role.into(), id: "x".into() },
            ..entry(n, "a.done", Some(1), json!(n))
        };
        let time = |n, role: &str| store.append(vec![by(n, role)], &[]).expect("appends")[0].time;
        assert_eq!(time(1, "participant").to_string(), "2026-11-22T00:00:00.000Z");
        assert_eq!(time(2, "operator"), noon());
        clock.advance_millis(60_000);
        assert_eq!(time(3, "participant"), noon());
        clock.advance_days(-1);
        assert_eq!(time(4, "operator"), noon());
        clock.advance_days(2);
        assert_eq!(time(5, "participant").to_string(), "2026-11-23T00:00:00.000Z");
    });
}

#[test]
fn primary_state_swaps_only_from_what_is_expected() {
    every_backend(|store, _| {
        let write = |key: &str, value: Option<Value>| Write { kind: "token".into(), key: key.into(), value };
        store.put_primary(vec![write("a", Some(json!(1))), write("b", Some(json!(2)))]).expect("writes");
        assert_eq!(store.swap_primary(write("a", Some(json!(5))), Some(&json!(4))), Ok(false));
        assert_eq!(store.swap_primary(write("a", Some(json!(5))), Some(&json!(1))), Ok(true));
        assert_eq!(store.swap_primary(write("a", Some(json!(6))), None), Ok(false));
        assert_eq!(store.swap_primary(write("c", Some(json!(6))), None), Ok(true));
        store.put_primary(vec![write("b", None)]).expect("writes");
        let all = store.scan_primary("token", "", None, 10).expect("readable");
        assert_eq!(all, [("a".to_owned(), json!(5)), ("c".to_owned(), json!(6))]);
        assert_eq!(store.get_primary("token", "b"), Ok(None));
        assert_eq!(store.get("token", "a"), Ok(None));
    });
}

#[test]
fn many_callers_at_once_get_distinct_places_without_gaps() {
    every_backend(|store, _| {
        let seqs: Vec<u64> = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..8u64)
                .map(|caller| {
                    scope.spawn(move || {
                        (0..40)
                            .map(|i| {
                                let new =
                                    entry(caller * 1000 + i, "a.done", Some(1 + (i % 3) as i64), json!(i));
                                store.append(vec![new], &[]).expect("appends")[0].seq
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            callers.into_iter().flat_map(|c| c.join().expect("no panic")).collect()
        });
        assert_eq!(seqs.iter().copied().collect::<BTreeSet<_>>(), (0..320).collect());
        assert_eq!(store.get("tally", "a.done").expect("readable"), Some(json!(320)));
        assert_log_is_whole(store);
    });
}
