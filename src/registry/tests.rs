//! The registry as its callers see it: identity, linkage, late matches, consents before data, erasure, secrecy of the file.

use almoner_model::{ContributorId, Entropy, SeededEntropy, SourcePatientId, SubjectId};

use super::*;

mod awaited;
mod merges;

/// Every call draws other ids.
static SEED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

fn keys() -> Keyring {
    Keyring::from_root(&[9; 32])
}

fn registry() -> Registry {
    Registry::in_memory(&keys()).expect("opens")
}

fn north() -> ContributorId {
    "north".parse().expect("slug")
}

fn south() -> ContributorId {
    "south".parse().expect("slug")
}

fn source(text: &str) -> SourcePatientId {
    SourcePatientId::new(text.to_owned())
}

fn traits(family: &str) -> Traits {
    Traits {
        family_name: Some(family.to_owned().into()),
        given_name: Some("Ada".to_owned().into()),
        birth_date: "1980-05-05".parse().ok(),
        sex: Some("female".to_owned().into()),
        ..Traits::default()
    }
}

/// A patient with id, record numbers and, for a contributor that opted in, a family name.
fn patient(
    r: &Registry,
    who: &ContributorId,
    id: &str,
    records: &[&str],
    family: Option<&str>,
) -> PatientTokens {
    let rules = LinkageRules::exact().expect("loads");
    let linkage = family.map_or_else(Vec::new, |f| r.tokens().linkage(&rules, &traits(f)));
    let records: Vec<_> = records.iter().map(|n| number("", n)).collect();
    r.tokens().patient(who, &source(id), &records, linkage)
}

fn number(system: &str, value: &str) -> RecordNumber {
    RecordNumber { system: system.to_owned(), value: source(value) }
}

/// Subjects, and nothing more.
fn resolve(r: &Registry, who: &ContributorId, patients: &[PatientTokens]) -> Resolved {
    let seed = 1000 + SEED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    r.resolve_batch(who, patients, &Shared::of(patients), &SeededEntropy::new(seed)).expect("resolves")
}

/// A whole run: in batches of `size`, then whom numbers name. Gives the subjects as they stand afterwards.
fn run(
    r: &Registry,
    who: &ContributorId,
    patients: &[PatientTokens],
    size: usize,
) -> (Vec<SubjectId>, Claimed) {
    let shared = Shared::of(patients);
    let mut subjects = Vec::new();
    for batch in patients.chunks(size) {
        let seed = 1000 + SEED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let out = r.resolve_batch(who, batch, &shared, &SeededEntropy::new(seed)).expect("resolves");
        subjects.extend(out.subjects.into_iter().map(|s| s.expect("not erased")));
    }
    let mut all = Claimed::default();
    for piece in Claims::new(subjects.iter().copied().zip(patients)).batches(2) {
        let claimed = r.claim(who, piece).expect("claims");
        all.shared += claimed.shared;
        all.awaited += claimed.awaited;
        all.merged.extend(claimed.merged);
    }
    (subjects.into_iter().map(|s| r.current(s)).collect(), all)
}

fn consent(r: &Registry, who: &ContributorId, named: &str) -> Result<SubjectId, RegistryError> {
    let seed = 5000 + SEED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    r.subject_of_record(who, &source(named), &SeededEntropy::new(seed))
}

fn is_ambiguous(r: &Registry, who: &ContributorId, named: &str) -> bool {
    matches!(consent(r, who, named), Err(RegistryError::Ambiguous))
        && matches!(r.find_record(who, &source(named)), Err(RegistryError::Ambiguous))
}

fn one(r: &Registry, who: &ContributorId, patient: PatientTokens) -> SubjectId {
    run(r, who, &[patient], 10).0[0]
}

