//! Staged rows: canonical rows on their way from mapping to gather, built column by column without a heap allocation
//! per row.
//!
//! A [`StagedBatch`] holds rows of one canonical table. Its columns are, in this order:
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `_person` | UInt32 | ordinal in the [`PersonIndex`](super::PersonIndex) |
//! | `_ordinal` | UInt64 | file ordinal << 40 \| record line: the locator, and the order of events |
//! | `_row_key` | UInt64 | keyed hash of table or resource type and source id, the same for all rows of one record; duplicates, updates and deletions find rows by it |
//! | `_visit_key` | UInt64? | `_row_key` of the visit (in `visit_occurrence`: of the preceding visit) |
//! | `_detail_key` | UInt64? | `_row_key` of the visit detail (in `visit_detail`: of the parent) |
//!
//! followed by every column of the table's specification except those of class subject id, event id and event
//! reference, in CDM order. Dates are true dates: staged rows live in memory or in spill files encrypted under a key that
//! is never stored.
//!
//! Setters name a column by its index *in the [`TableSpec`]*, and ignore nothing: an index of another type is a bug and
//! refused when the row ends. Columns not set are null; a concept column that may not be null is 0 ("no matching
//! concept"), a flag false; any other column that may not be null refuses the row.

use std::sync::Arc;

use almoner_model::{ColumnType, Date, IdentifierClass, TableSpec, Tables, Timestamp};
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Position of `_person`.
pub const PERSON: usize = 0;
/// Position of `_ordinal`.
pub const ORDINAL: usize = 1;
/// Position of `_row_key`.
pub const ROW_KEY: usize = 2;
/// Position of `_visit_key`.
pub const VISIT_KEY: usize = 3;
/// Position of `_detail_key`.
pub const DETAIL_KEY: usize = 4;
/// How many staging columns stand before the canonical ones.
pub const STAGING_COLUMNS: usize = 5;

/// Rows that are kept in a builder before they go to the sink.
const ROWS_PER_BATCH: usize = 8192;
/// String bytes of one column that are kept before rows go to the sink, whatever their number.
const BYTES_PER_COLUMN: usize = 8 << 20;

/// Rows of one table between mapping and gather.
#[derive(Clone, Debug)]
pub struct StagedBatch {
    /// Index of the table in [`Tables`].
    pub table: usize,
    /// The rows, as the module describes.
    pub batch: RecordBatch,
}

/// That a line states a record, with rows or without: of the versions of a record that an export has, one counts. A line
/// that is not what it should be states nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stated {
    /// The `_row_key` of the record.
    pub key: u64,
    /// The locator of the line.
    pub ordinal: u64,
    /// Whether the line counts as mapped.
    pub mapped: bool,
    /// The resource type that the line counts as; `None` for a row of a table, which counts as what its file holds.
    pub kind: Option<&'static str>,
    /// When the version came about, where the line says so in a way that can be read.
    pub updated: Option<Timestamp>,
}

/// Where staged batches go.
pub trait StagedSink {
    /// Takes a batch.
    ///
    /// # Errors
    /// [`StageError::Sink`] if it could not be kept; the run cannot go on.
    fn push(&mut self, batch: StagedBatch) -> Result<(), StageError>;

    /// Takes which records were stated, whether they made rows or not.
    ///
    /// # Errors
    /// [`StageError::Sink`] if they could not be kept; the run cannot go on.
    fn stated(&mut self, records: &[Stated]) -> Result<(), StageError>;
}

