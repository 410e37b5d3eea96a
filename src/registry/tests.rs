//! The registry as its callers see it: identity, linkage, late matches, consents before data, erasure, secrecy of the file.

use almoner_model::{ContributorId, Entropy, SeededEntropy, SourcePatientId, SubjectId};

use super::*;

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
    let records: Vec<_> = records.iter().map(|n| source(n)).collect();
    r.tokens().patient(who, &source(id), &records, linkage)
}

fn resolve(r: &Registry, who: &ContributorId, patients: &[PatientTokens]) -> Resolved {
    let seed = 1000 + SEED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    r.resolve_batch(who, patients, &SeededEntropy::new(seed)).expect("resolves")
}

fn one(r: &Registry, who: &ContributorId, patient: PatientTokens) -> SubjectId {
    resolve(r, who, &[patient]).subjects[0].expect("not erased")
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
fn a_new_patient_id_with_a_known_record_number_is_the_same_person() {
    let r = registry();
    let a = one(&r, &north(), patient(&r, &north(), "old", &["M1"], None));
    assert_eq!(one(&r, &north(), patient(&r, &north(), "new", &["M1"], None)), a);
}

#[test]
fn an_id_is_not_a_record_number() {
    let r = registry();
    let a = one(&r, &north(), patient(&r, &north(), "17", &["M1"], None));
    assert_ne!(one(&r, &north(), patient(&r, &north(), "18", &["17"], None)), a);
}

#[test]
fn a_record_number_shared_within_a_batch_decides_nothing() {
    let r = registry();
    let batch = [patient(&r, &north(), "1", &["M"], None), patient(&r, &north(), "2", &["M"], None)];
    let out = resolve(&r, &north(), &batch);
    assert_ne!(out.subjects[0], out.subjects[1]);
    assert_eq!((out.created, out.ambiguous_records), (2, 1));
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
    assert_eq!(out.ambiguous_links, 1);
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
    assert_eq!(r.current(b).expect("reads"), a);
    assert_eq!(r.lookup(&south(), &source("9")).expect("reads"), Some(a));
    assert_eq!(one(&r, &south(), patient(&r, &south(), "9", &[], Some("Lovelace"))), a);
    assert_eq!(r.aliases().expect("reads").into_iter().collect::<Vec<_>>(), [(b, a)]);
    assert_eq!(r.subjects().expect("counts"), 1);
}

#[test]
fn aliases_do_not_chain() {
    let r = registry();
    let [a, b, c] = ["1", "2", "3"].map(|id| one(&r, &north(), patient(&r, &north(), id, &[], None)));
    r.alias(c, b).expect("written");
    r.alias(b, a).expect("written");
    assert_eq!(r.current(c).expect("reads"), a);
    assert!(matches!(r.alias(c, a), Err(RegistryError::SelfAlias)));
    assert!(r.aliases().expect("reads").values().all(|w| *w == a));
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
    let (r, entropy) = (registry(), SeededEntropy::new(5));
    let a = r.subject_of_record(&north(), &source("M1"), &entropy).expect("made");
    let b = r.subject_of_record(&north(), &source("M2"), &entropy).expect("made");
    let out = resolve(&r, &north(), &[patient(&r, &north(), "1", &["M1", "M2"], None)]);
    assert_eq!((out.subjects[0], out.merged), (Some(a), vec![(b, a)]));
}

#[test]
fn an_erased_person_does_not_come_back() {
    let r = registry();
    let a = one(&r, &north(), patient(&r, &north(), "1", &["M1"], Some("Lovelace")));
    assert_eq!(r.erase(a).expect("erased"), 2);
    let again = patient(&r, &north(), "1", &["M1"], Some("Lovelace"));
    assert!(r.is_suppressed(&again.id).expect("reads"));
    assert_eq!(resolve(&r, &north(), &[again]).subjects, [None]);
    let renamed = patient(&r, &north(), "2", &["M1"], None);
    assert_eq!(resolve(&r, &north(), &[renamed]).subjects, [None]);
    let consent = r.subject_of_record(&north(), &source("M1"), &SeededEntropy::new(1));
    assert!(matches!(consent, Err(RegistryError::Suppressed)));
    let other = one(&r, &south(), patient(&r, &south(), "8", &[], Some("Lovelace")));
    assert_ne!(other, a);
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
    let first = r.resolve_batch(&north(), &patients[..1], &stuck).expect("resolves").subjects[0];
    let second = r.resolve_batch(&north(), &patients[1..], &stuck).expect("resolves").subjects[0];
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
            &[source("needle-record-4711")],
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
    #[expect(clippy::disallowed_methods, reason = "measures a duration")]
    let start = std::time::Instant::now();
    let first = resolve(&r, &north(), &patients);
    let made = start.elapsed();
    let second = resolve(&r, &north(), &patients);
    eprintln!("{n} new patients in {made:?}, known ones in {:?}", start.elapsed() - made);
    assert_eq!((first.created, first.linked, first.ambiguous_links), (n as u64, 0, 0));
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
