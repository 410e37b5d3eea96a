//! The canary: invented identifiers are planted wherever exports hide them, the whole line is run as its users run it, it
//! is stopped as a crash would stop it, and then everything it left or said is searched for them.
//!
//! Errors and quarantine are part of it: the exports hold lines that cannot be read, and the calls over HTTP hold
//! identifiers where they do not belong.

#![expect(clippy::print_stdout, reason = "the bars print what they measured")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use almoner::synth::{self, Options};
use serde_json::{Value, json};
use support::run::{Program, arg};
use support::scan::{self, Needle, Scanner};

fn population() -> Options {
    Options {
        patients: 90,
        hospitals: 2,
        overlap_per_mille: 300,
        seed: 77,
        years: 2,
        fhir: true,
        omop: true,
        planted: true,
    }
}

struct Planted {
    folder: tempfile::TempDir,
    exports: PathBuf,
    needles: Vec<Needle>,
}

fn plant() -> Planted {
    let folder = tempfile::tempdir().expect("a folder");
    let exports = folder.path().join("exports");
    synth::generate(&exports, &population(), &|_| ()).expect("exports");
    let needles = needles(&exports);
    assert!(needles.len() > 1000, "{} identifiers", needles.len());
    Planted { folder, exports, needles }
}

/// Everything that was planted, but for birth dates on which somebody also signed a consent: a directive keeps that date.
fn needles(exports: &Path) -> Vec<Needle> {
    let mut signed = String::new();
    for path in scan::files(exports) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == "consents.csv" || name.starts_with("Consent.") {
            signed.push_str(&fs::read_to_string(path).expect("a list of consents"));
        }
    }
    let mut needles = scan::list(&exports.join("planted.tsv"), |_| true);
    needles.retain(|n| n.kind != "birthDate" || !signed.contains(&n.value));
    needles
}

/// What a profile promises to remove.
fn forbidden(profile: &str, kind: &str) -> bool {
    profile != "limited" || !matches!(kind, "birthDate" | "postalCode")
}

fn none_found(program: &Program, needles: &[Needle], profile: &str) {
    let scanner = Scanner::new(needles.iter().filter(|n| forbidden(profile, &n.kind)).cloned());
    let found = program.search(&scanner);
    println!("{profile}: {} identifiers searched, {} found", scanner.len(), found.len());
    assert!(found.is_empty(), "{profile}: {} findings: {:#?}", found.len(), &found[..found.len().min(30)]);
    // The search can find: the same scanner on an export finds its people.
    assert!(!scanner.folder(&program.data.with_file_name("exports")).is_empty());
}

#[test]
fn exports_leave_no_identifier_behind() {
    let planted = plant();
    for profile in ["date-shifted", "safe-harbor", "limited"] {
        let program = Program::on(planted.folder.path().join(format!("data-{profile}")));
        for hospital in ["north-general", "southfield-clinic"] {
            let folder = planted.exports.join(hospital);
            for format in ["fhir", "omop"] {
                let dataset = format!("{hospital}-{format}");
                let said = program.must(&[
                    "ingest",
                    arg(&folder.join(format)),
                    "--contributor",
                    hospital,
                    "--dataset",
                    &dataset,
                    "--profile",
                    profile,
                    "--linkage",
                ]);
                assert!(said["persons"].as_u64().is_some_and(|n| n > 20), "{said}");
                assert!(said["lines"]["quarantined"].as_u64().is_some_and(|n| n >= 4), "{said}");
                // Before the same people come under other ids, and their record numbers name nobody.
                if format == "fhir" {
                    let list = folder.join("consents.csv");
                    program.must(&["consent", "import", arg(&list), "--contributor", hospital]);
                }
            }
        }
        misuse(&program, &planted);
        none_found(&program, &planted.needles, profile);
    }
}

