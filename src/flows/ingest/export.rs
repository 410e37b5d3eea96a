//! The mapping pass: every line of every file once, on all threads, into gather.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use almoner_deid::Plausible;
use almoner_model::Tables;

use super::people::{Found, has_omop};
use super::{IngestError, Run, versions};
use crate::gather::{GatherSink, Gathering, Layout, SpillKey};
use crate::intake::{
    Export, FileReport, InputFile, InputKind, IntakeReport, Quarantine, RowWorker, Tally, map_fhir,
    read_tables,
};
use crate::jobs::{Progress, Unit};
use crate::keys::label;
use crate::mapping::fhir::{
    ConsentFound, Deletion, FhirContext, FhirMapper, FhirOutput, FhirRules, Findings,
};
use crate::mapping::omop::{Cells, Fate, Noted, OmopContext, OmopMapper, Plan, fate};
use crate::mapping::outcome::{Locator, Outcome, rule};
use crate::mapping::vocabulary::{
    Assign, ConceptLookup, ConceptMapper, ConceptReport, NoVocabulary, VocabularySink,
};
use crate::mapping::{StageError, StagedBatch, StagedBuilder, StagedSink, Stated};

/// Bytes of staged rows that each thread keeps in memory before it spills.
const BYTES_IN_MEMORY: usize = 48 << 20;

/// What mapping gives.
pub(super) struct Mapped<'p> {
    pub gathering: Gathering<'p>,
    pub report: IntakeReport,
    pub findings: Findings,
    pub noted: Noted,
    pub concepts: ConceptReport,
    pub consents: Vec<ConsentFound>,
    pub deletions: Vec<Deletion>,
    /// Row keys of records that the export states anew.
    pub restated: Vec<u64>,
    /// Row keys and lines of drugs whose Medication an export of changes does not have.
    pub uncoded: Vec<(u64, u64)>,
    /// Locators of all quarantined lines, one JSON object a line.
    pub quarantine: PathBuf,
    /// Removed with its files when the run ends, however it ends.
    pub _folder: WorkingFolder,
}

/// A folder for working files of one run.
pub(super) struct WorkingFolder(pub PathBuf);

impl Drop for WorkingFolder {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next start; it holds locators and sealed rows only.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A sink that notices when the caller wants to stop.
struct Watched<'s> {
    inner: GatherSink<'s>,
    progress: &'s dyn Progress,
}

/// The caller wanted the run to stop.
#[derive(Debug, thiserror::Error)]
#[error("stopped as asked")]
struct Stopped;

impl StagedSink for Watched<'_> {
    fn push(&mut self, batch: StagedBatch) -> Result<(), StageError> {
        if self.progress.cancelled() {
            return Err(StageError::Sink(Box::new(Stopped)));
        }
        self.inner.push(batch)
    }

    fn stated(&mut self, records: &[Stated]) -> Result<(), StageError> {
        self.inner.stated(records)
    }
}

pub(super) fn map<'p>(
    run: &'p Run<'p>,
    export: &Export,
    found: &'p Found,
    bits: Option<u8>,
) -> Result<Mapped<'p>, IngestError> {
    let ctx = &run.ctx;
    let folder = working_folder(run)?;
    let layout = Layout::new(
        &ctx.keys.key(label::BUCKET_LAYOUT),
        bits.unwrap_or_else(|| Layout::bits_for(unpacked_bytes(export))),
    );
    let key = SpillKey::new(ctx.entropy);
    let dates = Plausible::at(run.reference_date).map_err(|e| IngestError::Internal(e.to_string()))?;
    let mut gathering =
        Gathering::new(ctx.tables, &found.persons, layout, folder.0.clone(), key, BYTES_IN_MEMORY, dates);
    let path = folder.0.join("quarantine.ndjson");
    let io = |e: std::io::Error| {
        IngestError::Internal(format!("working files could not be written ({})", e.kind()))
    };
    let listed = ctx.limits.quarantine_listed;
    let quarantine = Quarantine::new(listed, Box::new(BufWriter::new(File::create(&path).map_err(io)?)));
    run.progress.stage("mapping", Some(export.bytes()), Unit::Bytes);
    let mut mapped = Pass {
        run,
        export,
        found,
        quarantine: &quarantine,
        report: IntakeReport::default(),
        concepts: Arc::default(),
    };
    let fhir = mapped.fhir(&mut gathering);
    let fhir = fhir.map_err(|e| cancelled(run, e))?;
    let mut noted = mapped.omop(&mut gathering).map_err(|e| cancelled(run, e))?;
    let concepts = mapped.concepts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut report = mapped.report;
    versions::settle(run, export, &mut gathering, &mut report.lines)?;
    report.files.sort_by_key(|file| file.ordinal);
    report.strangers = export.strangers.clone();
    report.quarantine = quarantine.into_listed();
    let FhirOutput { findings, mut consents, deletions, mut restated, mut uncoded } = fhir;
    restated.extend(&noted.restated);
    // What a version that does not count says or lacks is no matter.
    consents.retain(|consent| !gathering.is_superseded(consent.at.ordinal()));
    uncoded.retain(|(_, line)| !gathering.is_superseded(*line));
    noted.unplaced.retain(|(_, line)| !gathering.is_superseded(*line));
    Ok(Mapped {
        gathering,
        report,
        findings,
        noted,
        concepts,
        consents,
        deletions,
        restated,
        uncoded,
        quarantine: path,
        _folder: folder,
    })
}

