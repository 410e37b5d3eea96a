//! What happens between a decision and its entry: a store and a source of randomness that do something else first.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use almoner_ledger::SignedCheckpoint;
use almoner_ledger::cose::SignedRoot;
use almoner_model::{Entropy, RequestId, Seq, SourcePatientId};
use serde_json::Value;

use super::*;
use crate::registry::Merge;
use crate::store::{Appended, Destroy, Entry, NewEntry, Precondition, StoreError, Write};

/// Does something before the next append, once.
pub(super) struct Interposed {
    pub(super) inner: Arc<dyn Store>,
    pub(super) first: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

type Records = Result<Vec<(String, Value)>, StoreError>;

impl Store for Interposed {
    fn append(
        &self,
        entries: Vec<NewEntry>,
        unchanged: &[Precondition],
    ) -> Result<Vec<Appended>, StoreError> {
        let first = self.first.lock().expect("not poisoned").take();
        if let Some(first) = first {
            first();
        }
        self.inner.append(entries, unchanged)
    }
    fn erase(
        &self,
        entry: NewEntry,
        destroy: Destroy,
        unchanged: &[Precondition],
    ) -> Result<Appended, StoreError> {
        self.inner.erase(entry, destroy, unchanged)
    }
    fn scrub(&self) -> Result<(), StoreError> {
        self.inner.scrub()
    }
    fn checkpoint(&self) -> SignedCheckpoint {
        self.inner.checkpoint()
    }
    fn vkey(&self) -> String {
        self.inner.vkey()
    }
    fn signed_root(&self) -> Result<SignedRoot, StoreError> {
        self.inner.signed_root()
    }
    fn leaves(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        self.inner.leaves(range)
    }
    fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.tile(level, index)
    }
    fn entry(&self, seq: Seq) -> Result<Option<Entry>, StoreError> {
        self.inner.entry(seq)
    }
    fn entries(&self, from: Seq, limit: usize, filter: &EntryFilter) -> Result<Vec<Entry>, StoreError> {
        self.inner.entries(from, limit, filter)
    }
    fn find_event(&self, event_id: &str) -> Result<Option<Seq>, StoreError> {
        self.inner.find_event(event_id)
    }
    fn get(&self, kind: &str, key: &str) -> Result<Option<Value>, StoreError> {
        self.inner.get(kind, key)
    }
    fn scan(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Records {
        self.inner.scan(kind, prefix, after, limit)
    }
    fn put_primary(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.inner.put_primary(writes)
    }
    fn swap_primary(&self, write: Write, expected: Option<&Value>) -> Result<bool, StoreError> {
        self.inner.swap_primary(write, expected)
    }
    fn get_primary(&self, kind: &str, key: &str) -> Result<Option<Value>, StoreError> {
        self.inner.get_primary(kind, key)
    }
    fn scan_primary(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Records {
        self.inner.scan_primary(kind, prefix, after, limit)
    }
}

/// A house where everyone but the first five of each hospital permits, and `more` of the north's five.
fn house(more: std::ops::Range<i64>) -> House {
    let house = ready();
    for hospital in ["north", "south"] {
        house.consents(hospital);
    }
    house.consents_of("north", more);
    house
}

#[test]
fn a_count_that_another_overtook_is_answered_like_it() {
    let alone = house(0..0).count().expect("answered").count;
    let (more, other) = (1..=5)
        .find_map(|n| {
            let other = house(0..n).count().expect("answered").count;
            (other != alone).then_some((n, other))
        })
        .expect("noise tells a few people more apart");
    let inner = Arc::new(house(0..0));
    let there = Arc::clone(&inner);
    let overtake = move || {
        there.consents_of("north", 0..more);
        assert_eq!(there.count().expect("answered").count, other);
    };
    let between = Interposed { inner: Arc::clone(&inner.store), first: Mutex::new(Some(Box::new(overtake))) };
    let said = inner.with_store(&between, |ctx| {
        let request = counting();
        count::count(ctx, &inner.act(), &request)
    });
    assert_eq!(said.expect("answered").count, other, "the difference shows {more} people");
}

/// A count of `house`, with `meanwhile` done before its first append.
fn overtaken(house: &Arc<House>, meanwhile: impl FnOnce(&House) + Send + 'static) -> count::CountAnswer {
    let there = Arc::clone(house);
    let first: Box<dyn FnOnce() + Send> = Box::new(move || meanwhile(&there));
    let between = Interposed { inner: Arc::clone(&house.store), first: Mutex::new(Some(first)) };
    let request = counting();
    house.with_store(&between, |ctx| count::count(ctx, &house.act(), &request)).expect("answered")
}

fn refuses(house: &House, number: &str) -> u64 {
    house.record("north", number, paper("form:later", day(2026, 1, 1), Provision::new(Effect::Deny)))
}

#[test]
fn whoever_refuses_while_a_count_reads_is_not_counted_and_who_was_not_does_not_hold_it_up() {
    let house = Arc::new(house(0..0));
    let size = house.store.size();
    let answer = overtaken(&house, |house| {
        refuses(house, "north-30");
    });
    assert_eq!(answer.as_of, size + 1, "decided again");
    let size = house.store.size();
    let answer = overtaken(&house, |house| {
        refuses(house, "north-2");
        house.consents_of("north", 0..2);
    });
    assert_eq!((answer.as_of, answer.seq), (size, size + 3), "of people who were not counted");
}

#[test]
fn whoever_refuses_while_a_download_is_opened_stops_it() {
    let house = Arc::new(house(0..0));
    house.legal_bases();
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built").release;
    let open = |number: &'static str| {
        let there = Arc::clone(&house);
        let first: Box<dyn FnOnce() + Send> = Box::new(move || {
            refuses(&there, number);
        });
        let between = Interposed { inner: Arc::clone(&house.store), first: Mutex::new(Some(first)) };
        house.with_store(&between, |ctx| download::open(ctx, &house.act(), &built))
    };
    open("north-2").expect("who is not in it does not matter");
    let refused = open("north-30").expect_err("a member");
    assert!(matches!(refused, DataError::Nobody { .. }), "{refused}");
}

/// Does something each time the list of members is sealed: when a release is built and not yet in the ledger.
struct AtSeal<'h> {
    house: &'h House,
    each: &'h (dyn Fn(u32) + Sync),
    seals: AtomicU32,
}

