//! Who is whom through a whole ingest: record numbers, merges and deletions never mix two people up, and a contributor is
//! told nothing of what others hold.

use serde_json::Value;

use super::continued::{incremental, write};
use super::crash::{condition, export};
use super::*;
use crate::flows::consent::{ConsentSummary, import};
use crate::flows::{AccessContext, ConsentIndex};

pub(super) fn patient(id: &str, rest: &str) -> String {
    format!(r#"{{"resourceType":"Patient","id":"{id}","birthDate":"1960-03-04","gender":"female"{rest}}}"#)
}

fn record(system: &str, value: &str) -> String {
    let kind = r#"{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0203","code":"MR"}]}"#;
    format!(r#","identifier":[{{"type":{kind},"system":"{system}","value":"{value}"}}]"#)
}

fn named(family: &str) -> String {
    format!(r#","name":[{{"family":"{family}","given":["Ada"]}}]"#)
}

pub(super) fn replaced_by(id: &str) -> String {
    format!(r#","link":[{{"other":{{"reference":"Patient/{id}"}},"type":"replaced-by"}}]"#)
}

pub(super) fn delete(url: &str) -> String {
    format!(
        r#"{{"resourceType":"Bundle","type":"transaction","entry":[{{"request":{{"method":"DELETE","url":"{url}"}}}}]}}"#
    )
}

pub(super) fn folder(files: &[(&str, Vec<String>)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, lines) in files {
        write(dir.path(), name, lines);
    }
    dir
}

/// Takes an export of a contributor in that opted in to linkage.
fn linked(house: &House, dir: &Path, contributor: &str) -> IngestSummary {
    house
        .with(|ctx| {
            let request = IngestRequest { linkage: true, ..house.request(dir, contributor) };
            run(ctx, request, &Silent)
        })
        .expect("published")
}

pub(super) fn subject(house: &House, contributor: &str, id: &str) -> almoner_model::SubjectId {
    let contributor = contributor.parse().expect("a slug");
    let source = almoner_model::SourcePatientId::new(id.to_owned());
    house.registry.lookup(&contributor, &source).expect("reads").expect("known")
}

/// A list of paper forms that name patients by these numbers.
fn consents(house: &House, numbers: &[&str]) -> ConsentSummary {
    let forms = "[[form]]\nid = \"broad\"\nversion = \"1\"\ntitle = \"Broad\"\ncovers = \"contributor\"\n[form.rules]\n\
         effect = \"silent\"\n[[form.rules.provisions]]\neffect = \"permit\"\npurposes = [\"DUO:0000006\"]\n";
    let mut list = "record_number,form_version,date,evidence_digest\n".to_owned();
    for number in numbers {
        list.push_str(&format!("{number},broad@1,2024-05-01,{}\n", "a".repeat(64)));
    }
    let actor = Actor { role: "contributor".into(), id: "test".into() };
    let north = "north".parse().expect("a slug");
    with_access(house, |ctx| import(ctx, &actor, &north, list.as_bytes(), forms).expect("imported"))
}

pub(super) fn with_access<T>(house: &House, work: impl FnOnce(&AccessContext<'_>) -> T) -> T {
    let index = ConsentIndex::new();
    let blobs = Blobs::local(&house.folder.path().join("datasets")).expect("opens");
    work(&AccessContext {
        store: house.store.as_ref(),
        people: house.registry.as_ref(),
        documents: &blobs,
        index: &index,
        keys: &house.keys,
        clock: house.clock.as_ref(),
        entropy: house.entropy.as_ref(),
    })
}

/// Of the newest version's report.
fn people(house: &House) -> Value {
    let version = house.catalog.latest(&"north".parse().expect("a slug")).expect("there");
    version.manifest.reports["quality"]["mapping"]["people"].clone()
}

#[test]
fn a_consent_never_opens_another_patients_data() {
    // A patient's id is another's record number; one number in two systems; and the two of it in one system.
    for [first, second] in [
        [patient("17", &record("urn:a", "M1")), patient("18", &record("urn:a", "17"))],
        [patient("1", &record("urn:a", "17")), patient("2", &record("urn:b", "17"))],
        [patient("1", &record("urn:a", "17")), patient("2", &record("urn:a", "17"))],
    ] {
        let house = House::new();
        let nobody = folder(&[("Patient.ndjson", vec![patient("0", "")])]);
        house.ingest(nobody.path(), "north").expect("published");
        // Signed before the data came.
        assert_eq!(consents(&house, &["17"]).recorded, 1);
        let dir = folder(&[("Patient.ndjson", vec![first, second])]);
        let summary = house.with(|ctx| {
            let mut request = house.request(dir.path(), "north");
            request.told.replace_all = true;
            run(ctx, request, &Silent).expect("published")
        });
        assert_eq!((summary.persons, summary.record_numbers_ambiguous), (2, 1));
        let said = people(&house);
        assert_eq!(
            (&said["record_numbers_ambiguous"], &said["consents_under_ambiguous_numbers"]),
            (&1.into(), &1.into())
        );
        let version = house.catalog.latest(&summary.dataset).expect("there");
        let ids: Vec<i64> = version
            .buckets()
            .into_iter()
            .filter_map(|b| version.bucket("person", b, None).expect("reads"))
            .flat_map(|rows| super::continued::integers(&rows, "person_id"))
            .collect();
        for id in ids {
            assert!(house.store.get("subject-directives", &id.to_string()).expect("reads").is_none());
        }
        // And afterwards it is refused, with a reason.
        let after = consents(&house, &["17"]);
        assert_eq!((after.recorded, after.already), (0, 0));
        assert_eq!(after.rejected, BTreeMap::from([("ambiguous-record-number".to_owned(), 1)]));
    }
}

#[test]
fn identifiers_that_are_no_record_numbers_name_nobody() {
    let house = House::new();
    let untyped = r#","identifier":[{"system":"urn:x","value":"17"}]"#;
    let dir = folder(&[("Patient.ndjson", vec![patient("1", untyped), patient("2", untyped)])]);
    let summary = house.ingest(dir.path(), "north").expect("published");
    assert_eq!((summary.persons, summary.record_numbers_ambiguous), (2, 0));
}

#[test]
fn deleting_what_is_left_of_a_merged_record_takes_no_history() {
    let house = House::new();
    let first = tempfile::tempdir().expect("a folder");
    export(first.path(), 0..8);
    let before = house.ingest(first.path(), "north").expect("published");
    // In the export that merges, and again in a later one.
    let merges = folder(&[
        ("Patient.ndjson", vec![patient("p6", &replaced_by("p7"))]),
        ("deleted/Bundle.ndjson", vec![delete("Patient/p6")]),
    ]);
    let deletes = folder(&[("deleted/Bundle.ndjson", vec![delete("Patient/p6")])]);
    for dir in [&merges, &deletes] {
        let after = incremental(&house, dir.path(), "date-shifted").expect("published");
        check(&house, &after);
        assert_eq!(after.persons, 7);
        for table in ["condition_occurrence", "visit_occurrence"] {
            assert_eq!(rows(&after, table), rows(&before, table), "{table}");
        }
    }
    // The record that stands for both takes it all along.
    let all = folder(&[("deleted/Bundle.ndjson", vec![delete("Patient/p7")])]);
    let after = incremental(&house, all.path(), "date-shifted").expect("published");
    assert_eq!((after.persons, rows(&after, "condition_occurrence")), (6, 12));
}

#[test]
fn deleting_a_patient_who_became_another_subject_meanwhile_deletes_the_rows() {
    let house = House::new();
    let [south, north] =
        ["s", "n"].map(|id| folder(&[("Patient.ndjson", vec![patient(id, &named("Lovelace"))])]));
    let kept = patient("other", &named("Byron"));
    let both = folder(&[
        ("Patient.ndjson", vec![patient("n", ""), kept]),
        ("Condition.ndjson", vec![condition("c", "n", "44054006", None)]),
    ]);
    linked(&house, south.path(), "south");
    linked(&house, both.path(), "north");
    let before = subject(&house, "north", "n");
    // Known by name now, and so the same person as south's, who was there before.
    house.with(|ctx| {
        let mut request = house.request(north.path(), "north");
        request.dataset = Some("another".parse().expect("a slug"));
        run(ctx, request, &Silent).expect("published");
    });
    assert_ne!(subject(&house, "north", "n"), before);
    let deletes = folder(&[("deleted/Bundle.ndjson", vec![delete("Patient/n")])]);
    let after = incremental(&house, deletes.path(), "date-shifted").expect("published");
    assert_eq!((after.persons, rows(&after, "condition_occurrence")), (1, 0));
}

#[test]
fn a_record_that_is_sent_again_replaces_what_it_said_before() {
    let house = House::new();
    let first = tempfile::tempdir().expect("a folder");
    export(first.path(), 0..40);
    house.ingest(first.path(), "north").expect("published");
    let not_a_fact = |id: &str, person: &str, status: &str| {
        condition(id, person, "44054006", None).replace(
            r#""code":"#,
            &format!(r#""verificationStatus":{{"coding":[{{"code":"{status}"}}]}},"code":"#),
        )
    };
    let second = folder(&[
        (
            "Condition.ndjson",
            vec![
                not_a_fact("c1-0", "p1", "entered-in-error"),
                not_a_fact("c2-0", "p2", "refuted"),
                // Written into the wrong record: all of these move, whatever buckets the two people are in.
                condition("c3-0", "p4", "73211009", None),
                condition("c5-0", "p4", "73211009", None),
                condition("c6-0", "p4", "73211009", None),
                // What cannot be read states nothing.
                condition("c7-0", "p99", "73211009", None),
            ],
        ),
        (
            "Encounter.ndjson",
            vec![r#"{"resourceType":"Encounter","id":"e8","status":"entered-in-error","subject":{"reference":"Patient/p8"}}"#.to_owned()],
        ),
    ]);
    let after = incremental(&house, second.path(), "date-shifted").expect("published");
    check(&house, &after);
    assert_eq!(rows(&after, "condition_occurrence"), 80 - 2);
    assert_eq!(rows(&after, "visit_occurrence"), 40 - 1);
    assert_eq!((after.reasons["entered-in-error"], after.rules["dangling-patient"]), (2, 1));
}

#[test]
fn a_full_export_has_no_row_of_what_it_says_was_deleted() {
    let house = House::new();
    let dir = tempfile::tempdir().expect("a folder");
    export(dir.path(), 0..8);
    let deleted = ["Patient/p2", "Condition/c1-0", "Condition/unknown"].map(delete).to_vec();
    write(dir.path(), "deleted/Bundle.ndjson", &deleted);
    let summary = house.ingest(dir.path(), "north").expect("published");
    check(&house, &summary);
    assert_eq!((summary.persons, rows(&summary, "condition_occurrence")), (7, 13));
    // p2 with two conditions and a visit, and one condition of p1.
    assert_eq!(summary.reasons["deleted-at-the-source"], 5);
}

#[test]
fn a_merge_that_would_join_patients_of_others_leaves_both_as_they_are() {
    let house = House::new();
    let people_of = |ids: [&str; 2]| {
        let [a, b] = ids;
        vec![patient(a, &named("Lovelace")), patient(b, &named("Byron"))]
    };
    let south = folder(&[("Patient.ndjson", people_of(["8", "9"]))]);
    linked(&house, south.path(), "south");
    let conditions = vec![condition("c1", "1", "44054006", None), condition("c2", "2", "44054006", None)];
    let files = |patients| folder(&[("Patient.ndjson", patients), ("Condition.ndjson", conditions.clone())]);
    linked(&house, files(people_of(["1", "2"])).path(), "north");
    let [a, b] = ["8", "9"].map(|id| subject(&house, "south", id));
    assert_eq!(["1", "2"].map(|id| subject(&house, "north", id)), [a, b]);
    let merged = vec![
        patient("1", &format!("{}{}", named("Lovelace"), replaced_by("2"))),
        patient("2", &named("Byron")),
        // One that is merged into nobody whom anybody knows, and one whose merge is the hospital's own matter.
        patient("3", &replaced_by("99")),
        patient("4", &replaced_by("2")),
    ];
    let summary = linked(&house, files(merged).path(), "north");
    check(&house, &summary);
    assert_eq!((summary.persons, rows(&summary, "condition_occurrence")), (3, 2));
    assert_eq!(summary.reasons["merged-into-another"], 1);
    assert_eq!((&people(&house)["merges_declared"], &people(&house)["merges_left"]), (&3.into(), &2.into()));
    assert_eq!(["8", "9"].map(|id| subject(&house, "south", id)), [a, b]);
    assert_eq!(subject(&house, "north", "4"), b);
    assert_eq!(house.registry.aliases().len(), 1);
}

#[test]
fn what_a_contributor_is_told_does_not_depend_on_whom_others_have() {
    let told = |elsewhere: &str| {
        let house = House::new();
        linked(&house, folder(&[("Patient.ndjson", vec![patient("9", &named(elsewhere))])]).path(), "south");
        let dir = folder(&[("Patient.ndjson", vec![patient("1", &named("Lovelace"))])]);
        let summary = linked(&house, dir.path(), "north");
        let same = subject(&house, "north", "1") == subject(&house, "south", "9");
        let version = house.catalog.latest(&summary.dataset).expect("there");
        let mut manifest = serde_json::to_value(&version.manifest).expect("JSON");
        // The bytes of a file depend on random ids.
        manifest["files"] = Value::Null;
        for table in manifest["tables"].as_object_mut().expect("tables").values_mut() {
            table["bytes"] = Value::Null;
        }
        let mut summary = serde_json::to_value(&summary).expect("JSON");
        summary["seconds"] = Value::Null;
        (same, summary, manifest)
    };
    let (known, unknown) = (told("Lovelace"), told("Byron"));
    assert!(known.0 && !unknown.0);
    assert_eq!(known.1, unknown.1);
    assert_eq!(known.2["reports"], unknown.2["reports"]);
    assert_eq!(known.2["catalog"], unknown.2["catalog"]);
}

#[test]
fn nothing_is_left_of_a_deleted_patient_and_a_misplaced_deletion_is_told() {
    let house = House::new();
    let (first, second) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    export(first.path(), 0..8);
    house.ingest(first.path(), "north").expect("published");
    write(second.path(), "deleted/Bundle.ndjson", &[delete("Patient/p2")]);
    // In the same export something new of whom it deletes; and a deletion where none is looked for.
    write(second.path(), "Condition.ndjson", &[condition("c2-9", "p2", "73211009", None)]);
    write(second.path(), "deleted_Condition.ndjson", &[delete("Condition/c1-0")]);
    let after = incremental(&house, second.path(), "date-shifted").expect("published");
    assert_eq!((after.persons, rows(&after, "condition_occurrence"), rows(&after, "person")), (7, 14, 7));
    assert_eq!(rows(&after, "observation_period"), 7, "nobody without a person row");
    assert_eq!(after.rules["misplaced-deletion"], 1);
    check(&house, &after);
    assert_eq!(after.reasons["deleted-at-the-source"], 1, "and the line that is new says why");
}

/// The only patient of the newest version with a condition.
pub(super) fn ill(house: &House) -> Vec<i64> {
    let version = house.catalog.latest(&"north".parse().expect("a slug")).expect("there");
    let rows = version.buckets().into_iter();
    let rows = rows.filter_map(|b| version.bucket("condition_occurrence", b, None).expect("reads"));
    rows.flat_map(|rows| super::continued::integers(&rows, "person_id")).collect()
}

fn by_identifier(id: &str, token: &str) -> String {
    condition(id, "x", "44054006", None).replace("Patient/x", &format!("Patient?identifier={token}"))
}

#[test]
fn an_identifier_without_a_system_is_looked_for_among_identifiers_only() {
    let house = House::new();
    let dir = folder(&[
        ("Patient.ndjson", vec![patient("123", ""), patient("abc", &record("urn:h", "123"))]),
        ("Condition.ndjson", vec![by_identifier("c1", "123"), by_identifier("c2", "abc")]),
    ]);
    let summary = house.ingest(dir.path(), "north").expect("published");
    check(&house, &summary);
    assert_eq!(ill(&house), [subject(&house, "north", "abc").get()]);
    assert_eq!(summary.rules["dangling-patient"], 1, "nobody has the identifier abc");
}

#[test]
fn an_identifier_that_was_seen_with_two_names_neither_in_what_follows() {
    let house = House::new();
    let number = record("urn:h", "77");
    let mother = patient("mo", &number);
    let first = folder(&[(
        "Patient.ndjson",
        vec![mother.clone(), patient("nb", &number), patient("al", &record("urn:h", "5"))],
    )]);
    house.ingest(first.path(), "north").expect("published");
    let second = folder(&[
        ("Patient.ndjson", vec![patient("nb", &number), patient("new", &record("urn:h", "5"))]),
        (
            "Condition.ndjson",
            vec![by_identifier("c1", "urn:h|77"), by_identifier("c2", "77"), by_identifier("c3", "urn:h|5")],
        ),
    ]);
    let summary = incremental(&house, second.path(), "date-shifted").expect("published");
    check(&house, &summary);
    assert_eq!(summary.rules["dangling-patient"], 3, "shared before, and shared by this export");
    assert_eq!(ill(&house), [0; 0]);
    // One that is a patient's alone names that patient, though the record does not come again.
    let third = folder(&[
        ("Patient.ndjson", vec![patient("one", &record("urn:h", "9"))]),
        ("Condition.ndjson", vec![by_identifier("c4", "urn:h|9")]),
    ]);
    incremental(&house, third.path(), "date-shifted").expect("published");
    let fourth =
        folder(&[("Condition.ndjson", vec![by_identifier("c5", "urn:h|9"), by_identifier("c6", "9")])]);
    let summary = incremental(&house, fourth.path(), "date-shifted").expect("published");
    assert_eq!(summary.lines.quarantined, 0);
    assert_eq!(ill(&house), [subject(&house, "north", "one").get(); 3]);
}

/// What is left after a history of incremental exports of two patients `a` and `b` with a condition each, and one more.
fn left(merged: &[Vec<String>], deleted: &[&str]) -> (u64, u64) {
    let house = House::new();
    let first = folder(&[
        ("Patient.ndjson", vec![patient("a", ""), patient("b", ""), patient("other", "")]),
        (
            "Condition.ndjson",
            vec![condition("ca", "a", "44054006", None), condition("cb", "b", "44054006", None)],
        ),
    ]);
    house.ingest(first.path(), "north").expect("published");
    for patients in merged {
        let dir = folder(&[("Patient.ndjson", patients.clone())]);
        let after = incremental(&house, dir.path(), "date-shifted").expect("published");
        check(&house, &after);
    }
    let urls = deleted.iter().map(|id| delete(&format!("Patient/{id}"))).collect();
    let dir = folder(&[("deleted/Bundle.ndjson", urls)]);
    let after = incremental(&house, dir.path(), "date-shifted").expect("published");
    check(&house, &after);
    (after.persons, rows(&after, "condition_occurrence"))
}

#[test]
fn a_person_goes_with_the_record_that_stands_for_it_however_merges_were_said() {
    let into = |loser: &str, winner: &str| patient(loser, &replaced_by(winner));
    let turned = [vec![into("a", "b")], vec![patient("a", ""), into("b", "a")]];
    assert_eq!(left(&turned, &["b"]), (2, 2), "b is what was merged away");
    assert_eq!(left(&turned, &["a"]), (1, 0));
    assert_eq!(left(&turned, &["a", "b"]), (1, 0));
    // Turned round without a word about the record that stands now.
    let half = [vec![into("a", "b")], vec![into("b", "a")]];
    assert_eq!((left(&half, &["b"]), left(&half, &["a"])), ((2, 2), (1, 0)));
    // A circle: one of the two stands for both, and it is the same each time it is sent.
    let circle = [vec![into("a", "b"), into("b", "a")], vec![into("a", "b"), into("b", "a")]];
    assert_eq!((left(&circle, &["a"]), left(&circle, &["b"])), ((2, 2), (1, 0)));
    assert_eq!(left(&circle, &["b", "a"]), (1, 0));
    let to_itself = [vec![into("a", "a")]];
    assert_eq!((left(&to_itself, &["a"]), left(&to_itself, &["b"])), ((2, 1), (2, 1)));
}

#[test]
fn a_record_that_was_deleted_and_comes_back_can_be_deleted_again() {
    let house = House::new();
    let first = folder(&[("Patient.ndjson", vec![patient("a", &replaced_by("b")), patient("b", "")])]);
    house.ingest(first.path(), "north").expect("published");
    let condition = condition("c", "a", "44054006", None);
    let exports = [
        folder(&[
            ("Patient.ndjson", vec![patient("other", "")]),
            ("deleted/B.ndjson", vec![delete("Patient/b")]),
        ]),
        folder(&[("Patient.ndjson", vec![patient("a", "")]), ("Condition.ndjson", vec![condition])]),
        folder(&[("deleted/B.ndjson", vec![delete("Patient/a")])]),
    ];
    let left = exports.map(|dir| {
        let after = incremental(&house, dir.path(), "date-shifted").expect("published");
        (after.persons, rows(&after, "condition_occurrence"))
    });
    assert_eq!(left, [(1, 0), (2, 1), (1, 0)]);
}

#[test]
fn a_full_export_that_deletes_a_record_whose_merge_is_not_made_has_nothing_of_it() {
    let house = House::new();
    let dir = folder(&[
        ("Patient.ndjson", vec![patient("a", &replaced_by("nobody")), patient("b", "")]),
        ("Condition.ndjson", vec![condition("c", "a", "44054006", None)]),
        ("deleted/B.ndjson", vec![delete("Patient/a")]),
    ]);
    let summary = house.ingest(dir.path(), "north").expect("published");
    check(&house, &summary);
    assert_eq!((summary.persons, rows(&summary, "condition_occurrence")), (1, 0));
}

#[test]
fn equal_ids_of_two_forms_are_two_people_unless_the_hospital_says_otherwise() {
    let fhir = folder(&[
        ("Patient.ndjson", vec![patient("1", "")]),
        ("Condition.ndjson", vec![condition("c", "1", "44054006", None)]),
    ]);
    let person = "person_id,gender_concept_id,year_of_birth,race_concept_id,ethnicity_concept_id";
    let tables = folder(&[("PERSON.csv", vec![person.to_owned(), "1,8507,1950,0,0".to_owned()])]);
    let ingest = |house: &House, dir: &Path, dataset: &str, same_person_ids: bool| {
        house.with(|ctx| {
            let mut request = house.request(dir, "north");
            request.dataset = Some(dataset.parse().expect("a slug"));
            request.told = Told { same_person_ids, ..Told::default() };
            run(ctx, request, &Silent)
        })
    };
    let people = |house: &House, dataset: &str| -> Vec<i64> {
        let version = house.catalog.latest(&dataset.parse().expect("a slug")).expect("there");
        let rows = version.buckets().into_iter();
        let rows = rows.filter_map(|b| version.bucket("person", b, None).expect("reads"));
        rows.flat_map(|rows| super::continued::integers(&rows, "person_id")).collect()
    };
    for same in [false, true] {
        let house = House::new();
        ingest(&house, fhir.path(), "north", false).expect("published");
        ingest(&house, tables.path(), "tables", same).expect("published");
        assert_eq!(people(&house, "north") == people(&house, "tables"), same);
        // It holds for whatever comes later, and cannot be said too late.
        let later = ingest(&house, tables.path(), "tables", false).expect("published");
        assert_eq!((later.version, people(&house, "north") == people(&house, "tables")), (2, same));
        let again = ingest(&house, tables.path(), "tables", true);
        assert_eq!(again.is_ok(), same);
        // In one folder as well.
        let house = House::new();
        let both = folder(&[("PERSON.csv", vec![person.to_owned(), "1,8507,1950,0,0".to_owned()])]);
        write(both.path(), "Patient.ndjson", &[patient("1", "")]);
        assert_eq!(
            ingest(&house, both.path(), "north", same).expect("published").persons,
            if same { 1 } else { 2 }
        );
    }
}

#[test]
fn whoever_a_merge_names_and_nobody_knows_is_nobody() {
    let house = House::new();
    let dir = folder(&[
        ("Patient.ndjson", vec![patient("a", &replaced_by("nobody"))]),
        (
            "Condition.ndjson",
            vec![condition("c1", "a", "44054006", None), condition("c2", "nobody", "44054006", None)],
        ),
    ]);
    let summary = house.ingest(dir.path(), "north").expect("published");
    check(&house, &summary);
    assert_eq!((summary.persons, rows(&summary, "condition_occurrence")), (1, 1));
    assert_eq!((summary.rules["dangling-patient"], summary.reasons.get("suppressed-person")), (1, None));
}
