//! The generator as a whole: same options, same bytes; the summary says what is there; what is listed is planted.

use super::*;
use std::collections::{BTreeMap, HashMap, HashSet};

fn made(options: &Options) -> (tempfile::TempDir, Summary) {
    let dir = tempfile::tempdir().unwrap();
    let summary = generate(dir.path(), options, &|_| ()).unwrap();
    (dir, summary)
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn small() -> Options {
    Options { patients: 60, hospitals: 3, overlap_per_mille: 400, years: 3, omop: true, ..Options::default() }
}

#[test]
fn the_same_options_give_the_same_bytes() {
    let (a, b) = (made(&small()), made(&small()));
    assert_eq!(a.1, b.1);
    assert!(files(a.0.path()) == files(b.0.path()), "two runs differ");
    let c = made(&Options { seed: 2, ..small() });
    assert!(files(a.0.path()) != files(c.0.path()), "the seed changes nothing");
}

/// Lines of a file as exporters mean them: after a byte order mark, without CRLF.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l)).filter(|l| !l.is_empty())
}

#[test]
fn every_line_is_the_resource_its_file_promises_but_for_the_counted_faults() {
    let (dir, summary) = made(&small());
    let all = files(dir.path());
    let mut types = HashSet::new();
    for hospital in &summary.hospitals {
        let (mut total, mut sound) = (0, 0);
        for (path, bytes) in all.iter().filter(|(p, _)| p.starts_with(Path::new(&hospital.id).join("fhir"))) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let Some((kind, _)) = name.split_once('.').filter(|(k, _)| *k != "log") else { continue };
            if !name.ends_with(".ndjson") {
                continue;
            }
            for line in lines(bytes) {
                total += 1;
                let Ok(value) = serde_json::from_slice::<serde_json::Value>(line) else { continue };
                sound += u64::from(value["resourceType"] == kind && value["id"].is_string());
                types.insert(value["resourceType"].as_str().unwrap_or_default().to_owned());
            }
        }
        assert_eq!(total, hospital.fhir_lines);
        assert!(total - sound <= hospital.fhir_faults + 2, "{total} lines, {sound} sound");
        assert!(hospital.fhir_faults >= 10 && hospital.omop_faults >= 4);
        assert!(hospital.persons > 10 && hospital.shared > 3 && hospital.consents_on_paper > 3);
    }
    for kind in ["Patient", "Observation", "Device", "DocumentReference", "Consent", "Specimen"] {
        assert!(types.contains(kind), "no {kind}");
    }
}

#[test]
fn every_row_has_the_columns_of_its_table_but_for_the_counted_faults() {
    let (dir, summary) = made(&small());
    let mut rows = 0;
    for (path, bytes) in files(dir.path()) {
        if !path.parent().is_some_and(|p| p.ends_with("omop")) || path.to_string_lossy().contains("letters_")
        {
            continue;
        }
        let tab = bytes.split(|b| *b == b'\n').next().unwrap().contains(&b'\t');
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(if tab { b'\t' } else { b',' })
            .flexible(true)
            .from_reader(&bytes[..]);
        let columns = reader.headers().unwrap().len();
        let mut short = 0;
        for row in reader.records() {
            rows += 1;
            short += usize::from(row.unwrap().len() != columns);
        }
        assert!(short <= 2, "{} has {short} rows with other columns", path.display());
    }
    assert_eq!(rows, summary.hospitals.iter().map(|h| h.omop_rows).sum::<u64>());
}

#[test]
fn who_went_to_two_hospitals_is_the_same_person_under_other_numbers() {
    let (dir, summary) = made(&small());
    let mut seen: HashMap<(String, String, String), Vec<(String, String)>> = HashMap::new();
    for (path, bytes) in files(dir.path()) {
        if path.file_name().is_some_and(|n| n == "Patient.000.ndjson") {
            for line in lines(&bytes) {
                let Ok(p) = serde_json::from_slice::<serde_json::Value>(line) else { continue };
                let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
                let who = (text(&p["name"][0]["family"]), text(&p["birthDate"]), text(&p["gender"]));
                seen.entry(who).or_default().push((text(&p["id"]), text(&p["identifier"][0]["value"])));
            }
        }
    }
    let twice: Vec<_> = seen.values().filter(|records| records.len() == 2).collect();
    assert_eq!(twice.len() as u64 * 2, summary.hospitals.iter().map(|h| h.shared).sum::<u64>());
    assert!(twice.iter().all(|r| r[0].0 != r[1].0 && r[0].1 != r[1].1));
}

#[test]
fn what_is_listed_is_planted() {
    listed_is_planted(&small());
    listed_is_planted(&Options { fhir: false, ..small() });
    listed_is_planted(&Options { omop: false, ..small() });
}

fn listed_is_planted(options: &Options) {
    let (dir, summary) = made(options);
    let all = files(dir.path());
    let list = String::from_utf8(all[Path::new("planted.tsv")].clone()).unwrap();
    assert_eq!(list.lines().count() as u64, summary.planted + 1);
    assert!(summary.planted > 700);
    let mut everything: Vec<u8> = Vec::new();
    for (path, bytes) in &all {
        if path != Path::new("planted.tsv") {
            everything.extend_from_slice(path.to_string_lossy().as_bytes());
            everything.push(b'\n');
            everything.extend_from_slice(bytes);
        }
    }
    for line in list.lines().skip(1) {
        let value = line.rsplit('\t').next().unwrap();
        // As it is, or with `\uXXXX` for what is not ASCII.
        let escaped: String = value
            .chars()
            .map(|c| if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) })
            .collect();
        let found =
            [value, &escaped].iter().any(|v| memchr::memmem::find(&everything, v.as_bytes()).is_some());
        assert!(found, "{line} is nowhere");
    }
}

#[test]
fn senseless_options_are_refused_and_nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    for options in [
        Options { patients: 0, ..small() },
        Options { hospitals: 0, ..small() },
        Options { overlap_per_mille: 1001, ..small() },
        Options { fhir: false, omop: false, ..small() },
    ] {
        assert!(matches!(generate(dir.path(), &options, &|_| ()), Err(SynthError::Options(_))));
    }
    fs::write(dir.path().join("mine"), "x").unwrap();
    assert!(matches!(generate(dir.path(), &small(), &|_| ()), Err(SynthError::NotEmpty)));
}

/// The command that makes it stands in `datasets/README.md`.
#[test]
fn the_committed_export_can_be_made_again() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/two-hospitals-20");
    let options = Options {
        patients: 20,
        hospitals: 2,
        overlap_per_mille: 250,
        seed: 20,
        years: 2,
        ..Options::default()
    };
    let (dir, _) = made(&options);
    let (ours, theirs) = (files(dir.path()), files(&committed));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (path, bytes) in &ours {
        assert!(bytes == &theirs[path], "{} differs", path.display());
    }
    assert!(ours.values().map(Vec::len).sum::<usize>() < 1 << 20);
}
