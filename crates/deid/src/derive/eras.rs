//! Condition eras and drug eras (OHDSI's era scripts, without stockpiling).
//!
//! A condition without an end lasts to the day after its start. A drug exposure lasts to its end date; where that is the
//! start date (the CDM requires one, so "unknown" is written so) and days of supply are given, to the start plus those.
//! `gap_days` are the days of an era that no exposure covers.

use std::collections::HashMap;

use almoner_model::{TableSpec, Tables};
use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch, StringArray};
use arrow::datatypes::{Date32Type, Int64Type};

use super::{DeriveReport, DeriveRules, Rows};
use crate::batch::{PersonBatch, person_ids};

/// No source code, because the concept says it.
const NONE: u32 = u32::MAX;

/// One occurrence of what eras are made of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    concept: i64,
    source: u32,
    start: i32,
    end: i32,
}

struct Era {
    key: Item,
    count: i64,
    gap: i64,
}

/// The columns that eras are made from.
struct Columns<'a> {
    ids: &'a [i64],
    concepts: &'a PrimitiveArray<Int64Type>,
    starts: &'a PrimitiveArray<Date32Type>,
    ends: Option<&'a PrimitiveArray<Date32Type>>,
    supply: Option<&'a PrimitiveArray<Int64Type>>,
    sources: Sources<'a>,
}

/// Source codes of rows without a concept, numbered in the order of their text.
struct Sources<'a> {
    column: Option<&'a StringArray>,
    numbers: HashMap<&'a str, u32>,
    texts: Vec<&'a str>,
}

impl<'a> Sources<'a> {
    fn new(column: Option<&'a StringArray>, concepts: &PrimitiveArray<Int64Type>) -> Self {
        let mut numbers = HashMap::new();
        for (row, text) in column.iter().flat_map(|c| c.iter().enumerate()) {
            if let Some(text) = text.filter(|_| concepts.value(row) == 0) {
                numbers.entry(text).or_insert(0);
            }
        }
        let mut texts: Vec<&str> = numbers.keys().copied().collect();
        texts.sort_unstable();
        for (number, text) in texts.iter().enumerate() {
            numbers.insert(text, number as u32);
        }
        Self { column, numbers, texts }
    }

    fn number(&self, row: usize) -> Option<u32> {
        let column = self.column.filter(|c| c.is_valid(row))?;
        self.numbers.get(column.value(row)).copied()
    }

    fn text(&self, number: u32) -> Option<String> {
        self.texts.get(number as usize).map(|t| (*t).to_owned())
    }
}

impl<'a> Columns<'a> {
    fn of(spec: &TableSpec, rows: &'a RecordBatch) -> Option<Self> {
        let column = |name: &str| Some(rows.column(spec.index_of(name)?));
        let days = |name: &str| column(name)?.as_primitive_opt::<Date32Type>();
        let concepts = column(spec.concept.as_deref()?)?.as_primitive_opt::<Int64Type>()?;
        let texts = spec.source_value().and_then(column).and_then(|c| c.as_string_opt::<i32>());
        Some(Self {
            ids: person_ids(spec, rows),
            concepts,
            starts: days(spec.start.as_deref()?)?,
            ends: spec.end.as_deref().and_then(days),
            supply: column("days_supply").and_then(|c| c.as_primitive_opt()),
            sources: Sources::new(texts, concepts),
        })
    }

    fn end(&self, row: usize) -> Option<i32> {
        self.ends.filter(|e| e.is_valid(row)).map(|e| e.value(row))
    }
}

pub(super) fn condition_eras(
    batch: &PersonBatch,
    tables: &Tables,
    rules: &DeriveRules,
    report: &mut DeriveReport,
) -> Rows {
    let mut out = Rows::default();
    let Some(columns) = columns(batch, tables, "condition_occurrence") else { return out };
    let end = |row: usize| columns.end(row).unwrap_or_else(|| columns.starts.value(row).saturating_add(1));
    for_each_era(&columns, rules, None, end, &mut report.without_code, |person, era| {
        out.len += 1;
        out.number("person_id", person);
        out.number("condition_concept_id", era.key.concept);
        out.day("condition_era_start_date", era.key.start);
        out.day("condition_era_end_date", era.key.end);
        out.number("condition_occurrence_count", era.count);
        out.text("condition_source_value", columns.sources.text(era.key.source));
    });
    report.condition_eras += out.len as u64;
    out
}