#[test]
fn a_patient_keeps_the_subject_and_contributors_do_not_meet() {
    let r = registry();
    let a = one(&r, &north(), patient(&r, &north(), "1", &["M1"], None));
    assert_eq!(one(&r, &north(), patient(&r, &north(), "1", &[], None)), a);
    assert_ne!(one(&r, &south(), patient(&r, &south(), "1", &["M1"], None)), a);
    assert_eq!(r.lookup(&north(), &source("1")).expect("reads"), Some(a));
    assert_eq!(r.lookup(&north(), &source("2")).expect("reads"), None);
    assert_eq!(r.subjects().expect("counts"), 2);
}

#[test]
fn a_record_number_never_makes_two_patients_one() {
    // In one batch, in two batches of a run, in two runs.
    for (size, runs) in [(10, 1), (1, 1), (1, 2)] {
        let r = registry();
        let patients = ["1", "2"].map(|id| patient(&r, &north(), id, &["M"], None));
        let mut subjects = Vec::new();
        let mut shared = 0;
        for part in patients.chunks(2 / runs) {
            let (found, claimed) = run(&r, &north(), part, size);
            subjects.extend(found);
            shared += claimed.shared;
        }
        assert_ne!(subjects[0], subjects[1]);
        assert_eq!(shared, 1);
        assert!(is_ambiguous(&r, &north(), "M"), "{size} {runs}");
        // The number stays nobody's when one of the two alone is sent again, and their ids go on naming them.
        run(&r, &north(), &patients[..1], 10);
        assert!(is_ambiguous(&r, &north(), "M"));
        assert_eq!(consent(&r, &north(), "1").expect("found"), subjects[0]);
        // Another hospital's number is another number.
        assert!(consent(&r, &south(), "M").is_ok());
    }
}

#[test]
fn a_number_of_two_systems_names_nobody_and_a_patient_may_have_it_twice() {
    let r = registry();
    let of =
        |id: &str, records: &[RecordNumber]| r.tokens().patient(&north(), &source(id), records, Vec::new());
    let patients = [of("a", &[number("urn:one", "17")]), of("b", &[number("urn:two", "17")])];
    let (subjects, claimed) = run(&r, &north(), &patients, 1);
    assert_ne!(subjects[0], subjects[1]);
    assert_eq!(claimed.shared, 1);
    assert!(is_ambiguous(&r, &north(), "17"));
    let twice = [of("c", &[number("urn:one", "18"), number("urn:two", " 18 ")])];
    let (subjects, claimed) = run(&r, &north(), &twice, 1);
    assert_eq!((claimed.shared, consent(&r, &north(), "18").expect("found")), (0, subjects[0]));
}

#[test]
fn a_reference_names_by_patient_id_whatever_numbers_others_have() {
    let r = registry();
    let who = north();
    // Ids and numbers are both counted up, so every number is another patient's id. One consent was here first.
    let before = consent(&r, &who, "Patient/3").expect("waits");
    let patients = [("1", "2"), ("2", "3"), ("3", "1")].map(|(id, n)| patient(&r, &who, id, &[n], None));
    let (subjects, _) = run(&r, &who, &patients, 2);
    assert_eq!(before, subjects[2], "the consent was of the patient who came under the id");
    for (subject, id) in subjects.iter().zip(["1", "2", "3"]) {
        assert!(is_ambiguous(&r, &who, id));
        let named = format!("Patient/{id}");
        assert_eq!(consent(&r, &who, &named).expect("one patient's"), *subject);
        assert_eq!(r.find_record(&who, &source(&named)).expect("reads"), Some(*subject));
    }
    assert_eq!(r.find_record(&who, &source("Patient/M1")).expect("reads"), None);
    r.erase(subjects[0]).expect("erases");
    assert!(matches!(consent(&r, &who, "Patient/1"), Err(RegistryError::Suppressed)));
}

#[test]
fn a_number_that_is_another_patients_id_names_nobody() {
    for size in [1, 10] {
        let r = registry();
        let patients =
            [patient(&r, &north(), "17", &["M1"], None), patient(&r, &north(), "18", &["17"], None)];
        let (subjects, claimed) = run(&r, &north(), &patients, size);
        assert_ne!(subjects[0], subjects[1]);
        assert_eq!(claimed.shared, 1);
        assert!(is_ambiguous(&r, &north(), "17"));
        assert_eq!(consent(&r, &north(), "18").expect("found"), subjects[1]);
    }
}