impl Entropy for AtSeal<'_> {
    fn fill(&self, buffer: &mut [u8]) {
        if buffer.len() == 12 {
            (self.each)(self.seals.fetch_add(1, Ordering::SeqCst));
        }
        self.house.entropy.fill(buffer);
    }
}

type Built = (Result<release::ReleaseSummary, DataError>, u32);

/// Builds a release while `each` happens; how often it was built.
fn released(house: &House, each: &(dyn Fn(u32) + Sync)) -> Built {
    house.legal_bases();
    released_by(house, &house.approved("diabetes", "uni"), each)
}

fn released_by(house: &House, wanted: &RequestId, each: &(dyn Fn(u32) + Sync)) -> Built {
    let entropy = AtSeal { house, each, seals: AtomicU32::new(0) };
    let built = house.with(|ctx| {
        let access = AccessContext { entropy: &entropy, ..ctx.access };
        release::release(&DataContext { access, ..*ctx }, &house.act(), wanted)
    });
    (built, entropy.seals.into_inner())
}

fn persons(house: &House, built: &release::ReleaseSummary) -> i64 {
    (built.persons + suppressed(house, &built.release)) as i64
}

#[test]
fn what_others_say_does_not_hold_a_release_up() {
    let house = house(0..0);
    let (built, times) = released(&house, &|n| house.consents_of("north", i64::from(n)..i64::from(n) + 1));
    let built = built.expect("built");
    assert_eq!((persons(&house, &built), times), (2 * (EACH - 5), 1));
}

#[test]
fn what_changes_nothing_of_a_permission_does_not_hold_a_release_up() {
    let house = house(0..0);
    let (built, times) = released(&house, &|_| withdrawn(&house, "north", 30, WithdrawalMode::NoContact));
    assert_eq!((persons(&house, &built.expect("built")), times), (2 * (EACH - 5), 1));
}

#[test]
fn a_member_who_withdraws_while_it_is_built_is_not_in_a_release() {
    let house = house(0..0);
    let once = |n| {
        if n == 0 {
            withdrawal(&house, "north", 30);
        }
    };
    let (built, times) = released(&house, &once);
    assert_eq!((persons(&house, &built.expect("built")), times), (2 * (EACH - 5) - 1, 2));
}

