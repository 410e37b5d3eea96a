//! Whatever an ingest is stopped at, nothing half-made is visible and the same command goes through afterwards.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::jobs::{Progress, Unit};
use crate::store::StoreError;
use crate::store::signing::SigningKeys;
use crate::store::sqlite::{FaultHook, Options, SqliteStore, Step};

/// Asks the run to stop after a number of calls.
struct StopAt {
    left: AtomicU64,
}

impl StopAt {
    fn tick(&self) {
        let _ = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    }
}

impl Progress for StopAt {
    fn stage(&self, _: &'static str, _: Option<u64>, _: Unit) {
        self.tick();
    }
    fn advance(&self, _: u64) {
        self.tick();
    }
    fn cancelled(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }
}

/// A small export of FHIR: `people` patients with a visit and two conditions each.
pub(super) fn export(folder: &Path, people: std::ops::Range<u32>) {
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    let mut say = |kind: &'static str, line: String| {
        let file = files.entry(kind).or_default();
        file.push_str(&line);
        file.push('\n');
    };
    for n in people {
        say(
            "Patient",
            format!(
                r#"{{"resourceType":"Patient","id":"p{n}","birthDate":"19{:02}-03-04","gender":"female"}}"#,
                n % 90 + 10
            ),
        );
        say(
            "Encounter",
            format!(
                r#"{{"resourceType":"Encounter","id":"e{n}","status":"finished","class":{{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"AMB"}},"subject":{{"reference":"Patient/p{n}"}},"period":{{"start":"2020-01-05","end":"2020-01-05"}}}}"#
            ),
        );
        for (k, code) in [(0, "44054006"), (1, "38341003")] {
            say("Condition", condition(&format!("c{n}-{k}"), &format!("p{n}"), code, Some(&format!("e{n}"))));
        }
    }
    for (kind, text) in files {
        std::fs::write(folder.join(format!("{kind}.ndjson")), text).expect("written");
    }
}