#[test]
fn a_consent_before_data_waits_for_one_patient_and_is_never_guessed() {
    // The number is one patient's record number and another's id, or two patients' record number; in one batch, in two,
    // and in two runs.
    let pairs = [("17", "M1", "18", "17"), ("a", "17", "b", "17"), ("18", "17", "17", "M1")];
    for (id, record, other_id, other_record) in pairs {
        for size in [1, 10] {
            let r = registry();
            let waiting = consent(&r, &north(), "17").expect("made");
            let patients = [
                patient(&r, &north(), id, &[record], None),
                patient(&r, &north(), other_id, &[other_record], None),
            ];
            let (subjects, claimed) = run(&r, &north(), &patients, size);
            assert_ne!(subjects[0], subjects[1]);
            assert!(!subjects.contains(&waiting), "a guess");
            assert_eq!((claimed.shared, claimed.awaited, claimed.merged.len()), (1, 1, 0));
            assert!(is_ambiguous(&r, &north(), "17"));
        }
        // The first patient alone takes it; the second, who comes later, is another person all the same.
        let r = registry();
        let waiting = consent(&r, &north(), "17").expect("made");
        assert_eq!(one(&r, &north(), patient(&r, &north(), id, &[record], None)), waiting);
        assert_ne!(one(&r, &north(), patient(&r, &north(), other_id, &[other_record], None)), waiting);
        assert!(is_ambiguous(&r, &north(), "17"));
    }
}

#[test]
fn linkage_needs_both_to_opt_in() {
    let r = registry();
    let a = one(&r, &north(), patient(&r, &north(), "1", &[], Some("Lovelace")));
    assert_ne!(one(&r, &south(), patient(&r, &south(), "9", &[], None)), a);
    let out = resolve(&r, &south(), &[patient(&r, &south(), "8", &[], Some("LOVELACE"))]);
    assert_eq!((out.subjects[0], out.linked, out.created), (Some(a), 1, 0));
    let silent = registry();
    let b = one(&silent, &north(), patient(&silent, &north(), "1", &[], None));
    assert_ne!(one(&silent, &south(), patient(&silent, &south(), "8", &[], Some("Lovelace"))), b);
}

#[test]
fn two_patients_of_one_hospital_with_the_same_traits_stay_two_and_link_nobody() {
    let r = registry();
    let batch = ["1", "2"].map(|id| patient(&r, &north(), id, &[], Some("Smith")));
    let out = resolve(&r, &north(), &batch);
    assert_ne!(out.subjects[0], out.subjects[1]);
    let out = resolve(&r, &south(), &[patient(&r, &south(), "3", &[], Some("Smith"))]);
    assert_eq!((out.created, out.linked), (1, 0));
    // The same over two batches of a run.
    let r = registry();
    let batch = ["1", "2"].map(|id| patient(&r, &north(), id, &[], Some("Smith")));
    run(&r, &north(), &batch, 1);
    let out = resolve(&r, &south(), &[patient(&r, &south(), "3", &[], Some("Smith"))]);
    assert_eq!((out.created, out.linked), (1, 0));
    // The same, when the second one comes in a later batch.
    let r = registry();
    let a = one(&r, &north(), patient(&r, &north(), "1", &[], Some("Smith")));
    assert_ne!(one(&r, &north(), patient(&r, &north(), "2", &[], Some("Smith"))), a);
    let out = resolve(&r, &south(), &[patient(&r, &south(), "3", &[], Some("Smith"))]);
    assert_eq!((out.created, out.linked), (1, 0));
}

