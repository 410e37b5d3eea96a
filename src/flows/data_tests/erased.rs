//! Erasure on the real flows and files: nothing of the person is left, everything verifies, a crash at any step is finished,
//! and nobody comes back.

use almoner_ledger::evidence::verify_evidence;
use almoner_ledger::receipt::Receipt;
use almoner_model::{ContributorId, ReleaseId};

use super::*;
use crate::flows::backup::{BackupError, Manifest, backup};
use crate::flows::checkpoint::receipt;
use crate::flows::erase::{self, EraseContext, Erasure, Faults, Step, Whom};
use crate::flows::ingest::IngestError;
use crate::flows::verify::{Verification, verify};
use crate::flows::{evidence, invitation};
use crate::jobs::{Progress, Unit};
use crate::store::signing::SigningKeys;
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Payload, StoreError};

impl House {
    /// With ledger and registry in files.
    pub(super) fn on_disk() -> Self {
        let mut house = Self::new();
        house.reopen();
        house
    }

    fn options(&self) -> Options {
        Options {
            path: self.folder.path().join("ledger.sqlite"),
            keys: SigningKeys::new(|_| LogKey::new("almoner.test/data", &[3; 32])),
            wrapping_key: [9; 32],
            anchor: None,
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            projector: Arc::new(Projections),
            faults: None,
        }
    }

    /// As after the end of the process.
    fn reopen(&mut self) {
        let elsewhere = Self::new();
        (self.store, self.registry) = (Arc::clone(&elsewhere.store), Arc::clone(&elsewhere.registry));
        self.catalog = elsewhere.catalog.clone();
        self.store = Arc::new(SqliteStore::open(self.options()).expect("opens"));
        let registry = Registry::open(&self.folder.path().join("registry.sqlite"), &self.keys);
        self.registry = Arc::new(registry.expect("opens"));
        let blobs = Blobs::local(&self.folder.path().join("datasets")).expect("opens");
        self.catalog = Catalog::new(blobs, Arc::clone(&self.store));
        self.index = ConsentIndex::new();
    }

    pub(super) fn with_erase<T>(
        &self,
        faults: Option<&Faults<'_>>,
        work: impl FnOnce(&EraseContext<'_>) -> T,
    ) -> T {
        let known = self.folder.path().join("known.erased");
        self.with(|data| work(&EraseContext { data: *data, registry: &self.registry, known: &known, faults }))
    }

    pub(super) fn erase(&self, whom: &Whom) -> Result<Erasure, DataError> {
        self.with_erase(None, |ctx| erase::erase(ctx, &self.act(), whom))
    }

    pub(super) fn verified(&self) -> Verification {
        let (root, open) = (self.folder.path(), self.options());
        let at = |part: &str| root.join(part);
        verify(open, &at("datasets"), &at("releases"), &at("blobs"), true).expect("readable")
    }

    pub(super) fn subject(&self, hospital: &str, number: &str) -> Option<SubjectId> {
        let contributor: ContributorId = hospital.parse().expect("slug");
        let found = self.registry.find_record(&contributor, &Sensitive::new(number.to_owned()));
        found.expect("reads")
    }
}

pub(super) fn whom(hospital: &str, number: &str) -> Whom {
    Whom {
        contributor: hospital.parse().expect("slug"),
        record_number: Sensitive::new(number.to_owned()),
        everywhere: false,
    }
}

/// A house with two versions, a release, an invitation and a choice that nobody else made; and what is known of `north-20`.
struct Before {
    house: House,
    release: ReleaseId,
    subject: SubjectId,
    pseudonym: String,
    invitation: String,
    /// Whose entry is kept with its receipt, before the erasure: the person's own and somebody else's.
    receipts: Vec<(Vec<u8>, Vec<u8>)>,
}

const PERSON: &str = "north-20";

fn before() -> Before {
    let house = House::on_disk();
    for hospital in ["north", "south"] {
        house.ingest(hospital);
    }
    house.take_in("north", "date-shifted", Mode::Full).expect("published");
    house.project("diabetes", "uni");
    for hospital in ["north", "south"] {
        house.consents(hospital);
    }
    house.legal_bases();
    let subject = house.subject("north", PERSON).expect("known");
    let only = Provision { projects: vec!["peculiar".parse().expect("slug")], ..Provision::permit([]) };
    let own = house.record("north", PERSON, paper("form:own", day(2025, 2, 2), only));
    let other = house.record("north", "north-21", paper("form:more", day(2025, 2, 2), Provision::permit([])));
    let act = house.act();
    let north: ContributorId = "north".parse().expect("slug");
    let number = Sensitive::new(PERSON.to_owned());
    let invited =
        house.with(|ctx| invitation::invite(&ctx.access, &act, &north, &number, 7)).expect("invited");
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    let list = house.with(|ctx| release::members(ctx, &built.release)).expect("opens");
    let member = list.members.iter().find(|m| m.subject == subject.to_string()).expect("in the release");
    let receipts = [own, other].map(|seq| {
        let entry = house.store.entry(seq).expect("reads").expect("there");
        (entry.bytes, receipt(house.store.as_ref(), seq).expect("made"))
    });
    let (pseudonym, release) = (member.pseudonym.clone(), built.release);
    Before { house, release, subject, pseudonym, invitation: invited.id, receipts: receipts.into() }
}

/// Every file of the data folder that holds any of `needles`, with the needle. The hospital's own exports are not searched.
fn found(house: &House, needles: &[Vec<u8>]) -> Vec<String> {
    let (mut out, mut folders) = (Vec::new(), vec![house.folder.path().to_owned()]);
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder).expect("reads") {
            let path = item.expect("listed").path();
            if path.is_dir() {
                let export = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("export-"));
                folders.extend((!export).then_some(path));
                continue;
            }
            let bytes = fs::read(&path).expect("reads");
            for needle in needles {
                if bytes.windows(needle.len()).any(|w| w == needle) {
                    out.push(format!("{}: {}", path.display(), String::from_utf8_lossy(needle)));
                }
            }
        }
    }
    out
}