/// Whoever asks what stands against a request, or takes an earlier release of it, changes nothing that a release rests on;
/// nor does what another hospital publishes.
#[test]
fn what_is_done_by_a_request_does_not_hold_a_release_up() {
    let house = house(0..0);
    house.legal_bases();
    let wanted = house.approved("diabetes", "uni");
    let first = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built").release;
    let meanwhile = |n: u32| {
        house.with(|ctx| {
            assert!(release::explain(ctx, &house.act(), &wanted).expect("explained").permitted);
            download::open(ctx, &house.act(), &first).expect("opened");
        });
        if n == 0 {
            house.ingest("east");
        }
    };
    let (built, times) = released_by(&house, &wanted, &meanwhile);
    assert_eq!((persons(&house, &built.expect("built")), times), (2 * (EACH - 5), 1));
}

#[test]
fn what_is_published_of_a_release_s_own_data_while_it_is_built_is_in_it() {
    let house = house(0..0);
    let (built, times) = released(&house, &|n| {
        if n == 0 {
            house.ingest("north");
        }
    });
    let built = built.expect("built");
    let manifest = house.with(|ctx| release::manifest_of(ctx, &built.release)).expect("reads");
    let versions: Vec<u32> = manifest.datasets.iter().map(|d| d.version).collect();
    assert_eq!((versions, times), (vec![2, 1], 2));
    let (refused, times) = released_by(&house, &house.approved("stroke", "lab"), &|_| house.ingest("north"));
    let refused = refused.expect_err("it never ends").to_string();
    assert_eq!(times, 5);
    assert!(refused.starts_with("the data of a hospital keeps changing"), "{refused}");
}

/// Two patients turn out to be one, who refused under the other number: an export says so while something is made of them.
#[test]
fn whoever_turns_out_to_be_somebody_who_refused_is_not_counted_nor_released() {
    let merged = |house: &House| {
        let north = "north".parse().expect("slug");
        let subject = |n: i64| house.registry.lookup(&north, &SourcePatientId::new((100 + n).to_string()));
        let token = |n: i64| house.registry.tokens().id(&north, &SourcePatientId::new((100 + n).to_string()));
        let [from, into] = [30, 2].map(|n| subject(n).expect("reads").expect("known"));
        let merge = Merge { loser: token(30), from, winner: token(2), into };
        assert_eq!(house.registry.merge(&north, &[merge]).expect("merged"), [true]);
    };
    let refusing = || {
        let house = Arc::new(house(0..0));
        refuses(&house, "north-2");
        house
    };
    let house = refusing();
    let (built, times) = released(&house, &|n| {
        if n == 0 {
            merged(&house);
        }
    });
    assert_eq!((persons(&house, &built.expect("built")), times), (2 * (EACH - 5) - 1, 2));
    let house = refusing();
    let there = Arc::clone(&house);
    let before = house.store.size();
    let answer = overtaken(&house, move |_| {
        merged(&there);
        refuses(&there, "north-0");
    });
    assert_eq!(answer.as_of, before + 1, "decided again");
}

#[test]
fn people_read_at_once_said_what_each_says_alone() {
    let house = house(0..3);
    house.with(|ctx| {
        let now = ctx.access.store.size();
        let sayings = || super::super::permitted::Sayings::new(ctx.access, now).expect("reads");
        let permitted = permitted_subjects_of(ctx);
        let strangers = [1, 5_000, SubjectId::LIMIT - 1].map(|id| SubjectId::new(id).expect("in range"));
        let all: Vec<SubjectId> = permitted.into_iter().chain(strangers).collect();
        let (mut at_once, mut alone) = (sayings(), sayings());
        at_once.prepare(all.iter().copied()).expect("reads");
        for subject in all {
            assert_eq!(at_once.of(subject).expect("reads"), alone.of(subject).expect("reads"));
        }
    });
}

fn permitted_subjects_of(ctx: &DataContext<'_>) -> Vec<SubjectId> {
    let find = |hospital: &str, n: i64| {
        let number = Sensitive::new(format!("{hospital}-{n}"));
        ctx.access.people.find_record(&hospital.parse().expect("slug"), &number).expect("reads")
    };
    ["north", "south"].iter().flat_map(|h| (0..EACH).filter_map(|n| find(h, n))).collect()
}