#[test]
fn a_late_match_writes_an_alias_and_the_older_wins() {
    let r = registry();
    let a = one(&r, &north(), patient(&r, &north(), "1", &[], None));
    let b = one(&r, &south(), patient(&r, &south(), "9", &[], Some("Lovelace")));
    let out = resolve(&r, &north(), &[patient(&r, &north(), "1", &[], Some("Lovelace"))]);
    assert_eq!((out.subjects[0], out.merged), (Some(a), vec![(b, a)]));
    assert_eq!(r.current(b), a);
    assert_eq!(r.lookup(&south(), &source("9")).expect("reads"), Some(a));
    assert_eq!(one(&r, &south(), patient(&r, &south(), "9", &[], Some("Lovelace"))), a);
    assert_eq!(r.aliases().into_iter().collect::<Vec<_>>(), [(b, a)]);
    assert_eq!(r.subjects().expect("counts"), 1);
}

#[test]
fn aliases_do_not_chain() {
    let r = registry();
    let [a, b, c] = ["1", "2", "3"].map(|id| one(&r, &north(), patient(&r, &north(), id, &[], None)));
    r.alias(c, b).expect("written");
    r.alias(b, a).expect("written");
    assert_eq!(r.current(c), a);
    r.alias(c, a).expect("nothing to do");
    assert!(r.aliases().values().all(|w| *w == a));
}

#[test]
fn a_consent_may_come_before_the_data() {
    let entropy = SeededEntropy::new(5);
    for (named, id, record) in [("M1", "1", "M1"), ("1", "1", "M1"), ("1", "1", "1")] {
        let r = registry();
        let subject = r.subject_of_record(&north(), &source(named), &entropy).expect("made");
        assert_eq!(r.subject_of_record(&north(), &source(named), &entropy).expect("found"), subject);
        assert_eq!(
            one(&r, &north(), patient(&r, &north(), id, &[record], None)),
            subject,
            "{named} {id} {record}"
        );
        assert_eq!(r.find_record(&north(), &source(named)).expect("reads"), Some(subject));
        assert_eq!(r.subjects().expect("counts"), 1);
    }
    // After the data: found by either name.
    let r = registry();
    let subject = one(&r, &north(), patient(&r, &north(), "1", &["M1"], None));
    for name in ["M1", "1"] {
        assert_eq!(r.subject_of_record(&north(), &source(name), &entropy).expect("found"), subject);
    }
}

#[test]
fn consents_under_two_names_of_one_person_meet_when_the_data_comes() {
    let r = registry();
    let a = consent(&r, &north(), "M1").expect("made");
    let b = consent(&r, &north(), "M2").expect("made");
    let out = resolve(&r, &north(), &[patient(&r, &north(), "1", &["M1", "M2"], None)]);
    assert_eq!((out.subjects[0], out.merged), (Some(a), vec![(b, a)]));
}

#[test]
fn what_is_joined_stays_joined_when_the_registry_is_opened_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("registry.sqlite");
    let r = Registry::open(&path, &keys()).expect("opens");
    let [a, b, c, d] = ["1", "2", "3", "4"].map(|id| one(&r, &north(), patient(&r, &north(), id, &[], None)));
    r.alias(a, b).expect("written");
    r.alias(b, c).expect("written");
    drop(r);
    let r = Registry::open(&path, &keys()).expect("opens");
    assert_eq!([a, b, c, d].map(|s| r.current(s)), [c, c, c, d]);
    assert_eq!(r.lookup(&north(), &source("1")).expect("reads"), Some(c));
    assert_eq!(r.erase(b).expect("erased"), 3, "whoever of them is named");
    assert_eq!((r.aliases().len(), r.subjects().expect("counts")), (0, 1));
}

#[test]
fn joins_write_a_constant_number_of_rows_each() {
    let r = registry();
    let n = 1_000;
    let patients: Vec<_> = (0..n).map(|i| patient(&r, &north(), &format!("p{i}"), &[], None)).collect();
    let subjects = resolve(&r, &north(), &patients).subjects;
    let merges: Vec<_> = subjects
        .windows(2)
        .zip(patients.windows(2))
        .map(|(pair, p)| {
            let [from, into] = [pair[0], pair[1]].map(|s| s.expect("made"));
            Merge { loser: p[0].id, from, winner: p[1].id, into }
        })
        .collect();
    let before = r.db().total_changes();
    // The large group loses every time.
    assert!(r.merge(&north(), &merges).expect("written").into_iter().all(|one| one));
    let rows = r.db().total_changes() - before;
    assert!(rows <= 4 * n, "{rows} rows for {n} merges: alias, two of holder, source");
    assert_eq!(r.subjects().expect("counts"), 1);
}

