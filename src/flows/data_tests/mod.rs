//! From two hospitals' tables to a verified release, on the real flows: ingest, consent, count, request, approve, release,
//! download, withdraw, and the offline checks of package and evidence.

mod counted;
mod downloads;
mod erased;
mod erased_replayed;
mod meanwhile;
mod midnight;
mod proven;
mod replayed;
mod timelines;
mod together;
mod witnessed;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use almoner_deid::Zip3;
use almoner_ledger::package::verify_package;
use almoner_ledger::{LogKey, VerifierKey};
use almoner_model::{Date, Digest, Duo, ManualClock, SeededEntropy, Sensitive, SubjectId, Tables, Timestamp};

use super::access::{AccessContext, AccessError};
use super::consent::{NewConsent, Whose};
use super::count::{CountRequest, Shown};
use super::ingest::{IngestContext, IngestError, IngestRequest, IngestSummary, Told};
use super::permitted::ConsentIndex;
use super::question::{DataContext, DataError};
use super::{Act, consent, count, decide, download, ingest, recall, release, request, withdraw};
use crate::blob::Blobs;
use crate::catalog::Catalog;
use crate::consent::{Coverage, Directive, Effect, Provision, Signed, Source, Status, WithdrawalMode};
use crate::dataset::Mode;
use crate::events::{
    EthicsDetermination, LegalBasisRecorded, ProjectCreated, RequestDecided, RequestSubmitted, TermsSigned,
};
use crate::intake::Limits;
use crate::jobs::Silent;
use crate::keys::Keyring;
use crate::registry::Registry;
use crate::release::manifest::Manifest;
use crate::state::Projections;
use crate::store::memory::MemoryStore;
use crate::store::{EntryFilter, Store};

const EACH: i64 = 60;
const COHORT: &[u8] = br#"{"name": "Diabetes", "all": [{"domain": "condition", "concepts": [201826]}]}"#;

