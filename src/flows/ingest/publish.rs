//! From gathered rows to a published version: bucket by bucket through derive, de-identification and risk to files, then
//! the manifest, then the ledger.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use almoner_deid::{
    DeidBatch, DeidContext, DeidReport, DeriveReport, DeriveRules, PersonBatch, SubjectContext, Zip3,
    deidentify, derive,
};
use almoner_model::{DatePrecision, Seq, SubjectId};
use arrow::array::RecordBatch;
use serde_json::{Value, json};

use super::changes::int;
use super::export::{Mapped, reclassify};
use super::people::Found;
use super::{Consents, IngestError, IngestSummary, Lines, Run, Stopped, entry, reports};
use crate::catalog::{CatalogError, Facts, SMALLEST_CELL, add_rows};
use crate::dataset::{
    FORMAT, FileEntry, Manifest, Mode, ProfileEntry, ReportEntry, TableEntry, VersionWriter,
};
use crate::events::{DatasetPublished, Event};
use crate::flows::consent::{self, ConsentSummary};
use crate::gather::{Dropped, GatherReport, Gathering, ImplausibleDates};
use crate::intake::{Export, FileReport, IntakeReport, Quarantined};
use crate::jobs::Unit;
use crate::keys::label;
use crate::mapping::fhir::Deletion;
use crate::mapping::outcome::Locator;
use crate::mapping::vocabulary::ConceptReport;
use crate::risk::{People, Population, RiskReport, measure};
use crate::state::topic;
use crate::store::{Precondition, StoreError};

/// What recipients must agree to, whatever else a contributor asks for.
pub(super) const TERMS_OF_USE: &str = "Only for the approved purpose. No attempt to identify or contact anyone, and no \
     linkage with other data that could. No onward transfer. Whoever is identified by accident is reported at once.";

/// Consents that are held unpacked at a time.
const CONSENTS_AT_ONCE: usize = 512;

/// What the threads that write buckets have in common.
pub(super) struct Buckets<'b> {
    pub run: &'b Run<'b>,
    pub writer: &'b VersionWriter<'b>,
    /// For true data.
    pub deid: DeidContext,
    people: Mutex<People>,
}

/// What one thread wrote.
#[derive(Default)]
pub(super) struct Written {
    pub files: Vec<FileEntry>,
    pub facts: Facts,
    pub gather: GatherReport,
    pub derive: DeriveReport,
    pub deid: DeidReport,
    pub concepts: ConceptReport,
}

/// Writes, seals and publishes the version.
pub(super) fn publish(
    run: &Run<'_>,
    export: &Export,
    found: &Found,
    mut mapped: Mapped<'_>,
) -> Result<IngestSummary, IngestError> {
    let ctx = &run.ctx;
    let writer = VersionWriter::begin(ctx.catalog.blobs(), ctx.tables, &run.dataset, run.version)?;
    let result = write(run, &writer, &mapped.gathering).and_then(|(written, risk)| {
        account(&mut mapped, export, run, &written.gather.dropped)?;
        if written.deid.persons == 0 {
            let lines = mapped.report.lines.total;
            return Err(IngestError::Nobody(lines.read, lines.quarantined));
        }
        let bits = mapped.gathering.layout().bits();
        let manifest = manifest(run, &writer, bits, written, &risk, said(run, found, &mapped)?)?;
        let consents = take_consents(run, found, &mapped)?;
        let seq = seal(run, &writer, &manifest)?;
        Ok(Published { manifest, consents, seq })
    });
    let published = result.map_err(|error| give_up(&writer, error))?;
    Ok(summary(run, export, found, &mapped, published))
}

/// A version that is published, with the consents that came with it.
pub(super) struct Published {
    pub manifest: Manifest,
    pub consents: Consents,
    pub seq: Seq,
}

/// Removes a version that certainly is not published. Where the ledger could not say, it stays for the next start, which
/// knows what the ledger took.
pub(super) fn give_up(writer: &VersionWriter<'_>, error: IngestError) -> IngestError {
    if !matches!(&error, IngestError::Store(StoreError::Unavailable(_) | StoreError::NotIntact(_))) {
        // The error is what matters; a folder that stays is removed when its version is begun again.
        let _ = writer.abandon();
    }
    error
}

/// The files that were not read to their end.
pub(super) fn stopped(files: &[FileReport]) -> impl Iterator<Item = Stopped> + '_ {
    let stopped = |file: &FileReport| {
        file.stopped.map(|rule| Stopped { file: file.ordinal, kind: file.kind, lines: file.lines, rule })
    };
    files.iter().filter_map(stopped)
}