#[test]
fn a_file_of_another_format_is_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("registry.sqlite");
    drop(Registry::open(&path, &keys()).expect("opens"));
    let db = Connection::open(&path).expect("opens");
    db.execute("UPDATE meta SET value = 1 WHERE key = 'format'", []).expect("written");
    assert!(matches!(Registry::open(&path, &keys()), Err(RegistryError::Format(1, 4))));
}

#[test]
fn an_erased_person_does_not_come_back() {
    let r = registry();
    let a = one(&r, &north(), patient(&r, &north(), "1", &["M1"], Some("Lovelace")));
    assert_eq!(r.erase(a).expect("erased"), 3, "id, number, number in its system");
    let again = patient(&r, &north(), "1", &["M1"], Some("Lovelace"));
    assert!(r.is_suppressed(&again.id).expect("reads"));
    assert_eq!(resolve(&r, &north(), &[again]).subjects, [None]);
    let renamed = patient(&r, &north(), "2", &["M1"], None);
    assert_eq!(resolve(&r, &north(), &[renamed]).subjects, [None]);
    assert!(matches!(consent(&r, &north(), "M1"), Err(RegistryError::Suppressed)));
    let other = one(&r, &south(), patient(&r, &south(), "8", &[], Some("Lovelace")));
    assert_ne!(other, a);
    // The same number in another system is another patient's, who is taken in; a consent by it still names nobody.
    let namesake = r.tokens().patient(&north(), &source("3"), &[number("urn:other", "M1")], Vec::new());
    assert!(resolve(&r, &north(), &[namesake]).subjects[0].is_some());
    assert!(matches!(consent(&r, &north(), "M1"), Err(RegistryError::Suppressed)));
    // One who was erased before any data came is known by the number alone.
    let waiting = consent(&r, &north(), "M7").expect("made");
    r.erase(waiting).expect("erased");
    let late = patient(&r, &north(), "7", &["M7"], None);
    assert_eq!(resolve(&r, &north(), &[late]).subjects, [None]);
}

#[test]
fn a_person_erased_at_one_hospital_stays_another_s_patient() {
    let r = registry();
    let here = patient(&r, &north(), "1", &["M1"], Some("Lovelace"));
    let there = patient(&r, &south(), "8", &["S8"], Some("Lovelace"));
    let person = one(&r, &north(), here.clone());
    assert_eq!(one(&r, &south(), there.clone()), person);
    let ids = r.ids(person).expect("reads");
    assert!(r.others_know(&ids, &north()).expect("reads"));
    assert_eq!(r.to_refuse(&ids, Some(&north())).expect("reads").len(), 3);
    assert_eq!(r.forget(&ids, Some(&north())).expect("forgotten"), 3);
    assert_eq!(r.forget(&ids, Some(&north())).expect("again"), 0);
    assert_eq!(resolve(&r, &north(), &[here]).subjects, [None]);
    assert_eq!(one(&r, &south(), there.clone()), person, "the other hospital's stays");
    assert!(!r.others_know(&ids, &south()).expect("reads"));
    r.forget(&ids, Some(&south())).expect("forgotten");
    assert_eq!((r.subjects().expect("counts"), resolve(&r, &south(), &[there]).subjects), (0, vec![None]));
}

#[test]
fn an_older_copy_of_the_registry_tells_who_was_erased_since() {
    let (now, older) = (registry(), registry());
    let known = patient(&now, &north(), "1", &["M1"], None);
    let person = one(&now, &north(), known.clone());
    let again = one(&older, &north(), known);
    let refused = now.to_refuse(&now.ids(person).expect("reads"), None).expect("reads");
    now.erase(person).expect("erased");
    assert_eq!(now.bearers(&refused).expect("reads"), []);
    let found = older.bearers(&refused).expect("reads");
    assert!(matches!(found[..], [(subject, scope)] if subject == again && older.is_scope(&scope, &north())));
    let mut kept = now.refused().expect("reads");
    kept.sort_unstable();
    assert_eq!(kept, refused);
    let text = serde_json::to_string(&kept).expect("JSON");
    assert_eq!(serde_json::from_str::<Vec<Refused>>(&text).expect("reads"), kept);
}