struct House {
    folder: tempfile::TempDir,
    tables: Tables,
    store: Arc<dyn Store>,
    registry: std::sync::Arc<Registry>,
    keys: Keyring,
    clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
    catalog: Catalog,
    documents: Blobs,
    index: ConsentIndex,
    zip3: Arc<Zip3>,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for part in ["datasets", "spool", "blobs", "releases"] {
            fs::create_dir(folder.path().join(part)).expect("made");
        }
        let keys = Keyring::from_root(&[7; 32]);
        let clock = Arc::new(ManualClock::at(Timestamp::parse("2026-11-22T12:00:00Z").expect("a time")));
        let entropy = Arc::new(SeededEntropy::new(1));
        let key = LogKey::new("almoner.test/data", &[3; 32]).expect("a key");
        let store: Arc<dyn Store> = Arc::new(
            MemoryStore::new(key, clock.clone(), entropy.clone(), Arc::new(Projections)).expect("opens"),
        );
        let blobs = |name: &str| Blobs::local(&folder.path().join(name)).expect("opens");
        Self {
            tables: Tables::embedded().expect("consistent"),
            registry: std::sync::Arc::new(Registry::in_memory(&keys).expect("opens")),
            catalog: Catalog::new(blobs("datasets"), Arc::clone(&store)),
            documents: blobs("blobs"),
            index: ConsentIndex::new(),
            zip3: Arc::new(Zip3::current().expect("loads")),
            folder,
            store,
            keys,
            clock,
            entropy,
        }
    }

    fn releases(&self) -> PathBuf {
        self.folder.path().join("releases")
    }

    fn act(&self) -> Act {
        Act::operator(self.entropy.as_ref())
    }

    fn with<T>(&self, work: impl FnOnce(&DataContext<'_>) -> T) -> T {
        self.with_store(self.store.as_ref(), work)
    }

    fn with_store<T>(&self, store: &dyn Store, work: impl FnOnce(&DataContext<'_>) -> T) -> T {
        let access = AccessContext {
            store,
            people: &*self.registry,
            documents: &self.documents,
            keys: &self.keys,
            index: &self.index,
            clock: self.clock.as_ref(),
            entropy: self.entropy.as_ref(),
        };
        let offset = |id: i64, epoch: u32| {
            SubjectId::new(id).map_or(0, |subject| self.registry.offset_days(subject, epoch))
        };
        let releases = self.releases();
        work(&DataContext {
            access,
            catalog: &self.catalog,
            keys: &self.keys,
            tables: &self.tables,
            vocabulary: None,
            zip3: &self.zip3,
            offset_days: &offset,
            releases: &releases,
            origin: "almoner.test/data",
        })
    }

    fn ingest(&self, hospital: &str) {
        self.ingest_as(hospital, "date-shifted");
    }

    fn ingest_as(&self, hospital: &str, profile: &str) {
        write_export(&self.export(hospital), hospital);
        let summary = self.take_in(hospital, profile, Mode::Full).expect("published");
        assert_eq!(summary.persons as i64, EACH);
    }

    /// Where a hospital's export lies.
    fn export(&self, hospital: &str) -> std::path::PathBuf {
        self.folder.path().join(format!("export-{hospital}"))
    }

    /// Takes in the export that lies there.
    fn take_in(&self, hospital: &str, profile: &str, mode: Mode) -> Result<IngestSummary, IngestError> {
        let spool = self.folder.path().join("spool");
        let limits = Limits::default();
        let context = IngestContext {
            tables: &self.tables,
            store: self.store.as_ref(),
            registry: &self.registry,
            keys: &self.keys,
            clock: self.clock.as_ref(),
            entropy: self.entropy.as_ref(),
            catalog: &self.catalog,
            vocabulary: None,
            spool: &spool,
            limits: &limits,
            consents: None,
        };
        let request = IngestRequest {
            source: ingest::Source::Path(self.export(hospital)),
            contributor: hospital.parse().expect("slug"),
            dataset: None,
            profile: profile.to_owned(),
            mode,
            linkage: false,
            told: Told::default(),
            act: self.act(),
        };
        ingest::run(context, request, &Silent)
    }

    /// Everyone but the first five of a hospital permits health research.
    fn consents(&self, hospital: &str) {
        self.consents_of(hospital, 5..EACH);
    }

    fn consents_of(&self, hospital: &str, people: std::ops::Range<i64>) {
        let consents = people.map(|n| NewConsent {
            whose: Whose::Record(Sensitive::new(format!("{hospital}-{n}"))),
            directive: paper("form:broad", day(2025, 1, 1), Provision::permit([Duo::HealthResearch])),
            lifts: None,
        });
        let contributor = hospital.parse().expect("slug");
        self.with(|ctx| consent::record_batch(&ctx.access, &self.act(), &contributor, consents.collect()))
            .expect("recorded");
    }

    /// One person signs another paper. Gives its entry.
    fn record(&self, hospital: &str, number: &str, directive: Directive) -> u64 {
        let consent =
            NewConsent { whose: Whose::Record(Sensitive::new(number.to_owned())), directive, lifts: None };
        let contributor = hospital.parse().expect("slug");
        let recorded = self
            .with(|ctx| consent::record_batch(&ctx.access, &self.act(), &contributor, vec![consent]))
            .expect("recorded");
        recorded[0]
    }

    fn count(&self) -> Result<super::count::CountAnswer, DataError> {
        let request = counting();
        self.with(|ctx| count::count(ctx, &self.act(), &request))
    }

    /// A request that everyone concerned has approved.
    fn approved(&self, project: &str, recipient: &str) -> almoner_model::RequestId {
        self.approved_with(project, recipient, |_| ())
    }

    /// A request that everyone concerned has approved, as `change` makes it.
    fn approved_with(
        &self,
        project: &str,
        recipient: &str,
        change: impl FnOnce(&mut RequestSubmitted),
    ) -> almoner_model::RequestId {
        self.with(|ctx| {
            let access = &ctx.access;
            if super::request::project(access, &project.parse().expect("slug")).is_err() {
                self.project(project, recipient);
            }
            let mut body = RequestSubmitted {
                request: format!("r-{project}").parse().expect("slug"),
                project: project.parse().expect("slug"),
                recipient: recipient.parse().expect("slug"),
                purpose: Duo::HealthResearch,
                modifiers: Vec::new(),
                diseases: Vec::new(),
                methods: false,
                statements: Vec::new(),
                cohort: Digest::of(b""),
                datasets: datasets(),
                tables: vec!["person".into(), "condition_occurrence".into()],
                tier: "controlled".into(),
                profile: "date-shifted".into(),
                lay_summary: "We look at how people with diabetes live and fare over the years.".into(),
                ethics: EthicsDetermination {
                    protocol: "P-1".into(),
                    board: "Board".into(),
                    expires: Date::from_ymd(2030, 1, 1).expect("valid"),
                },
            };
            change(&mut body);
            let (id, hospitals) = (body.request.clone(), body.datasets.clone());
            request::submit(access, &self.act(), &self.tables, body, COHORT).expect("submitted");
            let terms = TermsSigned {
                request: id.clone(),
                recipient: recipient.parse().expect("slug"),
                signatory: "Dean".into(),
                document: Digest::of(b""),
            };
            decide::sign_terms(access, &self.act(), terms, b"no re-identification").expect("signed");
            for hospital in hospitals {
                let word = RequestDecided {
                    request: id.clone(),
                    contributor: hospital.as_str().parse().expect("slug"),
                    decision: "approved".into(),
                    delegate: None,
                    reason: "in the interest of our patients".into(),
                };
                decide::decide(access, &self.act(), word).expect("decided");
            }
            id
        })
    }

    fn project(&self, project: &str, recipient: &str) {
        let body = ProjectCreated {
            project: project.parse().expect("slug"),
            title: "Diabetes".into(),
            recipient: recipient.parse().expect("slug"),
        };
        self.with(|ctx| request::create_project(&ctx.access, &self.act(), body)).expect("created");
    }

    fn legal_bases(&self) {
        self.legal_bases_for("date-shifted", "expert_determination");
    }

    /// That safe-harbor data may go too.
    fn attested(&self) {
        self.legal_bases_for("safe-harbor", "safe_harbor_attestation");
    }

    fn legal_bases_for(&self, profile: &str, kind: &str) {
        for hospital in ["north", "south"] {
            let basis = LegalBasisRecorded {
                id: format!("basis-{hospital}-{profile}"),
                contributor: hospital.parse().expect("slug"),
                kind: kind.into(),
                profile: profile.into(),
                recipient: None,
                project: None,
                by: "Expert".into(),
                method: "k-anonymity".into(),
                scope: "all".into(),
                document: Digest::of(b""),
                expires: Date::from_ymd(2030, 1, 1),
                no_actual_knowledge: profile == "safe-harbor",
            };
            self.with(|ctx| decide::record_legal_basis(&ctx.access, &self.act(), basis, b"determination"))
                .expect("recorded");
        }
    }

    fn key(&self) -> VerifierKey {
        VerifierKey::parse(&self.store.vkey()).expect("a key")
    }
}

fn datasets() -> Vec<almoner_model::DatasetId> {
    ["north", "south"].iter().map(|d| d.parse().expect("slug")).collect()
}

/// The count of everybody with diabetes.
fn counting() -> CountRequest {
    CountRequest {
        project: "diabetes".parse().expect("slug"),
        purpose: Duo::HealthResearch,
        modifiers: Vec::new(),
        definition: COHORT.to_vec(),
        datasets: datasets(),
    }
}

/// OMOP tables: everyone has diabetes three times, every second person hypertension too.
fn write_export(dir: &Path, hospital: &str) {
    fs::create_dir_all(dir).expect("made");
    let mut persons = String::from(
        "person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth,race_concept_id,ethnicity_concept_id,person_source_value\n",
    );
    let mut conditions = String::from(
        "condition_occurrence_id,person_id,condition_concept_id,condition_start_date,condition_type_concept_id\n",
    );
    for n in 0..EACH {
        let id = 100 + n;
        let _ = writeln!(persons, "{id},{},{},5,17,0,0,{hospital}-{n}", 8507 + 25 * (n % 2), 1970 + n % 3);
        for (row, concept) in [(0, 201_826), (1, 201_826), (2, 201_826), (3, 316_866)] {
            if row < 3 || n % 2 == 0 {
                // Nobody's intervals are another's, so that equal date vectors are the same person's.
                let apart = 200 + 2 * n + i64::from(hospital == "south");
                let date = Date::from_ymd(2015, 1, 1).expect("valid").plus_days((n + row * apart) as i32);
                let _ = writeln!(conditions, "{},{id},{concept},{date},32817", n * 10 + row + 1);
            }
        }
    }
    fs::write(dir.join("person.csv"), persons).expect("written");
    fs::write(dir.join("condition_occurrence.csv"), conditions).expect("written");
}

fn ready() -> House {
    let house = House::new();
    for hospital in ["north", "south"] {
        house.ingest(hospital);
    }
    house.project("diabetes", "uni");
    house
}

/// Both hospitals with consents and what a release needs.
fn consented() -> House {
    let house = ready();
    for hospital in ["north", "south"] {
        house.consents(hospital);
    }
    house.legal_bases();
    house
}

/// A signed paper that permits `rules`.
fn paper(lineage: &str, signed: Date, rules: Provision) -> Directive {
    Directive {
        source: Source::Form,
        lineage: lineage.into(),
        signed: Signed::on(signed),
        status: Status::Active,
        covers: Coverage::Contributor,
        form: None,
        evidence: None,
        rules,
    }
}

fn day(year: i32, month: u32, day: u32) -> Date {
    Date::from_ymd(year, month, day).expect("valid")
}

#[test]
fn a_count_says_why_nobody_and_then_about_how_many() {
    let house = ready();
    let nobody = house.count().expect("answered");
    assert_eq!(nobody.count, Shown::FewerThan(25));
    assert!(!nobody.reasons.is_empty(), "it says why");
    for hospital in ["north", "south"] {
        house.consents(hospital);
    }
    let size = house.store.size();
    let first = house.count().expect("answered");
    let Shown::About(n) = first.count else { panic!("{:?}", first.count) };
    assert!((105..=115).contains(&n), "{n}");
    assert_eq!(first.seq, size, "the answer is in the ledger");
    assert_eq!(house.count().expect("answered").count, first.count, "the same people, the same answer");
}

#[test]
fn a_release_is_verified_offline_and_two_recipients_get_different_people_numbers() {
    let house = consented();
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    assert_eq!((built.persons + suppressed(&house, &built.release)) as i64, 2 * (EACH - 5));
    let package = release::package_folder(&house.releases(), &built.release);
    let report = verify_package(&package, Some(&house.key()));
    assert!(report.intact, "{:?}", report.findings);
    assert_eq!(report.seq, Some(built.seq));

    let other = house.approved("stroke", "lab");
    let second = house.with(|ctx| release::release(ctx, &house.act(), &other)).expect("built");
    let pseudonyms = |id| -> BTreeSet<String> {
        let list = house.with(|ctx| release::members(ctx, id)).expect("opens");
        list.members.into_iter().map(|m| m.pseudonym).collect()
    };
    assert!(pseudonyms(&built.release).is_disjoint(&pseudonyms(&second.release)));

    keep(&[&built.release, &second.release], &house);

    // Each file, one byte changed: found and named.
    for name in [
        "tables/person.parquet",
        "DATA_DICTIONARY.md",
        "release.json",
        "SHA256SUMS",
        "ledger/entry.json",
        "ledger/entry.tlog-proof",
    ] {
        let path = package.join(name);
        let whole = fs::read(&path).expect("there");
        let mut flipped = whole.clone();
        let at = flipped.len() / 2;
        flipped[at] ^= 1;
        fs::write(&path, &flipped).expect("written");
        let report = verify_package(&package, Some(&house.key()));
        assert!(!report.intact, "{name}");
        fs::write(&path, &whole).expect("written");
    }
    fs::write(package.join("tables/extra.parquet"), b"x").expect("written");
    assert!(!verify_package(&package, Some(&house.key())).intact, "a file in no list");
}

/// For `.ci/bars/release-opens`: copies packages to the folder that `ALMONER_KEEP_RELEASES` names.
#[expect(clippy::disallowed_methods, reason = "a bar asks for it")]
fn keep(releases: &[&almoner_model::ReleaseId], house: &House) {
    let Ok(to) = std::env::var("ALMONER_KEEP_RELEASES") else { return };
    for id in releases {
        let mut folders = vec![PathBuf::from(id.as_str()).join("package")];
        while let Some(folder) = folders.pop() {
            fs::create_dir_all(Path::new(&to).join(&folder)).expect("made");
            for item in fs::read_dir(house.releases().join(&folder)).expect("there") {
                let path = folder.join(item.expect("listed").file_name());
                if house.releases().join(&path).is_dir() {
                    folders.push(path);
                } else {
                    fs::copy(house.releases().join(&path), Path::new(&to).join(&path)).expect("copied");
                }
            }
        }
    }
}

/// How many people the gate left out.
fn suppressed(house: &House, id: &almoner_model::ReleaseId) -> u64 {
    let bytes = fs::read(release::package_folder(&house.releases(), id).join("release.json")).expect("there");
    let manifest: Manifest = serde_json::from_slice(&bytes).expect("reads back");
    assert!(manifest.risk.k_measured >= manifest.risk.k_required && manifest.risk.k_required == 5);
    let gate = house.with(|ctx| release::members(ctx, id)).expect("opens").gate;
    let all = gate.report.suppressed;
    // Who is left out is rare, so a recipient is not told how many they are where they are few.
    assert_eq!(manifest.risk.persons_suppressed, (all == 0 || all >= 11).then_some(all));
    let told = String::from_utf8(bytes).expect("text");
    assert!(!told.contains("left_out") && !told.contains("\"before\""), "{told}");
    all
}

fn leaves(house: &House) -> Vec<(u64, Vec<u8>)> {
    let size = house.store.size();
    house.store.leaves(0..size).expect("reads").into_iter().enumerate().map(|(i, l)| (i as u64, l)).collect()
}

fn withdrawal(house: &House, hospital: &str, n: i64) {
    withdrawn(house, hospital, n, WithdrawalMode::NoFurtherUse);
}

fn withdrawn(house: &House, hospital: &str, n: i64, mode: WithdrawalMode) {
    let contributor: almoner_model::ContributorId = hospital.parse().expect("slug");
    let number = Sensitive::new(format!("{hospital}-{n}"));
    house
        .with(|ctx| {
            let subject =
                ctx.access.people.find_record(&contributor, &number).expect("reads").expect("known");
            withdraw::withdraw(&ctx.access, &house.act(), subject, Some(&contributor), mode, None)
        })
        .expect("withdrawn");
}

#[test]
fn a_part_that_was_exchanged_is_neither_counted_nor_released() {
    let house = consented();
    let wanted = house.approved("diabetes", "uni");
    house.count().expect("answered");
    let part = |hospital: &str| {
        let root = house.folder.path().join(format!("datasets/{hospital}/v1/condition_occurrence"));
        let bucket = fs::read_dir(root).expect("there").next().expect("a bucket").expect("listed").path();
        fs::read_dir(bucket).expect("there").next().expect("a part").expect("listed").path()
    };
    let (ours, theirs) = (part("north"), part("south"));
    let whole = fs::read(&ours).expect("read");
    fs::copy(&theirs, &ours).expect("exchanged");
    for refused in [
        house.count().err().map(|e| e.to_string()),
        house.with(|ctx| release::release(ctx, &house.act(), &wanted)).err().map(|e| e.to_string()),
    ] {
        let refused = refused.expect("refused");
        assert!(refused.contains("condition_occurrence/") && refused.contains("differs"), "{refused}");
    }
    fs::write(&ours, whole).expect("put back");
    house.count().expect("answered");
    house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
}

#[test]
fn a_crash_between_append_and_rename_is_completed_and_before_the_append_removed() {
    let house = consented();
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    let (done, building) = (
        house.releases().join(built.release.as_str()),
        house.releases().join(format!(".building-{}", built.release)),
    );
    fs::rename(&done, &building).expect("as a crash leaves it");
    fs::remove_dir_all(building.join("package/ledger")).expect("as a crash leaves it");
    let stray = house.releases().join(".building-rel-0000000000000000");
    fs::create_dir_all(stray.join("package")).expect("as a crash leaves it");
    house.with(release::recover).expect("recovers");
    assert!(!stray.exists() && !building.exists());
    assert!(verify_package(&done.join("package"), Some(&house.key())).intact);
}

#[test]
fn no_permit_no_release_and_a_refusal_by_the_gate_is_logged() {
    let house = ready();
    for hospital in ["north", "south"] {
        house.consents(hospital);
    }
    let wanted = house.approved("diabetes", "uni");
    let refused = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect_err("no legal basis");
    assert!(matches!(refused, DataError::Access(AccessError::Refused(_))), "{refused}");
    assert_eq!(fs::read_dir(house.releases()).expect("there").count(), 0, "nothing is left");
}
