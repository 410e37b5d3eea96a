//! `derive: PersonBatch → PersonBatch`: observation periods, condition eras and drug eras, on true dates, before dates
//! are generalised. Rows of these tables that came with an export are replaced.
//!
//! Conventions (OMOP CDM 5.4, OHDSI era scripts): an observation period spans a person's first to last recorded event
//! within the years of life and up to the reference date; an era joins occurrences of one concept that are at most
//! 30 days apart. Where a row has no standard concept (0), its source code stands for it, so that eras exist without
//! vocabularies too. Time is bounded by sorting: O(n log n) in the rows of a person.

mod eras;
mod periods;

use std::collections::HashMap;
use std::sync::Arc;

use almoner_model::{ColumnType, Date, TableSpec, Tables};
use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray};
use serde::{Deserialize, Serialize};

use crate::batch::{PersonBatch, ROW_KEY, arrow_schema};

/// OMOP type concept "EHR", for observation periods that are derived from records.
pub const PERIOD_TYPE_EHR: i64 = 32_817;

/// How eras and periods are made.
#[derive(Clone, Debug)]
pub struct DeriveRules {
    /// Occurrences at most this many days apart are one era (OHDSI: 30).
    pub gap_days: i32,
    /// Nothing after this day is observed.
    pub reference_date: Date,
    /// Ingredients of each drug concept, where the vocabulary gives them; a drug that is not in it stands for itself.
    pub ingredients: Option<Arc<HashMap<i64, Vec<i64>>>>,
    /// Event ids of each derived table are this plus 1, 2, 3 …, by person and start.
    pub event_id_base: i64,
}

impl DeriveRules {
    /// The standard rules, without ingredients.
    pub const fn new(reference_date: Date, event_id_base: i64) -> Self {
        Self { gap_days: 30, reference_date, ingredients: None, event_id_base }
    }
}

/// What was derived, in counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DeriveReport {
    /// Observation periods.
    pub observation_periods: u64,
    /// Condition eras.
    pub condition_eras: u64,
    /// Drug eras.
    pub drug_eras: u64,
    /// Events before the year of birth or after the reference date, which no observation period covers.
    pub events_outside: u64,
    /// Conditions and drugs with neither a concept nor a source code, which no era covers.
    pub without_code: u64,
}

impl DeriveReport {
    /// Adds the counts of another batch.
    pub const fn merge(&mut self, other: Self) {
        self.observation_periods += other.observation_periods;
        self.condition_eras += other.condition_eras;
        self.drug_eras += other.drug_eras;
        self.events_outside += other.events_outside;
        self.without_code += other.without_code;
    }
}

/// Adds the derived tables to `batch`. A derived table without rows is left out.
pub fn derive(batch: PersonBatch, tables: &Tables, rules: &DeriveRules) -> (PersonBatch, DeriveReport) {
    let mut report = DeriveReport::default();
    let row_key = batch.tables().values().any(|b| b.column_by_name(ROW_KEY).is_some());
    let periods = periods::observation_periods(&batch, tables, rules, &mut report);
    let conditions = eras::condition_eras(&batch, tables, rules, &mut report);
    let drugs = eras::drug_eras(&batch, tables, rules, &mut report);
    let mut out = batch.into_tables();
    for (name, rows) in [("observation_period", periods), ("condition_era", conditions), ("drug_era", drugs)]
    {
        let Some((index, spec)) = tables.iter().enumerate().find(|(_, t)| t.table == name) else { continue };
        match rows.len {
            0 => out.remove(&index),
            _ => out.insert(index, rows.into_batch(spec, row_key, rules.event_id_base)),
        };
    }
    (PersonBatch::trusted(out), report)
}

/// Rows of a derived table, by column name.
#[derive(Default)]
struct Rows {
    len: usize,
    numbers: HashMap<&'static str, Vec<i64>>,
    days: HashMap<&'static str, Vec<i32>>,
    texts: HashMap<&'static str, Vec<Option<String>>>,
}

impl Rows {
    fn number(&mut self, column: &'static str, value: i64) {
        self.numbers.entry(column).or_default().push(value);
    }

    fn day(&mut self, column: &'static str, value: i32) {
        self.days.entry(column).or_default().push(value);
    }

    fn text(&mut self, column: &'static str, value: Option<String>) {
        self.texts.entry(column).or_default().push(value);
    }

    fn into_batch(mut self, spec: &TableSpec, row_key: bool, base: i64) -> RecordBatch {
        let mut columns: Vec<ArrayRef> = Vec::new();
        for column in &spec.columns {
            let name = column.name.as_str();
            let array: ArrayRef = match column.kind {
                _ if spec.event_id.as_deref() == Some(name) => {
                    Arc::new((1..=self.len as i64).map(|n| base + n).collect::<Int64Array>())
                }
                ColumnType::Date => Arc::new(Date32Array::from(self.days.remove(name).unwrap_or_default())),
                ColumnType::String => {
                    Arc::new(StringArray::from(self.texts.remove(name).unwrap_or_default()))
                }
                _ => Arc::new(Int64Array::from(self.numbers.remove(name).unwrap_or_default())),
            };
            columns.push(array);
        }
        if row_key {
            columns.push(Arc::new(Int64Array::from(vec![0; self.len])));
        }
        RecordBatch::try_new(arrow_schema(spec, row_key), columns)
            .expect("every column of a derived table is filled for every row")
    }
}

#[cfg(test)]
mod tests;
