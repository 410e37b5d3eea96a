//! Extract: the rows of cohort members that each source may give. `(sources, members, permitted people) -> PersonBatch`.
//!
//! One group of buckets at a time. Only canonical columns are read (and the row key, which says what record a row was made
//! from, where a permission leaves something out), only members' pages are decoded, and a row passes if its person permits
//! this source's use, the categories of its table and of its record are not withheld, and all its days lie inside the permitted days
//! (with the person's offset undone in memory). Where several datasets have a person, the rows of all are merged in the
//! order of the request; of tables with one row for each person the first dataset's row wins. Ids of rows are made
//! distinct across datasets here. A person whose person row may not be given is left out whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;

use almoner_deid::{PersonBatch, ROW_KEY};
use almoner_model::{IdentifierClass, Origin, RowKey, TableSpec, Tables};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{Date32Type, Int64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ParquetRecordBatchReaderBuilder, RowFilter};

use super::ReleaseError;
use super::rekey::across_datasets;
use crate::cohort::execute::{OffsetDays, Permitted, Source, covers, last_day};

/// What was left out. Counts only.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct ExtractReport {
    /// Rows of members that were read.
    pub rows_read: u64,
    /// Of these, rows withheld by category or day.
    pub rows_withheld: u64,
    /// Person and death rows of a later dataset where an earlier one had one.
    pub rows_superseded: u64,
    /// Members left out because no source may give their person row.
    pub persons_withheld: u64,
}

/// What to extract.
pub struct Extraction<'a> {
    /// The canonical tables.
    pub tables: &'a Tables,
    /// Positions of the wanted tables; `person` is always among them.
    pub wanted: BTreeSet<usize>,
    /// Members, ascending.
    pub members: &'a [i64],
    /// The permitted people of each source.
    pub permitted: &'a [Permitted<'a>],
    /// The offset that stored dates carry.
    pub offset_days: OffsetDays<'a>,
    /// The place of each source's dataset among the release's datasets, sorted by id.
    pub places: Vec<usize>,
}

impl Extraction<'_> {
    /// The rows of one group of buckets; `group` has the sources in the order of the request.
    ///
    /// # Errors
    /// [`ReleaseError`] if a file is not what its manifest says.
    pub fn group(&self, group: &[Source], report: &mut ExtractReport) -> Result<PersonBatch, ReleaseError> {
        let person = self.tables.index_of("person").ok_or(ReleaseError::Tables)?;
        let allowed: Vec<Arc<Vec<i64>>> = self.permitted.iter().map(|p| Arc::new(self.allowed(p))).collect();
        let persons = self.table(person, group, &allowed, report)?;
        let present: BTreeSet<i64> = persons
            .as_ref()
            .map(|b| ids(self.spec(person), b).values().to_vec())
            .unwrap_or_default()
            .into_iter()
            .collect();
        let present: Arc<Vec<i64>> = Arc::new(present.into_iter().collect());
        let allowed: Vec<Arc<Vec<i64>>> =
            allowed.iter().map(|a| Arc::new(intersection(a, &present))).collect();
        let mut batches = BTreeMap::new();
        for &table in self.wanted.iter().filter(|t| **t != person) {
            if let Some(batch) = self.table(table, group, &allowed, report)? {
                batches.insert(table, batch);
            }
        }
        if let Some(batch) = persons {
            batches.insert(person, batch);
        }
        PersonBatch::new(batches, self.tables).map_err(|_| ReleaseError::Tables)
    }

    fn spec(&self, table: usize) -> &TableSpec {
        self.tables.iter().nth(table).expect("wanted tables are positions in Tables")
    }

    fn allowed(&self, permitted: &Permitted<'_>) -> Vec<i64> {
        intersection(self.members, permitted.ids)
    }

    /// One table of a group, sorted by person; `None` without rows.
    fn table(
        &self,
        table: usize,
        group: &[Source],
        allowed: &[Arc<Vec<i64>>],
        report: &mut ExtractReport,
    ) -> Result<Option<RecordBatch>, ReleaseError> {
        let spec = self.spec(table);
        let mut parts = Vec::new();
        for (at, source) in group.iter().enumerate() {
            for file in source.files.iter().filter(|f| f.table == spec.table && f.rows > 0) {
                let fail =
                    || ReleaseError::Read { dataset: source.dataset.clone(), table: spec.table.clone() };
                let input = File::open(&file.path).map_err(|_| fail())?;
                let limited = !self.permitted[at].limits.is_empty();
                for batch in read(input, spec, &allowed[at], limited).map_err(|_| fail())? {
                    report.rows_read += batch.num_rows() as u64;
                    let kept = without_key(spec, &self.limited(spec, source, at, &batch)?)?;
                    report.rows_withheld += (batch.num_rows() - kept.num_rows()) as u64;
                    if kept.num_rows() > 0 {
                        parts.push(distinct(spec, &kept, self.places[at])?);
                    }
                }
            }
        }
        let Some(first) = parts.first() else { return Ok(None) };
        let all = concat_batches(&first.schema(), &parts).map_err(|_| ReleaseError::Tables)?;
        let sorted = by_person(spec, &all)?;
        report.rows_superseded += (all.num_rows() - sorted.num_rows()) as u64;
        Ok(Some(sorted))
    }

    /// The rows that their person's limits let through.
    fn limited(
        &self,
        spec: &TableSpec,
        source: &Source,
        at: usize,
        batch: &RecordBatch,
    ) -> Result<RecordBatch, ReleaseError> {
        let limits = self.permitted[at].limits;
        if limits.is_empty() {
            return Ok(batch.clone());
        }
        let persons = ids(spec, batch);
        let date = |column: &Option<String>| {
            let index = spec.index_of(column.as_deref()?)?;
            batch.column(index).as_primitive_opt::<Date32Type>()
        };
        let (start, end) = (date(&spec.start), date(&spec.end));
        let keys = batch.column_by_name(ROW_KEY).and_then(|keys| keys.as_primitive_opt::<Int64Type>());
        let origin =
            |row: usize| keys.map_or(Origin::Table, |k| RowKey::from_bits(k.value(row) as u64).origin());
        let mut last_offset = (0i64, 0i32);
        let keep = |row: usize| {
            let id = persons.value(row);
            let Some(limits) = limits.get(&id) else { return true };
            if last_offset.0 != id {
                last_offset = (id, source.offset_epoch.map_or(0, |epoch| (self.offset_days)(id, epoch)));
            }
            let offset = last_offset.1;
            let value = |dates: &arrow::array::Date32Array| dates.is_valid(row).then(|| dates.value(row));
            let Some(start) = start else {
                // A table without a date is about the person as such: its category decides.
                let open =
                    crate::consent::Limits { days: crate::consent::DateRanges::all(), ..limits.clone() };
                return covers(&open, (&spec.table, origin(row)), None, 0);
            };
            let days = value(start).map(|first| {
                let last = end.and_then(value).unwrap_or(first).max(first);
                (first, last_day(last, source.date_precision))
            });
            covers(limits, (&spec.table, origin(row)), days, offset)
        };
        let mask: BooleanArray = (0..batch.num_rows()).map(keep).map(Some).collect();
        filter_record_batch(batch, &mask).map_err(|_| ReleaseError::Tables)
    }
}

