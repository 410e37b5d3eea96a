//! References within a release: a row names another row of the same person that leaves too, or nothing.
//!
//! Visits can stay behind for many reasons (their table was not asked for, their person withholds that category or those
//! days, the source names one that it does not have), and a number that names nothing looks like a fault of the data.
//! What is known here is what was spilled for one range of pseudonyms, without the people whom the gate leaves out, so a
//! reference that stays resolves in the files of the release.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use almoner_model::{IdentifierClass, TableSpec, Tables};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;

use super::ReleaseError;

/// The table whose rows a reference column names; `None` where the name does not tell.
pub(super) fn referred(tables: &Tables, column: &str) -> Option<usize> {
    let name = column.strip_prefix("preceding_").or_else(|| column.strip_prefix("parent_")).unwrap_or(column);
    let table = match name {
        "visit_occurrence_id" => "visit_occurrence",
        "visit_detail_id" => "visit_detail",
        _ => return None,
    };
    tables.index_of(table)
}

/// The tables that references can name.
pub(super) fn named(tables: &Tables) -> BTreeSet<usize> {
    let columns = tables.iter().flat_map(|spec| &spec.columns);
    let references = columns.filter(|c| c.class == IdentifierClass::EventRef);
    references.filter_map(|c| referred(tables, &c.name)).collect()
}

/// The rows of one range of pseudonyms that leave, of tables that references can name: (id, person), ascending.
#[derive(Default)]
pub(super) struct Leaving(BTreeMap<usize, Vec<(i64, i64)>>);

impl Leaving {
    /// Takes the rows of a table, with the ids of the release, without those of `suppressed` people.
    ///
    /// # Errors
    /// [`ReleaseError::Tables`] if the batch is not of the table.
    pub(super) fn add(
        &mut self,
        table: usize,
        spec: &TableSpec,
        batch: &RecordBatch,
        suppressed: &BTreeSet<i64>,
    ) -> Result<(), ReleaseError> {
        let id = spec.event_id.as_deref().ok_or(ReleaseError::Tables)?;
        let (ids, persons) = (longs(batch, id)?, longs(batch, "person_id")?);
        let rows = ids.values().iter().copied().zip(persons.values().iter().copied());
        let known = self.0.entry(table).or_default();
        known.extend(rows.filter(|(_, person)| !suppressed.contains(person)));
        known.sort_unstable();
        Ok(())
    }

    fn has(&self, table: usize, id: i64, person: i64) -> bool {
        self.0.get(&table).is_some_and(|rows| rows.binary_search(&(id, person)).is_ok())
    }

    /// The batch with every reference nulled that names no row of the same person in the release; how many were, by
    /// column.
    ///
    /// # Errors
    /// [`ReleaseError::Tables`] if the batch is not of the table.
    pub(super) fn resolve(
        &self,
        tables: &Tables,
        spec: &TableSpec,
        batch: &RecordBatch,
    ) -> Result<(RecordBatch, BTreeMap<String, u64>), ReleaseError> {
        let mut columns = batch.columns().to_vec();
        let mut nulled = BTreeMap::new();
        let persons = longs(batch, "person_id")?;
        for (at, c) in spec.columns.iter().enumerate().filter(|(_, c)| c.class == IdentifierClass::EventRef) {
            let Some(table) = referred(tables, &c.name) else { continue };
            let old = columns[at].as_primitive_opt::<Int64Type>().ok_or(ReleaseError::Tables)?;
            let pairs = old.iter().zip(persons.values());
            let new: Int64Array =
                pairs.map(|(id, person)| id.filter(|id| self.has(table, *id, *person))).collect();
            let lost = (new.null_count() - old.null_count()) as u64;
            if lost > 0 {
                nulled.insert(c.name.clone(), lost);
                columns[at] = Arc::new(new) as ArrayRef;
            }
        }
        let batch = RecordBatch::try_new(batch.schema(), columns).map_err(|_| ReleaseError::Tables)?;
        Ok((batch, nulled))
    }
}

fn longs<'b>(batch: &'b RecordBatch, column: &str) -> Result<&'b Int64Array, ReleaseError> {
    let column = batch.column_by_name(column).and_then(|c| c.as_primitive_opt::<Int64Type>());
    column.ok_or(ReleaseError::Tables)
}
