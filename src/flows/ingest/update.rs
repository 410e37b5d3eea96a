//! A version that continues the one before: incremental exports, and another vocabulary.
//!
//! The rows of the version before are de-identified already; those of an export of changes are not. New rows are gathered
//! and de-identified as always, numbered after the rows that are there, and may name visits that are there. Then both
//! are put together bucket by bucket: the rows of records that are stated anew go, as do deleted rows and people,
//! the rows of a person who was merged into another move to that one with the difference of the two date offsets. Eras and
//! periods are derived again, which is exact because a person's dates all moved by the same number of days; the profile
//! is applied once more to data that declares it. Buckets that nothing touches are taken over as they are.
//!
//! Where dates are only years this cannot be done, and it is refused; likewise after a change of profile or tables.

use std::collections::{BTreeSet, HashMap, HashSet};

use almoner_deid::{DeidContext, PersonBatch, SubjectContext, deidentify};
use almoner_model::{
    ContributorId, DatasetId, Date, DatePrecision, Seq, SubjectId, TableOrigin, TableSpec, Tables,
};
use arrow::array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Date32Type;
use serde_json::Value;

use super::carried::Carried;
use super::changes::{Changes, Part, int, record_keys};
use super::export::Mapped;
use super::people::Found;
use super::publish::{
    Buckets, Published, Said, Written, account, give_up, manifest, said, seal, summary, take_consents,
};
use super::{IngestContext, IngestError, IngestSummary, Run, Told};
use crate::catalog::Claim;
use crate::dataset::{DatasetVersion, Manifest, Mode, VersionWriter};
use crate::flows::act::Act;
use crate::gather::{Base, Gathered, Gathering, assemble};
use crate::intake::{Export, IntakeReport};
use crate::jobs::Progress;
use crate::mapping::vocabulary::{ConceptMapper, ConceptReport};
use crate::state::records;

/// The version that a request continues.
pub(super) fn base(
    ctx: &IngestContext<'_>,
    dataset: &DatasetId,
    profile: &almoner_deid::Profile,
) -> Result<DatasetVersion, IngestError> {
    let not = |text: String| Err(IngestError::NotPossible(text));
    if ctx.catalog.record(dataset)?.is_none() {
        return not(format!("dataset {dataset} has no version to continue: ingest the whole export first"));
    }
    let base = ctx.catalog.latest(dataset)?;
    // What is carried over is what was published.
    base.verify()?;
    let m = &base.manifest;
    if m.profile.sha256 != profile.digest() {
        return not(format!(
            "version {} has profile {} as it was then: ingest the whole export",
            m.version, m.profile.name
        ));
    }
    if m.tables_sha256 != ctx.tables.digest() {
        return not(format!("version {} has tables as they were then: ingest the whole export", m.version));
    }
    if m.declares.date_precision != DatePrecision::Day {
        return not(format!(
            "version {} has years instead of dates ({}): its true dates are not kept anywhere, so it cannot be \
             continued or mapped anew; ingest the whole export again, which also uses the vocabulary that is loaded now",
            m.version, m.profile.name
        ));
    }
    Ok(base)
}

/// Publishes the version that follows `base` by what the export changes.
pub(super) fn publish(
    run: &Run<'_>,
    export: &Export,
    found: &Found,
    mut mapped: Mapped<'_>,
    base: &DatasetVersion,
) -> Result<IngestSummary, IngestError> {
    let ctx = &run.ctx;
    let writer = VersionWriter::begin(ctx.catalog.blobs(), ctx.tables, &run.dataset, run.version)?;
    let bits = base.manifest.bucket_bits;
    let result = (|| {
        let buckets = Buckets::new(run, &writer)?;
        let carried = Carried::of(run, &mut mapped, base)?;
        let changes = Changes::of(run, found, &mapped, base)?;
        let merge = Merge { buckets: &buckets, base, changes: &changes, carried: &carried };
        let gathering = &mapped.gathering;
        let (written, risk) =
            buckets.all(1 << bits, |bucket, written| merge.bucket(gathering, bucket, written))?;
        account(&mut mapped, export, run, &written.gather.dropped)?;
        let manifest = manifest(run, &writer, bits, written, &risk, said(run, found, &mapped)?)?;
        let consents = take_consents(run, found, &mapped)?;
        let seq = seal(run, &writer, &manifest)?;
        Ok(Published { manifest, consents, seq })
    })();
    let published = result.map_err(|error| give_up(&writer, error))?;
    Ok(summary(run, export, found, &mapped, published))
}

