//! Of which records an export has several versions: what every line states, by key, in bounded memory.
//!
//! Serves the arrow `mapping → gather`. A record may come several times in one export, in any of its files, as other
//! people's, as an error the last time: what gathering sees of one person cannot tell. So every line that states a record is
//! kept beside the rows, 17 bytes each, in pieces by the first bits of the record's key, and spilled with them. Which of
//! several versions counts is for the flow to say ([`Gathering::supersede`]).

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};

use super::{GatherError, Gathering};
use crate::mapping::Stated;

/// Records as rows, to be spilled as rows are.
pub(super) fn batch(records: &[Stated]) -> Result<RecordBatch, GatherError> {
    let field = |name: &str, kind| Field::new(name, kind, false);
    let schema = Schema::new(vec![
        field("_row_key", DataType::UInt64),
        field("_ordinal", DataType::UInt64),
        field("mapped", DataType::Boolean),
    ]);
    let keys = UInt64Array::from_iter_values(records.iter().map(|r| r.key));
    let ordinals = UInt64Array::from_iter_values(records.iter().map(|r| r.ordinal));
    let mapped: BooleanArray = records.iter().map(|r| Some(r.mapped)).collect();
    Ok(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(keys), Arc::new(ordinals), Arc::new(mapped)])?)
}

impl Gathering<'_> {
    /// What was stated more than once, of the part of all records that has this number (as many as there are buckets): in
    /// the order of keys and locators. May be called for several parts at once, when all sinks are done.
    ///
    /// # Errors
    /// [`GatherError`]: working files, memory.
    pub fn repeated(&self, part: u32) -> Result<Vec<Stated>, GatherError> {
        let table = self.stated_table();
        let Some(rows) = self.load(part, |t| t == table)?.pop().flatten() else { return Ok(Vec::new()) };
        let column = |at: usize| rows.column(at).as_primitive::<UInt64Type>().values();
        let (keys, ordinals, mapped) = (column(0), column(1), rows.column(2).as_boolean());
        let mut all: Vec<(u64, u32)> = keys.iter().copied().zip(0..).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        let mut out = Vec::new();
        for same in all.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
            let from = out.len();
            out.extend(same.iter().map(|(key, row)| {
                let row = *row as usize;
                Stated { key: *key, ordinal: ordinals[row], mapped: mapped.value(row) }
            }));
            out[from..].sort_unstable_by_key(|record| record.ordinal);
        }
        Ok(out)
    }
}