/// The people of every version of every dataset, as its files say.
fn people(house: &House) -> Vec<BTreeSet<i64>> {
    use arrow::array::AsArray as _;
    let mut all = Vec::new();
    for record in house.catalog.records().expect("reads") {
        for published in &record.versions {
            let version = house.catalog.version(&record.dataset, published.body.version).expect("opens");
            let mut persons = BTreeSet::new();
            for file in &version.manifest.files {
                for batch in version.stream(file, Some(&["person_id"])).expect("opens") {
                    let batch = batch.expect("reads");
                    let ids = batch.column(0).as_primitive::<arrow::datatypes::Int64Type>();
                    persons.extend(ids.values().iter().copied());
                }
            }
            all.push(persons);
        }
    }
    all
}

impl Before {
    /// What must be found nowhere: the id as text and as databases write it, the pseudonym, the choice that nobody else made.
    fn needles(&self) -> Vec<Vec<u8>> {
        let id = self.subject.get();
        vec![
            id.to_string().into_bytes(),
            id.to_be_bytes().to_vec(),
            id.to_le_bytes().to_vec(),
            self.pseudonym.clone().into_bytes(),
            b"peculiar".to_vec(),
            self.invitation.clone().into_bytes(),
        ]
    }

    /// The copy takes the place of the folder; what lies beside it stays.
    fn put_back(&mut self, copy: &Path) {
        let known = fs::read(self.house.folder.path().join("known.erased")).expect("there");
        let elsewhere = House::new();
        (self.house.store, self.house.registry) =
            (Arc::clone(&elsewhere.store), Arc::clone(&elsewhere.registry));
        self.house.catalog = elsewhere.catalog.clone();
        let root = self.house.folder.path().to_owned();
        for item in fs::read_dir(&root).expect("reads") {
            let path = item.expect("listed").path();
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
        }
        copied(copy, &root);
        fs::write(root.join("known.erased"), known).expect("kept");
        self.house.reopen();
    }

