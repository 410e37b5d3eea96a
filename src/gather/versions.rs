//! Of which records an export has several versions: what every line states, by key, in bounded memory.
//!
//! Serves the arrow `mapping → gather`. A record may come several times in one export, in any of its files, as other
//! people's, as an error the last time: what gathering sees of one person cannot tell. So every line that states a record is
//! kept beside the rows, 26 bytes each, in pieces by the first bits of the record's key, and spilled with them. Which of
//! several versions counts is for the flow to say ([`Gathering::supersede`]).

use std::sync::Arc;

use almoner_model::Timestamp;
use arrow::array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch, UInt8Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt8Type, UInt64Type};

use super::{GatherError, Gathering};
use crate::mapping::Stated;
use crate::mapping::fhir::types;

/// Records as rows, to be spilled as rows are.
pub(super) fn batch(records: &[Stated]) -> Result<RecordBatch, GatherError> {
    let schema = Schema::new(vec![
        Field::new("_row_key", DataType::UInt64, false),
        Field::new("_ordinal", DataType::UInt64, false),
        Field::new("mapped", DataType::Boolean, false),
        Field::new("kind", DataType::UInt8, true),
        Field::new("updated", DataType::Int64, true),
    ]);
    let keys = UInt64Array::from_iter_values(records.iter().map(|r| r.key));
    let ordinals = UInt64Array::from_iter_values(records.iter().map(|r| r.ordinal));
    let mapped: BooleanArray = records.iter().map(|r| Some(r.mapped)).collect();
    // Lines of one type mostly follow each other.
    let (mut kind, mut place) = (None, None);
    let mut place_of = |of: Option<&'static str>| {
        if of != kind {
            (kind, place) = (of, of.and_then(types::place));
        }
        place
    };
    let kinds: UInt8Array = records.iter().map(|r| place_of(r.kind)).collect();
    let updated: Int64Array = records.iter().map(|r| r.updated.map(Timestamp::millis)).collect();
    let columns: Vec<Arc<dyn Array>> =
        vec![Arc::new(keys), Arc::new(ordinals), Arc::new(mapped), Arc::new(kinds), Arc::new(updated)];
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}

impl Gathering<'_> {
    /// Calls `several` with the versions of each record that was stated more than once, in the order of locators; of the
    /// part of all records that has this number (as many as there are buckets). May be called for several parts at once,
    /// when all sinks are done. Memory depends on the part, not on how many records came several times.
    ///
    /// # Errors
    /// [`GatherError`]: working files, memory.
    pub fn versions(&self, part: u32, mut several: impl FnMut(&[Stated])) -> Result<(), GatherError> {
        let table = self.stated_table();
        let Some(rows) = self.load(part, |t| t == table)?.pop().flatten() else { return Ok(()) };
        let column = |at: usize| rows.column(at).as_primitive::<UInt64Type>().values();
        let (keys, ordinals, mapped) = (column(0), column(1), rows.column(2).as_boolean());
        let kinds = rows.column(3).as_primitive::<UInt8Type>();
        let updated = rows.column(4).as_primitive::<Int64Type>();
        let mut all: Vec<(u64, u32)> = keys.iter().copied().zip(0..).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        let mut versions = Vec::new();
        for same in all.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
            versions.clear();
            versions.extend(same.iter().map(|(key, row)| {
                let row = *row as usize;
                Stated {
                    key: *key,
                    ordinal: ordinals[row],
                    mapped: mapped.value(row),
                    kind: kinds.is_valid(row).then(|| kinds.value(row)).and_then(types::at),
                    updated: updated.is_valid(row).then(|| Timestamp::from_millis(updated.value(row))),
                }
            }));
            versions.sort_unstable_by_key(|version| version.ordinal);
            several(&versions);
        }
        Ok(())
    }
}
