//! Canonical rows of several origins become one bucket again: sorted, numbered anew, links kept.
//!
//! Used where a version continues another one (incremental exports, remaps). The rows are canonical, with event ids that
//! are unique within their table; the order afterwards is (person, start, event id before), so rows of the version before
//! keep their order and new ones follow them within a day.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use almoner_model::{IdentifierClass, TableSpec, Tables};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Date32Type, Int64Type};

use super::{GatherError, canonical_schema};

/// Event ids before and after.
type Renumbered = HashMap<i64, i64>;

/// Puts the rows of one bucket together. `replaced` maps event ids of visits and visit details that are gone to those of
/// the rows that took their place.
///
/// # Errors
/// [`GatherError::Arrow`] if rows are not canonical.
pub fn assemble(
    tables: &Tables,
    bucket: u32,
    parts: Vec<(usize, RecordBatch)>,
    replaced: &HashMap<i64, i64>,
) -> Result<BTreeMap<usize, RecordBatch>, GatherError> {
    let mut by_table: BTreeMap<usize, Vec<RecordBatch>> = BTreeMap::new();
    for (table, rows) in parts {
        by_table.entry(table).or_default().push(rows);
    }
    let mut made = BTreeMap::new();
    let (mut visits, mut details) = (Renumbered::new(), Renumbered::new());
    for (table, rows) in by_table {
        let Some(spec) = tables.iter().nth(table) else { continue };
        let schema = canonical_schema(spec);
        let rows: Vec<RecordBatch> = rows
            .iter()
            .map(|r| RecordBatch::try_new(Arc::clone(&schema), r.columns().to_vec()))
            .collect::<Result<_, _>>()?;
        let rows = concat_batches(&schema, &rows)?;
        if rows.num_rows() == 0 {
            continue;
        }
        let sorted = take_record_batch(&rows, &order(spec, &rows))?;
        let (numbered, ids) = number(spec, bucket, &sorted)?;
        match spec.table.as_str() {
            "visit_occurrence" => visits = ids,
            "visit_detail" => details = ids,
            _ => {}
        }
        made.insert(table, numbered);
    }
    for (table, rows) in &mut made {
        if let Some(spec) = tables.iter().nth(*table) {
            *rows = relink(spec, rows, &visits, &details, replaced)?;
        }
    }
    Ok(made)
}

fn int<'r>(rows: &'r RecordBatch, name: Option<&str>) -> Option<&'r Int64Array> {
    rows.column_by_name(name?)?.as_primitive_opt::<Int64Type>()
}

fn order(spec: &TableSpec, rows: &RecordBatch) -> UInt32Array {
    let persons = int(rows, Some("person_id"));
    let ids = int(rows, spec.event_id.as_deref());
    let start = spec.start.as_deref().and_then(|name| rows.column_by_name(name));
    let start = start.and_then(|column| column.as_primitive_opt::<Date32Type>());
    let mut keyed: Vec<(i64, i32, i64, u32)> = (0..rows.num_rows() as u32)
        .map(|row| {
            let at = row as usize;
            (
                persons.map_or(0, |p| p.value(at)),
                start.map_or(0, |s| s.value(at)),
                ids.map_or(0, |i| i.value(at)),
                row,
            )
        })
        .collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(.., row)| row).collect()
}

fn number(
    spec: &TableSpec,
    bucket: u32,
    rows: &RecordBatch,
) -> Result<(RecordBatch, Renumbered), GatherError> {
    let (Some(at), Some(before)) =
        (spec.event_id.as_deref().and_then(|c| spec.index_of(c)), int(rows, spec.event_id.as_deref()))
    else {
        return Ok((rows.clone(), Renumbered::new()));
    };
    let first = i64::from(bucket) << 32;
    let after = Int64Array::from_iter_values((1..=rows.num_rows() as i64).map(|n| first | n));
    let ids = before.values().iter().copied().zip(after.values().iter().copied()).collect();
    let mut columns = rows.columns().to_vec();
    columns[at] = Arc::new(after);
    Ok((RecordBatch::try_new(rows.schema(), columns)?, ids))
}

fn relink(
    spec: &TableSpec,
    rows: &RecordBatch,
    visits: &Renumbered,
    details: &Renumbered,
    replaced: &HashMap<i64, i64>,
) -> Result<RecordBatch, GatherError> {
    let mut columns = rows.columns().to_vec();
    for (at, column) in spec.columns.iter().enumerate().filter(|(_, c)| c.class == IdentifierClass::EventRef)
    {
        let ids = match column.name.as_str() {
            "visit_occurrence_id" | "preceding_visit_occurrence_id" => visits,
            "visit_detail_id" | "parent_visit_detail_id" => details,
            _ => continue,
        };
        let links: &Int64Array = rows.column(at).as_primitive();
        if links.null_count() == links.len() {
            continue;
        }
        let found = |id: i64| ids.get(replaced.get(&id).unwrap_or(&id)).copied();
        let links: Int64Array = links.iter().map(|id| id.and_then(found)).collect();
        columns[at] = Arc::new(links) as ArrayRef;
    }
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}