    /// That nothing of the person is left and everything else is as it was.
    fn is_gone(&self) {
        let house = &self.house;
        let left = found(house, &self.needles());
        assert!(left.is_empty(), "{left:#?}");
        assert_eq!(house.subject("north", PERSON), None);
        assert_eq!(people(house).iter().map(BTreeSet::len).collect::<Vec<_>>(), [59, 59, 60]);
        let verified = house.verified();
        let problems: Vec<_> = verified.files().filter_map(|c| c.problem.clone()).collect();
        assert!(verified.intact, "{problems:?} {:?}", verified.ledger.findings);
        assert_eq!(verified.ledger.erased, 3, "two consents and an invitation");

        let package = release::package_folder(&house.releases(), &self.release);
        let report = verify_package(&package, Some(&house.key()));
        assert!(report.intact, "{:?}", report.findings);
        assert_eq!(report.persons_erased, 1);
        let pack = house.with(|ctx| evidence::evidence(ctx, &self.release)).expect("made");
        let report = verify_evidence(&pack, &house.key(), Some(&mut leaves(house).into_iter()));
        assert!(report.intact && report.complete, "{:?}", report.findings);
        assert_eq!((report.persons_erased, report.entries_erased), (1, 2));
        for (leaf, proof) in &self.receipts {
            let receipt = Receipt::parse(proof).expect("reads");
            receipt.check(leaf, &house.key()).expect("an old receipt still holds");
        }
        assert!(house.with(|ctx| download::open(ctx, &house.act(), &self.release)).is_ok());
        house.count().expect("answered");
    }
}

#[test]
fn nothing_of_an_erased_person_is_left_and_everything_verifies() {
    let before = before();
    let house = &before.house;
    let there = found(house, &before.needles());
    assert!(there.len() >= 4, "the search finds what is there: {there:?}");
    let same = house.with_erase(None, |ctx| {
        let act = house.act();
        let first = erase::erase(ctx, &act, &whom("north", PERSON)).expect("erased");
        let again = erase::erase(ctx, &act, &whom("north", PERSON)).expect("the same act, the same erasure");
        assert!(first.finished);
        first == again
    });
    assert!(same);
    before.is_gone();
    let refused = house.erase(&whom("north", PERSON)).expect_err("erased before");
    assert!(matches!(refused, DataError::Access(AccessError::Denied(_))), "{refused}");
    let unknown = house.erase(&whom("north", "nobody")).expect_err("unknown");
    assert!(matches!(unknown, DataError::Access(AccessError::Unknown("patient"))), "{unknown}");
    let state = house.with(|ctx| crate::state::read::invitation(&ctx.access.state(), &before.invitation));
    assert_eq!(state, Ok(None), "what they were handed opens nothing");
}

#[test]
fn whoever_was_erased_does_not_come_back_with_exports_or_consents() {
    let before = before();
    let house = &before.house;
    house.erase(&whom("north", PERSON)).expect("erased");
    for mode in [Mode::Full, Mode::Incremental] {
        let summary = house.take_in("north", "date-shifted", mode).expect("published");
        assert_eq!(summary.persons as i64, EACH - 1);
        let suppressed = summary.reasons.iter().find(|(reason, _)| **reason == "suppressed-person");
        // One person and three or four conditions.
        assert_eq!(suppressed.map(|(_, n)| *n), Some(5), "{:?}", summary.reasons);
        assert!(summary.rules.is_empty(), "{:?}", summary.rules);
    }
    // Of an export of changes that has records and not the person.
    fs::remove_file(house.folder.path().join("export-north/person.csv")).expect("removed");
    let summary = house.take_in("north", "date-shifted", Mode::Incremental).expect("published");
    assert!(
        summary.rules.is_empty() && summary.reasons.len() == 1,
        "{:?} {:?}",
        summary.rules,
        summary.reasons
    );
    assert!(people(house).iter().all(|version| !version.contains(&before.subject.get())));
    let consent = NewConsent {
        whose: Whose::Record(Sensitive::new(PERSON.to_owned())),
        directive: paper("form:broad", day(2025, 1, 1), Provision::permit([Duo::HealthResearch])),
        lifts: None,
    };
    let north = "north".parse().expect("slug");
    let refused = house.with(|ctx| consent::record_batch(&ctx.access, &house.act(), &north, vec![consent]));
    assert!(matches!(refused, Err(AccessError::Denied(_))), "{refused:?}");
}

