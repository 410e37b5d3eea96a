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
use almoner_model::{ContributorId, DatasetId, Date, DatePrecision, Seq, SubjectId, TableOrigin};
use arrow::array::{Array, AsArray, BooleanArray, Int64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Date32Type;
use serde_json::Value;

use super::changes::{Changes, Part, int, record_keys};
use super::export::Mapped;
use super::people::Found;
use super::publish::{
    Buckets, Published, Said, Written, account, give_up, manifest, said, seal, summary, take_consents,
};
use super::{IngestContext, IngestError, IngestSummary, Run};
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
        let changes = Changes::of(run, found, &mapped, base)?;
        let merge = Merge { buckets: &buckets, base, changes: &changes };
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
}

/// The rows of the version before in one bucket, derived tables left out.
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
        let before = before(self.buckets.run, self.base, bucket)?;
        let gathered = gathering.bucket_after(bucket, &before.base)?;
        written.gather.add(gathered.report.clone());
        let ids = |part: &Part| -> HashSet<i64> {
            int(&part.1, "person_id").map(|p| p.values().iter().copied().collect()).unwrap_or_default()
        };
        let here: HashSet<i64> = before.parts.iter().flat_map(ids).collect();
        let away = here.iter().any(|person| self.changes.is_moved(*person));
        let come = self.changes.moved_into(self.buckets.run, self.base, bucket)?;
        let deleted = here.iter().any(|p| self.changes.persons.contains(p)) || self.has_deleted(&before);
        if gathered.subjects.is_empty() && come.is_empty() && !away && !deleted {
            return self.carry(bucket, written);
        }
        let fresh = self.fresh(&gathered, &before, written)?;
        let (kept, replaced) = self.kept(before.parts, &fresh);
        let mut parts = kept;
        parts.extend(self.without_second(come, &parts, &fresh));
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

    /// The rows of the version before that stay, and which visits took the place of others.
    fn kept(&self, parts: Vec<Part>, fresh: &[Part]) -> (Vec<Part>, HashMap<i64, i64>) {
        let tables = self.buckets.run.ctx.tables;
        let is = |table: usize, name: &str| tables.index_of(name) == Some(table);
        let mut keys: HashSet<i64> = HashSet::new();
        let mut one_each: HashMap<usize, HashSet<i64>> = HashMap::new();
        let mut ids: HashMap<(usize, i64), i64> = HashMap::new();
        for (table, rows) in fresh {
            let (Some(row_keys), Some(persons)) = (record_keys(rows), int(rows, "person_id")) else {
                continue;
            };
            keys.extend(row_keys.values());
            if is(*table, "person") || is(*table, "death") {
                one_each.entry(*table).or_default().extend(persons.values());
            }
            let event = tables.iter().nth(*table).and_then(|spec| spec.event_id.as_deref());
            if let Some(events) = event
                .and_then(|name| int(rows, name))
                .filter(|_| is(*table, "visit_occurrence") || is(*table, "visit_detail"))
            {
                ids.extend(
                    row_keys.values().iter().zip(events.values()).map(|(key, id)| ((*table, *key), *id)),
                );
            }
        }
        let mut replaced = HashMap::new();
        let mut kept = Vec::new();
        for (table, rows) in parts {
            let (Some(row_keys), Some(persons)) = (record_keys(&rows), int(&rows, "person_id")) else {
                continue;
            };
            let event = tables
                .iter()
                .nth(table)
                .and_then(|spec| spec.event_id.as_deref())
                .and_then(|name| int(&rows, name));
            let stays: BooleanArray = (0..rows.num_rows())
                .map(|row| {
                    let (key, person) = (row_keys.value(row), persons.value(row));
                    if let (Some(new), Some(old)) = (ids.get(&(table, key)), event) {
                        replaced.insert(old.value(row), *new);
                    }
                    let again =
                        keys.contains(&key) || one_each.get(&table).is_some_and(|p| p.contains(&person));
                    let gone = self.changes.rows.contains(&key) || self.changes.persons.contains(&person);
                    Some(!again && !gone && !self.changes.is_moved(person))
                })
                .collect();
            if let Ok(rows) = filter_record_batch(&rows, &stays) {
                kept.push((table, rows));
            }
        }
        (kept, replaced)
    }

    /// Of rows that came with a merge: no second person row, no second death, nothing that the export sent again.
    fn without_second(&self, come: Vec<Part>, kept: &[Part], fresh: &[Part]) -> Vec<Part> {
        let tables = self.buckets.run.ctx.tables;
        let sent: HashSet<i64> = fresh
            .iter()
            .filter_map(|(_, rows)| record_keys(rows))
            .flat_map(|keys| keys.values().iter().copied().collect::<Vec<_>>())
            .collect();
        let mut have: HashSet<(usize, i64)> = HashSet::new();
        for (table, rows) in kept.iter().chain(fresh) {
            have.extend(
                int(rows, "person_id").into_iter().flat_map(|p| p.values().iter().map(|id| (*table, *id))),
            );
        }
        let mut out = Vec::new();
        for (table, rows) in come {
            let single = ["person", "death"].iter().any(|name| tables.index_of(name) == Some(table));
            let (Some(persons), Some(keys)) = (int(&rows, "person_id"), record_keys(&rows)) else {
                continue;
            };
            let stays: BooleanArray = (0..rows.num_rows())
                .map(|row| {
                    let again = single && !have.insert((table, persons.value(row)));
                    Some(!again && !sent.contains(&keys.value(row)))
                })
                .collect();
            out.extend(filter_record_batch(&rows, &stays).ok().map(|rows| (table, rows)));
        }
        out
    }
}

/// Reads what the version before has in a bucket.
fn before(run: &Run<'_>, base: &DatasetVersion, bucket: u32) -> Result<Before, IngestError> {
    let mut all =
        Before { parts: Vec::new(), base: Base::default(), births: HashMap::new(), deaths: HashMap::new() };
    for (table, spec) in run.ctx.tables.iter().enumerate().filter(|(_, s)| s.origin == TableOrigin::Mapped) {
        let Some(rows) = base.bucket(&spec.table, bucket, None)? else { continue };
        all.base.rows.insert(table, rows.num_rows() as u64);
        let (Some(persons), Some(keys)) = (int(&rows, "person_id"), record_keys(&rows)) else {
            continue;
        };
        let event = spec.event_id.as_deref().and_then(|name| int(&rows, name));
        let links = |events: &Int64Array| {
            let keyed = persons.values().iter().copied().zip(keys.values().iter().map(|k| *k as u64));
            keyed.zip(events.values().iter().copied()).collect::<HashMap<_, _>>()
        };
        match (spec.table.as_str(), event) {
            ("visit_occurrence", Some(events)) => all.base.visits = links(events),
            ("visit_detail", Some(events)) => all.base.details = links(events),
            ("death", _) => {
                let days = rows.column_by_name("death_date").and_then(|c| c.as_primitive_opt::<Date32Type>());
                let days = days.into_iter().flat_map(|days| days.values().iter().copied());
                all.deaths.extend(persons.values().iter().copied().zip(days));
            }
            ("person", _) => {
                all.base.persons.extend(persons.values());
                let flags = rows.column_by_name("age_90_plus").and_then(|c| c.as_boolean_opt().cloned());
                if let (Some(flags), Some(years)) = (flags, int(&rows, "year_of_birth")) {
                    let known = (0..rows.num_rows())
                        .map(|row| (flags.is_valid(row) && flags.value(row), years.value(row)));
                    all.births.extend(persons.values().iter().copied().zip(known));
                }
            }
            _ => {}
        }
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
