//! The two data types of this stage: [`PersonBatch`] (whole persons, true dates, in memory only) and [`DeidBatch`].
//!
//! Both hold Arrow record batches in the schema of `schemas/tables`, at most one for each table, optionally with the
//! internal column [`ROW_KEY`] at the end. Rows of one person stand together and persons ascend by id, in every table.

use std::collections::BTreeMap;
use std::sync::Arc;

use almoner_model::{ColumnType, TableSpec, Tables};
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// The internal column by which updates and deletions find rows. It is not in the CDM and never in a release.
pub const ROW_KEY: &str = "_row_key";

/// The Arrow type of a column type.
pub fn arrow_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Int64 => DataType::Int64,
        ColumnType::Float64 => DataType::Float64,
        ColumnType::String => DataType::Utf8,
        ColumnType::Date => DataType::Date32,
        ColumnType::Datetime => DataType::Timestamp(TimeUnit::Microsecond, None),
        ColumnType::Bool => DataType::Boolean,
    }
}

/// The Arrow schema of a canonical table, with [`ROW_KEY`] (`Int64`, not null) at the end if `row_key`.
pub fn arrow_schema(spec: &TableSpec, row_key: bool) -> SchemaRef {
    let mut fields: Vec<Field> =
        spec.columns.iter().map(|c| Field::new(&c.name, arrow_type(c.kind), c.nullable)).collect();
    if row_key {
        fields.push(Field::new(ROW_KEY, DataType::Int64, false));
    }
    Arc::new(Schema::new(fields))
}

/// Why record batches are not a batch of whole persons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A table index beyond the tables.
    #[error("table {0} is not a canonical table")]
    NoSuchTable(usize),
    /// Columns, their order or types are not those of the specification.
    #[error("{table}: the columns are not those of schemas/tables (first difference at column {column})")]
    Schema {
        /// The table.
        table: String,
        /// Position of the first column that differs.
        column: usize,
    },
    /// A column that must not be null has nulls.
    #[error("{table}.{column} has nulls, which schemas/tables does not allow")]
    Nulls {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// Rows of a person do not stand together, or persons do not ascend.
    #[error("{table}: row {row} is out of order: rows must be sorted by person_id")]
    Order {
        /// The table.
        table: String,
        /// The first row out of order.
        row: usize,
    },
}

/// Whole persons on true dates, between `gather`, `derive` and `deidentify`; at release, an extract of a dataset.
#[derive(Clone, Debug, Default)]
pub struct PersonBatch {
    tables: BTreeMap<usize, RecordBatch>,
}

impl PersonBatch {
    /// Checks schema, nulls and order of `batches`, keyed by the table's index in `tables`. Tables without rows may be
    /// left out.
    ///
    /// # Errors
    /// [`BatchError`] names the first table and column or row that is not as it must be.
    pub fn new(batches: BTreeMap<usize, RecordBatch>, tables: &Tables) -> Result<Self, BatchError> {
        for (index, batch) in &batches {
            check(tables.iter().nth(*index).ok_or(BatchError::NoSuchTable(*index))?, batch)?;
        }
        Ok(Self { tables: batches })
    }

    /// The tables by index.
    pub const fn tables(&self) -> &BTreeMap<usize, RecordBatch> {
        &self.tables
    }

    /// One table.
    pub fn get(&self, table: usize) -> Option<&RecordBatch> {
        self.tables.get(&table)
    }

    pub(crate) fn into_tables(self) -> BTreeMap<usize, RecordBatch> {
        self.tables
    }

    /// For this crate's own stages, which keep the invariants.
    pub(crate) fn trusted(tables: BTreeMap<usize, RecordBatch>) -> Self {
        Self { tables }
    }
}

