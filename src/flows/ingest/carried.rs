//! What an export of changes leaves out because it did not change: the codes of Medications, and the places where people
//! live. Records that name them come without them, and take over what the version before has under the same record.
//!
//! Where it has nothing, a place is missing. A drug of which nobody can say what it is makes no row: its line is quarantined
//! (`dangling-medication`), and what the version before has of the record stays. It is enough to send the Medication along.

use std::collections::{HashMap, HashSet};

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch, interleave};
use arrow::datatypes::Int64Type;

use super::changes::{Part, record_keys};
use super::export::Mapped;
use super::{IngestError, Run};
use crate::dataset::DatasetVersion;
use crate::gather::{GatherError, ROW_KEY_COLUMN};

/// Where the codes of a drug stand.
const DRUG: (&str, &[&str]) =
    ("drug_exposure", &["drug_concept_id", "drug_source_value", "drug_source_concept_id"]);
/// Where a person's place stands.
const PLACE: (&str, &[&str]) = ("person", &["zip", "state"]);

/// What the version before has of records that came without it.
pub(super) struct Carried(Vec<Columns>);

/// Columns of one table.
struct Columns {
    table: usize,
    names: &'static [&'static str],
    /// Record key → place in `rows`; of records with one row.
    at: HashMap<i64, usize>,
    rows: RecordBatch,
}

impl Carried {
    /// Finds it. Lines of drugs that cannot be completed are left out of `mapped`.
    pub fn of(run: &Run<'_>, mapped: &mut Mapped<'_>, base: &DatasetVersion) -> Result<Self, IngestError> {
        let keys = |of: &[(u64, u64)]| -> HashSet<i64> { of.iter().map(|(key, _)| *key as i64).collect() };
        let (drugs, unplaced) = (keys(&mapped.uncoded), keys(&mapped.noted.unplaced));
        let known = Columns::of(run, base, DRUG, &drugs)?;
        let is_known = |key: &i64| known.as_ref().is_some_and(|known| known.at.contains_key(key));
        let dangling: HashSet<u64> =
            drugs.into_iter().filter(|key| !is_known(key)).map(|key| key as u64).collect();
        mapped.restated.retain(|key| !dangling.contains(key));
        mapped.gathering.leave_out(dangling);
        let places = Columns::of(run, base, PLACE, &unplaced)?;
        Ok(Self(known.into_iter().chain(places).collect()))
    }

    /// Completes new rows.
    pub fn complete(&self, fresh: Vec<Part>) -> Result<Vec<Part>, IngestError> {
        let complete = |(table, rows): Part| {
            let columns = self.0.iter().find(|columns| columns.table == table);
            Ok((table, columns.map_or(Ok(rows.clone()), |columns| columns.complete(&rows))?))
        };
        fresh.into_iter().map(complete).collect()
    }
}

impl Columns {
    fn of(
        run: &Run<'_>,
        base: &DatasetVersion,
        (table, names): (&'static str, &'static [&'static str]),
        wanted: &HashSet<i64>,
    ) -> Result<Option<Self>, IngestError> {
        let Some(index) = run.ctx.tables.index_of(table).filter(|_| !wanted.is_empty()) else {
            return Ok(None);
        };
        let read: Vec<&str> = names.iter().copied().chain([ROW_KEY_COLUMN]).collect();
        let mut found = Vec::new();
        for bucket in base.buckets() {
            let Some(rows) = base.bucket(table, bucket, Some(&read))? else { continue };
            let Some(keys) = record_keys(&rows) else { continue };
            let stays: BooleanArray = keys.values().iter().map(|key| Some(wanted.contains(key))).collect();
            found.push(filter_record_batch(&rows, &stays).map_err(GatherError::from)?);
        }
        let Some(first) = found.first() else { return Ok(None) };
        let rows = concat_batches(&first.schema(), &found).map_err(GatherError::from)?;
        let (mut at, mut several) = (HashMap::new(), HashSet::new());
        for (row, key) in record_keys(&rows).iter().flat_map(|keys| keys.values()).enumerate() {
            if at.insert(*key, row).is_some() {
                several.insert(*key);
            }
        }
        at.retain(|key, _| !several.contains(key));
        Ok(Some(Self { table: index, names, at, rows }))
    }

    fn complete(&self, rows: &RecordBatch) -> Result<RecordBatch, IngestError> {
        let keys = rows.column_by_name(ROW_KEY_COLUMN).and_then(|c| c.as_primitive_opt::<Int64Type>());
        let Some(keys) = keys.filter(|keys| keys.values().iter().any(|key| self.at.contains_key(key))) else {
            return Ok(rows.clone());
        };
        let from = |(row, key): (usize, &i64)| self.at.get(key).map_or((0, row), |known| (1, *known));
        let from: Vec<(usize, usize)> = keys.values().iter().enumerate().map(from).collect();
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        for name in self.names {
            let places = (rows.schema_ref().index_of(name).ok(), self.rows.column_by_name(name));
            if let (Some(at), Some(known)) = places {
                columns[at] = interleave(&[rows.column(at).as_ref(), known.as_ref()], &from)
                    .map_err(GatherError::from)?;
            }
        }
        Ok(RecordBatch::try_new(rows.schema(), columns).map_err(GatherError::from)?)
    }
}
