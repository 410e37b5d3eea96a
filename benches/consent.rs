//! How fast it is answered who permits a use: the first fold over everyone, the warm answer, and the answer after a few
//! people withdrew. On the SQLite store, with the fold that the server uses.
//!
//! Prints one line of JSON, seconds. The number of people is the first argument that is no option (default 1,000,000).
//! Everyone signed one of forty versions of forms on one of 2,000 days; every tenth withdrew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use almoner::consent::{
    Category, CategorySet, Coverage, Directive, Period, Provision, Purpose, Signed, Source, Status, Use,
};
use almoner::events::{
    Actor, ConsentRecorded, ConsentWithdrawn, ContributorRegistered, DatasetPublished, Event,
};
use almoner::flows::{AccessContext, ConsentIndex, Documents, People, PeopleError, permitted_subjects};
use almoner::keys::Keyring;
use almoner::state::Projections;
use almoner::store::signing::SigningKeys;
use almoner::store::sqlite::{Options, SqliteStore};
use almoner::store::{NewEntry, Store};
use almoner_ledger::LogKey;
use almoner_model::{
    ContributorId, DatasetId, Date, Digest, Duo, Entropy, ManualClock, SeededEntropy, SourcePatientId,
    SubjectId, Timestamp,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Nobody;

impl People for Nobody {
    fn subject_of_record(
        &self,
        _: &ContributorId,
        _: &SourcePatientId,
        _: &dyn Entropy,
    ) -> Result<SubjectId, PeopleError> {
        Err(PeopleError::Failed("not asked".into()))
    }
    fn find_record(&self, _: &ContributorId, _: &SourcePatientId) -> Result<Option<SubjectId>, PeopleError> {
        Ok(None)
    }
    fn aliases(&self) -> Result<Vec<(SubjectId, SubjectId)>, PeopleError> {
        Ok(Vec::new())
    }
}

impl Documents for Nobody {
    fn put(&self, bytes: &[u8]) -> Result<Digest, String> {
        Ok(Digest::of(bytes))
    }
    fn get(&self, _: &Digest) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }
}

fn entry(n: u64, event: &Event, subject: Option<SubjectId>) -> NewEntry {
    NewEntry {
        event_id: format!("00000000-0000-4000-8000-{n:012x}"),
        kind: event.kind(),
        actor: Actor { role: "contributor".into(), id: "bench".into() },
        subject,
        payload: event.payload().expect("JSON"),
        policy: None,
        decision: None,
        as_of: None,
        until: None,
        topics: vec![],
    }
}

fn consent(n: u64, north: &ContributorId) -> Event {
    let (form, day) = (n % 40, i32::try_from(n % 2_000).expect("small"));
    let signed = Date::from_days(18_000 + day);
    let mut permit = Provision::permit([[Duo::GeneralResearch, Duo::HealthResearch][(form % 2) as usize]]);
    permit.period = Some(Period {
        from: None,
        until: Some(Timestamp::from_date(signed.plus_days(365 * (1 + i32::try_from(form).expect("small"))))),
    });
    let directive = Directive {
        source: Source::Form,
        lineage: format!("form:{form}"),
        signed: Signed::on(signed),
        status: Status::Active,
        covers: Coverage::Contributor,
        form: None,
        evidence: None,
        rules: permit,
    };
    let directive = serde_json::to_value(directive).expect("JSON");
    Event::ConsentRecorded(ConsentRecorded { contributor: north.clone(), directive, lifts: None })
}

fn withdrawal() -> Event {
    Event::ConsentWithdrawn(ConsentWithdrawn {
        contributor: None,
        mode: "no_further_use".into(),
        evidence: None,
    })
}

fn fill(store: &SqliteStore, people: u64, north: &ContributorId, dataset: &DatasetId) {
    let registered = Event::ContributorRegistered(ContributorRegistered {
        contributor: north.clone(),
        name: "North".into(),
        linkage: false,
        k_min: None,
    });
    let published = Event::DatasetPublished(DatasetPublished {
        dataset: dataset.clone(),
        version: 1,
        contributor: north.clone(),
        manifest: Digest::of(b""),
        profile: "date-shifted".into(),
        mode: "full".into(),
        persons: people,
        tables: BTreeMap::new(),
    });
    let first = vec![entry(0, &registered, None), entry(1, &published, None)];
    store.append(first, &[]).expect("appended");
    let mut batch = Vec::new();
    for n in 0..people {
        let subject = Some(SubjectId::new(1 + i64::try_from(n).expect("small")).expect("in range"));
        batch.push(entry(2 + 2 * n, &consent(n, north), subject));
        if n % 10 == 0 {
            batch.push(entry(3 + 2 * n, &withdrawal(), subject));
        }
        if batch.len() >= 5_000 || n + 1 == people {
            store.append(std::mem::take(&mut batch), &[]).expect("appended");
        }
    }
}

#[expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark measures and prints")]
fn main() {
    let people: u64 = std::env::args()
        .skip(1)
        .find(|a| !a.starts_with('-'))
        .map_or(1_000_000, |a| a.parse().expect("a number"));
    let dir = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(ManualClock::at(Timestamp::parse("2026-11-22T10:00:00Z").expect("a time")));
    let entropy = Arc::new(SeededEntropy::new(1));
    let store = SqliteStore::open(Options {
        path: dir.path().join("ledger.sqlite"),
        keys: SigningKeys::new(|_| LogKey::new("almoner.local/bench", &[7; 32])),
        wrapping_key: [8; 32],
        anchor: None,
        clock: clock.clone(),
        entropy: entropy.clone(),
        projector: Arc::new(Projections),
        faults: None,
    })
    .expect("a store");
    let (north, dataset) = ("north".parse().expect("slug"), "north-main".parse().expect("slug"));
    let filling = Instant::now();
    fill(&store, people, &north, &dataset);
    let filled = filling.elapsed().as_secs_f64();
    let (index, keys) = (ConsentIndex::new(), Keyring::from_root(&[9; 32]));
    let ctx = AccessContext {
        store: &store,
        people: &Nobody,
        documents: &Nobody,
        keys: &keys,
        index: &index,
        clock: &*clock,
        entropy: &*entropy,
    };
    let wanted = Use {
        purpose: Purpose::of(Duo::HealthResearch, []),
        recipient: "institute".parse().expect("slug"),
        project: "stroke".parse().expect("slug"),
        required: CategorySet::EMPTY.with(Category::Demographics).with(Category::Conditions),
        delivered: CategorySet::EMPTY,
        at: ctx.now().expect("ledger time"),
    };
    let datasets = [dataset];
    let ask = || {
        let start = Instant::now();
        let answer = permitted_subjects(&ctx, &wanted, &datasets, None).expect("answered");
        (start.elapsed().as_secs_f64(), answer)
    };
    let (cold, first) = ask();
    let (warm, second) = ask();
    assert_eq!(first.ids(), second.ids());
    let more = (0..100).map(|n| {
        let subject = SubjectId::new(2 + 10 * n).ok();
        entry(10_000_000_000 + u64::try_from(n).expect("small"), &withdrawal(), subject)
    });
    store.append(more.collect(), &[]).expect("appended");
    let (after, third) = ask();
    println!(
        "{}",
        serde_json::json!({
            "people": people, "permitted": first.ids().len(), "permitted_after_100_withdrew": third.ids().len(),
            "seconds_filling": filled, "seconds_first": cold, "seconds_warm": warm, "seconds_after_100": after,
        })
    );
    assert!(warm < 0.5, "the bar: a warm answer within half a second");
}