#[test]
fn ids_are_drawn_again_on_a_collision() {
    /// The same number three times, then another.
    struct Stuck(std::sync::atomic::AtomicU64);
    impl Entropy for Stuck {
        fn fill(&self, buffer: &mut [u8]) {
            let n = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            buffer.fill(if n < 3 { 7 } else { 8 });
        }
    }
    let (r, stuck) = (registry(), Stuck(0.into()));
    let patients = ["1", "2"].map(|id| patient(&r, &north(), id, &[], None));
    let first =
        r.resolve_batch(&north(), &patients[..1], &Shared::default(), &stuck).expect("resolves").subjects[0];
    let second =
        r.resolve_batch(&north(), &patients[1..], &Shared::default(), &stuck).expect("resolves").subjects[0];
    assert_ne!(first, second);
}

#[test]
fn epochs_change_offsets_and_stay() {
    let r = registry();
    let subject = SubjectId::new(77).expect("in range");
    assert_eq!(r.offset_epoch().expect("reads"), 0);
    assert_eq!(r.advance_offset_epoch().expect("writes"), 1);
    assert!((-365..=-1).contains(&r.offset_days(subject, 1)));
    assert!((0..20).any(|epoch| r.offset_days(subject, epoch) != r.offset_days(subject, 1)));
}

#[test]
fn the_file_holds_nothing_in_clear_and_needs_its_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("registry.sqlite");
    {
        let r = Registry::open(&path, &keys()).expect("opens");
        let family = Some("Xanthippe-Needle");
        let p = r.tokens().patient(
            &north(),
            &source("needle-patient-id"),
            &[number("urn:needle-system", "needle-record-4711")],
            patient(&r, &north(), "x", &[], family).linkage,
        );
        let subject = one(&r, &north(), p);
        r.subject_of_record(&north(), &source("needle-consent-88"), &SeededEntropy::new(1)).expect("made");
        r.erase(subject).expect("erased");
    }
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(dir.path()).expect("readable") {
        let path = entry.expect("entry").path();
        let bytes = std::fs::read(&path).expect("readable");
        for needle in ["needle", "Needle", "anthippe", "4711", "1980", "north"] {
            assert!(!bytes.windows(needle.len()).any(|w| w == needle.as_bytes()), "{needle}");
        }
    }
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    assert!(matches!(Registry::open(&path, &Keyring::from_root(&[8; 32])), Err(RegistryError::WrongKey)));
    assert!(Registry::open(&path, &keys()).is_ok());
}

#[test]
fn a_batch_of_many_resolves_twice_to_the_same_and_quickly() {
    let dir = tempfile::tempdir().expect("a folder");
    let r = Registry::open(&dir.path().join("registry.sqlite"), &keys()).expect("opens");
    let n = 20_000;
    let patients: Vec<_> = (0..n)
        .map(|i| {
            patient(&r, &north(), &format!("p{i}"), &[&format!("m{i}")], Some(&format!("F{}", letters(i))))
        })
        .collect();
    let first = resolve(&r, &north(), &patients);
    let second = resolve(&r, &north(), &patients);
    assert_eq!((first.created, first.linked), (n as u64, 0));
    assert_eq!((second.created, second.subjects), (0, first.subjects));
}

/// A number in letters, since names are normalised to letters and digits.
fn letters(mut n: usize) -> String {
    let mut out = String::new();
    loop {
        out.push(char::from(b'a' + (n % 26) as u8));
        n /= 26;
        if n == 0 {
            return out;
        }
    }
}