/// Sums up.
pub(super) fn summary(
    run: &Run<'_>,
    export: &Export,
    found: &Found,
    mapped: &Mapped<'_>,
    published: Published,
) -> IngestSummary {
    let Published { manifest, consents, seq } = published;
    let total = mapped.report.lines.total;
    let mut strangers = BTreeMap::new();
    for stranger in &export.strangers {
        *strangers.entry(stranger.reason).or_default() += 1;
    }
    IngestSummary {
        dataset: run.dataset.clone(),
        version: run.version,
        contributor: run.contributor.body.contributor.clone(),
        profile: run.profile.name().to_owned(),
        persons: manifest.persons,
        tables: manifest.rows(),
        lines: Lines {
            read: total.read,
            mapped: total.mapped,
            unmapped: total.unmapped,
            quarantined: total.quarantined,
        },
        reasons: mapped.report.lines.by_reason(),
        rules: mapped.report.lines.rules.clone(),
        stopped: stopped(&mapped.report.files).collect(),
        strangers,
        record_numbers_ambiguous: found.report.record_numbers_ambiguous,
        consents,
        ledger_seq: seq,
        seconds: 0.0,
    }
}

/// Writes all buckets, on all threads.
fn write(
    run: &Run<'_>,
    writer: &VersionWriter<'_>,
    gathering: &Gathering<'_>,
) -> Result<(Written, RiskReport), IngestError> {
    let buckets = Buckets::new(run, writer)?;
    let shifted = run.profile.declares().shifted;
    buckets.all(gathering.layout().buckets(), |bucket, written| {
        let gathered = gathering.bucket(bucket)?;
        written.gather.add(gathered.report);
        if gathered.subjects.is_empty() {
            return Ok(());
        }
        let offset = |s| if shifted { run.ctx.registry.offset_days(s, run.epoch) } else { 0 };
        let subjects: Vec<SubjectContext> =
            gathered.subjects.iter().map(|s| SubjectContext::new(*s, offset(*s))).collect();
        let batch = buckets.derive(bucket, gathered.tables, written)?;
        let (batch, report) = deidentify(batch, &run.profile, &subjects, &buckets.deid)?;
        written.deid.merge(report);
        buckets.keep(bucket, &batch, written)
    })
}

impl Written {
    fn add(&mut self, other: Self) {
        self.files.extend(other.files);
        self.facts.add(other.facts);
        self.derive.merge(other.derive);
        self.deid.merge(other.deid);
        self.gather.add(other.gather);
        self.concepts.add(&other.concepts);
    }
}

impl<'b> Buckets<'b> {
    pub fn new(run: &'b Run<'b>, writer: &'b VersionWriter<'b>) -> Result<Self, IngestError> {
        let internal = |e: &dyn std::fmt::Display| IngestError::Internal(e.to_string());
        let zip3 = Zip3::current().map_err(|e| internal(&e))?;
        let declares = run.profile.declares();
        let death_by_day = declares.date_precision == DatePrecision::Day && !declares.shifted;
        let people = People::new(run.ctx.tables, death_by_day).map_err(|e| internal(&e))?;
        let deid = DeidContext::new(run.reference_date, Arc::new(zip3));
        Ok(Self { run, writer, deid, people: Mutex::new(people) })
    }

