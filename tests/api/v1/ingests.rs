//! What an ingest leaves in the ledger, and in which order.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use almoner::dataset::Mode;
use almoner::flows::Act;
use almoner::flows::ingest::{self, IngestError, IngestRequest, Source, Told};
use almoner::jobs::{Progress, Silent, Unit};
use almoner::store::EntryFilter;
use almoner::system::SystemEntropy;

use crate::house::House;

fn request() -> IngestRequest {
    IngestRequest {
        source: Source::Path(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/two-hospitals-20/north-general/fhir"),
        ),
        contributor: "north-general".parse().expect("slug"),
        dataset: None,
        profile: "date-shifted".into(),
        mode: Mode::Full,
        linkage: false,
        told: Told::default(),
        act: Act::operator(&SystemEntropy),
    }
}

fn kinds(house: &House) -> Vec<String> {
    let entries = house.app.store.entries(0, 1000, &EntryFilter::default()).expect("readable");
    entries.into_iter().map(|entry| entry.leaf.kind).collect()
}

/// Stops a run once its consents have been taken.
#[derive(Default)]
struct StopAfterConsents(AtomicBool);

impl Progress for StopAfterConsents {
    fn stage(&self, name: &'static str, _: Option<u64>, _: Unit) {
        self.0.fetch_or(name == "consents", Ordering::SeqCst);
    }
    fn advance(&self, _: u64) {}
    fn cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn consents_of_an_export_are_heard_before_its_rows_can_be_asked_for() {
    let house = House::open();
    let stopped = house.app.with_ingest(|ctx| ingest::run(ctx, request(), &StopAfterConsents::default()));
    assert!(matches!(stopped, Err(IngestError::Cancelled)), "{stopped:?}");
    let heard = kinds(&house).iter().filter(|kind| *kind == "consent.recorded").count();
    assert!(heard > 0, "a run that stops after them leaves them recorded");
    assert!(!kinds(&house).contains(&"dataset.published".to_owned()));

    let done = house.app.with_ingest(|ctx| ingest::run(ctx, request(), &Silent)).expect("published");
    let taken = done.consents.taken.expect("taken");
    assert_eq!((taken.recorded, taken.already as usize), (0, heard), "and records none of them twice");
    let kinds = kinds(&house);
    let last = kinds.iter().rposition(|kind| kind == "consent.recorded").expect("recorded");
    let published = kinds.iter().position(|kind| kind == "dataset.published").expect("published");
    assert!(last < published, "{kinds:?}");
}