/// Ascending ids that are in both ascending lists.
fn intersection(a: &[i64], b: &[i64]) -> Vec<i64> {
    let mut out = Vec::with_capacity(a.len().min(b.len()));
    let mut at = 0;
    for id in a {
        at += b[at..].partition_point(|other| other < id);
        if b.get(at) == Some(id) {
            out.push(*id);
        }
    }
    out
}

/// Rows with their canonical columns only.
fn without_key(spec: &TableSpec, batch: &RecordBatch) -> Result<RecordBatch, ReleaseError> {
    let canonical: Vec<usize> = (0..spec.columns.len().min(batch.num_columns())).collect();
    batch.project(&canonical).map_err(|_| ReleaseError::Tables)
}

/// The canonical columns of the rows of `people`, and the row key last if `keyed`; other rows' pages are not decoded.
fn read(
    file: File,
    spec: &TableSpec,
    people: &Arc<Vec<i64>>,
    keyed: bool,
) -> parquet::errors::Result<Vec<RecordBatch>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let schema = builder.parquet_schema();
    let names = spec.columns.iter().map(|c| c.name.as_str()).chain(keyed.then_some(ROW_KEY));
    let columns = ProjectionMask::columns(schema, names);
    let wanted = Arc::clone(people);
    let predicate =
        ArrowPredicateFn::new(ProjectionMask::columns(schema, ["person_id"]), move |batch: RecordBatch| {
            let persons = batch.column(0).as_primitive::<Int64Type>();
            let mut last = (i64::MIN, false);
            Ok(persons
                .iter()
                .map(|id| {
                    let id = id.unwrap_or(i64::MIN);
                    if last.0 != id {
                        last = (id, wanted.binary_search(&id).is_ok());
                    }
                    Some(last.1)
                })
                .collect::<BooleanArray>())
        });
    let reader = builder
        .with_projection(columns)
        .with_row_filter(RowFilter::new(vec![Box::new(predicate)]))
        .with_batch_size(1 << 16)
        .build()?;
    reader.map(|batch| batch.map_err(Into::into)).collect()
}

fn ids<'a>(spec: &TableSpec, batch: &'a RecordBatch) -> &'a Int64Array {
    let at = spec.index_of("person_id").expect("Tables checks that every table has a person_id");
    batch.column(at).as_primitive()
}

/// Makes ids of rows, and references to them, distinct across datasets.
fn distinct(spec: &TableSpec, batch: &RecordBatch, place: usize) -> Result<RecordBatch, ReleaseError> {
    let mut columns = batch.columns().to_vec();
    for (i, c) in spec.columns.iter().enumerate() {
        if matches!(c.class, IdentifierClass::EventId | IdentifierClass::EventRef) {
            let old =
                columns.get(i).and_then(|a| a.as_primitive_opt::<Int64Type>()).ok_or(ReleaseError::Tables)?;
            let new = old.iter().map(|id| id.map(|id| across_datasets(place, id)).transpose());
            columns[i] = Arc::new(new.collect::<Result<Int64Array, _>>()?) as ArrayRef;
        }
    }
    RecordBatch::try_new(batch.schema(), columns).map_err(|_| ReleaseError::Tables)
}

/// Sorts rows by person, otherwise keeping their order; of `person` and `death` one row for each person stays, the first.
fn by_person(spec: &TableSpec, batch: &RecordBatch) -> Result<RecordBatch, ReleaseError> {
    let persons = ids(spec, batch).values();
    let mut order: Vec<u32> = (0..batch.num_rows() as u32).collect();
    order.sort_by_key(|row| persons[*row as usize]);
    if spec.table == "person" || spec.table == "death" {
        order.dedup_by_key(|row| persons[*row as usize]);
    }
    take_record_batch(batch, &UInt32Array::from(order)).map_err(|_| ReleaseError::Tables)
}
