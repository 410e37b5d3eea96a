//! A version that continues others holds what an export of everything would have held: random histories of changes, sent as
//! increments, against their end state, sent as a whole.
//!
//! Records are added, said otherwise, given to another patient, entered in error and deleted; patients come, are deleted and
//! are merged. What is compared is every row of every table, but for ids and days, which differ between the two by intent:
//! of them only whether they are there.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use almoner::synth::{self, Options};
use almoner::testdata;
use arrow::array::Array;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use support::run::{Program, arg};
use support::scan;

/// The resource types that change.
const KINDS: [&str; 10] = [
    "AllergyIntolerance",
    "Condition",
    "Device",
    "DiagnosticReport",
    "Encounter",
    "Immunization",
    "MedicationRequest",
    "Observation",
    "Procedure",
    "Specimen",
];
const CODED_BY: [&str; 4] = ["code", "vaccineCode", "medicationCodeableConcept", "type"];

/// Type → id → resource.
type State = BTreeMap<String, BTreeMap<String, Value>>;

/// What is sent: an export, and what it says was deleted.
#[derive(Default)]
struct Sent {
    resources: Vec<Value>,
    deleted: Vec<String>,
}

/// Splitmix64 (Steele, Lea and Flood 2014): which changes a history has is fixed by its seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[(self.next() % all.len() as u64) as usize]
    }
}

fn key<'v>(resource: &'v Value, name: &str) -> &'v str {
    resource[name].as_str().expect("text")
}

/// The id of the patient whom a resource is about, where it says so plainly.
fn patient(resource: &Value) -> Option<&str> {
    let about = resource.get("subject").or_else(|| resource.get("patient"))?;
    about["reference"].as_str()?.strip_prefix("Patient/")
}

/// A hospital's records: what the generator writes, without lines that cannot be read or that name nobody plainly.
fn world(seed: u64) -> State {
    let folder = tempfile::tempdir().expect("a folder");
    let options =
        Options { patients: 24, hospitals: 1, overlap_per_mille: 0, seed, years: 3, ..Options::default() };
    synth::generate(folder.path(), &options, &|_| ()).expect("made");
    let mut state = State::new();
    for path in scan::files(folder.path()) {
        let text = fs::read(&path).expect("reads");
        for line in text.split(|b| *b == b'\n') {
            let Ok(resource) = serde_json::from_slice::<Value>(line) else { continue };
            let (Some(kind), Some(id)) = (resource["resourceType"].as_str(), resource["id"].as_str()) else {
                continue;
            };
            let changes = KINDS.contains(&kind) && patient(&resource).is_some();
            if changes || matches!(kind, "Patient" | "Medication") {
                state.entry(kind.to_owned()).or_default().insert(id.to_owned(), resource);
            }
        }
    }
    // The generator also plants facts of 2024; what was long before a birth is not taken in.
    let patients = state.get_mut("Patient").expect("there");
    patients.retain(|_, r| r["birthDate"].as_str().is_some_and(|born| born < "2023"));
    let known: BTreeSet<String> = patients.keys().cloned().collect();
    for kind in KINDS {
        if let Some(all) = state.get_mut(kind) {
            all.retain(|_, r| patient(r).is_some_and(|p| known.contains(p)));
        }
    }
    state
}

/// Takes patients with all their records out of `state`, to come later.
fn withhold(state: &mut State, people: &[String]) -> State {
    let mut out = State::new();
    for (kind, all) in state.iter_mut() {
        let theirs = |id: &str, r: &Value| match kind.as_str() {
            "Patient" => people.iter().any(|p| p == id),
            _ => patient(r).is_some_and(|p| people.iter().any(|q| q == p)),
        };
        let ids: Vec<String> = all.iter().filter(|(id, r)| theirs(id, r)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            out.entry(kind.clone()).or_default().extend(all.remove_entry(&id));
        }
    }
    out
}

fn in_error(resource: &Value) -> Value {
    let mut out = resource.clone();
    match key(resource, "resourceType") {
        "Condition" | "AllergyIntolerance" => {
            let system = "http://terminology.hl7.org/CodeSystem/condition-ver-status";
            out["verificationStatus"] = json!({"coding": [{"system": system, "code": "entered-in-error"}]});
        }
        _ => out["status"] = "entered-in-error".into(),
    }
    out
}

/// When whoever is there was born.
fn births(state: &State) -> BTreeMap<String, String> {
    let birth = |r: &Value| r["birthDate"].as_str().unwrap_or("9999").to_owned();
    state["Patient"].iter().map(|(id, r)| (id.clone(), birth(r))).collect()
}

