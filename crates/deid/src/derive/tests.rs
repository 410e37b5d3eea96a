use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use almoner_model::Date;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Int64Type};

use super::*;
use crate::testing::{Cell, data, table, tables};

fn day(text: &str) -> i32 {
    text.parse::<Date>().expect("a date").days()
}

fn rules() -> DeriveRules {
    DeriveRules::new("2026-11-22".parse().expect("a date"), 1 << 32)
}

fn numbers(batch: &RecordBatch, column: &str) -> Vec<i64> {
    batch.column_by_name(column).expect("present").as_primitive::<Int64Type>().values().to_vec()
}

fn days(batch: &RecordBatch, column: &str) -> Vec<i32> {
    batch.column_by_name(column).expect("present").as_primitive::<Date32Type>().values().to_vec()
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
    let column = batch.column_by_name(column).expect("present").as_string::<i32>();
    column.iter().map(|t| t.map(str::to_owned)).collect()
}

/// person, concept, source, start, end
type Condition = (i64, i64, &'static str, &'static str, Option<&'static str>);

fn conditions(rows: &[Condition]) -> RecordBatch {
    table(&tables(), "condition_occurrence", rows.len(), |column, row| {
        let (person, concept, source, start, end) = rows[row];
        match column {
            "person_id" => Cell::Int(person),
            "condition_concept_id" => Cell::Int(concept),
            "condition_source_value" if !source.is_empty() => Cell::Text(source.into()),
            "condition_start_date" => Cell::Days(day(start)),
            "condition_end_date" => end.map_or(Cell::Null, |e| Cell::Days(day(e))),
            _ => Cell::Null,
        }
    })
}

fn run(named: &[(&str, RecordBatch)], rules: &DeriveRules) -> (BTreeMap<String, RecordBatch>, DeriveReport) {
    let tables = tables();
    let batches = named.iter().map(|(n, b)| (tables.index_of(n).expect("canonical"), b.clone())).collect();
    let (out, report) = derive(PersonBatch::new(batches, &tables).expect("checked"), &tables, rules);
    let again = PersonBatch::new(out.tables().clone(), &tables).expect("derived tables keep the invariants");
    let name = |i: usize| tables.iter().nth(i).expect("canonical").table.clone();
    (again.tables().iter().map(|(i, b)| (name(*i), b.clone())).collect(), report)
}

#[test]
fn condition_eras_join_at_thirty_days_and_not_at_thirty_one() {
    let rows = [
        (1, 7, "", "2020-01-01", Some("2020-01-10")),
        (1, 7, "", "2020-02-09", Some("2020-02-10")), // 30 days after the end: same era
        (1, 7, "", "2020-03-12", None),               // 31 days after: a new one, ending the day after
        (1, 8, "", "2020-01-05", None),
        (2, 7, "", "2020-01-01", Some("2019-01-01")), // ends before it starts: lasts its one day
        (2, 0, "SNOMED:44054006", "2020-01-01", None),
        (2, 0, "SNOMED:44054006", "2020-01-20", None),
        (2, 0, "", "2020-01-20", None),
    ];
    let (out, report) = run(&[("condition_occurrence", conditions(&rows))], &rules());
    let eras = &out["condition_era"];
    assert_eq!(numbers(eras, "person_id"), [1, 1, 1, 2, 2]);
    assert_eq!(numbers(eras, "condition_concept_id"), [7, 8, 7, 0, 7]);
    let expected = ["2020-01-01", "2020-01-05", "2020-03-12", "2020-01-01", "2020-01-01"].map(day);
    assert_eq!(days(eras, "condition_era_start_date"), expected);
    let expected = ["2020-02-10", "2020-01-06", "2020-03-13", "2020-01-21", "2020-01-01"].map(day);
    assert_eq!(days(eras, "condition_era_end_date"), expected);
    assert_eq!(numbers(eras, "condition_occurrence_count"), [2, 1, 1, 2, 1]);
    let source = Some("SNOMED:44054006".to_owned());
    assert_eq!(texts(eras, "condition_source_value"), [None, None, None, source, None]);
    assert_eq!(numbers(eras, "condition_era_id"), [1, 2, 3, 4, 5].map(|n| (1_i64 << 32) + n));
    assert_eq!((report.condition_eras, report.without_code), (5, 1));
}

#[test]
fn an_event_inside_a_longer_one_does_not_shorten_the_era() {
    let rows = [
        (1, 7, "", "2020-01-01", Some("2020-12-31")),
        (1, 7, "", "2020-02-01", Some("2020-02-02")),
        (1, 7, "", "2021-01-15", Some("2021-01-16")),
    ];
    let (out, _) = run(&[("condition_occurrence", conditions(&rows))], &rules());
    assert_eq!(days(&out["condition_era"], "condition_era_end_date"), [day("2021-01-16")]);
}

/// person, concept, start, end, days of supply
type Drug = (i64, i64, &'static str, &'static str, Option<i64>);

fn drugs(rows: &[Drug]) -> RecordBatch {
    table(&tables(), "drug_exposure", rows.len(), |column, row| {
        let (person, concept, start, end, supply) = rows[row];
        match column {
            "person_id" => Cell::Int(person),
            "drug_concept_id" => Cell::Int(concept),
            "drug_exposure_start_date" => Cell::Days(day(start)),
            "drug_exposure_end_date" => Cell::Days(day(end)),
            "days_supply" => supply.map_or(Cell::Null, Cell::Int),
            _ => Cell::Null,
        }
    })
}

#[test]
fn drug_eras_count_gaps_and_use_days_of_supply() {
    let rows = [
        (1, 5, "2020-01-01", "2020-01-01", Some(30)), // to 31 January
        (1, 5, "2020-02-10", "2020-02-20", Some(90)), // its own end counts; 10 days of gap
        (1, 5, "2020-02-15", "2020-02-25", None),     // overlaps: no gap
        (1, 5, "2020-06-01", "2020-06-01", Some(0)),
        (1, 5, "2021-06-01", "2021-06-01", None),
        (1, 5, "2022-06-01", "2022-06-01", Some(-4)),
    ];
    let (out, report) = run(&[("drug_exposure", drugs(&rows))], &rules());
    let eras = &out["drug_era"];
    let expected = ["2020-02-25", "2020-06-01", "2021-06-01", "2022-06-01"].map(day);
    assert_eq!(days(eras, "drug_era_end_date"), expected);
    assert_eq!(numbers(eras, "gap_days"), [10, 0, 0, 0]);
    assert_eq!(numbers(eras, "drug_exposure_count"), [3, 1, 1, 1]);
    assert_eq!(report.drug_eras, 4);
}

#[test]
fn drugs_roll_up_to_ingredients_where_the_vocabulary_gives_them() {
    let rows = [
        (1, 50, "2020-01-01", "2020-01-10", None),
        (1, 51, "2020-01-15", "2020-01-20", None),
        (1, 99, "2020-01-15", "2020-01-20", None),
    ];
    let ingredients = HashMap::from([(50, vec![5]), (51, vec![5, 6])]);
    let rules = DeriveRules { ingredients: Some(Arc::new(ingredients)), ..rules() };
    let (out, _) = run(&[("drug_exposure", drugs(&rows))], &rules);
    assert_eq!(numbers(&out["drug_era"], "drug_concept_id"), [5, 6, 99]);
    assert_eq!(numbers(&out["drug_era"], "drug_exposure_count"), [2, 1, 1]);
}

#[test]
fn an_observation_period_spans_the_events_of_a_life() {
    let person = table(&tables(), "person", 3, |column, row| match column {
        "person_id" => Cell::Int(row as i64 + 1),
        "year_of_birth" => Cell::Int(1980),
        _ => Cell::Null,
    });
    let rows = [
        (1, 7, "", "1900-01-01", None), // before birth: an error of the record
        (1, 7, "", "2001-05-05", Some("2002-05-05")),
        (1, 7, "", "2003-05-05", Some("2030-05-05")), // open end: cut at the reference date
        (1, 7, "", "2027-05-05", None),               // planned
        (2, 7, "", "2027-05-05", None),
    ];
    let death = table(&tables(), "death", 1, |column, _| match column {
        "person_id" => Cell::Int(3),
        "death_date" => Cell::Days(day("2020-01-01")),
        _ => Cell::Null,
    });
    let input = [("person", person), ("condition_occurrence", conditions(&rows)), ("death", death)];
    let (out, report) = run(&input, &rules());
    let periods = &out["observation_period"];
    assert_eq!(numbers(periods, "person_id"), [1]);
    assert_eq!(days(periods, "observation_period_start_date"), [day("2001-05-05")]);
    assert_eq!(days(periods, "observation_period_end_date"), [day("2026-11-22")]);
    assert_eq!(numbers(periods, "period_type_concept_id"), [PERIOD_TYPE_EHR]);
    assert_eq!(report.events_outside, 3);
}

#[test]
fn derived_rows_of_an_export_are_replaced() {
    let stale = table(&tables(), "condition_era", 1, |column, _| match column {
        "person_id" => Cell::Int(1),
        _ => Cell::Null,
    });
    let (out, report) = run(&[("condition_era", stale)], &rules());
    assert!(out.is_empty());
    assert_eq!(report, DeriveReport::default());
}