fn check(spec: &TableSpec, batch: &RecordBatch) -> Result<(), BatchError> {
    let row_key = batch.schema_ref().fields().last().is_some_and(|f| f.name() == ROW_KEY);
    let expected = arrow_schema(spec, row_key);
    let same = |a: &Field, b: &Field| a.name() == b.name() && a.data_type() == b.data_type();
    let (have, want) = (batch.schema_ref().fields(), expected.fields());
    let differs = (0..have.len().max(want.len())).find(|&i| match (have.get(i), want.get(i)) {
        (Some(a), Some(b)) => !same(a, b),
        _ => true,
    });
    if let Some(column) = differs {
        return Err(BatchError::Schema { table: spec.table.clone(), column });
    }
    for (field, array) in want.iter().zip(batch.columns()) {
        if !field.is_nullable() && array.null_count() > 0 {
            return Err(BatchError::Nulls { table: spec.table.clone(), column: field.name().clone() });
        }
    }
    let persons = person_ids(spec, batch);
    match persons.windows(2).position(|w| w[0] > w[1]) {
        Some(at) => Err(BatchError::Order { table: spec.table.clone(), row: at + 1 }),
        None => Ok(()),
    }
}

/// The `person_id` column of a checked batch.
pub(crate) fn person_ids<'a>(spec: &TableSpec, batch: &'a RecordBatch) -> &'a [i64] {
    let index = spec.index_of("person_id").expect("Tables checks that every table has a person_id");
    int64s(batch.column(index)).values()
}

pub(crate) fn int64s(array: &ArrayRef) -> &Int64Array {
    array.as_any().downcast_ref().expect("the schema was checked: Int64")
}

/// Rows that have been through [`crate::deidentify`]; there is no other way to make one.
#[derive(Clone, Debug)]
pub struct DeidBatch {
    tables: BTreeMap<usize, RecordBatch>,
}

impl DeidBatch {
    pub(crate) fn new(tables: BTreeMap<usize, RecordBatch>) -> Self {
        Self { tables }
    }

    /// The tables by index in `Tables`, rows sorted as they came in.
    pub const fn tables(&self) -> &BTreeMap<usize, RecordBatch> {
        &self.tables
    }

    /// One table.
    pub fn get(&self, table: usize) -> Option<&RecordBatch> {
        self.tables.get(&table)
    }

    /// Gives the tables away, for writing.
    pub fn into_tables(self) -> BTreeMap<usize, RecordBatch> {
        self.tables
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Cell};

    #[test]
    fn order_nulls_and_schema_are_checked() {
        let tables = testing::tables();
        let death = tables.index_of("death").expect("present");
        let rows = |ids: &[i64]| {
            testing::table(&tables, "death", ids.len(), |column, row| match column {
                "person_id" => Cell::Int(ids[row]),
                "death_date" => Cell::Days(1),
                _ => Cell::Null,
            })
        };
        assert!(PersonBatch::new([(death, rows(&[1, 1, 2]))].into(), &tables).is_ok());
        assert_eq!(
            PersonBatch::new([(death, rows(&[1, 3, 2]))].into(), &tables).err(),
            Some(BatchError::Order { table: "death".into(), row: 2 })
        );
        let person = tables.index_of("person").expect("present");
        assert!(matches!(
            PersonBatch::new([(person, rows(&[1]))].into(), &tables),
            Err(BatchError::Schema { column: 1, .. })
        ));
        assert_eq!(
            PersonBatch::new([(99, rows(&[1]))].into(), &tables).err(),
            Some(BatchError::NoSuchTable(99))
        );
        let schema = Arc::new(Schema::new(
            arrow_schema(tables.get("death").expect("present"), false)
                .fields()
                .iter()
                .map(|f| f.as_ref().clone().with_nullable(true))
                .collect::<Vec<_>>(),
        ));
        let mut columns = rows(&[1]).columns().to_vec();
        columns[1] = arrow::array::new_null_array(&DataType::Date32, 1);
        let batch = RecordBatch::try_new(schema, columns).expect("nullable schema");
        assert!(matches!(PersonBatch::new([(death, batch)].into(), &tables), Err(BatchError::Nulls { .. })));
    }
}