/// Changes who there is, and gives those to whom records can be given.
fn people(state: &mut State, waiting: &mut State, merging: bool, sent: &mut Sent) -> Vec<String> {
    let births = births(state);
    // Somebody comes, somebody is deleted, two turn out to be one.
    let coming: Vec<String> = waiting["Patient"].keys().take(2).cloned().collect();
    for (kind, all) in withhold(waiting, &coming) {
        sent.resources.extend(all.values().cloned());
        state.entry(kind).or_default().extend(all);
    }
    let merged = |r: &Value| r.get("link").is_some();
    let plain: Vec<String> =
        state["Patient"].iter().filter(|(_, r)| !merged(r)).map(|(id, _)| id.clone()).collect();
    let named: BTreeSet<String> = state["Patient"]
        .values()
        .filter_map(|r| {
            r["link"][0]["other"]["reference"].as_str()?.strip_prefix("Patient/").map(str::to_owned)
        })
        .collect();
    let free: Vec<&String> = plain.iter().filter(|id| !named.contains(*id) && !coming.contains(id)).collect();
    let gone = free[0].clone();
    withhold(state, std::slice::from_ref(&gone));
    sent.deleted.push(format!("Patient/{gone}"));
    // Merged before anything is given to another, which is in the last step: a link to a visit that is another's is not
    // kept, and does not come back with the visit. Into somebody as old or older, as
    // said below; and of the living, since what a record that was merged away says of a death is not taken in.
    let alive = |id: &&&String| state["Patient"][id.as_str()].get("deceasedDateTime").is_none();
    let mut alive = free[1..].iter().filter(alive);
    let mut pair = [(); 2].map(|()| (*alive.next().expect("two")).clone());
    pair.sort_by_key(|id| births[id].clone());
    let [winner, loser] = pair;
    if merging {
        let patients = state.get_mut("Patient").expect("there");
        let link = json!([{"type": "replaced-by", "other": {"reference": format!("Patient/{winner}")}}]);
        patients.get_mut(&loser).expect("there")["link"] = link;
        sent.resources.push(patients[&loser].clone());
    }
    plain.into_iter().filter(|id| *id != gone && (!merging || *id != loser)).collect()
}

/// One step of a history: changes `state`, and gives what a hospital sends of it.
fn step(dice: &mut Dice, state: &mut State, waiting: &mut State, merging: bool) -> Sent {
    let mut sent = Sent::default();
    let people = people(state, waiting, merging, &mut sent);
    let births = births(state);
    for kind in KINDS {
        let Some(all) = state.get_mut(kind) else { continue };
        let ids: Vec<String> = all.keys().cloned().collect();
        for id in &ids {
            match dice.next() % 40 {
                0 => {
                    all.remove(id);
                    sent.deleted.push(format!("{kind}/{id}"));
                }
                1 => sent.resources.extend(all.remove(id).map(|r| in_error(&r))),
                2 => {
                    let Some(like) = all.get(dice.of(&ids)).cloned() else { continue };
                    let resource = all.get_mut(id).expect("there");
                    for field in CODED_BY {
                        if let (Some(_), Some(code)) = (resource.get(field), like.get(field)) {
                            resource[field] = code.clone();
                        }
                    }
                    sent.resources.push(resource.clone());
                }
                3 if !merging => {
                    // To somebody as old or older: what was long before a birth is not taken in, and in a version that
                    // continues another the day of birth is not known as exactly.
                    let resource = all.get_mut(id).expect("there");
                    let born = |id: &str| births.get(id).cloned().unwrap_or_default();
                    let own = born(patient(resource).expect("plain"));
                    let older: Vec<&String> = people.iter().filter(|p| born(p) <= own).collect();
                    if older.is_empty() {
                        continue;
                    }
                    let about = if resource.get("subject").is_some() { "subject" } else { "patient" };
                    resource[about]["reference"] = format!("Patient/{}", dice.of(&older)).into();
                    sent.resources.push(resource.clone());
                }
                4 => sent.resources.push(all[id].clone()),
                _ => {}
            }
        }
    }
    // Of a record that changed twice in a step the last is sent, and of one that came and went only that it is gone.
    let mut seen: BTreeSet<String> = sent.deleted.iter().cloned().collect();
    sent.resources.reverse();
    sent.resources.retain(|r| seen.insert(format!("{}/{}", key(r, "resourceType"), key(r, "id"))));
    sent
}

/// Writes an export. Medications are in each, since what names them may be new.
fn write(sent: &Sent, state: &State) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let medications = state.get("Medication").into_iter().flat_map(BTreeMap::values);
    for resource in sent.resources.iter().filter(|r| r["resourceType"] != "Medication").chain(medications) {
        let file = files.entry(format!("{}.ndjson", key(resource, "resourceType"))).or_default();
        *file += &format!("{resource}\n");
    }
    let entries: Vec<Value> =
        sent.deleted.iter().map(|url| json!({"request": {"method": "DELETE", "url": url}})).collect();
    if !entries.is_empty() {
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
        files.insert("deleted/Bundle.ndjson".into(), bundle.to_string());
        fs::create_dir(folder.path().join("deleted")).expect("made");
    }
    for (name, lines) in files {
        fs::write(folder.path().join(name), lines).expect("written");
    }
    folder
}

fn everything(state: &State) -> Sent {
    Sent { resources: state.values().flat_map(BTreeMap::values).cloned().collect(), deleted: Vec::new() }
}