#[test]
fn a_crash_at_any_step_is_finished_at_the_next_start() {
    for failing in Step::ALL {
        for after in [false, true] {
            let mut before = before();
            let faults = move |step: Step, done: bool| match (step, done) {
                at if at == (failing, after) => Err(DataError::failed("as a crash would")),
                _ => Ok(()),
            };
            let house = &before.house;
            let cut = house
                .with_erase(Some(&faults), |ctx| erase::erase(ctx, &house.act(), &whom("north", PERSON)));
            assert!(cut.is_err(), "{failing:?} {after}");
            let begun = (failing, after) != (Step::Entry, false);
            // Until it is finished nobody is served with the person.
            if begun {
                let list = house.with(|ctx| release::members(ctx, &before.release)).expect("opens");
                let serves = house.with(|ctx| download::open(ctx, &house.act(), &before.release)).is_ok();
                assert!(!serves || list.members.iter().all(|m| m.pseudonym != before.pseudonym));
                let said = house.with(|ctx| crate::state::read::subject(&ctx.access.state(), before.subject));
                assert_eq!(said, Ok(None));
            }
            before.house.reopen();
            before.house.with(release::recover).expect("recovers");
            before.house.with_erase(None, erase::recover).expect("goes on");
            if begun {
                before.is_gone();
            } else {
                assert!(before.house.subject("north", PERSON).is_some(), "nothing was begun");
                assert!(before.house.verified().intact);
            }
        }
    }
}

#[test]
fn an_older_copy_of_the_folder_is_erased_again() {
    let mut before = before();
    before.house.reopen();
    let copy = tempfile::tempdir().expect("a folder");
    copied(before.house.folder.path(), copy.path());
    before.house.erase(&whom("north", PERSON)).expect("erased");
    before.put_back(copy.path());
    assert!(before.house.subject("north", PERSON).is_some(), "an older copy has the person");
    before.house.with_erase(None, erase::recover).expect("erased again");
    before.is_gone();
}

/// Does something when the databases are copied and the files are not.
struct Meanwhile<F>(F);

impl<F: Fn() + Send + Sync> Progress for Meanwhile<F> {
    fn stage(&self, name: &'static str, _: Option<u64>, _: Unit) {
        if name == "files" {
            (self.0)();
        }
    }
    fn advance(&self, _: u64) {}
}

impl House {
    /// Backs up into the folder `name` of `place`.
    fn back_up(&self, place: &Path, name: &str, progress: &dyn Progress) -> Result<Manifest, BackupError> {
        let root = self.folder.path();
        fs::write(root.join("almoner.json"), "{}").expect("written");
        fs::create_dir_all(root.join("vocabulary")).expect("made");
        let key = self.keys.key(crate::keys::label::BACKUP);
        backup(root, (self.options(), self.options()), &key, &place.join(name), progress)
    }
}

/// Of a release that the copied ledger does not know nobody would ever be erased.
#[test]
fn a_backup_has_no_release_that_its_ledger_does_not_know() {
    let before = before();
    let house = &before.house;
    let place = tempfile::tempdir().expect("a folder");
    let wanted = house.approved("second", "uni");
    let builds = Meanwhile(|| {
        house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    });
    let made = house.back_up(place.path(), "copy", &builds).expect("copied");
    let releases = |made: &Manifest| -> BTreeSet<String> {
        let below = made.files.iter().filter_map(|file| file.path.strip_prefix("releases/"));
        below.filter_map(|path| Some(path.split_once('/')?.0.to_owned())).collect()
    };
    assert_eq!(releases(&made), [before.release.to_string()].into());
    // As if this one had been finished while it was copied.
    let building = house.releases().join(format!(".building-{}", before.release));
    copied(&house.releases().join(before.release.as_str()), &building);
    let made = house.back_up(place.path(), "later", &Silent).expect("copied");
    assert_eq!(releases(&made).len(), 2);
    assert!(releases(&made).iter().all(|name| !name.starts_with('.')), "{:?}", releases(&made));
    assert!(!place.path().join(format!("later/data/releases/.building-{}", before.release)).exists());
}

