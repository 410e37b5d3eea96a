//! Records that an export has several times: one version counts, wherever it lies and whosever it is.

use super::continued::{code_rows, incremental, integers, write};
use super::crash::condition;
use super::whom::{folder, ill, patient, replaced_by, subject};
use super::*;

/// A condition that was confirmed, or entered in error, and perhaps says when it was last changed.
fn said(id: &str, person: &str, code: &str, status: &str, updated: Option<&str>) -> String {
    let meta = updated.map_or_else(String::new, |at| format!(r#""meta":{{"lastUpdated":"{at}"}},"#));
    condition(id, person, code, None).replace(
        r#""code":"#,
        &format!(r#"{meta}"verificationStatus":{{"coding":[{{"code":"{status}"}}]}},"code":"#),
    )
}

fn codes(house: &House) -> BTreeMap<String, u64> {
    code_rows(&house.catalog.latest(&"north".parse().expect("a slug")).expect("there"))
}

#[test]
fn several_exports_of_changes_in_one_folder_end_where_the_last_ends() {
    let confirmed = |id: &str, person: &str, code: &str| said(id, person, code, "confirmed", None);
    let dir = folder(&[
        (
            "day1/Patient.ndjson",
            vec![patient("p1", ""), patient("p2", ""), patient("a", ""), patient("b", "")],
        ),
        (
            "day1/Condition.ndjson",
            vec![
                confirmed("error", "p1", "44054006"),
                confirmed("again", "p1", "44054006"),
                confirmed("moved", "p1", "44054006"),
                said("righted", "p1", "38341003", "entered-in-error", None),
                confirmed("of-a", "a", "73211009"),
            ],
        ),
        ("day2/Patient.ndjson", vec![patient("a", &replaced_by("b"))]),
        // Of mixed types, so that lines are counted under their own.
        (
            "day2/more.ndjson",
            vec![
                said("error", "p1", "44054006", "entered-in-error", None),
                confirmed("again", "p1", "195967001"),
                confirmed("moved", "p2", "44054006"),
                confirmed("righted", "p1", "38341003"),
            ],
        ),
    ]);
    for mode in [Mode::Full, Mode::Incremental] {
        let house = House::new();
        if mode == Mode::Incremental {
            let before = folder(&[
                ("Patient.ndjson", vec![patient("p1", ""), patient("p3", "")]),
                (
                    "Condition.ndjson",
                    vec![confirmed("error", "p1", "44054006"), confirmed("moved", "p3", "44054006")],
                ),
            ]);
            house.ingest(before.path(), "north").expect("published");
        }
        let summary = match mode {
            Mode::Full => house.ingest(dir.path(), "north"),
            _ => incremental(&house, dir.path(), "date-shifted"),
        };
        let summary = summary.expect("published");
        check(&house, &summary);
        assert_eq!(summary.persons, if mode == Mode::Full { 3 } else { 4 }, "a is b");
        let expected = [("44054006", 1), ("195967001", 1), ("38341003", 1), ("73211009", 1)];
        assert_eq!(codes(&house), expected.map(|(code, n)| (format!("SNOMED:{code}"), n)).into());
        let mut whose = ill(&house);
        whose.sort_unstable();
        let mut of = ["p1", "p1", "p2", "b"].map(|id| subject(&house, "north", id).get());
        of.sort_unstable();
        assert_eq!(whose, of);
        // Three conditions and a; the one that was righted had made no row, nor does the error.
        assert_eq!(summary.reasons["superseded"], 4);
        assert_eq!(summary.reasons["entered-in-error"], 2);
        assert_eq!((summary.lines.mapped, summary.lines.read), (3 + 4, 14));
    }
}

#[test]
fn the_newest_version_counts_where_versions_say_when_they_came_about() {
    let house = House::new();
    let (old, new) = (Some("2024-05-01T10:00:00Z"), Some("2024-05-01T11:30:00.5+01:00"));
    let meta = |at: &str| format!(r#","meta":{{"lastUpdated":"{at}"}}"#);
    let dir = folder(&[
        (
            "Patient.ndjson",
            vec![
                patient("p1", ""),
                patient("a", &format!("{}{}", meta("2024-05-02T00:00:00Z"), replaced_by("p1"))),
                patient("a", &meta("2024-05-01T00:00:00Z")),
            ],
        ),
        (
            "Condition.ndjson",
            vec![
                said("c1", "p1", "44054006", "confirmed", new),
                said("c1", "p1", "73211009", "confirmed", old),
                said("c2", "p1", "38341003", "entered-in-error", new),
                said("c2", "p1", "38341003", "confirmed", old),
                // Where one does not say, the later counts.
                said("c3", "p1", "73211009", "confirmed", new),
                said("c3", "p1", "195967001", "confirmed", None),
                // What cannot be read states nothing.
                said("c4", "p1", "22298006", "confirmed", old),
                said("c4", "nobody", "73211009", "confirmed", new),
            ],
        ),
    ]);
    let summary = house.ingest(dir.path(), "north").expect("published");
    check(&house, &summary);
    assert_eq!(summary.persons, 1, "a is p1");
    let expected = ["44054006", "195967001", "22298006"].map(|code| (format!("SNOMED:{code}"), 1));
    assert_eq!(codes(&house), expected.into());
    assert_eq!((summary.reasons["superseded"], summary.rules["dangling-patient"]), (4, 1));
}

#[test]
fn of_a_row_of_a_table_the_last_counts_whosever_it_is() {
    let house = House::new();
    let dir = tempfile::tempdir().expect("a folder");
    let lines = |lines: &[&str]| lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
    let person = "person_id,gender_concept_id,year_of_birth,race_concept_id,ethnicity_concept_id";
    write(
        dir.path(),
        "PERSON.csv",
        &lines(&[person, "1,8507,1950,0,0", "2,8507,1960,0,0", "1,8507,1951,0,0"]),
    );
    let condition = "condition_occurrence_id,person_id,condition_concept_id,condition_start_date,condition_type_concept_id";
    write(
        dir.path(),
        "CONDITION_OCCURRENCE.csv",
        &lines(&[
            condition,
            "1,1,201826,2020-01-05,32817",
            "1,2,201826,2020-01-06,32817",
            "2,1,4329847,2020-01-05,32817",
        ]),
    );
    let summary = house.ingest(dir.path(), "north").expect("published");
    check(&house, &summary);
    assert_eq!((summary.persons, rows(&summary, "condition_occurrence")), (2, 2));
    assert_eq!((summary.reasons["superseded"], summary.lines.mapped), (2, 4));
    let version = house.catalog.latest(&summary.dataset).expect("there");
    let of = |table: &str, column: &str| -> Vec<i64> {
        let rows = version.buckets().into_iter();
        let rows = rows.filter_map(|b| version.bucket(table, b, None).expect("reads"));
        let mut all: Vec<i64> = rows.flat_map(|rows| integers(&rows, column)).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(of("person", "year_of_birth"), [1951, 1960]);
    let mut both = ["1", "2"].map(|id| subject(&house, "north", id).get());
    both.sort_unstable();
    assert_eq!(of("condition_occurrence", "person_id"), both);
}

/// As much as makes several buckets, of what nothing is made of.
fn pad(folder: &Path) {
    let line = format!(r#"{{"resourceType":"Basic","id":"b","text":"{}"}}"#, "a".repeat(1 << 20));
    write(folder, "Basic.ndjson", &vec![line; 140]);
}

#[test]
fn rows_of_tables_that_are_stated_anew_go_from_whichever_bucket_they_were_in() {
    let house = House::new();
    let conditions = |folder: &Path, rows: &[(u32, u32, &str)]| {
        let head = "condition_occurrence_id,person_id,condition_concept_id,condition_start_date,condition_type_concept_id";
        let rows = rows.iter().map(|(id, person, date)| format!("{id},{person},201826,{date},32817"));
        write(
            folder,
            "CONDITION_OCCURRENCE.csv",
            &[head.to_owned()].into_iter().chain(rows).collect::<Vec<_>>(),
        );
    };
    let first = tempfile::tempdir().expect("a folder");
    let head = "person_id,gender_concept_id,year_of_birth,race_concept_id,ethnicity_concept_id".to_owned();
    let people = (1..=12).map(|n| format!("{n},8507,1950,0,0"));
    write(first.path(), "PERSON.csv", &[head].into_iter().chain(people).collect::<Vec<_>>());
    conditions(first.path(), &(1..=12).map(|n| (n, n, "2020-01-05")).collect::<Vec<_>>());
    pad(first.path());
    let before = house.ingest(first.path(), "north").expect("published");
    let version = house.catalog.latest(&before.dataset).expect("there");
    assert!(version.buckets().len() > 1, "people lie in several buckets");
    // The first six are others' now, and the seventh has no date any more.
    let second = tempfile::tempdir().expect("a folder");
    let moved = (1..=6).map(|n| (n, n + 6, "2020-01-05")).chain([(7, 7, "")]);
    conditions(second.path(), &moved.collect::<Vec<_>>());
    let after = continued::incremental(&house, second.path(), "date-shifted").expect("published");
    check(&house, &after);
    assert_eq!((rows(&after, "condition_occurrence"), after.reasons["no-date"]), (11, 1));
    let version = house.catalog.latest(&before.dataset).expect("there");
    let mut whose = BTreeMap::new();
    for rows in version
        .buckets()
        .into_iter()
        .filter_map(|b| version.bucket("condition_occurrence", b, None).expect("reads"))
    {
        for person in integers(&rows, "person_id") {
            *whose.entry(person).or_insert(0) += 1;
        }
    }
    // The padding is FHIR, so ids of tables are a space of their own.
    let of = |n: u32| {
        let (north, id) =
            ("north".parse().expect("slug"), almoner_model::SourcePatientId::new(n.to_string()));
        let known = house.registry.lookup_in(crate::mapping::IdSpace::Second, &north, &id).expect("reads");
        whose.get(&known.expect("known").get()).copied().unwrap_or(0)
    };
    assert_eq!((1..=12).map(of).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2]);
}

#[test]
fn a_version_that_does_not_count_says_nothing_of_codes_and_consents() {
    let house = House::new();
    let first = folder(&[("Patient.ndjson", vec![patient("a", "")])]);
    house.ingest(first.path(), "north").expect("published");
    let request = |updated: &str, medication: &str| {
        format!(
            r#"{{"resourceType":"MedicationRequest","id":"m","meta":{{"lastUpdated":"{updated}"}},"status":"completed","intent":"order",{medication},"subject":{{"reference":"Patient/a"}},"authoredOn":"2020-01-05"}}"#
        )
    };
    let consent = |updated: &str, policy: &str| {
        format!(
            r#"{{"resourceType":"Consent","id":"k","meta":{{"lastUpdated":"{updated}"}},"status":"active","scope":{{"coding":[{{"code":"research"}}]}},"patient":{{"reference":"Patient/a"}},"dateTime":"2024-01-01","policyRule":{{"coding":[{{"code":"{policy}"}}]}}}}"#
        )
    };
    let inline = r#""medicationCodeableConcept":{"coding":[{"system":"http://www.nlm.nih.gov/research/umls/rxnorm","code":"222"}]}"#;
    let elsewhere = r#""medicationReference":{"reference":"Medication/not-along"}"#;
    let dir = folder(&[
        (
            "MedicationRequest.ndjson",
            vec![request("2024-05-01T00:00:00Z", inline), request("2024-01-01T00:00:00Z", elsewhere)],
        ),
        (
            "Consent.ndjson",
            vec![consent("2024-05-01T00:00:00Z", "OPTOUT"), consent("2024-01-01T00:00:00Z", "OPTIN")],
        ),
    ]);
    let changes = incremental(&house, dir.path(), "date-shifted").expect("published");
    check(&house, &changes);
    assert_eq!((rows(&changes, "drug_exposure"), changes.rules.get("dangling-medication")), (1, None));
    assert_eq!((changes.consents.found, changes.reasons["superseded"]), (1, 2), "the newer of each");
}