/// Why a row or a batch could not be staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A column that may not be null has no value. The mapper decides what that means for its record.
    #[error("table {table}: column {column} needs a value")]
    Missing {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A setter named a column of another type, or one that staged rows do not have.
    #[error("table {table}: column {column} was set with a value of another type")]
    WrongType {
        /// The table.
        table: String,
        /// The column's position in the specification.
        column: usize,
    },
    /// Arrow refused the columns.
    #[error("staged columns do not fit together")]
    Arrow(#[from] arrow::error::ArrowError),
    /// The sink failed.
    #[error("staged rows could not be kept: {0}")]
    Sink(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The Arrow type of a canonical column.
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

/// Whether gather fills a column, so that staged rows do not have it.
pub const fn given_by_gather(class: IdentifierClass) -> bool {
    matches!(class, IdentifierClass::SubjectId | IdentifierClass::EventId | IdentifierClass::EventRef)
}

/// The shape of one table's staged rows.
#[derive(Clone, Debug)]
pub struct StagedSchema {
    /// The Arrow schema.
    pub arrow: SchemaRef,
    /// For each column of the specification: its position in staged rows.
    pub position: Vec<Option<usize>>,
}

impl StagedSchema {
    /// Of a table.
    pub fn of(spec: &TableSpec) -> Self {
        let mut fields = vec![
            Field::new("_person", DataType::UInt32, false),
            Field::new("_ordinal", DataType::UInt64, false),
            Field::new("_row_key", DataType::UInt64, false),
            Field::new("_visit_key", DataType::UInt64, true),
            Field::new("_detail_key", DataType::UInt64, true),
        ];
        let mut position = Vec::with_capacity(spec.columns.len());
        for column in &spec.columns {
            if given_by_gather(column.class) {
                position.push(None);
            } else {
                position.push(Some(fields.len()));
                fields.push(Field::new(&column.name, arrow_type(column.kind), column.nullable));
            }
        }
        Self { arrow: Arc::new(Schema::new(fields)), position }
    }
}

/// The values of one column so far. Shorter than the row count where the last rows did not set it.
enum Values {
    Int64(Vec<i64>),
    UInt64(Vec<u64>),
    Float64(Vec<f64>),
    Date(Vec<i32>),
    Datetime(Vec<i64>),
    Bool(Vec<bool>),
    String { offsets: Vec<i32>, bytes: Vec<u8> },
}

struct Column {
    values: Values,
    valid: Vec<bool>,
    any_null: bool,
}

macro_rules! for_each_vec {
    ($self:expr, $v:ident => $action:expr, $offsets:ident, $bytes:ident => $string:expr) => {
        match &mut $self.values {
            Values::Int64($v) | Values::Datetime($v) => $action,
            Values::UInt64($v) => $action,
            Values::Float64($v) => $action,
            Values::Date($v) => $action,
            Values::Bool($v) => $action,
            Values::String { offsets: $offsets, bytes: $bytes } => $string,
        }
    };
}

impl Column {
    fn new(kind: &DataType) -> Self {
        let values = match kind {
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::UInt64 => Values::UInt64(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Timestamp(..) => Values::Datetime(Vec::new()),
            DataType::Boolean => Values::Bool(Vec::new()),
            _ => Values::String { offsets: vec![0], bytes: Vec::new() },
        };
        Self { values, valid: Vec::new(), any_null: false }
    }

    fn len(&self) -> usize {
        self.valid.len()
    }

    /// Nulls up to `rows`.
    fn pad(&mut self, rows: usize) {
        if self.valid.len() >= rows {
            return;
        }
        self.any_null = true;
        self.valid.resize(rows, false);
        for_each_vec!(self, v => v.resize(rows, Default::default()), offsets, bytes => {
            let end = bytes.len() as i32;
            offsets.resize(rows + 1, end);
        });
    }

    /// Forgets what stands at `rows` and after.
    fn truncate(&mut self, rows: usize) {
        if self.valid.len() <= rows {
            return;
        }
        self.valid.truncate(rows);
        for_each_vec!(self, v => v.truncate(rows), offsets, bytes => {
            offsets.truncate(rows + 1);
            bytes.truncate(offsets.last().map_or(0, |end| *end as usize));
        });
    }

    /// Makes `row` the next to be pushed: what was set for it before is forgotten.
    fn seek(&mut self, row: usize) {
        self.truncate(row);
        self.pad(row);
        self.valid.push(true);
    }

    fn string_bytes(&self) -> usize {
        match &self.values {
            Values::String { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }

    fn take(&mut self, rows: usize) -> Result<ArrayRef, StageError> {
        self.pad(rows);
        let valid = std::mem::take(&mut self.valid);
        let nulls = self.any_null.then(|| NullBuffer::new(BooleanBuffer::from(valid)));
        self.any_null = false;
        Ok(match &mut self.values {
            Values::Int64(v) => Arc::new(Int64Array::new(std::mem::take(v).into(), nulls)),
            Values::UInt64(v) => Arc::new(UInt64Array::new(std::mem::take(v).into(), nulls)),
            Values::Float64(v) => Arc::new(Float64Array::new(std::mem::take(v).into(), nulls)),
            Values::Date(v) => Arc::new(Date32Array::new(std::mem::take(v).into(), nulls)),
            Values::Datetime(v) => Arc::new(TimestampMicrosecondArray::new(std::mem::take(v).into(), nulls)),
            Values::Bool(v) => Arc::new(BooleanArray::new(BooleanBuffer::from(std::mem::take(v)), nulls)),
            Values::String { offsets, bytes } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(offsets, vec![0])));
                Arc::new(StringArray::try_new(offsets, Buffer::from_vec(std::mem::take(bytes)), nulls)?)
            }
        })
    }
}

/// What to do about a column without a value that may not be null.
enum Absent {
    Zero,
    False,
    Refuse,
}

struct TableRows {
    schema: StagedSchema,
    person: Vec<u32>,
    ordinal: Vec<u64>,
    row_key: Vec<u64>,
    /// `_visit_key`, `_detail_key`, then the canonical columns: staged position − 3.
    columns: Vec<Column>,
    required: Vec<(usize, Absent)>,
}

/// Position in [`TableRows::columns`] of the staged column at `position`.
const fn stored(position: usize) -> usize {
    position - VISIT_KEY
}

impl TableRows {
    fn new(spec: &TableSpec) -> Self {
        let schema = StagedSchema::of(spec);
        let columns = schema.arrow.fields()[VISIT_KEY..].iter().map(|f| Column::new(f.data_type())).collect();
        let mut required = Vec::new();
        for (column, position) in spec.columns.iter().zip(&schema.position) {
            if let (false, Some(position)) = (column.nullable, position) {
                let absent = match (column.class, column.kind) {
                    (IdentifierClass::Concept, ColumnType::Int64) => Absent::Zero,
                    (_, ColumnType::Bool) => Absent::False,
                    _ => Absent::Refuse,
                };
                required.push((stored(*position), absent));
            }
        }
        Self { schema, person: Vec::new(), ordinal: Vec::new(), row_key: Vec::new(), columns, required }
    }

    fn rows(&self) -> usize {
        self.person.len()
    }

    /// Whether the row that is being written has all it needs; fills in what may be filled in.
    fn complete(&mut self, row: usize) -> Result<(), usize> {
        for (column, absent) in &self.required {
            let values = &mut self.columns[*column];
            if values.len() > row {
                continue;
            }
            match absent {
                Absent::Refuse => return Err(*column),
                Absent::Zero => {
                    values.seek(row);
                    if let Values::Int64(v) = &mut values.values {
                        v.push(0);
                    }
                }
                Absent::False => {
                    values.seek(row);
                    if let Values::Bool(v) = &mut values.values {
                        v.push(false);
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self) -> Result<RecordBatch, StageError> {
        let rows = self.rows();
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(std::mem::take(&mut self.person))),
            Arc::new(UInt64Array::from(std::mem::take(&mut self.ordinal))),
            Arc::new(UInt64Array::from(std::mem::take(&mut self.row_key))),
        ];
        for column in &mut self.columns {
            arrays.push(column.take(rows)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema.arrow), arrays)?)
    }
}

/// Builds staged rows of all tables and sends them to a sink in batches. One per thread.
pub struct StagedBuilder<'s> {
    tables: Tables,
    rows: Vec<TableRows>,
    stated: Vec<Stated>,
    sink: Box<dyn StagedSink + Send + 's>,
}

impl<'s> StagedBuilder<'s> {
    /// An empty builder over `tables` that writes to `sink`.
    pub fn new(tables: &Tables, sink: Box<dyn StagedSink + Send + 's>) -> Self {
        let rows = tables.iter().map(TableRows::new).collect();
        Self { tables: tables.clone(), rows, stated: Vec::new(), sink }
    }

    /// The tables; setters take indexes into their columns.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Begins a row of the table with index `table`. It exists when [`RowWriter::finish`] says so, and not before.
    ///
    /// # Panics
    /// If there is no such table.
    pub fn row(&mut self, table: usize, person: u32, ordinal: u64, row_key: u64) -> RowWriter<'_, 's> {
        assert!(table < self.rows.len(), "a table index comes from Tables::index_of");
        RowWriter { builder: self, table, head: (person, ordinal, row_key), wrong: None, finished: false }
    }

    /// Notes that a line states a record.
    ///
    /// # Errors
    /// [`StageError::Sink`].
    pub fn stated(&mut self, record: Stated) -> Result<(), StageError> {
        self.stated.push(record);
        if self.stated.len() >= ROWS_PER_BATCH { self.flush_stated() } else { Ok(()) }
    }

    fn flush_stated(&mut self) -> Result<(), StageError> {
        let sent = self.sink.stated(&self.stated);
        self.stated.clear();
        sent
    }

    /// Sends all that is left to the sink.
    ///
    /// # Errors
    /// [`StageError::Sink`].
    pub fn finish(mut self) -> Result<(), StageError> {
        if !self.stated.is_empty() {
            self.flush_stated()?;
        }
        for table in 0..self.rows.len() {
            if self.rows[table].rows() > 0 {
                self.flush(table)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self, table: usize) -> Result<(), StageError> {
        let batch = self.rows[table].take()?;
        self.sink.push(StagedBatch { table, batch })
    }
}

/// One row that is being written. Dropped without [`Self::finish`], it leaves nothing behind.
pub struct RowWriter<'b, 's> {
    builder: &'b mut StagedBuilder<'s>,
    table: usize,
    head: (u32, u64, u64),
    wrong: Option<usize>,
    finished: bool,
}

macro_rules! setter {
    ($(#[$doc:meta])* $name:ident, $variant:ident, $ty:ty, |$v:ident, $x:ident| $push:expr) => {
        $(#[$doc])*
        pub fn $name(&mut self, column: usize, $x: $ty) -> &mut Self {
            let rows = &mut self.builder.rows[self.table];
            let row = rows.person.len();
            let Some(position) = rows.schema.position.get(column).copied().flatten() else {
                self.wrong.get_or_insert(column);
                return self;
            };
            let column_rows = &mut rows.columns[stored(position)];
            if let Values::$variant(_) = column_rows.values {
                column_rows.seek(row);
                if let Values::$variant($v) = &mut column_rows.values {
                    $push;
                }
            } else {
                self.wrong.get_or_insert(column);
            }
            self
        }
    };
}

impl RowWriter<'_, '_> {
    setter!(
        /// Sets an `int64` column.
        int64, Int64, i64, |v, value| v.push(value)
    );
    setter!(
        /// Sets a `float64` column.
        float64, Float64, f64, |v, value| v.push(value)
    );
    setter!(
        /// Sets a `date` column to a true date.
        date, Date, Date, |v, value| v.push(value.days())
    );
    setter!(
        /// Sets a `datetime` column: microseconds since 1970-01-01T00:00:00 of the local wall clock.
        datetime, Datetime, i64, |v, micros| v.push(micros)
    );
    setter!(
        /// Sets a `bool` column.
        bool, Bool, bool, |v, value| v.push(value)
    );

    /// Sets a `string` column.
    pub fn string(&mut self, column: usize, value: &str) -> &mut Self {
        let rows = &mut self.builder.rows[self.table];
        let row = rows.person.len();
        let Some(position) = rows.schema.position.get(column).copied().flatten() else {
            self.wrong.get_or_insert(column);
            return self;
        };
        let column_rows = &mut rows.columns[stored(position)];
        if !matches!(column_rows.values, Values::String { .. }) {
            self.wrong.get_or_insert(column);
            return self;
        }
        column_rows.seek(row);
        if let Values::String { offsets, bytes } = &mut column_rows.values {
            bytes.extend_from_slice(value.as_bytes());
            offsets.push(bytes.len() as i32);
        }
        self
    }

    /// Sets `_visit_key`: the `_row_key` of the row's visit.
    pub fn visit_key(&mut self, key: u64) -> &mut Self {
        self.key(VISIT_KEY, key)
    }

    /// Sets `_detail_key`: the `_row_key` of the row's visit detail.
    pub fn detail_key(&mut self, key: u64) -> &mut Self {
        self.key(DETAIL_KEY, key)
    }

    fn key(&mut self, position: usize, key: u64) -> &mut Self {
        let rows = &mut self.builder.rows[self.table];
        let row = rows.person.len();
        let column = &mut rows.columns[stored(position)];
        column.seek(row);
        if let Values::UInt64(v) = &mut column.values {
            v.push(key);
        }
        self
    }

    /// Ends the row; a full batch goes to the sink.
    ///
    /// # Errors
    /// [`StageError::Missing`] and [`StageError::WrongType`]: the row is not there. [`StageError::Sink`].
    pub fn finish(mut self) -> Result<(), StageError> {
        let table = self.table;
        let name = |builder: &StagedBuilder<'_>| builder.tables.iter().nth(table).map(|t| t.table.clone());
        if let Some(column) = self.wrong {
            let table = name(self.builder).unwrap_or_default();
            return Err(StageError::WrongType { table, column });
        }
        let rows = &mut self.builder.rows[table];
        let row = rows.rows();
        if let Err(column) = rows.complete(row) {
            let column = rows.schema.arrow.field(column + VISIT_KEY).name().clone();
            let table = name(self.builder).unwrap_or_default();
            return Err(StageError::Missing { table, column });
        }
        self.finished = true;
        let (person, ordinal, row_key) = self.head;
        rows.person.push(person);
        rows.ordinal.push(ordinal);
        rows.row_key.push(row_key);
        let full = row + 1 >= ROWS_PER_BATCH
            || rows.columns.iter().any(|column| column.string_bytes() >= BYTES_PER_COLUMN);
        if full { self.builder.flush(table) } else { Ok(()) }
    }
}

impl Drop for RowWriter<'_, '_> {
    fn drop(&mut self) {
        if !self.finished {
            let rows = &mut self.builder.rows[self.table];
            let row = rows.rows();
            for column in &mut rows.columns {
                column.truncate(row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<StagedBatch>>>);

    impl StagedSink for Kept {
        fn push(&mut self, batch: StagedBatch) -> Result<(), StageError> {
            self.0.lock().expect("not poisoned").push(batch);
            Ok(())
        }

        fn stated(&mut self, _: &[Stated]) -> Result<(), StageError> {
            Ok(())
        }
    }

    fn builder() -> (Kept, Tables, StagedBuilder<'static>) {
        let tables = Tables::embedded().expect("consistent");
        let kept = Kept::default();
        let builder = StagedBuilder::new(&tables, Box::new(kept.clone()));
        (kept, tables, builder)
    }

    #[test]
    fn rows_come_out_as_they_went_in() {
        let (kept, tables, mut builder) = builder();
        let table = tables.index_of("measurement").expect("present");
        let spec = tables.get("measurement").expect("present");
        let at = |name: &str| spec.index_of(name).expect("a column");
        let (date, value, source) =
            (at("measurement_date"), at("value_as_number"), at("measurement_source_value"));
        for i in 0..10u32 {
            let mut row = builder.row(table, i, u64::from(i), 100 + u64::from(i));
            row.date(date, Date::from_days(i as i32));
            if i % 2 == 0 {
                row.float64(value, 1.0)
                    .float64(value, f64::from(i))
                    .string(source, "x")
                    .string(source, "LOINC:1-1");
            }
            if i == 3 {
                row.visit_key(33);
            }
            row.finish().expect("complete");
        }
        let dropped = builder.row(table, 9, 9, 9);
        drop(dropped);
        builder.finish().expect("kept");
        let kept = kept.0.lock().expect("not poisoned");
        let batch = &kept[0].batch;
        assert_eq!((kept.len(), batch.num_rows()), (1, 10));
        let column = |name: &str| batch.column_by_name(name).expect("present");
        let values = column("value_as_number").as_primitive::<Float64Type>();
        assert_eq!((values.value(4), values.is_null(3)), (4.0, true));
        let source = column("measurement_source_value").as_string::<i32>();
        assert_eq!((source.value(8), source.is_null(9)), ("LOINC:1-1", true));
        assert_eq!(column("_visit_key").as_primitive::<UInt64Type>().value(3), 33);
        assert_eq!(column("_visit_key").null_count(), 9);
        assert_eq!(column("measurement_concept_id").as_primitive::<Int64Type>().value(0), 0);
        assert!(batch.column_by_name("visit_occurrence_id").is_none());
    }

    #[test]
    fn a_row_without_a_needed_value_leaves_nothing() {
        let (kept, tables, mut builder) = builder();
        let table = tables.index_of("condition_occurrence").expect("present");
        let spec = tables.get("condition_occurrence").expect("present");
        let at = |name: &str| spec.index_of(name).expect("a column");
        let mut row = builder.row(table, 0, 0, 0);
        row.string(at("condition_source_value"), "SNOMED:44054006");
        assert!(
            matches!(row.finish(), Err(StageError::Missing { column, .. }) if column == "condition_start_date")
        );
        let mut row = builder.row(table, 0, 0, 0);
        row.date(at("condition_source_value"), Date::from_days(0));
        assert!(matches!(row.finish(), Err(StageError::WrongType { .. })));
        let mut row = builder.row(table, 1, 2, 3);
        row.date(at("condition_start_date"), Date::from_days(1));
        row.finish().expect("complete");
        builder.finish().expect("kept");
        let kept = kept.0.lock().expect("not poisoned");
        assert_eq!(kept[0].batch.num_rows(), 1);
        assert!(kept[0].batch.column_by_name("condition_source_value").expect("present").is_null(0));
    }

    #[test]
    fn full_batches_go_to_the_sink() {
        let (kept, tables, mut builder) = builder();
        let table = tables.index_of("death").expect("present");
        let date = tables.get("death").and_then(|t| t.index_of("death_date")).expect("present");
        for i in 0..ROWS_PER_BATCH + 1 {
            let mut row = builder.row(table, 0, i as u64, i as u64);
            row.date(date, Date::from_days(0));
            row.finish().expect("complete");
        }
        assert_eq!(kept.0.lock().expect("not poisoned").len(), 1);
        builder.finish().expect("kept");
        let rows: Vec<usize> =
            kept.0.lock().expect("not poisoned").iter().map(|b| b.batch.num_rows()).collect();
        assert_eq!(rows, [ROWS_PER_BATCH, 1]);
    }
}