/// Puts the version before and the changes together, bucket by bucket.
struct Merge<'m> {
    buckets: &'m Buckets<'m>,
    base: &'m DatasetVersion,
    changes: &'m Changes,
    carried: &'m Carried,
}

/// The rows of the version before in one bucket, derived tables left out.
#[derive(Default)]
struct Before {
    parts: Vec<Part>,
    base: Base,
    /// By person: whether over 89, and year of birth as published.
    births: HashMap<i64, (bool, i64)>,
    /// By person: day of death as published.
    deaths: HashMap<i64, i32>,
}

impl Merge<'_> {
    fn bucket(
        &self,
        gathering: &Gathering<'_>,
        bucket: u32,
        written: &mut Written,
    ) -> Result<(), IngestError> {
        let run = self.buckets.run;
        let mut before = before(run, self.base, bucket)?;
        let come = self.changes.moved_into(run, self.base, bucket)?;
        for (table, rows) in &come {
            before.know(run.ctx.tables.iter().nth(*table), rows);
        }
        let gathered = gathering.bucket_after(bucket, &before.base)?;
        written.gather.add(gathered.report.clone());
        let ids = |part: &Part| -> HashSet<i64> {
            int(&part.1, "person_id").map(|p| p.values().iter().copied().collect()).unwrap_or_default()
        };
        let here: HashSet<i64> = before.parts.iter().flat_map(ids).collect();
        let away = here.iter().any(|person| self.changes.is_moved(*person));
        let deleted = here.iter().any(|p| self.changes.persons.contains(p)) || self.has_deleted(&before);
        if gathered.subjects.is_empty() && come.is_empty() && !away && !deleted {
            return self.carry(bucket, written);
        }
        let fresh = self.carried.complete(self.fresh(&gathered, &before, written)?)?;
        let fresh = self.without_deleted(fresh);
        let (sent, mut replaced) = (Sent::of(run.ctx.tables, &fresh), HashMap::new());
        let mut parts = self.staying(before.parts, &sent, &mut replaced);
        let come = self.staying(come, &sent, &mut replaced);
        parts.extend(self.without_second(come, &parts));
        parts.extend(fresh);
        rewrite(self.buckets, bucket, parts, &replaced, written)
    }

    fn has_deleted(&self, before: &Before) -> bool {
        let rows = &self.changes.rows;
        !rows.is_empty()
            && before.parts.iter().any(|(_, batch)| {
                record_keys(batch).is_some_and(|keys| keys.values().iter().any(|key| rows.contains(key)))
            })
    }

    /// Takes the files of an untouched bucket over, and counts what they hold.
    fn carry(&self, bucket: u32, written: &mut Written) -> Result<(), IngestError> {
        let (run, base) = (self.buckets.run, self.base);
        for file in base.manifest.files.iter().filter(|f| f.bucket == bucket) {
            written.files.push(self.buckets.writer.carry(base.folder(), file)?);
        }
        let mut people = (None, None);
        for spec in run.ctx.tables.iter() {
            let Some(rows) = base.bucket(&spec.table, bucket, None)? else { continue };
            written.facts.table(spec, &rows);
            match spec.table.as_str() {
                "person" => people.0 = Some(rows),
                "death" => people.1 = Some(rows),
                _ => {}
            }
        }
        match people {
            (Some(persons), deaths) => self.buckets.add_people(&persons, deaths.as_ref()),
            (None, _) => Ok(()),
        }
    }

    /// De-identifies the new rows. Of people whose person row did not come again, what is known is what was published.
    fn fresh(
        &self,
        gathered: &Gathered,
        before: &Before,
        written: &mut Written,
    ) -> Result<Vec<Part>, IngestError> {
        let run = self.buckets.run;
        let shifted = run.profile.declares().shifted;
        let person = run.ctx.tables.index_of("person").and_then(|index| gathered.tables.get(&index));
        let came: HashSet<i64> = person
            .and_then(|p| int(p, "person_id"))
            .map(|p| p.values().iter().copied().collect())
            .unwrap_or_default();
        let subjects: Vec<SubjectContext> = gathered
            .subjects
            .iter()
            .map(|subject| {
                let offset = if shifted { run.ctx.registry.offset_days(*subject, run.epoch) } else { 0 };
                let mut context = SubjectContext::new(*subject, offset);
                let death = before.deaths.get(&subject.get());
                context.death = death.map(|day| Date::from_days(*day).plus_days(-offset));
                if let Some((over_89, year)) =
                    before.births.get(&subject.get()).filter(|_| !came.contains(&subject.get()))
                {
                    context.over_89 = *over_89;
                    let year = i32::try_from(*year).ok();
                    // The earliest day of that year: whoever might be over 89 is taken to be.
                    context.birth =
                        year.and_then(|y| Date::from_ymd(y, 1, 1)).map(|day| day.plus_days(-offset));
                }
                context
            })
            .collect();
        let batch = PersonBatch::new(gathered.tables.clone(), run.ctx.tables)
            .map_err(|e| IngestError::Internal(e.to_string()))?;
        let (batch, report) = deidentify(batch, &run.profile, &subjects, &self.buckets.deid)?;
        written.deid.merge(report);
        Ok(batch.into_tables().into_iter().collect())
    }

    /// New rows without those of people whom the same export deletes: of a person without a person row nothing may stay.
    fn without_deleted(&self, fresh: Vec<Part>) -> Vec<Part> {
        if self.changes.persons.is_empty() {
            return fresh;
        }
        let stays = |(table, rows): Part| {
            let persons = int(&rows, "person_id")?;
            let stays = persons.values().iter().map(|person| Some(!self.changes.persons.contains(person)));
            let stays: BooleanArray = stays.collect();
            filter_record_batch(&rows, &stays).ok().map(|rows| (table, rows))
        };
        fresh.into_iter().filter_map(stays).collect()
    }

    /// Of rows of the version before those that stay. Which visits take the place of others is added to `replaced`.
    fn staying(&self, parts: Vec<Part>, sent: &Sent, replaced: &mut HashMap<i64, i64>) -> Vec<Part> {
        let tables = self.buckets.run.ctx.tables;
        let mut kept = Vec::new();
        for (table, rows) in parts {
            let (Some(row_keys), Some(persons)) = (record_keys(&rows), int(&rows, "person_id")) else {
                continue;
            };
            let event = tables.iter().nth(table).and_then(|spec| spec.event_id.as_deref());
            let event = event.and_then(|name| int(&rows, name));
            let stays: BooleanArray = (0..rows.num_rows())
                .map(|row| {
                    let (key, person) = (row_keys.value(row), persons.value(row));
                    // A visit that became another person's takes none of this person's rows with it.
                    let visit = (table, key, self.changes.current(person));
                    if let (Some(new), Some(old)) = (sent.visits.get(&visit), event) {
                        replaced.insert(old.value(row), *new);
                    }
                    let again = sent.keys.contains(&key) || sent.single.contains(&(table, person));
                    let gone = self.changes.rows.contains(&key) || self.changes.persons.contains(&person);
                    Some(!again && !gone && !self.changes.is_moved(person))
                })
                .collect();
            if let Ok(rows) = filter_record_batch(&rows, &stays) {
                kept.push((table, rows));
            }
        }
        kept
    }

    /// Of rows that came with a merge: no second person row and no second death.
    fn without_second(&self, come: Vec<Part>, kept: &[Part]) -> Vec<Part> {
        let is_single = single(self.buckets.run.ctx.tables);
        let mut have: HashSet<(usize, i64)> = HashSet::new();
        for (table, rows) in kept.iter().filter(|(table, _)| is_single(*table)) {
            let persons = int(rows, "person_id").into_iter().flat_map(|p| p.values().iter());
            have.extend(persons.map(|id| (*table, *id)));
        }
        let mut out = Vec::new();
        for (table, rows) in come {
            let Some(persons) = int(&rows, "person_id").filter(|_| is_single(table)) else {
                out.push((table, rows));
                continue;
            };
            let stays: BooleanArray =
                persons.values().iter().map(|person| Some(have.insert((table, *person)))).collect();
            out.extend(filter_record_batch(&rows, &stays).ok().map(|rows| (table, rows)));
        }
        out
    }
}