pub(super) fn drug_eras(
    batch: &PersonBatch,
    tables: &Tables,
    rules: &DeriveRules,
    report: &mut DeriveReport,
) -> Rows {
    let mut out = Rows::default();
    let Some(columns) = columns(batch, tables, "drug_exposure") else { return out };
    let end = |row: usize| {
        let start = columns.starts.value(row);
        let supply = columns.supply.filter(|s| s.is_valid(row)).map_or(0, |s| s.value(row).clamp(0, 36_500));
        match columns.end(row) {
            Some(end) if end > start => end,
            _ => start.saturating_add(supply as i32),
        }
    };
    let ingredients = rules.ingredients.as_deref();
    for_each_era(&columns, rules, ingredients, end, &mut report.without_code, |person, era| {
        out.len += 1;
        out.number("person_id", person);
        out.number("drug_concept_id", era.key.concept);
        out.day("drug_era_start_date", era.key.start);
        out.day("drug_era_end_date", era.key.end);
        out.number("drug_exposure_count", era.count);
        out.number("gap_days", era.gap);
        out.text("drug_source_value", columns.sources.text(era.key.source));
    });
    report.drug_eras += out.len as u64;
    out
}

fn columns<'a>(batch: &'a PersonBatch, tables: &Tables, name: &str) -> Option<Columns<'a>> {
    let (index, spec) = tables.iter().enumerate().find(|(_, t)| t.table == name)?;
    Columns::of(spec, batch.get(index)?)
}

/// Calls `emit` with each era, by person and, within a person, by start, concept and source code.
fn for_each_era(
    columns: &Columns<'_>,
    rules: &DeriveRules,
    ingredients: Option<&HashMap<i64, Vec<i64>>>,
    end: impl Fn(usize) -> i32,
    without_code: &mut u64,
    mut emit: impl FnMut(i64, &Era),
) {
    let (mut items, mut eras) = (Vec::new(), Vec::new());
    let mut row = 0;
    while row < columns.ids.len() {
        let person = columns.ids[row];
        let stop = row + columns.ids[row..].partition_point(|other| *other == person);
        items.clear();
        for at in row..stop {
            let start = columns.starts.value(at);
            let item = |concept, source| Item { concept, source, start, end: end(at).max(start) };
            match (columns.concepts.value(at), columns.sources.number(at)) {
                (0, Some(source)) => items.push(item(0, source)),
                (0, None) => *without_code += 1,
                (concept, _) => match ingredients.and_then(|i| i.get(&concept)) {
                    Some(parts) => items.extend(parts.iter().map(|part| item(*part, NONE))),
                    None => items.push(item(concept, NONE)),
                },
            }
        }
        items.sort_unstable();
        eras.clear();
        merge(&items, rules.gap_days, &mut eras);
        eras.sort_unstable_by_key(|era: &Era| (era.key.start, era.key.concept, era.key.source));
        eras.iter().for_each(|era| emit(person, era));
        row = stop;
    }
}

/// Joins sorted items of the same key whose start is at most `gap_days` after the end of what came before.
fn merge(items: &[Item], gap_days: i32, eras: &mut Vec<Era>) {
    for item in items {
        if let Some(era) = eras.last_mut() {
            let same = (era.key.concept, era.key.source) == (item.concept, item.source);
            if same && item.start <= era.key.end.saturating_add(gap_days) {
                era.gap += i64::from((item.start - era.key.end).max(0));
                era.key.end = era.key.end.max(item.end);
                era.count += 1;
                continue;
            }
        }
        eras.push(Era { key: *item, count: 1, gap: 0 });
    }
}
