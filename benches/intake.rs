//! How fast FHIR NDJSON is read and mapped, beside plain typed parsing of the same bytes with serde_json.
//!
//! Prints one line of JSON: megabytes a second (10⁶ bytes) on one core for (a) plain typed parsing with owned strings,
//! (b) the same with borrowed ones, (c) reading and mapping to staged rows; for (d) the whole pass from files on all
//! cores; and the ratio of (c) to (a). Rows go nowhere. The folder is the first argument that is no option, else the test
//! data `synthea-ca/fhir-bulk`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use almoner::intake::{self, Export, InputFile, InputKind, Limits, Quarantine};
use almoner::mapping::fhir::{FhirContext, FhirMapper, FhirRules, PatientFacts, PatientSink, References};
use almoner::mapping::outcome::Locator;
use almoner::mapping::vocabulary::NoVocabulary;
use almoner::mapping::{
    KeyedHasher, PersonIndex, StageError, StagedBatch, StagedBuilder, StagedSink, Stated,
};
use almoner_model::{Date, Tables};
use serde::Deserialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a program that only wants the events would write.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "S: Default + Deserialize<'de>"))]
#[expect(dead_code, reason = "parsed to be measured")]
struct Resource<S> {
    resource_type: S,
    id: Option<S>,
    status: Option<serde::de::IgnoredAny>,
    code: Option<Concept<S>>,
    medication_codeable_concept: Option<Concept<S>>,
    vaccine_code: Option<Concept<S>>,
    subject: Option<Reference<S>>,
    patient: Option<Reference<S>>,
    encounter: Option<Reference<S>>,
    effective_date_time: Option<S>,
    onset_date_time: Option<S>,
    authored_on: Option<S>,
    occurrence_date_time: Option<S>,
    performed_period: Option<Period<S>>,
    period: Option<Period<S>>,
    value_quantity: Option<Quantity<S>>,
    value_codeable_concept: Option<Concept<S>>,
    birth_date: Option<S>,
    gender: Option<S>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed to be measured")]
#[serde(bound(deserialize = "S: Default + Deserialize<'de>"))]
struct Concept<S> {
    #[serde(default)]
    coding: Vec<Coding<S>>,
    text: Option<S>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed to be measured")]
struct Coding<S> {
    system: Option<S>,
    code: Option<S>,
    display: Option<S>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed to be measured")]
struct Reference<S> {
    reference: Option<S>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed to be measured")]
struct Period<S> {
    start: Option<S>,
    end: Option<S>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed to be measured")]
struct Quantity<S> {
    value: Option<f64>,
    unit: Option<S>,
    code: Option<S>,
}

/// Borrowed unless escaped.
#[derive(Default, Deserialize)]
#[serde(transparent)]
#[expect(dead_code, reason = "parsed to be measured")]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

struct Nowhere(usize);
impl StagedSink for Nowhere {
    fn push(&mut self, batch: StagedBatch) -> Result<(), StageError> {
        self.0 += batch.batch.num_rows();
        Ok(())
    }