/// What it would hold are files of after the erasure beside a ledger of before it.
#[test]
fn a_copy_beside_which_somebody_was_erased_is_no_backup() {
    let before = before();
    let house = &before.house;
    let place = tempfile::tempdir().expect("a folder");
    let back_up = |name: &str, progress: &dyn Progress| house.back_up(place.path(), name, progress);
    let made = back_up("before", &Silent).expect("copied");
    assert_eq!(made.entries, house.store.size());
    assert!(place.path().join("before/backup.json").exists());
    let erases = Meanwhile(|| {
        house.erase(&whom("north", "north-21")).expect("erased");
    });
    let cut = back_up("meanwhile", &erases).expect_err("an erasure ran");
    assert!(matches!(cut, BackupError::Erasing), "{cut}");
    assert!(!place.path().join("meanwhile/backup.json").exists());
    back_up("after", &Silent).expect("copied");
    // One that was cut short has files to write.
    let faults = |step: Step, _: bool| match step {
        Step::Release => Err(DataError::failed("as a crash would")),
        _ => Ok(()),
    };
    let cut = house.with_erase(Some(&faults), |ctx| erase::erase(ctx, &house.act(), &whom("north", PERSON)));
    assert!(cut.is_err());
    assert!(matches!(back_up("unfinished", &Silent), Err(BackupError::Erasing)));
}

/// The list beside the folder was lost and written again from the registry, which does not say whose part was erased: what
/// an older copy brings back is erased at the hospital whose tokens they are, and no other's part.
#[test]
fn an_older_copy_is_erased_again_at_the_hospital_that_erased() {
    let mut before = before();
    let (here, there) = (before.subject, before.house.subject("south", "south-20").expect("known"));
    before.house.registry.alias(there, here).expect("one person");
    let copy = tempfile::tempdir().expect("a folder");
    before.house.reopen();
    copied(before.house.folder.path(), copy.path());
    before.house.erase(&whom("north", PERSON)).expect("erased");
    fs::remove_file(before.house.folder.path().join("known.erased")).expect("lost");
    before.house.with_erase(None, erase::recover).expect("nothing to be done");
    before.put_back(copy.path());
    assert!(before.house.subject("north", PERSON).is_some(), "an older copy has the person");
    before.house.with_erase(None, erase::recover).expect("erased again");
    assert_eq!(before.house.subject("north", PERSON), None);
    assert_eq!(before.house.subject("south", "south-20"), Some(here), "the other hospital's patient stays");
    assert!(before.house.verified().intact);
    let size = before.house.store.size();
    before.house.with_erase(None, erase::recover).expect("once is enough");
    assert_eq!(before.house.store.size(), size);
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for item in fs::read_dir(from).expect("reads") {
        let path = item.expect("listed").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copied(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copied");
        }
    }
}

/// A patient of two hospitals, erased at one of them.
#[test]
fn a_hospital_erases_its_own_part_and_nothing_of_anothers() {
    let before = before();
    let house = &before.house;
    let (here, there) = (before.subject, house.subject("south", "south-20").expect("known"));
    house.registry.alias(there, here).expect("one person");
    // What was refused through the one hospital holds for the data of the other too.
    let deny = house.record("north", PERSON, paper("form:no", day(2025, 3, 3), Provision::new(Effect::Deny)));
    let erased = house.erase(&whom("north", PERSON)).expect("erased");
    assert!(erased.finished);
    assert_eq!(house.subject("north", PERSON), None);
    assert_eq!(house.subject("south", "south-20"), Some(here), "the other hospital's patient stays");
    let everyone = people(house);
    assert_eq!(everyone.iter().map(BTreeSet::len).collect::<Vec<_>>(), [59, 59, 60]);
    assert!(everyone[2].contains(&there.get()));
    let list = house.with(|ctx| release::members(ctx, &before.release)).expect("opens");
    let has = |id: SubjectId| list.members.iter().any(|m| m.subject == id.to_string());
    assert!(!has(here) && !has(there), "rows of a release are not told apart by hospital");
    let verified = house.verified();
    assert!(verified.intact, "{:?}", verified.files().filter_map(|c| c.problem.clone()).collect::<Vec<_>>());
    let entry = house.store.entry(deny).expect("reads").expect("there");
    assert!(matches!(entry.payload, Payload::Present { .. }), "a refusal is not lifted by forgetting it");
    // The operator erases the rest.
    let rest = Whom { everywhere: true, ..whom("south", "south-20") };
    house.erase(&rest).expect("erased");
    assert_eq!(people(house).iter().map(BTreeSet::len).collect::<Vec<_>>(), [59, 59, 59]);
    let left = found(house, &[here, there].map(|id| id.to_string().into_bytes()));
    assert!(left.is_empty(), "{left:#?}");
    assert!(house.verified().intact);
}