fn cancelled(run: &Run<'_>, error: IngestError) -> IngestError {
    if run.progress.cancelled() { IngestError::Cancelled } else { error }
}

fn working_folder(run: &Run<'_>) -> Result<WorkingFolder, IngestError> {
    let name = format!("ingest-{:016x}", run.ctx.entropy.u64());
    let folder = WorkingFolder(run.ctx.spool.join(name));
    std::fs::create_dir_all(&folder.0)
        .map_err(|e| IngestError::Internal(format!("a working folder could not be made ({})", e.kind())))?;
    Ok(folder)
}

/// An estimate: packed files are taken to hold ten times their size.
fn unpacked_bytes(export: &Export) -> u64 {
    let bytes = |input: &InputFile| match input.kind {
        InputKind::Omop { format: crate::intake::TableFormat::Parquet, .. } => input.bytes * 10,
        _ if input.source.is_plain() => input.bytes,
        _ => input.bytes * 10,
    };
    export.inputs.iter().map(bytes).sum()
}

struct Pass<'r, 'p, 'q> {
    run: &'r Run<'p>,
    export: &'r Export,
    found: &'p Found,
    quarantine: &'r Quarantine<'q>,
    report: IntakeReport,
    concepts: Arc<Mutex<ConceptReport>>,
}

impl<'p> Pass<'_, 'p, '_> {
    fn builder(&self, gathering: &mut Gathering<'p>) -> StagedBuilder<'p> {
        let sink = Watched { inner: gathering.sink(), progress: self.run.progress };
        let tables = self.run.ctx.tables;
        match self.run.ctx.vocabulary {
            None => StagedBuilder::new(tables, Box::new(sink)),
            Some(loaded) => {
                let mapper = ConceptMapper::new(tables, &loaded.index, Assign::Missing);
                let sink = VocabularySink::new(mapper, sink, Arc::clone(&self.concepts));
                StagedBuilder::new(tables, Box::new(sink))
            }
        }
    }

    fn vocabulary(&self) -> &'p dyn ConceptLookup {
        self.run.ctx.vocabulary.map_or(&NoVocabulary as &dyn ConceptLookup, |loaded| &loaded.index)
    }

    fn fhir(&mut self, gathering: &mut Gathering<'p>) -> Result<FhirOutput, IngestError> {
        let rules = FhirRules::embedded().map_err(|e| IngestError::Internal(e.to_string()))?;
        let run = self.run;
        let mut builders = Vec::new();
        for _ in 0..run.ctx.limits.threads.get() {
            builders.push(self.builder(gathering));
        }
        let context = FhirContext {
            persons: &self.found.persons,
            references: &self.found.references,
            vocabulary: self.vocabulary(),
            rules: &rules,
            today: run.ctx.clock.now().date(),
        };
        let made: Result<Vec<_>, _> =
            builders.into_iter().map(|b| FhirMapper::new(context, run.ctx.tables, b)).collect();
        let mut mappers = made.map_err(|e| IngestError::Internal(e.to_string()))?;
        let advance = |n: u64| run.progress.advance(n);
        let (read, files) = map_fhir(self.export, run.ctx.limits, &mut mappers, self.quarantine, &advance)?;
        self.report.lines.add(&read.tally);
        self.report.files.extend(files);
        let mut all = FhirOutput::default();
        for mapper in mappers {
            let out = mapper.finish()?;
            all.findings.add(&out.findings);
            all.consents.extend(out.consents);
            all.deletions.extend(out.deletions);
            all.restated.extend(out.restated);
            all.uncoded.extend(out.uncoded);
        }
        all.consents.sort_by_key(|consent| consent.at);
        Ok(all)
    }