pub(super) fn condition(id: &str, person: &str, code: &str, visit: Option<&str>) -> String {
    let visit = visit.map(|v| format!(r#","encounter":{{"reference":"Encounter/{v}"}}"#)).unwrap_or_default();
    format!(
        r#"{{"resourceType":"Condition","id":"{id}","subject":{{"reference":"Patient/{person}"}},"code":{{"coding":[{{"system":"http://snomed.info/sct","code":"{code}"}}]}},"onsetDateTime":"2020-01-05"{visit}}}"#
    )
}

#[test]
fn wherever_it_stops_nothing_is_visible_and_the_same_command_goes_through() {
    let dir = tempfile::tempdir().expect("a folder");
    export(dir.path(), 0..20);
    let house = House::new();
    let mut stopped = 0;
    for left in 1.. {
        let progress = StopAt { left: AtomicU64::new(left) };
        let result = house.with(|ctx| run(ctx, house.request(dir.path(), "north"), &progress));
        let spool = std::fs::read_dir(house.spool()).expect("listed").count();
        assert_eq!(spool, 0, "no working file is left");
        match result {
            Err(IngestError::Cancelled) => {
                stopped += 1;
                assert!(house.catalog.list(&|_| true).expect("lists").is_empty());
                assert!(
                    house.catalog.blobs().list("").expect("lists").is_empty(),
                    "nothing is left at step {left}"
                );
            }
            Ok(summary) => {
                assert_eq!((summary.version, summary.persons), (1, 20));
                break;
            }
            Err(error) => panic!("step {left}: {error}"),
        }
    }
    assert!(stopped >= 4, "the run can be stopped in several places: {stopped}");
}

#[test]
fn a_version_that_the_ledger_does_not_know_is_removed_at_the_next_start() {
    let dir = tempfile::tempdir().expect("a folder");
    export(dir.path(), 0..5);
    let house = House::new();
    house.ingest(dir.path(), "north").expect("published");
    // A crash between manifest and ledger leaves a complete version; one while writing leaves files without a manifest.
    let root = house.folder.path().join("datasets/north");
    let copy = |to: &str| {
        std::fs::create_dir_all(root.join(to).join("reports")).expect("made");
        std::fs::copy(root.join("v1/manifest.json"), root.join(to).join("manifest.json")).expect("copied");
    };
    copy("v2");
    std::fs::create_dir_all(house.folder.path().join("datasets/south/v1/person")).expect("made");
    assert_eq!(house.catalog.list(&|_| true).expect("lists").len(), 1);
    let id = "north".parse().expect("a slug");
    assert!(house.catalog.version(&id, 2).is_err(), "the ledger decides what is visible");
    let orphans = house.catalog.remove_orphans().expect("removed");
    assert_eq!((orphans.set_aside, orphans.removed), (vec!["north/v2".into()], vec!["south/v1".into()]));
    assert!(house.folder.path().join("datasets/.orphaned/north-v2-0/manifest.json").exists(), "not lost");
    copy("v2");
    let again = house.catalog.remove_orphans().expect("removed");
    assert_eq!((again.set_aside.len(), again.removed.len()), (1, 0), "and what was set aside stays");
    assert!(house.folder.path().join("datasets/.orphaned/north-v2-1/manifest.json").exists());
    house.catalog.latest(&id).expect("there").verify().expect("intact");
}

#[test]
fn one_maker_at_a_time() {
    let dir = tempfile::tempdir().expect("a folder");
    export(dir.path(), 0..3);
    let house = House::new();
    let claim = house.catalog.claim(&"north".parse().expect("a slug"));
    assert!(matches!(house.ingest(dir.path(), "north"), Err(IngestError::Busy(_))));
    drop(claim);
    house.ingest(dir.path(), "north").expect("published");
}

#[test]
fn a_flipped_byte_is_found_and_named() {
    let dir = tempfile::tempdir().expect("a folder");
    export(dir.path(), 0..20);
    let house = House::new();
    let summary = house.ingest(dir.path(), "north").expect("published");
    let version = house.catalog.latest(&summary.dataset).expect("there");
    let files = version.manifest.files.iter().map(|f| f.path.clone());
    let reports = version.manifest.report_files.iter().map(|f| f.path.clone());
    for file in files.chain(reports).chain(["manifest.json".to_owned()]) {
        let path = version.root.join(&file);
        let whole = std::fs::read(&path).expect("read");
        if whole.is_empty() {
            continue;
        }
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, &bytes).expect("written");
        let error = version.verify().expect_err("found").to_string();
        assert!(error.contains(&file), "{file}: {error}");
        std::fs::write(&path, &whole).expect("written");
    }
    version.verify().expect("whole again");
    std::fs::write(version.root.join("person/extra"), b"x").expect("written");
    assert!(version.verify().expect_err("found").to_string().contains("person/extra"));
}

/// A store whose next commit fails, after it was done or before, once the run comes to the ledger.
struct Torn {
    armed: AtomicU64,
    after: bool,
}

impl Torn {
    fn strike(&self, step: Step, after: bool) -> Result<(), StoreError> {
        let hit = step == Step::Commit && after == self.after && self.armed.swap(0, Ordering::SeqCst) == 1;
        if hit { Err(StoreError::Unavailable("a fault".into())) } else { Ok(()) }
    }
}

impl FaultHook for Torn {
    fn before(&self, step: Step) -> Result<(), StoreError> {
        self.strike(step, false)
    }
    fn after(&self, step: Step) -> Result<(), StoreError> {
        self.strike(step, true)
    }
}

impl Progress for Torn {
    fn stage(&self, name: &'static str, _: Option<u64>, _: Unit) {
        self.armed.store(u64::from(name == "ledger"), Ordering::SeqCst);
    }
    fn advance(&self, _: u64) {}
    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn a_version_stays_if_the_ledger_took_it_whatever_it_could_say() {
    let dir = tempfile::tempdir().expect("a folder");
    export(dir.path(), 0..5);
    for after in [true, false] {
        let torn = Arc::new(Torn { armed: AtomicU64::new(0), after });
        let mut house = House::new();
        house.store = Arc::new(
            SqliteStore::open(Options {
                path: house.folder.path().join("ledger.sqlite"),
                keys: SigningKeys::new(|_| LogKey::new("almoner.test/ingest", &[3; 32])),
                wrapping_key: [4; 32],
                anchor: None,
                clock: house.clock.clone(),
                entropy: house.entropy.clone(),
                projector: Arc::new(Projections),
                faults: Some(torn.clone()),
            })
            .expect("opens"),
        );
        let blobs = Blobs::local(&house.folder.path().join("datasets")).expect("opens");
        house.catalog = Catalog::new(blobs, Arc::clone(&house.store));
        let first = house.with(|ctx| run(ctx, house.request(dir.path(), "north"), &*torn));
        let listed = house.catalog.list(&|_| true).expect("lists").len();
        match (first, after) {
            (Ok(summary), true) => {
                assert_eq!((summary.version, listed), (1, 1));
                check(&house, &summary);
            }
            (Err(IngestError::Store(StoreError::Unavailable(_))), false) => assert_eq!(listed, 0),
            (other, _) => panic!("after the commit: {after}, {other:?}"),
        }
        let again = house.ingest(dir.path(), "north").expect("published");
        assert_eq!(again.version, if after { 2 } else { 1 });
        check(&house, &again);
    }
}
