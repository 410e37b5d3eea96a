//! Test fixtures: canonical tables from a few named values, and small dataset versions as Parquet files.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use almoner_deid::ROW_KEY;
use almoner_model::{ColumnType, DatePrecision, Tables};
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde_json::{Map, Value};

use super::execute::{Source, SourceFile};

/// Rows of one table: column name to value; dates are days since 1970-01-01; what is absent is null, or 0 or false
/// where the column may not be null. With row keys where the rows have them.
pub type Rows = Vec<Map<String, Value>>;

pub fn batch(tables: &Tables, table: &str, rows: &Rows) -> RecordBatch {
    let spec = tables.get(table).expect("a canonical table");
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for c in &spec.columns {
        let int =
            |r: &Map<String, Value>| r.get(&c.name).and_then(Value::as_i64).or((!c.nullable).then_some(0));
        let (kind, array): (DataType, ArrayRef) = match c.kind {
            ColumnType::Int64 => (DataType::Int64, Arc::new(rows.iter().map(int).collect::<Int64Array>())),
            ColumnType::Date => {
                let days = rows.iter().map(|r| int(r).map(|d| d as i32));
                (DataType::Date32, Arc::new(days.collect::<Date32Array>()))
            }
            ColumnType::Float64 => {
                let values = rows.iter().map(|r| r.get(&c.name).and_then(Value::as_f64));
                (DataType::Float64, Arc::new(values.collect::<Float64Array>()))
            }
            ColumnType::String => {
                let values = rows.iter().map(|r| r.get(&c.name).and_then(Value::as_str));
                (DataType::Utf8, Arc::new(values.collect::<StringArray>()))
            }
            ColumnType::Datetime => {
                let values = rows.iter().map(int).collect::<TimestampMicrosecondArray>();
                (DataType::Timestamp(TimeUnit::Microsecond, None), Arc::new(values))
            }
            ColumnType::Bool => {
                let values =
                    rows.iter().map(|r| Some(r.get(&c.name).and_then(Value::as_bool).unwrap_or(false)));
                (DataType::Boolean, Arc::new(values.collect::<BooleanArray>()))
            }
        };
        fields.push(Field::new(&c.name, kind, c.nullable));
        arrays.push(array);
    }
    if rows.iter().any(|row| row.contains_key(ROW_KEY)) {
        let key = |row: &Map<String, Value>| row[ROW_KEY].as_i64().expect("every row has one");
        fields.push(Field::new(ROW_KEY, DataType::Int64, false));
        arrays.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(key))));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("columns of one length")
}

/// Writes a dataset version of `2^bits` buckets (a person's bucket is its id modulo their number) and says where.
pub fn dataset(dir: &Path, name: &str, bits: u8, tables: &BTreeMap<&str, Rows>) -> Source {
    let specs = Tables::embedded().expect("consistent");
    let mut files = Vec::new();
    for (table, rows) in tables {
        let spec = specs.get(table).expect("canonical");
        for bucket in 0..1u32 << bits {
            let person = |r: &Map<String, Value>| r["person_id"].as_i64().expect("given");
            let mut own: Rows =
                rows.iter().filter(|r| person(r) as u32 % (1 << bits) == bucket).cloned().collect();
            let start = |r: &Map<String, Value>| spec.start.as_ref().map(|c| r[c].as_i64());
            own.sort_by_key(|r| (person(r), start(r)));
            let path = dir.join(format!("{name}-{table}-{bucket}.parquet"));
            let batch = batch(&specs, table, &own);
            let file = File::create(&path).expect("creates");
            let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).expect("opens");
            writer.write(&batch).expect("writes");
            writer.close().expect("closes");
            files.push(SourceFile { table: (*table).to_owned(), bucket, path, rows: own.len() as u64 });
        }
    }
    let dataset = name.parse().expect("slug");
    Source { dataset, bucket_bits: bits, date_precision: DatePrecision::Day, offset_epoch: Some(0), files }
}
