//! Results that are themselves an age: values of 90 years or more become 90 (45 CFR 164.514(b)(2)(i)(C)).
//!
//! Which results those are is data: `age_codes` and `age_concepts` of the profile.

use std::sync::Arc;

use almoner_model::TableSpec;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{Float64Type, Int64Type};

use crate::profile::Profile;

/// The greatest age that is told apart from greater ones.
const TOP: f64 = 90.0;

/// How many of a unit make a year; a number without a known unit is taken as years.
fn per_year(unit: Option<&str>) -> f64 {
    match unit.map(|u| u.trim_start_matches("UCUM:")) {
        Some("mo" | "mo_j" | "mo_g") => 12.0,
        Some("wk") => 365.25 / 7.0,
        Some("d") => 365.25,
        _ => 1.0,
    }
}

/// An age as it may leave.
pub(crate) fn top_code_age(value: f64, unit: Option<&str>) -> f64 {
    value.min(TOP * per_year(unit))
}

/// Top-codes `value_as_number` where the row's code or concept is an age.
pub(crate) fn top_code_results(spec: &TableSpec, profile: &Profile, columns: &mut [ArrayRef]) {
    let Some(at) = spec.index_of("value_as_number") else { return };
    let text = |name: &str| -> Option<StringArray> { columns[spec.index_of(name)?].as_string_opt().cloned() };
    let codes = spec.source_value().and_then(text);
    let units = text("unit_source_value");
    let concepts = spec.concept.as_deref().and_then(|c| spec.index_of(c));
    let concepts = concepts.and_then(|i| columns[i].as_primitive_opt::<Int64Type>().cloned());
    let is_age = |row: usize| {
        codes
            .as_ref()
            .is_some_and(|c| c.is_valid(row) && profile.age_codes().iter().any(|a| a == c.value(row)))
            || concepts.as_ref().is_some_and(|c| profile.age_concepts().contains(&c.value(row)))
    };
    let Some(values) = columns[at].as_primitive_opt::<Float64Type>() else { return };
    let affected: Vec<usize> = (0..values.len())
        .filter(|&row| values.is_valid(row) && values.value(row) > TOP && is_age(row))
        .collect();
    if affected.is_empty() {
        return;
    }
    let mut out = values.values().to_vec();
    for row in affected {
        let unit = units.as_ref().filter(|u| u.is_valid(row)).map(|u| u.value(row));
        out[row] = top_code_age(out[row], unit);
    }
    columns[at] = Arc::new(Float64Array::new(ScalarBuffer::from(out), values.nulls().cloned()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Cell, context, profile, subject, table, tables};
    use crate::{PersonBatch, deidentify};

    #[test]
    fn units_are_counted_in_years() {
        assert_eq!(top_code_age(97.0, None), 90.0);
        assert_eq!(top_code_age(89.9, Some("UCUM:a")), 89.9);
        assert_eq!(top_code_age(97.0, Some("UCUM:mo")), 97.0);
        assert_eq!(top_code_age(1200.0, Some("UCUM:mo")), 1080.0);
        assert_eq!(top_code_age(40_000.0, Some("UCUM:d")), 90.0 * 365.25);
        assert_eq!(top_code_age(5000.0, Some("UCUM:wk")), 90.0 * 365.25 / 7.0);
    }

    #[test]
    fn only_results_that_are_ages_are_top_coded() {
        let tables = tables();
        let rows = [("LOINC:30525-0", 97.0), ("LOINC:8302-2", 180.0), ("LOINC:30525-0", 40.0)];
        let batch = table(&tables, "measurement", rows.len(), |column, row| match column {
            "person_id" => Cell::Int(1),
            "measurement_source_value" => Cell::Text(rows[row].0.into()),
            "value_as_number" => Cell::Float(rows[row].1),
            _ => Cell::Null,
        });
        let index = tables.index_of("measurement").expect("present");
        for (name, expected) in [("safe-harbor", 90.0), ("date-shifted", 90.0), ("limited", 97.0)] {
            let input = PersonBatch::new([(index, batch.clone())].into(), &tables).expect("checked");
            let (out, _) = deidentify(input, &profile(name), &[subject(1, -1)], &context()).expect("runs");
            let values = out.get(index).expect("kept").column_by_name("value_as_number").expect("present");
            assert_eq!(
                values.as_primitive::<Float64Type>().values().to_vec(),
                [expected, 180.0, 40.0],
                "{name}"
            );
        }
    }
}