#[test]
fn no_ingest_runs_beside_an_erasure() {
    let before = before();
    let house = &before.house;
    let claim = house.catalog.claim(&"north".parse().expect("slug")).expect("free");
    let busy = house.erase(&whom("north", PERSON)).expect_err("an ingest runs");
    assert!(matches!(busy, DataError::Access(AccessError::Conflict(_))), "{busy}");
    drop(claim);
    let all = house.catalog.claim_all().expect("free");
    assert!(matches!(house.take_in("north", "date-shifted", Mode::Full), Err(IngestError::Busy(_))));
    drop(all);
    let gone = house.store.size();
    house.erase(&whom("north", PERSON)).expect("erased");
    // What was decided before is decided again.
    let stale = crate::store::Precondition { topic: crate::state::topic::ERASED.into(), as_of: gone };
    let other = super::super::access::entry(
        &crate::events::Event::ProjectCreated(ProjectCreated {
            project: "later".parse().expect("slug"),
            title: "Later".into(),
            recipient: "uni".parse().expect("slug"),
        }),
        house.act().event_id(0),
        &house.act(),
        None,
        Vec::new(),
    );
    let refused = house.store.append(vec![other.expect("made")], &[stale]);
    assert!(matches!(refused, Err(StoreError::Precondition { .. })), "{refused:?}");
}

/// What is written anew is checked first: an erasure does not make an altered file one that verifies.
#[test]
fn an_altered_file_is_not_made_good_by_an_erasure() {
    let mut before = before();
    let house = &before.house;
    let bucket = house.folder.path().join("datasets/north/v1/condition_occurrence");
    let bucket = fs::read_dir(bucket).expect("there").next().expect("a bucket").expect("listed").path();
    let part = bucket.join("part-0.parquet");
    let whole = fs::read(&part).expect("reads");
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 1;
    fs::write(&part, altered).expect("altered");
    let refused = house.erase(&whom("north", PERSON)).expect_err("refused");
    assert!(refused.to_string().contains("differs"), "{refused}");
    let found = house.verified();
    let problems: Vec<_> = found.files().filter_map(|c| c.problem.clone()).collect();
    assert!(problems.iter().any(|p| p.contains("not finished")) && problems.len() == 2, "{problems:?}");
    fs::write(&part, whole).expect("put back");
    before.house.reopen();
    before.house.with_erase(None, erase::recover).expect("goes on");
    before.is_gone();
}

/// By the difference of two numbers a catalogue would tell who was erased.
#[test]
fn a_catalogue_shows_the_numbers_from_before_until_enough_people_are_gone() {
    let house = House::on_disk();
    house.ingest("north");
    let shown = |own: bool| {
        let list = house.catalog.list(&|_| own).expect("listed");
        (list[0].persons, list[0].tables["condition_occurrence"])
    };
    let before = shown(false);
    assert_eq!(before.0, Some(60));
    for n in 0..11 {
        assert_eq!((shown(false), shown(true).0), (before, Some(60 - n)), "after {n}");
        house.erase(&whom("north", &format!("north-{}", 20 + n))).expect("erased");
    }
    assert_eq!((shown(false), shown(true)), (shown(true), shown(true)), "eleven are not told apart");
    assert_eq!(shown(false).0, Some(49));
    assert!(house.verified().intact);
}