/// Whether a table has one row for each person.
fn single(tables: &Tables) -> impl Fn(usize) -> bool {
    let single = ["person", "death"].map(|name| tables.index_of(name));
    move |table| single.contains(&Some(table))
}

/// What the new rows of a bucket take the place of.
#[derive(Default)]
struct Sent {
    /// Their records.
    keys: HashSet<i64>,
    /// By table that has one row for each person: the people.
    single: HashSet<(usize, i64)>,
    /// The event ids of visits and visit details, by table, record and person.
    visits: HashMap<(usize, i64, i64), i64>,
}

impl Sent {
    fn of(tables: &Tables, fresh: &[Part]) -> Self {
        let is_single = single(tables);
        let visits = ["visit_occurrence", "visit_detail"].map(|name| tables.index_of(name));
        let mut all = Self::default();
        for (table, rows) in fresh {
            let (Some(row_keys), Some(persons)) = (record_keys(rows), int(rows, "person_id")) else {
                continue;
            };
            all.keys.extend(row_keys.values());
            if is_single(*table) {
                all.single.extend(persons.values().iter().map(|person| (*table, *person)));
            }
            let event = tables.iter().nth(*table).and_then(|spec| spec.event_id.as_deref());
            let event = event.and_then(|name| int(rows, name)).filter(|_| visits.contains(&Some(*table)));
            for (row, id) in event.into_iter().flat_map(|e| e.values().iter().enumerate()) {
                all.visits.insert((*table, row_keys.value(row), persons.value(row)), *id);
            }
        }
        all
    }
}

