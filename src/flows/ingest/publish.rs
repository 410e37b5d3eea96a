//! From gathered rows to a published version: bucket by bucket through derive, de-identification and risk to files, then
//! the manifest, then the ledger.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use almoner_deid::{
    DeidContext, DeidReport, DeriveReport, DeriveRules, PersonBatch, SubjectContext, Zip3, deidentify, derive,
};
use almoner_model::{Date, DatePrecision, Seq};
use serde_json::{Value, json};

use super::export::{Mapped, reclassify};
use super::people::Found;
use super::{Consents, IngestError, IngestSummary, Lines, Run, entry, reports};
use crate::catalog::Facts;
use crate::dataset::{FORMAT, FileEntry, Manifest, ProfileEntry, TableEntry, VersionWriter};
use crate::events::{DatasetPublished, Event};
use crate::gather::{Dropped, GatherReport, Gathering};
use crate::intake::{Export, Quarantined};
use crate::jobs::Unit;
use crate::mapping::fhir::ConsentFound;
use crate::mapping::outcome::Locator;
use crate::risk::{People, Population, RiskReport, measure};
use crate::state::topic;
use crate::store::Precondition;

/// What recipients must agree to, whatever else a contributor asks for.
pub(super) const TERMS_OF_USE: &str = "Only for the approved purpose. No attempt to identify or contact anyone, and no \
     linkage with other data that could. No onward transfer. Whoever is identified by accident is reported at once.";

/// What the threads that write buckets have in common.
struct Buckets<'b> {
    run: &'b Run<'b>,
    writer: &'b VersionWriter<'b>,
    deid: DeidContext,
    epoch: u32,
    next: AtomicU32,
    people: Mutex<People>,
}

/// What one thread wrote.
#[derive(Default)]
struct Written {
    files: Vec<FileEntry>,
    facts: Facts,
    gather: GatherReport,
    derive: DeriveReport,
    deid: DeidReport,
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
        let manifest = manifest(run, &writer, &mapped, written, &risk)?;
        let digest = writer.seal(&manifest)?;
        if run.progress.cancelled() {
            return Err(IngestError::Cancelled);
        }
        let seq = publish_entry(run, &manifest, digest)?;
        Ok((manifest, seq))
    });
    let (manifest, seq) = match result {
        Ok(done) => done,
        Err(error) => {
            // The error is what matters; a folder that stays is removed when its version is begun again.
            let _ = writer.abandon();
            return Err(error);
        }
    };
    let consents = take_consents(run, found, &mapped.consents);
    let total = mapped.report.lines.total;
    let mut strangers = BTreeMap::new();
    for stranger in &export.strangers {
        *strangers.entry(stranger.reason).or_default() += 1;
    }
    Ok(IngestSummary {
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
        reasons: mapped.report.lines.reasons_flat(),
        strangers,
        persons_new: found.created,
        persons_linked: found.linked,
        consents,
        ledger_seq: seq,
        seconds: 0.0,
    })
}

/// Writes all buckets, on all threads.
fn write(
    run: &Run<'_>,
    writer: &VersionWriter<'_>,
    gathering: &Gathering<'_>,
) -> Result<(Written, RiskReport), IngestError> {
    let ctx = &run.ctx;
    let internal = |e: &dyn std::fmt::Display| IngestError::Internal(e.to_string());
    let zip3 = Zip3::current().map_err(|e| internal(&e))?;
    let declares = run.profile.declares();
    let death_by_day = declares.date_precision == DatePrecision::Day && !declares.shifted;
    let buckets = Buckets {
        run,
        writer,
        deid: DeidContext::new(reference_date(run), std::sync::Arc::new(zip3)),
        epoch: ctx.registry.offset_epoch()?,
        next: AtomicU32::new(0),
        people: Mutex::new(People::new(ctx.tables, death_by_day).map_err(|e| internal(&e))?),
    };
    run.progress.stage("publish", Some(u64::from(gathering.layout().buckets())), Unit::Steps);
    let threads = ctx.limits.threads.get().min(gathering.layout().buckets() as usize);
    let mut all = Written::default();
    std::thread::scope(|scope| -> Result<(), IngestError> {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(|| buckets.some(gathering))).collect();
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
    let people = buckets.people.into_inner().unwrap_or_else(PoisonError::into_inner);
    let risk = measure(&people, &Population::Unknown).map_err(|e| internal(&e))?;
    Ok((all, risk))
}

/// The day at which ages are tested: the day of the ingest.
fn reference_date(run: &Run<'_>) -> Date {
    run.ctx.clock.now().date()
}

impl Written {
    fn add(&mut self, other: Self) {
        self.files.extend(other.files);
        self.facts.add(other.facts);
        self.derive.merge(other.derive);
        self.deid.merge(other.deid);
        self.gather.add(other.gather);
    }
}

impl Buckets<'_> {
    /// Takes buckets until there are none left.
    fn some(&self, gathering: &Gathering<'_>) -> Result<Written, IngestError> {
        let mut written = Written::default();
        loop {
            let bucket = self.next.fetch_add(1, Ordering::SeqCst);
            if bucket >= gathering.layout().buckets() {
                return Ok(written);
            }
            let result = if self.run.progress.cancelled() {
                Err(IngestError::Cancelled)
            } else {
                self.one(gathering, bucket, &mut written)
            };
            if result.is_err() {
                // The others need not go on.
                self.next.store(u32::MAX / 2, Ordering::SeqCst);
                return result.map(|()| written);
            }
            self.run.progress.advance(1);
        }
    }

    fn one(&self, gathering: &Gathering<'_>, bucket: u32, written: &mut Written) -> Result<(), IngestError> {
        let (ctx, profile) = (&self.run.ctx, &self.run.profile);
        let gathered = gathering.bucket(bucket)?;
        written.gather.add(gathered.report);
        if gathered.subjects.is_empty() {
            return Ok(());
        }
        let shifted = profile.declares().shifted;
        let offset = |s| if shifted { ctx.registry.offset_days(s, self.epoch) } else { 0 };
        let subjects: Vec<SubjectContext> =
            gathered.subjects.iter().map(|s| SubjectContext::new(*s, offset(*s))).collect();
        let batch = PersonBatch::new(gathered.tables, ctx.tables)
            .map_err(|e| IngestError::Internal(e.to_string()))?;
        let rules = DeriveRules::new(self.deid.reference_date, i64::from(bucket) << 32);
        let (batch, derived) = derive(batch, ctx.tables, &rules);
        let (batch, report) = deidentify(batch, profile, &subjects, &self.deid)?;
        written.derive.merge(derived);
        written.deid.merge(report);
        written.facts.count(ctx.tables, &batch);
        let of = |table: &str| ctx.tables.index_of(table).and_then(|index| batch.get(index));
        if let Some(persons) = of("person") {
            let mut people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
            people.add(persons, of("death")).map_err(|e| IngestError::Internal(e.to_string()))?;
        }
        written.files.extend(self.writer.write(bucket, &batch)?);
        Ok(())
    }
}