    fn omop(&mut self, gathering: &mut Gathering<'p>) -> Result<Noted, IngestError> {
        let mut noted = Noted::default();
        if !has_omop(self.export) {
            return Ok(noted);
        }
        let run = self.run;
        let mut files: Vec<&InputFile> =
            self.export.inputs.iter().filter(|i| matches!(i.kind, InputKind::Omop { .. })).collect();
        files.sort_by_key(|input| std::cmp::Reverse(input.bytes));
        let context = OmopContext {
            persons: &self.found.persons,
            people: &self.found.omop,
            references: &self.found.references,
            vocabulary: self.vocabulary(),
        };
        let mut workers = Vec::new();
        for _ in 0..run.ctx.limits.threads.get() {
            let mapper = OmopMapper::new(context, self.builder(gathering));
            workers.push(Rows { tables: run.ctx.tables, mapper, fate: None, plan: None });
        }
        let advance = |n: u64| run.progress.advance(n);
        let read = read_tables(&files, run.ctx.limits, &mut workers, self.quarantine, &advance)?;
        self.report.lines.add(&read.tally);
        self.report.files.extend(FileReport::all(&files, &read.files));
        for worker in workers {
            noted.add(&worker.mapper.finish()?);
        }
        Ok(noted)
    }
}

/// One thread that maps rows.
struct Rows<'c> {
    tables: &'c Tables,
    mapper: OmopMapper<'c>,
    fate: Option<Fate>,
    plan: Option<Plan>,
}

impl RowWorker for Rows<'_> {
    fn header(&mut self, input: &InputFile, names: &[&str]) {
        let fate = fate(self.tables, input.kind.label());
        self.plan = match fate {
            Fate::Carried(table) => {
                self.tables.iter().nth(table).map(|spec| Plan::new(spec, table, names)).filter(Plan::usable)
            }
            _ => None,
        };
        self.fate = Some(fate);
    }

    fn row(&mut self, _: &InputFile, at: Locator, cells: Cells<'_>) -> Result<Outcome, StageError> {
        match (self.fate, &self.plan) {
            (Some(Fate::Carried(_)), Some(plan)) => self.mapper.row(plan, at, cells),
            (Some(Fate::Joined), _) => Ok(Outcome::Mapped),
            (Some(Fate::LeftOut(reason)), _) => Ok(Outcome::Unmapped(reason)),
            // A table whose header has no person or no id: none of its rows can be anyone's.
            _ => Ok(Outcome::broken(rule::NO_ID)),
        }
    }
}

/// Lines that turned out, when whole persons were gathered, to have no row: their outcome changes.
pub(super) fn reclassify(
    lines: &mut Tally,
    export: &Export,
    tables: &Tables,
    dropped: &[crate::gather::Dropped],
    suppressed: impl IntoIterator<Item = u64>,
) {
    let kinds: HashMap<u32, &'static str> =
        export.inputs.iter().map(|i| (i.ordinal, i.kind.label())).collect();
    for line in dropped {
        let table = tables.iter().nth(line.table).map_or("", |spec| spec.table.as_str());
        let kind = counted_as(lines, kinds.get(&((line.ordinal >> 40) as u32)).copied(), table);
        if line.reason.quarantines() {
            lines.move_to_quarantine(kind, line.reason.as_str());
        } else {
            lines.move_to_unmapped(kind, line.reason.as_str(), 1);
        }
    }
    for ordinal in suppressed {
        let kind = counted_as(lines, kinds.get(&((ordinal >> 40) as u32)).copied(), "");
        lines.move_to_unmapped(kind, "suppressed-person", 1);
    }
}

/// The type that a line was counted under: the file's, or in a file of mixed types the first that still has mapped lines
/// among those that make rows of the table.
fn counted_as(lines: &Tally, kind: Option<&'static str>, table: &str) -> &'static str {
    let has = |name: &&'static str| lines.types.get(*name).is_some_and(|c| c.mapped > 0);
    if let Some(kind) = kind.filter(has) {
        return kind;
    }
    let likely: &[&'static str] = match table {
        "person" | "death" => &["Patient"],
        "visit_occurrence" | "visit_detail" => &["Encounter"],
        "condition_occurrence" => &["Condition"],
        "procedure_occurrence" => &["Procedure"],
        "measurement" => &["Observation"],
        "observation" => &["Observation", "AllergyIntolerance", "Condition", "Procedure"],
        "device_exposure" => &["Device", "Procedure"],
        "specimen" => &["Specimen"],
        "drug_exposure" => &[
            "MedicationRequest",
            "MedicationAdministration",
            "MedicationStatement",
            "MedicationDispense",
            "Immunization",
        ],
        _ => &[],
    };
    let any = || lines.types.iter().find(|(_, c)| c.mapped > 0).map(|(name, _)| *name);
    likely.iter().find(|name| has(name)).copied().or_else(any).unwrap_or("mixed")
}
