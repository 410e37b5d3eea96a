//! What an export of changes asks for beside new rows: which rows of the version before go, and which become another
//! person's.
//!
//! Aliases are the exchange's; those of people who have no rows in the version before are left out first, so that what is
//! done for each is done for this dataset's people only.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use almoner_model::{ColumnType, IdentifierClass, RowKey, SubjectId, TableOrigin, TableSpec};
use arrow::array::{ArrayRef, AsArray, Date32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Date32Type, Int64Type, TimestampMicrosecondType};

use super::export::Mapped;
use super::people::Found;
use super::{IngestError, Run};
use crate::dataset::DatasetVersion;
use crate::gather::{Layout, ROW_KEY_COLUMN};
use crate::keys::label;
use crate::mapping::fhir::Deletion;

/// Rows of one table, by the table's index.
pub(super) type Part = (usize, RecordBatch);

/// Who moves from one bucket: loser → winner.
type Movers = HashMap<i64, SubjectId>;

/// What an export of changes asks for beside new rows.
pub(super) struct Changes {
    /// Keys of records that are deleted, or stated anew: with another content, as another patient's, or as an error.
    pub rows: HashSet<i64>,
    /// People who are deleted.
    pub persons: HashSet<i64>,
    /// People with rows who turned out to be another: loser → winner.
    moved: Movers,
    /// The same, by the winner's bucket and the loser's.
    arrivals: HashMap<u32, BTreeMap<u32, Movers>>,
}

impl Changes {
    pub fn of(
        run: &Run<'_>,
        found: &Found,
        mapped: &Mapped<'_>,
        base: &DatasetVersion,
    ) -> Result<Self, IngestError> {
        let mut changes = Self {
            rows: mapped.restated.iter().map(|key| *key as i64).collect(),
            persons: HashSet::new(),
            moved: moved(run, base)?,
            arrivals: HashMap::new(),
        };
        for deletion in &mapped.deletions {
            match deletion {
                Deletion::Row { row_key, .. } => {
                    changes.rows.insert(*row_key as i64);
                }
                Deletion::Consent { .. } => {}
                Deletion::Person { person } => {
                    changes.persons.extend(found.persons.subject(*person).map(SubjectId::get));
                }
            }
        }
        let layout = Layout::new(&run.ctx.keys.key(label::BUCKET_LAYOUT), base.manifest.bucket_bits);
        // Whoever was deleted has no rows left to take over.
        for (loser, winner) in changes.moved.iter().filter(|(_, w)| !changes.persons.contains(&w.get())) {
            let Ok(from) = SubjectId::new(*loser) else { continue };
            let into = changes.arrivals.entry(layout.bucket(*winner)).or_default();
            into.entry(layout.bucket(from)).or_default().insert(*loser, *winner);
        }
        Ok(changes)
    }

    /// Who stands for a person now.
    pub fn current(&self, person: i64) -> i64 {
        self.moved.get(&person).map_or(person, |winner| winner.get())
    }

    /// Whether a person turned out to be another.
    pub fn is_moved(&self, person: i64) -> bool {
        self.moved.contains_key(&person)
    }

    /// Rows of the version before of people who were merged into someone of this bucket, as that person's.
    pub fn moved_into(
        &self,
        run: &Run<'_>,
        base: &DatasetVersion,
        bucket: u32,
    ) -> Result<Vec<Part>, IngestError> {
        let shifted = run.profile.declares().shifted;
        let offset = |s| if shifted { run.ctx.registry.offset_days(s, run.epoch) } else { 0 };
        let mut parts = Vec::new();
        for (from, movers) in self.arrivals.get(&bucket).into_iter().flatten() {
            for (table, spec) in
                run.ctx.tables.iter().enumerate().filter(|(_, s)| s.origin == TableOrigin::Mapped)
            {
                let Some(rows) = base.bucket(&spec.table, *from, None)? else { continue };
                for (loser, rows) in rows_of(movers, &rows) {
                    let Ok(before) = SubjectId::new(loser) else { continue };
                    let winner = movers[&loser];
                    let by = offset(winner) - offset(before);
                    parts.push((table, as_person(spec, &rows, winner, by)?));
                }
            }
        }
        Ok(parts)
    }
}

/// The rows of each mover. A person's rows are one run.
fn rows_of(movers: &Movers, rows: &RecordBatch) -> Vec<(i64, RecordBatch)> {
    let Some(persons) = int(rows, "person_id") else { return Vec::new() };
    let mut out = Vec::new();
    let mut start = 0;
    for run in persons.values().chunk_by(|a, b| a == b) {
        if movers.contains_key(&run[0]) {
            out.push((run[0], rows.slice(start, run.len())));
        }
        start += run.len();
    }
    out
}

/// The people of the version before who turned out to be another.
fn moved(run: &Run<'_>, base: &DatasetVersion) -> Result<Movers, IngestError> {
    let aliases = run.ctx.registry.aliases();
    let mut moved = Movers::new();
    if aliases.is_empty() {
        return Ok(moved);
    }
    for bucket in base.buckets() {
        let Some(rows) = base.bucket("person", bucket, Some(&["person_id"]))? else { continue };
        for person in int(&rows, "person_id").into_iter().flat_map(|persons| persons.values()) {
            let winner = SubjectId::new(*person).ok().and_then(|subject| aliases.get(&subject));
            moved.extend(winner.map(|winner| (*person, *winner)));
        }
    }
    Ok(moved)
}

/// An integer column.
pub(super) fn int<'r>(rows: &'r RecordBatch, name: &str) -> Option<&'r Int64Array> {
    rows.column_by_name(name)?.as_primitive_opt::<Int64Type>()
}

/// The keys of the records that rows are of, without the mark of rows that a vocabulary added.
pub(super) fn record_keys(rows: &RecordBatch) -> Option<Int64Array> {
    Some(int(rows, ROW_KEY_COLUMN)?.unary(|key| RowKey::from_bits(key as u64).record().bits() as i64))
}

/// Rows as another person's, with dates moved by the difference of the offsets.
fn as_person(
    spec: &TableSpec,
    rows: &RecordBatch,
    person: SubjectId,
    by: i32,
) -> Result<RecordBatch, IngestError> {
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    for (at, column) in spec.columns.iter().enumerate() {
        let array = rows.column(at);
        match (column.class, column.kind) {
            (IdentifierClass::SubjectId, _) => {
                columns[at] = Arc::new(Int64Array::from_value(person.get(), rows.num_rows()));
            }
            (IdentifierClass::EventDate, ColumnType::Date) => {
                let days: Date32Array =
                    array.as_primitive::<Date32Type>().unary(|day| day.saturating_add(by));
                columns[at] = Arc::new(days);
            }
            (IdentifierClass::EventDatetime, ColumnType::Datetime) => {
                let by = i64::from(by) * 86_400_000_000;
                let times: TimestampMicrosecondArray = array
                    .as_primitive::<TimestampMicrosecondType>()
                    .unary(|micros| micros.saturating_add(by));
                columns[at] = Arc::new(times);
            }
            _ => {}
        }
    }
    Ok(RecordBatch::try_new(rows.schema(), columns).map_err(crate::gather::GatherError::from)?)
}