/// Whether a column differs between two houses by intent: ids, days, and whether somebody was 90 or older, which stays so
/// in a version that continues another, whose birth is no longer known.
fn is_own(column: &str) -> bool {
    let id = column.ends_with("_id") && !column.ends_with("_concept_id");
    id || column.contains("date") || matches!(column, "year_of_birth" | "age_90_plus")
}

/// Every row of a version, without ids and days, and how many there are of it, by table.
fn rows(version: &Path) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut out: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for path in scan::files(version).into_iter().filter(|p| p.extension().is_some_and(|e| e == "parquet")) {
        let table = path.strip_prefix(version).expect("below").components().next().expect("a table");
        let of_table = out.entry(table.as_os_str().to_string_lossy().into_owned()).or_default();
        let file = fs::File::open(&path).expect("opens");
        let batches =
            ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("reads");
        for batch in batches.map(|b| b.expect("reads")) {
            let options = FormatOptions::default();
            let schema = batch.schema();
            let columns: Vec<_> = schema
                .fields()
                .iter()
                .zip(batch.columns())
                .filter(|(field, _)| !field.name().starts_with('_'))
                .map(|(f, array)| (f.name(), array, ArrayFormatter::try_new(array, &options).expect("shown")))
                .collect();
            for row in 0..batch.num_rows() {
                let shown =
                    columns.iter().filter(|(_, array, _)| array.is_valid(row)).map(|(name, _, shown)| {
                        if is_own(name) {
                            format!("{name} ")
                        } else {
                            format!("{name}={} ", shown.value(row))
                        }
                    });
                *of_table.entry(shown.collect()).or_default() += 1;
            }
        }
    }
    out
}

/// Tables in which the two differ, with a row of each that the other has not.
fn differences(
    a: &BTreeMap<String, BTreeMap<String, u64>>,
    b: &BTreeMap<String, BTreeMap<String, u64>>,
) -> Vec<String> {
    let none = BTreeMap::new();
    let tables: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let only = |x: &BTreeMap<String, u64>, y: &BTreeMap<String, u64>| {
        let more = x.iter().filter(|(row, n)| y.get(*row).copied().unwrap_or(0) < **n);
        more.map(|(row, _)| row.clone()).take(9).collect::<Vec<_>>()
    };
    tables
        .into_iter()
        .filter_map(|table| {
            let (x, y) = (a.get(table).unwrap_or(&none), b.get(table).unwrap_or(&none));
            (x != y).then(|| format!("{table}: only continued {:?}, only whole {:?}", only(x, y), only(y, x)))
        })
        .collect()
}

/// A history in three exports against its end state in one, with a vocabulary that is loaded after the first where given.
fn history(seed: u64, vocabulary: Option<&Path>) {
    let mut state = world(seed);
    let late: Vec<String> = state["Patient"].keys().rev().take(4).cloned().collect();
    let mut waiting = withhold(&mut state, &late);
    let mut dice = Dice(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let [continued, whole] = ["continued", "whole"].map(|name| Program::on(folder.path().join(name)));
    let ingest = |program: &Program, export: &tempfile::TempDir, incremental: bool| {
        let mut args = vec!["ingest", arg(export.path()), "--contributor", "north"];
        args.extend(incremental.then_some("--incremental"));
        program.must(&args)
    };
    let load = |program: &Program| vocabulary.map(|v| program.must(&["vocabulary", "load", arg(v)]));
    ingest(&continued, &write(&everything(&state), &state), false);
    if load(&continued).is_some() {
        continued.must(&["vocabulary", "remap", "north"]);
    }
    let mut last = Value::Null;
    for merging in [true, false] {
        let sent = step(&mut dice, &mut state, &mut waiting, merging);
        assert!(sent.deleted.len() > 3 && sent.resources.len() > 30, "a step changes something of each kind");
        last = ingest(&continued, &write(&sent, &state), true);
    }
    load(&whole);
    let at_once = ingest(&whole, &write(&everything(&state), &state), false);
    assert_eq!(last["persons"], at_once["persons"], "seed {seed}");
    let version = |program: &Program, said: &Value| {
        rows(&program.data.join(format!("datasets/north/v{}", said["version"])))
    };
    let (a, b) = (version(&continued, &last), version(&whole, &at_once));
    let all: u64 = b.values().flat_map(BTreeMap::values).sum();
    assert!(b.len() >= 9 && all > 500, "there is something to compare: {all} rows of {:?}", b.keys());
    let differences = differences(&a, &b);
    assert!(differences.is_empty(), "seed {seed}: {differences:#?}");
}

#[test]
fn what_was_sent_in_parts_is_what_is_sent_as_a_whole() {
    for seed in 1..=4 {
        history(seed, None);
    }
}

#[test]
fn so_it_is_where_a_vocabulary_came_in_between() {
    let Some(vocabulary) = testdata::dir("omop/eunomia-synthea27nj") else { return };
    for seed in 5..=8 {
        history(seed, Some(&vocabulary));
    }
}