#[test]
fn two_of_a_batch_with_the_same_traits_are_not_both_taken_for_the_one_known_elsewhere() {
    let r = registry();
    let a = one(&r, &south(), patient(&r, &south(), "9", &[], Some("Smith")));
    let batch = ["1", "2"].map(|id| patient(&r, &north(), id, &[], Some("Smith")));
    let out = resolve(&r, &north(), &batch);
    assert!(out.subjects.iter().all(|s| *s != Some(a)) && out.subjects[0] != out.subjects[1]);
}

#[test]
fn two_forms_of_a_hospital_are_two_spaces_of_ids_unless_it_says_otherwise_in_time() {
    use crate::mapping::Form::{Fhir, Omop};
    let (first, second) = (IdSpace::First, IdSpace::Second);
    let r = registry();
    let spaces = |who: &ContributorId, sent: &[Form], agree: bool| {
        r.id_spaces(who, sent, agree).map(|spaces| (spaces.fhir, spaces.omop))
    };
    let published = |who: &ContributorId, sent: &[Form], agree: bool| {
        let spaces = r.id_spaces(who, sent, agree).expect("asked");
        r.keep_id_spaces(who, sent, spaces, agree).expect("kept");
        (spaces.fhir, spaces.omop)
    };
    assert_eq!(published(&north(), &[Omop], false), (second, first), "only tables");
    // What is asked and not published leaves everything to say.
    assert_eq!(spaces(&north(), &[Fhir], false).expect("asked"), (second, first));
    assert_eq!(spaces(&north(), &[Fhir], true).expect("asked"), (first, first));
    assert_eq!(published(&north(), &[Fhir], false), (second, first));
    assert!(matches!(spaces(&north(), &[Omop], true), Err(RegistryError::FormsApart)));
    assert_eq!(spaces(&north(), &[Omop], false).expect("asked"), (second, first));
    assert_eq!(published(&south(), &[Fhir], true), (first, first), "said before the second came");
    assert_eq!(published(&south(), &[Omop], false), (first, first));
}

#[test]
fn a_reference_to_an_id_of_two_spaces_names_nobody() {
    let r = registry();
    let of = |space, id: &str| r.tokens().patient_in(space, &north(), &source(id), &[], Vec::new());
    // Signed before the data, for whoever has the id alone.
    let waiting = ["Patient/7", "Patient/8"].map(|text| consent(&r, &north(), text).expect("made"));
    let people = [of(IdSpace::First, "7"), of(IdSpace::Second, "7"), of(IdSpace::Second, "8")];
    let (subjects, _) = run(&r, &north(), &people, 10);
    assert_ne!(subjects[0], subjects[1]);
    assert!(!subjects[..2].contains(&r.current(waiting[0])), "it opens nothing");
    assert_eq!(r.current(waiting[1]), subjects[2]);
    assert!(is_ambiguous(&r, &north(), "Patient/7") && is_ambiguous(&r, &north(), "7"));
    assert_eq!(consent(&r, &north(), "Patient/8").expect("found"), subjects[2]);
    // Also where the second comes later.
    assert_eq!(
        run(&r, &north(), &[of(IdSpace::First, "9")], 10).0[0],
        consent(&r, &north(), "Patient/9").expect("found")
    );
    run(&r, &north(), &[of(IdSpace::Second, "9")], 10);
    assert!(is_ambiguous(&r, &north(), "Patient/9"));
}

#[test]
fn what_an_older_reader_still_needs_is_not_said_to_be_removed() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("registry.sqlite");
    let registry = Registry::open(&path, &keys()).expect("opens");
    registry.suppress(&Token([7; 16])).expect("written");
    let reader = rusqlite::Connection::open(&path).expect("opens");
    reader.execute_batch("BEGIN; SELECT count(*) FROM suppressed").expect("reads");
    registry.suppress(&Token([8; 16])).expect("written");
    assert!(matches!(registry.scrub(), Err(RegistryError::Read)));
    reader.execute_batch("COMMIT").expect("ends");
    registry.scrub().expect("removed");
    let log = dir.path().join("registry.sqlite-wal");
    assert_eq!(std::fs::metadata(log).map_or(0, |file| file.len()), 0);
}