/// Commands that must fail, with identifiers in what they are given.
fn misuse(program: &Program, planted: &Planted) {
    let named = &planted.needles.iter().find(|n| n.kind == "family").expect("a name").value;
    let wrong = planted.folder.path().join("wrong");
    fs::create_dir_all(&wrong).expect("made");
    let list = wrong.join("consents.csv");
    fs::write(&list, format!("record_number,form_version,date,evidence_digest\n{named},,{named},{named}\n"))
        .expect("written");
    let _ = program.run(&["consent", "import", arg(&list), "--contributor", "north-general"]);
    let export = wrong.join("export");
    fs::create_dir_all(&export).expect("made");
    fs::write(
        export.join("Patient.000.ndjson"),
        format!("{{\"resourceType\":\"Patient\",\"id\":\"{named}\"\n"),
    )
    .expect("written");
    let _ = program.run(&["ingest", arg(&export), "--contributor", "north-general", "--dataset", "broken"]);
    let _ = program.run(&["inspect", arg(&export)]);
    let _ = program.run(&["verify"]);
}

#[test]
fn a_server_says_and_keeps_no_identifier() {
    let planted = plant();
    let program = Program::on(planted.folder.path().join("data"));
    let token = program.must(&["init"])["token"].as_str().expect("an operator's token").to_owned();
    let server = program.serve();
    let state = planted.folder.path().join("push-state");
    for hospital in ["north-general", "southfield-clinic"] {
        program.must(&["contributor", "add", hospital, "--name", "A Hospital", "--linkage"]);
        let export = planted.exports.join(hospital).join("fhir");
        let push =
            ["push", arg(&export), "--server", &server.url, "--token", &token, "--contributor", hospital];
        let said = program.must(&[&push[..], &["--state", arg(&state)]].concat());
        assert!(said["lines"]["quarantined"].as_u64().is_some_and(|n| n >= 4), "{said}");
    }
    let readable = paths(&server.call("GET", "/openapi.json", Some(&token), None).1);
    assert!(readable.len() > 10, "{readable:?}");
    for path in readable {
        server.call("GET", &path, Some(&token), None);
        server.call("GET", &path, None, None);
    }
    let name = &planted.needles.iter().find(|n| n.kind == "family").expect("a name").value;
    // Wrong input that holds a name: the answer must say what is wrong without it.
    for path in
        ["/v1/projects", "/v1/requests", "/v1/contributors", "/v1/counts", "/v1/consents", "/v1/invitations"]
    {
        let body = json!({"id": name, "contributor": name, name.as_str(): [name], "record_number": name});
        server.call("POST", path, Some(&token), Some(&body));
    }
    drop(server);
    none_found(&program, &planted.needles, "date-shifted");
}

/// Every path without parameters that can be read.
fn paths(document: &[u8]) -> Vec<String> {
    let document: Value = serde_json::from_slice(document).expect("the description is JSON");
    let paths = document["paths"].as_object().expect("paths");
    let endless = |path: &str| path.ends_with("/events");
    paths
        .iter()
        .filter(|(path, operations)| !path.contains('{') && !endless(path) && operations.get("get").is_some())
        .map(|(path, _)| path.clone())
        .collect()
}

/// The demonstration runs everything there is: counts, requests, releases, downloads, withdrawals.
#[test]
fn the_demonstration_leaves_no_identifier_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::on(folder.path().join("data"));
    let story = program.must(&["demo", "--exit", "--patients", "400"]);
    let beside = |key: &str| PathBuf::from(story[key].as_str().unwrap_or_else(|| panic!("{key} in {story}")));
    let needles = needles(&beside("exports"));
    assert!(needles.len() > 1000);
    none_found_in(&program, &needles, &beside("downloads"));
}

fn none_found_in(program: &Program, needles: &[Needle], downloads: &Path) {
    let scanner = Scanner::new(needles.iter().cloned());
    let mut found = program.search(&scanner);
    found.extend(scanner.folder(downloads));
    assert!(!scan::files(downloads).is_empty(), "nothing was downloaded");
    println!("demonstration: {} identifiers searched, {} found", scanner.len(), found.len());
    assert!(found.is_empty(), "{:#?}", &found[..found.len().min(30)]);
}
