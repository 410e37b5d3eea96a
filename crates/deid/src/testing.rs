//! Builders of small canonical tables for this crate's tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use almoner_model::{ColumnType, SubjectId, Tables};
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};

use crate::{DeidContext, Profile, SubjectContext, Zip3, arrow_schema};

pub fn tables() -> Tables {
    Tables::embedded().expect("schemas/tables loads")
}

pub fn profile(name: &str) -> Profile {
    Profile::named(name, &tables()).expect("built-in profiles load")
}

pub fn context() -> DeidContext {
    DeidContext::new("2026-11-22".parse().expect("a date"), Arc::new(Zip3::current().expect("loads")))
}

pub fn subject(id: i64, offset: i32) -> SubjectContext {
    SubjectContext::new(SubjectId::new(id).expect("in range"), offset)
}

#[derive(Clone, PartialEq, Debug)]
pub enum Cell {
    Null,
    Int(i64),
    Float(f64),
    Text(String),
    Days(i32),
    Micros(i64),
    Bool(bool),
}

/// A table of `rows` rows; a null cell of a column that may not be null becomes 0, an empty text or false.
pub fn table(tables: &Tables, name: &str, rows: usize, cell: impl Fn(&str, usize) -> Cell) -> RecordBatch {
    let spec = tables.get(name).expect("a canonical table");
    let columns = spec.columns.iter().map(|c| -> ArrayRef {
        let cells = (0..rows).map(|row| cell(&c.name, row));
        macro_rules! column {
            ($array:ty, $variant:ident, $default:expr) => {
                Arc::new(
                    cells
                        .map(|v| match v {
                            Cell::$variant(x) => Some(x),
                            Cell::Null if c.nullable => None,
                            Cell::Null => Some($default),
                            other => panic!("{}: {other:?}", c.name),
                        })
                        .collect::<$array>(),
                )
            };
        }
        match c.kind {
            ColumnType::Int64 => column!(Int64Array, Int, 0),
            ColumnType::Float64 => column!(Float64Array, Float, 0.0),
            ColumnType::String => column!(StringArray, Text, String::new()),
            ColumnType::Date => column!(Date32Array, Days, 0),
            ColumnType::Datetime => column!(TimestampMicrosecondArray, Micros, 0),
            ColumnType::Bool => column!(BooleanArray, Bool, false),
        }
    });
    let columns = columns.collect();
    RecordBatch::try_new(arrow_schema(spec, false), columns).expect("built to the schema")
}

/// Third-party test data, as `almoner::testdata::dir` finds it.
#[expect(clippy::disallowed_methods, reason = "tests only")]
pub fn data(part: &str) -> Option<PathBuf> {
    let root = std::env::var("ALMONER_TEST_DATA")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let path = root.join(part);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var("CI").is_err(), "test data {part} is absent, and under CI nothing is skipped");
    eprintln!("skipped: test data {part} is absent (set ALMONER_TEST_DATA)");
    None
}