    fn stated(&mut self, _: &[Stated]) -> Result<(), StageError> {
        Ok(())
    }
}

struct Nobody;
impl PatientSink for Nobody {
    fn patient(&mut self, _: u32, _: &PatientFacts<'_>) {}
}

/// Bytes that are parsed on one core; more than the caches hold, less than the machine has.
const SAMPLE_BYTES: usize = 400 << 20;

type AnyError = Box<dyn std::error::Error>;

#[expect(clippy::print_stdout, reason = "a bench prints its figure")]
fn main() -> Result<(), AnyError> {
    let argument = std::env::args().skip(1).find(|a| !a.starts_with("--")).map(PathBuf::from);
    let Some(dir) = argument.or_else(|| almoner::testdata::dir("synthea-ca/fhir-bulk")) else {
        return Ok(());
    };
    let bench = Bench::open(&dir)?;
    let sample = bench.sample()?;
    let bytes: usize = sample.iter().map(|part| part.text.len()).sum();
    let rate = |seconds: f64, bytes: usize| bytes as f64 / 1e6 / seconds;
    let owned = rate(parse_owned(&sample)?, bytes);
    let borrowed = rate(parse_borrowed(&sample)?, bytes);
    let (mapping, rows) = bench.map_sample(&sample)?;
    let mapped = rate(mapping, bytes);
    let (passing, lines) = bench.map_files()?;
    let all = rate(passing, bench.export.fhir().map(|f| f.bytes as usize).sum());
    println!(
        "{}",
        serde_json::json!({
            "bench": "intake", "sample_bytes": bytes, "sample_rows": rows, "lines": lines,
            "plain_owned_mb_s": owned.round(), "plain_borrowed_mb_s": borrowed.round(),
            "mapped_one_core_mb_s": mapped.round(), "mapped_all_cores_from_files_mb_s": all.round(),
            "threads": bench.limits.threads, "ratio_to_plain_owned": (mapped / owned * 100.0).round() / 100.0,
        })
    );
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a bench measures durations")]
fn timed<T>(work: impl FnOnce() -> Result<T, AnyError>) -> Result<(f64, T), AnyError> {
    let start = Instant::now();
    let out = work()?;
    Ok((start.elapsed().as_secs_f64(), out))
}

/// Types whose elements [`Resource`] names; of the others only the type is read.
const NAMED: [&str; 9] = [
    "Condition",
    "DiagnosticReport",
    "Encounter",
    "Immunization",
    "MedicationAdministration",
    "MedicationRequest",
    "Observation",
    "Patient",
    "Procedure",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "parsed to be measured")]
struct Head<S> {
    resource_type: S,
}

macro_rules! parse {
    ($name:ident, $text:ty) => {
        fn $name(sample: &[Part]) -> Result<f64, AnyError> {
            let run = || {
                for part in sample {
                    let named = NAMED.contains(&part.kind);
                    for line in part.text.lines() {
                        if named {
                            let resource: Resource<$text> = serde_json::from_slice(line.as_bytes())?;
                            std::hint::black_box(&resource);
                        } else {
                            let head: Head<$text> = serde_json::from_slice(line.as_bytes())?;
                            std::hint::black_box(&head);
                        }
                    }
                }
                Ok(())
            };
            Ok(timed(run)?.0)
        }
    };
}

parse!(parse_owned, String);
parse!(parse_borrowed, Borrowed<'_>);

/// Whole lines from the start of one file.
struct Part {
    file: usize,
    kind: &'static str,
    text: String,
}

/// The lines that plain parsing takes.
fn parsed_lines(bytes: &[u8], named: bool) -> String {
    let parses = |line: &&str| match named {
        true => serde_json::from_str::<Resource<String>>(line).is_ok(),
        false => serde_json::from_str::<Head<String>>(line).is_ok(),
    };
    let whole = bytes.split(|b| *b == b'\n').filter_map(|line| std::str::from_utf8(line).ok()).filter(parses);
    whole.flat_map(|line| [line, "\n"]).collect()
}

struct Bench {
    export: Export,
    limits: Limits,
    tables: Tables,
    persons: PersonIndex,
    references: References,
    rules: FhirRules,
}

impl Bench {
    fn open(dir: &Path) -> Result<Self, AnyError> {
        let limits = Limits::default();
        let hasher = KeyedHasher::new(&[3; 32]);
        let export = intake::discover(dir, &limits, &hasher)?;
        let mut persons = PersonIndex::new(hasher);
        let (mut references, _) = intake::read_references(&export, &limits, &mut persons, &mut Nobody)?;
        references.find_deleted(&persons);
        let (tables, rules) = (Tables::embedded()?, FhirRules::embedded()?);
        Ok(Self { export, limits, tables, persons, references, rules })
    }

    fn context(&self) -> FhirContext<'_> {
        FhirContext {
            persons: &self.persons,
            references: &self.references,
            vocabulary: &NoVocabulary,
            rules: &self.rules,
            today: Date::from_days(20_000),
        }
    }

    fn mapper(&self) -> Result<FhirMapper<'_>, AnyError> {
        let rows = StagedBuilder::new(&self.tables, Box::new(Nowhere(0)));
        Ok(FhirMapper::new(self.context(), &self.tables, rows)?)
    }

    /// A share of each file, so that the sample has the types in the export's own proportions. Lines that plain parsing
    /// refuses (exports have broken ones) are left out, so that both sides do the same work.
    fn sample(&self) -> Result<Vec<Part>, AnyError> {
        let files: Vec<&InputFile> = self.export.fhir().collect();
        let total: u64 = files.iter().map(|f| f.bytes).sum();
        let share = (SAMPLE_BYTES as f64 / total.max(1) as f64).min(1.0);
        let mut sample = Vec::new();
        for (i, file) in files.iter().enumerate() {
            let mut bytes = Vec::new();
            let wanted = (file.bytes as f64 * share).ceil() as u64;
            std::io::Read::read_to_end(
                &mut std::io::Read::take(file.source.open(&self.limits)?, wanted),
                &mut bytes,
            )?;
            if share < 1.0 {
                bytes.truncate(bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1));
            }
            let kind = file.kind.label();
            sample.push(Part { file: i, kind, text: parsed_lines(&bytes, NAMED.contains(&kind)) });
        }
        Ok(sample)
    }

    fn map_sample(&self, sample: &[Part]) -> Result<(f64, u64), AnyError> {
        let files: Vec<&InputFile> = self.export.fhir().collect();
        let mut mapper = self.mapper()?;
        let (seconds, rows) = timed(|| {
            let mut mapped = 0;
            for part in sample {
                let InputKind::Fhir(kind) = files[part.file].kind else { continue };
                for (number, line) in (1u64..).zip(part.text.lines()) {
                    let at = Locator::line(files[part.file].ordinal, number);
                    let (_, outcome) = mapper.line(at, line, kind.may_hold_references(), "mixed")?;
                    mapped += u64::from(outcome == intake::Outcome::Mapped);
                }
            }
            Ok(mapped)
        })?;
        mapper.finish()?;
        Ok((seconds, rows))
    }

    fn map_files(&self) -> Result<(f64, u64), AnyError> {
        let mut mappers =
            (0..self.limits.threads.get()).map(|_| self.mapper()).collect::<Result<Vec<_>, _>>()?;
        let quarantine = Quarantine::new(10, Box::new(std::io::sink()));
        timed(|| {
            let (read, _) = intake::map_fhir(&self.export, &self.limits, &mut mappers, &quarantine, &|_| ())?;
            Ok(read.tally.total.read)
        })
    }
}