impl Before {
    /// Learns from rows of one table what new rows of their people may name: visits, and what was published of birth and
    /// death. What is known of a person already stays.
    fn know(&mut self, spec: Option<&TableSpec>, rows: &RecordBatch) {
        let (Some(spec), Some(persons), Some(keys)) = (spec, int(rows, "person_id"), record_keys(rows))
        else {
            return;
        };
        let persons = || persons.values().iter().copied();
        let event = spec.event_id.as_deref().and_then(|name| int(rows, name));
        let links = |events: &Int64Array| {
            let keyed = persons().zip(keys.values().iter().map(|k| *k as u64));
            keyed.zip(events.values().iter().copied()).collect::<Vec<_>>()
        };
        match (spec.table.as_str(), event) {
            ("visit_occurrence", Some(events)) => self.base.visits.extend(links(events)),
            ("visit_detail", Some(events)) => self.base.details.extend(links(events)),
            ("death", _) => {
                let days = rows.column_by_name("death_date").and_then(|c| c.as_primitive_opt::<Date32Type>());
                let days = days.into_iter().flat_map(|days| days.values().iter().copied());
                for (person, day) in persons().zip(days) {
                    self.deaths.entry(person).or_insert(day);
                }
            }
            ("person", _) => {
                self.base.persons.extend(persons());
                let flags = rows.column_by_name("age_90_plus").and_then(|c| c.as_boolean_opt().cloned());
                if let (Some(flags), Some(years)) = (flags, int(rows, "year_of_birth")) {
                    for (row, person) in persons().enumerate() {
                        let known = (flags.is_valid(row) && flags.value(row), years.value(row));
                        self.births.entry(person).or_insert(known);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The ordinal of the last event of a bucket, after which new ones are numbered: erasures leave gaps.
fn last_event(spec: &TableSpec, rows: &RecordBatch) -> u64 {
    let events = spec.event_id.as_deref().and_then(|name| int(rows, name));
    let last = events.and_then(|ids| ids.values().iter().map(|id| *id as u64 & u64::from(u32::MAX)).max());
    last.unwrap_or(0).max(rows.num_rows() as u64)
}

/// Reads what the version before has in a bucket.
fn before(run: &Run<'_>, base: &DatasetVersion, bucket: u32) -> Result<Before, IngestError> {
    let mut all = Before::default();
    for (table, spec) in run.ctx.tables.iter().enumerate().filter(|(_, s)| s.origin == TableOrigin::Mapped) {
        let Some(rows) = base.bucket(&spec.table, bucket, None)? else { continue };
        all.base.rows.insert(table, last_event(spec, &rows));
        all.know(Some(spec), &rows);
        all.parts.push((table, rows));
    }
    Ok(all)
}

/// Puts de-identified rows together, derives again, applies the profile to what declares it already, and writes.
fn rewrite(
    buckets: &Buckets<'_>,
    bucket: u32,
    parts: Vec<Part>,
    replaced: &HashMap<i64, i64>,
    written: &mut Written,
) -> Result<(), IngestError> {
    let run = buckets.run;
    let tables = assemble(run.ctx.tables, bucket, parts, replaced)?;
    let mut ids: BTreeSet<i64> = BTreeSet::new();
    for rows in tables.values() {
        ids.extend(int(rows, "person_id").into_iter().flat_map(|p| p.values().iter().copied()));
    }
    if ids.is_empty() {
        return Ok(());
    }
    let people: Vec<SubjectContext> =
        ids.into_iter().filter_map(|id| SubjectId::new(id).ok()).map(|s| SubjectContext::new(s, 0)).collect();
    let batch = buckets.derive(bucket, tables, written)?;
    let after: DeidContext = buckets.deid.clone().after(run.profile.declares());
    let (batch, _) = deidentify(batch, &run.profile, &people, &after)?;
    buckets.keep(bucket, &batch, written)
}

/// Makes a mapper for one bucket.
pub type Remap<'m> = dyn Fn() -> ConceptMapper<'m> + Sync + 'm;

/// A version made of the one before, without an export.
pub struct Update<'a> {
    run: Run<'a>,
    base: DatasetVersion,
    _claim: Claim,
}

/// What an update came to.
pub struct Updated {
    /// The version.
    pub manifest: Manifest,
    /// What the vocabulary did.
    pub concepts: ConceptReport,
    /// Where the ledger says that it was published.
    pub ledger_seq: Seq,
}

impl<'a> Update<'a> {
    /// Begins the version after the latest of `dataset`.
    ///
    /// # Errors
    /// [`IngestError::NotPossible`] where it cannot be continued; [`IngestError::Busy`].
    pub fn begin(
        ctx: IngestContext<'a>,
        dataset: &DatasetId,
        act: Act,
        progress: &'a dyn Progress,
    ) -> Result<Self, IngestError> {
        let claim = ctx.catalog.claim(dataset).ok_or_else(|| IngestError::Busy(dataset.clone()))?;
        let as_of = ctx.store.size();
        let m = ctx.catalog.latest(dataset)?.manifest;
        let profile = super::profile(&ctx, &m.profile.name)?;
        let base = base(&ctx, dataset, &profile)?;
        let record = ctx.store.get("contributor", m.contributor.as_str())?;
        let contributor: Option<records::Contributor> = record.and_then(|v| serde_json::from_value(v).ok());
        let contributor = contributor
            .ok_or_else(|| IngestError::Internal("the contributor's record is not intact".to_owned()))?;
        let run = Run {
            ctx,
            progress,
            contributor,
            dataset: dataset.clone(),
            version: m.version + 1,
            profile,
            mode: Mode::Remap,
            reference_date: m.reference_date,
            epoch: m.offset_epoch,
            told: Told::default(),
            as_of,
            act,
        };
        Ok(Self { run, base, _claim: claim })
    }

    /// Whose data it is.
    pub fn contributor(&self) -> &ContributorId {
        &self.base.manifest.contributor
    }

    /// Gives all rows the concepts of their codes, and publishes.
    ///
    /// # Errors
    /// [`IngestError`]; nothing was published.
    pub fn remap(&self, mapper: &Remap<'_>) -> Result<Updated, IngestError> {
        let (run, base) = (&self.run, &self.base);
        let blobs = run.ctx.catalog.blobs();
        let writer = VersionWriter::begin(blobs, run.ctx.tables, &run.dataset, run.version)?;
        self.remap_into(&writer, mapper, base).map_err(|error| give_up(&writer, error))
    }

    fn remap_into(
        &self,
        writer: &VersionWriter<'_>,
        mapper: &Remap<'_>,
        base: &DatasetVersion,
    ) -> Result<Updated, IngestError> {
        let run = &self.run;
        let buckets = Buckets::new(run, writer)?;
        let bits = base.manifest.bucket_bits;
        let schema_of = |table: usize| {
            almoner_deid::arrow_schema(
                run.ctx.tables.iter().nth(table).unwrap_or(&run.ctx.tables.iter().as_slice()[0]),
                true,
            )
        };
        let (mut written, risk) = buckets.all(1 << bits, |bucket, written| {
            let mut mapper = mapper();
            let mut parts = Vec::new();
            for (table, rows) in before(run, base, bucket)?.parts {
                parts.extend(mapper.apply(table, &rows, &schema_of)?);
            }
            written.concepts.add(mapper.report());
            rewrite(&buckets, bucket, parts, &HashMap::new(), written)
        })?;
        let concepts = std::mem::take(&mut written.concepts);
        let intake = IntakeReport::default();
        let said =
            Said { intake: &intake, findings: Value::Null, concepts: concepts.clone(), quarantine: None };
        let mut manifest = manifest(run, writer, bits, written, &risk, said)?;
        for carried in ["intake", "deid"] {
            if let Some(report) = base.manifest.reports.get(carried) {
                manifest.reports.insert(carried.to_owned(), report.clone());
            }
        }
        let ledger_seq = seal(run, writer, &manifest)?;
        Ok(Updated { manifest, concepts, ledger_seq })
    }
}
