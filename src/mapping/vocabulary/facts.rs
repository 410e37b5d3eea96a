//! What of a batch decides where its rows go: codes, concepts that are there, values, and what record each row is of.

use std::sync::Arc;

use almoner_model::{Origin, RowKey};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Int64Type, UInt64Type};

use super::place::Stands;

/// The columns of one concept: where the code stands, and where its concepts go.
pub(super) struct Pair {
    pub source_value: String,
    pub concept: String,
    pub source_concept: Option<String>,
}

/// Where one row goes, and with which concept.
pub(super) struct Route {
    pub table: usize,
    pub row: u32,
    pub concept: i64,
    pub added: bool,
}

/// The columns of a batch that decide about its rows.
pub(super) struct Facts<'b> {
    codes: Option<&'b StringArray>,
    concepts: Option<&'b Int64Array>,
    pub sources: Option<&'b Int64Array>,
    operators: Option<&'b Int64Array>,
    values: Vec<&'b ArrayRef>,
    pub keys: Keys<'b>,
}

impl<'b> Facts<'b> {
    pub fn of(batch: &'b RecordBatch, main: &Pair) -> Self {
        let int = |name: &str| batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
        let values = ["value_as_number", "value_as_string", "value_as_concept_id", "value_source_value"];
        Self {
            codes: batch.column_by_name(&main.source_value).and_then(|c| c.as_string_opt::<i32>()),
            concepts: int(&main.concept),
            sources: main.source_concept.as_deref().and_then(int),
            operators: int("operator_concept_id"),
            values: values.iter().filter_map(|name| batch.column_by_name(name)).collect(),
            keys: Keys::of(batch),
        }
    }

    pub fn code(&self, row: usize) -> Option<&'b str> {
        self.codes.filter(|c| c.is_valid(row)).map(|c| c.value(row))
    }

    pub fn concept(&self, row: usize) -> i64 {
        number(self.concepts, row).unwrap_or(0)
    }

    pub fn stands<'t>(&self, table: &'t str, row: usize) -> Stands<'t> {
        let there = |column: &&ArrayRef| {
            let concept = column.as_primitive_opt::<Int64Type>();
            column.is_valid(row) && concept.is_none_or(|c| c.value(row) != 0)
        };
        Stands {
            table,
            origin: self.keys.at(row).origin(),
            has_value: self.values.iter().any(there),
            has_operator: number(self.operators, row).is_some_and(|operator| operator != 0),
        }
    }
}

/// The value of a nullable number.
pub(super) fn number(column: Option<&Int64Array>, row: usize) -> Option<i64> {
    column.filter(|c| c.is_valid(row)).map(|c| c.value(row))
}

/// The row keys of a batch, staged or stored.
pub(super) enum Keys<'b> {
    Staged(&'b UInt64Array),
    Stored(&'b Int64Array),
    Absent,
}

/// The column with the row keys, in staged and in stored rows.
pub(super) const ROW_KEY: &str = "_row_key";

impl<'b> Keys<'b> {
    pub fn of(batch: &'b RecordBatch) -> Self {
        let Some(column) = batch.column_by_name(ROW_KEY) else { return Self::Absent };
        match column.data_type() {
            DataType::UInt64 => Self::Staged(column.as_primitive::<UInt64Type>()),
            DataType::Int64 => Self::Stored(column.as_primitive::<Int64Type>()),
            _ => Self::Absent,
        }
    }

    /// A row without a key is its table's.
    pub fn at(&self, row: usize) -> RowKey {
        match self {
            Self::Staged(keys) => RowKey::from_bits(keys.value(row)),
            Self::Stored(keys) => RowKey::from_bits(keys.value(row) as u64),
            Self::Absent => RowKey::of_record(Origin::Table, 0),
        }
    }

    /// The keys of the rows that `routes` make.
    pub fn routed(&self, routes: &[&Route]) -> Option<ArrayRef> {
        let key = |route: &&Route| {
            let record = self.at(route.row as usize).record();
            if route.added { record.added().bits() } else { record.bits() }
        };
        match self {
            Self::Staged(_) => Some(Arc::new(UInt64Array::from_iter_values(routes.iter().map(key)))),
            Self::Stored(_) => {
                Some(Arc::new(Int64Array::from_iter_values(routes.iter().map(|route| key(route) as i64))))
            }
            Self::Absent => None,
        }
    }
}