/// Moves lines whose rows went in gathering to the outcome they have now, and checks that every line has one.
fn account(
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

fn manifest(
    run: &Run<'_>,
    writer: &VersionWriter<'_>,
    mapped: &Mapped<'_>,
    written: Written,
    risk: &RiskReport,
) -> Result<Manifest, IngestError> {
    let ctx = &run.ctx;
    let internal = |_| IngestError::Internal("a report could not be written".to_owned());
    let (without_code, coded) = written.facts.unmapped();
    let name = |table: &usize| ctx.tables.iter().nth(*table).map(|t| t.table.clone()).unwrap_or_default();
    let missing: BTreeMap<String, u64> =
        written.gather.links_missing.iter().map(|(table, n)| (name(table), *n)).collect();
    let quality = json!({
        "events_outside_life_or_in_the_future": written.derive.events_outside,
        "ends_before_start": written.facts.ends_before_start(),
        "visit_links_missing": missing,
        "rows_with_code": coded,
        "rows_without_code": without_code,
        "findings": mapped.findings.report(),
        "omop": reports::noted(ctx.tables, &mapped.noted),
    });
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    all.insert("intake".to_owned(), serde_json::to_value(&mapped.report).map_err(internal)?);
    all.insert("concepts".to_owned(), serde_json::to_value(&mapped.concepts).map_err(internal)?);
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
        base_version: None,
        declares: run.profile.declares(),
        reference_date: reference_date(run),
        offset_epoch: ctx.registry.offset_epoch()?,
        bucket_bits: mapped.gathering.layout().bits(),
        persons: written.facts.persons(),
        tables: TableEntry::of(ctx.tables, &run.profile, &written.files),
        files: written.files,
        report_files: Vec::new(),
        reports: all,
        catalog: written.facts.catalog(),
        terms_of_use: TERMS_OF_USE.to_owned(),
    };
    let text = reports::markdown(&manifest, &mapped.report, &written.deid, risk, &run.profile);
    let machine = serde_json::to_vec_pretty(
        &json!({ "deid": manifest.reports["deid"], "risk": manifest.reports["risk"] }),
    );
    let quarantine = std::fs::read(&mapped.quarantine).map_err(|e| {
        IngestError::Internal(format!("the list of quarantined lines could not be read ({})", e.kind()))
    })?;
    manifest.report_files = vec![
        writer.report("de-identification.json", machine.map_err(internal)?)?,
        writer.report("de-identification.md", text.into_bytes())?,
        writer.report("quarantine.ndjson", quarantine)?,
    ];
    Ok(manifest)
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
    let topics = vec![topic.clone(), topic::contributor(&manifest.contributor)];
    let entry = entry(&Event::DatasetPublished(body), run.act.event_id(0), &run.act, topics)?;
    let appended = run.ctx.store.append(vec![entry], &[Precondition { topic, as_of: run.as_of }])?;
    run.progress.advance(1);
    appended
        .first()
        .map(|a| a.seq)
        .ok_or_else(|| IngestError::Internal("the ledger acknowledged nothing".to_owned()))
}

/// Hands the export's consents on. The version is published whatever becomes of them.
fn take_consents(run: &Run<'_>, found: &Found, consents: &[ConsentFound]) -> Consents {
    let mut outcome = Consents { found: consents.len() as u64, ..Consents::default() };
    if consents.is_empty() {
        return outcome;
    }
    run.progress.stage("consents", Some(outcome.found), Unit::Steps);
    for consent in consents {
        let taken = match (run.ctx.consents, found.persons.subject(consent.person)) {
            (Some(taker), Some(subject)) => {
                taker.take(&run.contributor.body.contributor, subject, &consent.json)
            }
            (None, _) => Err("not-taken-here"),
            (_, None) => Err("suppressed-person"),
        };
        match taken {
            Ok(()) => outcome.recorded += 1,
            Err(reason) => *outcome.refused.entry(reason).or_default() += 1,
        }
        run.progress.advance(1);
    }
    outcome
}