    /// Calls `one` for each of `count` buckets, on all threads, and measures risk over everyone who was kept.
    pub fn all(
        &self,
        count: u32,
        one: impl Fn(u32, &mut Written) -> Result<(), IngestError> + Sync,
    ) -> Result<(Written, RiskReport), IngestError> {
        let run = self.run;
        run.progress.stage("publish", Some(u64::from(count)), Unit::Steps);
        let next = AtomicU32::new(0);
        let some = || -> Result<Written, IngestError> {
            let mut written = Written::default();
            loop {
                let bucket = next.fetch_add(1, Ordering::SeqCst);
                if bucket >= count {
                    return Ok(written);
                }
                let cancelled = run.progress.cancelled();
                let result = if cancelled { Err(IngestError::Cancelled) } else { one(bucket, &mut written) };
                if let Err(error) = result {
                    // The others need not go on.
                    next.store(u32::MAX / 2, Ordering::SeqCst);
                    return Err(error);
                }
                run.progress.advance(1);
            }
        };
        let threads = run.ctx.limits.threads.get().min(count as usize);
        let mut all = Written::default();
        std::thread::scope(|scope| -> Result<(), IngestError> {
            let started: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
            let mut first: Result<(), IngestError> = Ok(());
            for thread in started {
                match thread.join() {
                    Ok(Ok(written)) => all.add(written),
                    Ok(Err(error)) => first = first.and(Err(error)),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            first
        })?;
        all.files.sort_by(|a, b| a.path.cmp(&b.path));
        all.gather.dropped.sort_unstable();
        let people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        let risk =
            measure(&people, &Population::Unknown).map_err(|e| IngestError::Internal(e.to_string()))?;
        Ok((all, risk))
    }

    /// Checks the rows of whole persons and derives periods and eras.
    pub fn derive(
        &self,
        bucket: u32,
        tables: BTreeMap<usize, RecordBatch>,
        written: &mut Written,
    ) -> Result<PersonBatch, IngestError> {
        let tables_of = self.run.ctx.tables;
        let batch = PersonBatch::new(tables, tables_of).map_err(|e| IngestError::Internal(e.to_string()))?;
        let rules = DeriveRules::new(self.deid.reference_date, i64::from(bucket) << 32);
        let (batch, derived) = derive(batch, tables_of, &rules);
        written.derive.merge(derived);
        Ok(batch)
    }

    /// Counts and writes de-identified rows.
    pub fn keep(&self, bucket: u32, batch: &DeidBatch, written: &mut Written) -> Result<(), IngestError> {
        let tables = self.run.ctx.tables;
        written.facts.count(tables, batch);
        let of = |table: &str| tables.index_of(table).and_then(|index| batch.get(index));
        if let Some(persons) = of("person") {
            self.add_people(persons, of("death"))?;
        }
        written.files.extend(self.writer.write(bucket, batch)?);
        Ok(())
    }

    /// Counts people for risk.
    pub fn add_people(&self, persons: &RecordBatch, deaths: Option<&RecordBatch>) -> Result<(), IngestError> {
        let mut people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        people.add(persons, deaths).map_err(|e| IngestError::Internal(e.to_string()))
    }
}

/// Moves lines whose rows went in gathering to the outcome they have now, and checks that every line has one.
pub(super) fn account(
    mapped: &mut Mapped<'_>,
    export: &Export,
    run: &Run<'_>,
    dropped: &[Dropped],
) -> Result<(), IngestError> {
    let suppressed = mapped.gathering.suppressed();
    reclassify(&mut mapped.report.lines, export, run.ctx.tables, dropped, suppressed);
    let quarantined = dropped.iter().filter(|line| line.reason.quarantines()).map(|line| {
        let at = Locator::line((line.ordinal >> 40) as u32, line.ordinal & ((1 << 40) - 1));
        Quarantined { at, rule: line.reason.as_str() }
    });
    let late: Vec<Quarantined> = quarantined.collect();
    append_quarantine(&mapped.quarantine, &late).map_err(|e| {
        IngestError::Internal(format!("the list of quarantined lines could not be written ({})", e.kind()))
    })?;
    mapped.report.quarantine.extend(late);
    mapped.report.quarantine.sort_unstable();
    mapped.report.quarantine.truncate(run.ctx.limits.quarantine_listed);
    if mapped.report.lines.balances() {
        Ok(())
    } else {
        Err(IngestError::Internal("lines read are not the sum of what became of them".to_owned()))
    }
}

fn append_quarantine(path: &Path, late: &[Quarantined]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::io::BufWriter::new(std::fs::File::options().append(true).open(path)?);
    for record in late {
        serde_json::to_writer(&mut file, record)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

/// What reports say beside what the buckets say.
pub(super) struct Said<'s> {
    /// Lines and what became of them.
    pub intake: &'s IntakeReport,
    /// What mapping noticed.
    pub findings: Value,
    /// What the vocabulary did.
    pub concepts: ConceptReport,
    /// The list of quarantined lines, which may be longer than memory; none where nothing was read.
    pub quarantine: Option<&'s Path>,
}

/// Writes the reports and makes the manifest.
pub(super) fn manifest(
    run: &Run<'_>,
    writer: &VersionWriter<'_>,
    bits: u8,
    written: Written,
    risk: &RiskReport,
    said: Said<'_>,
) -> Result<Manifest, IngestError> {
    let ctx = &run.ctx;
    let internal = |_| IngestError::Internal("a report could not be written".to_owned());
    let (without_code, coded) = written.facts.unmapped();
    let name = |table: &usize| ctx.tables.iter().nth(*table).map(|t| t.table.clone()).unwrap_or_default();
    let missing: BTreeMap<String, u64> =
        written.gather.links_missing.iter().map(|(table, n)| (name(table), *n)).collect();
    let implausible: BTreeMap<String, ImplausibleDates> =
        written.gather.implausible.iter().map(|(table, n)| (name(table), *n)).collect();
    let quality = json!({
        "events_outside_life_or_in_the_future": written.derive.events_outside,
        "ends_before_start": written.facts.ends_before_start(),
        "visit_links_missing": missing,
        "implausible_dates": implausible,
        "rows_with_code": coded,
        "rows_without_code": without_code,
        "mapping": said.findings,
    });
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    all.insert("intake".to_owned(), serde_json::to_value(said.intake).map_err(internal)?);
    all.insert("concepts".to_owned(), serde_json::to_value(&said.concepts).map_err(internal)?);
    all.insert("derive".to_owned(), serde_json::to_value(written.derive).map_err(internal)?);
    all.insert("deid".to_owned(), serde_json::to_value(&written.deid).map_err(internal)?);
    all.insert("risk".to_owned(), serde_json::to_value(risk).map_err(internal)?);
    all.insert("quality".to_owned(), quality);
    let mut manifest = Manifest {
        format: FORMAT.to_owned(),
        dataset: run.dataset.clone(),
        version: run.version,
        contributor: run.contributor.body.contributor.clone(),
        created: ctx.clock.now(),
        profile: ProfileEntry {
            name: run.profile.name().to_owned(),
            version: run.profile.version(),
            sha256: run.profile.digest(),
        },
        tables_sha256: ctx.tables.digest(),
        vocabulary: ctx.vocabulary.map(|v| v.sha256),
        mode: run.mode,
        base_version: (run.mode != Mode::Full).then(|| run.version - 1),
        declares: run.profile.declares(),
        reference_date: run.reference_date,
        offset_epoch: run.epoch,
        bucket_bits: bits,
        counted_version: counted_version(run, &written.facts)?,
        persons: written.facts.persons(),
        tables: TableEntry::of(ctx.tables, &run.profile, &written.files),
        files: written.files,
        report_files: Vec::new(),
        reports: all,
        catalog: written.facts.catalog(run.ctx.keys),
        terms_of_use: TERMS_OF_USE.to_owned(),
        erased: None,
    };
    let text = reports::markdown(&manifest, said.intake, &written.deid, risk, &run.profile);
    let both = json!({ "deid": manifest.reports["deid"], "risk": manifest.reports["risk"] });
    manifest.report_files = vec![
        writer.report("de-identification.json", serde_json::to_vec_pretty(&both).map_err(internal)?)?,
        writer.report("de-identification.md", text.into_bytes())?,
        quarantine(writer, said.quarantine)?,
    ];
    Ok(manifest)
}

/// The version whose numbers are shown for this one: its own, if enough people came or went since the one that was shown.
fn counted_version(run: &Run<'_>, facts: &Facts) -> Result<u32, IngestError> {
    let catalog = run.ctx.catalog;
    let latest = match catalog.latest(&run.dataset) {
        Err(CatalogError::NoDataset(_)) => return Ok(run.version),
        latest => latest?,
    };
    // The same people and facts under other concepts: nobody comes or goes by that, if the version before showed its own.
    if run.mode == Mode::Remap && latest.manifest.counted_version == latest.manifest.version {
        return Ok(run.version);
    }
    let shown = catalog.version(&run.dataset, latest.manifest.counted_version)?;
    let mut people = HashMap::new();
    for table in shown.manifest.tables.keys() {
        for bucket in shown.buckets() {
            let rows = shown.bucket(table, bucket, Some(&["person_id"]))?;
            if let Some(persons) = rows.as_ref().and_then(|r| int(r, "person_id")) {
                add_rows(&mut people, table, persons.values());
            }
        }
    }
    let few = facts.changed(&people) < SMALLEST_CELL;
    Ok(if few { latest.manifest.counted_version } else { run.version })
}

/// Writes the list of quarantined lines, a piece at a time.
fn quarantine(writer: &VersionWriter<'_>, list: Option<&Path>) -> Result<ReportEntry, IngestError> {
    const NAME: &str = "quarantine.ndjson";
    let Some(path) = list else { return Ok(writer.report(NAME, Vec::new())?) };
    let file = std::fs::File::open(path).map_err(|e| {
        IngestError::Internal(format!("the list of quarantined lines could not be read ({})", e.kind()))
    })?;
    Ok(writer.report_from(NAME, file)?)
}

/// What is said of a mapped export.
pub(super) fn said<'s>(
    run: &Run<'_>,
    found: &Found,
    mapped: &'s Mapped<'_>,
) -> Result<Said<'s>, IngestError> {
    let findings = json!({
        "fhir": mapped.findings.report(),
        "omop": reports::noted(run.ctx.tables, &mapped.noted),
        "deletions": mapped.deletions.len(),
        "people": found.report,
    });
    let quarantine = Some(mapped.quarantine.as_path());
    Ok(Said { intake: &mapped.report, findings, concepts: mapped.concepts.clone(), quarantine })
}

/// Writes the manifest and publishes the version.
pub(super) fn seal(
    run: &Run<'_>,
    writer: &VersionWriter<'_>,
    manifest: &Manifest,
) -> Result<Seq, IngestError> {
    let digest = writer.seal(manifest)?;
    if run.progress.cancelled() {
        return Err(IngestError::Cancelled);
    }
    publish_entry(run, manifest, digest)
}

/// The one act that makes the version visible.
fn publish_entry(
    run: &Run<'_>,
    manifest: &Manifest,
    digest: almoner_model::Digest,
) -> Result<Seq, IngestError> {
    run.progress.stage("ledger", Some(1), Unit::Steps);
    let body = DatasetPublished {
        dataset: run.dataset.clone(),
        version: run.version,
        contributor: manifest.contributor.clone(),
        manifest: digest,
        profile: manifest.profile.name.clone(),
        mode: run.mode.as_str().to_owned(),
        persons: manifest.persons,
        tables: manifest.rows(),
    };
    let topic = topic::dataset(&run.dataset);
    let topics = vec![topic.clone(), topic::PUBLISHED.to_owned()];
    let event_id = run.act.event_id(0);
    let entry = entry(&Event::DatasetPublished(body), event_id.clone(), &run.act, topics)?;
    let appended = run.ctx.store.append(vec![entry], &[Precondition { topic, as_of: run.as_of }]);
    let seq = match appended {
        Ok(appended) => appended.first().map(|a| a.seq),
        // The entry may have become durable without the store being able to say so.
        Err(error @ StoreError::Unavailable(_)) => match run.ctx.store.find_event(&event_id)? {
            Some(seq) => Some(seq),
            None => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    run.progress.advance(1);
    seq.ok_or_else(|| IngestError::Internal("the ledger acknowledged nothing".to_owned()))
}

/// Records the export's consents, before its version becomes visible: what a person refuses in an export is heard before
/// anybody can ask for the rows that came with it. Consents that were deleted at their source end. Repeating records
/// nothing twice.
pub(super) fn take_consents(
    run: &Run<'_>,
    found: &Found,
    mapped: &Mapped<'_>,
) -> Result<Consents, IngestError> {
    let consents = &mapped.consents;
    let deleted: Vec<&str> = mapped
        .deletions
        .iter()
        .filter_map(|d| if let Deletion::Consent { id } = d { Some(id.expose().as_str()) } else { None })
        .collect();
    let mut outcome = Consents { found: consents.len() as u64, ..Consents::default() };
    let nothing = consents.is_empty() && deleted.is_empty();
    let Some(access) = run.ctx.consents.as_ref().filter(|_| !nothing) else {
        return Ok(outcome);
    };
    run.progress.stage("consents", Some(outcome.found), Unit::Steps);
    let key = run.ctx.keys.key(label::CONSENT_LINEAGE);
    let contributor = &run.contributor.body.contributor;
    let mut all = ConsentSummary::default();
    for some in consents.chunks(CONSENTS_AT_ONCE) {
        let read: Vec<(u64, SubjectId, Value)> = some
            .iter()
            .filter_map(|consent| {
                let subject = found.persons.subject(consent.person)?;
                Some((consent.at.line, subject, serde_json::from_str(consent.json.expose()).ok()?))
            })
            .collect();
        let items = read.iter().map(|(line, subject, json)| (*line, *subject, json));
        all.add(consent::record_fhir(access, &run.act.actor, contributor, &key, items)?);
        run.progress.advance(some.len() as u64);
    }
    all.add(consent::end_deleted(access, &run.act.actor, contributor, &key, deleted)?);
    outcome.taken = Some(all);
    Ok(outcome)
}
