//! Observation periods: one for each person, from the first to the last recorded event.
//!
//! Death is not an observation and does not extend a period. An event before the year of birth or after the reference
//! date is taken for an error of the record and not covered. An end after the reference date is not observed yet, and the
//! period does not reach to it; nor to the reference date, which is known: it would show how far the dates are moved.

use std::collections::BTreeMap;

use almoner_model::{Date, TableOrigin, Tables};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Date32Type, Int64Type};

use super::{DeriveReport, DeriveRules, PERIOD_TYPE_EHR, Rows};
use crate::batch::{PersonBatch, person_ids};

pub(super) fn observation_periods(
    batch: &PersonBatch,
    tables: &Tables,
    rules: &DeriveRules,
    report: &mut DeriveReport,
) -> Rows {
    let births = births(batch, tables);
    let upper = rules.reference_date.days();
    let mut spans: BTreeMap<i64, (i32, i32)> = BTreeMap::new();
    for (index, spec) in tables.iter().enumerate() {
        let Some(rows) = batch.get(index).filter(|_| spec.origin == TableOrigin::Mapped) else { continue };
        let Some(start) = spec.start.as_deref().filter(|_| spec.table != "death") else { continue };
        let days = |name: &str| rows.column(spec.index_of(name)?).as_primitive_opt::<Date32Type>();
        let Some(starts) = days(start) else { continue };
        let ends = spec.end.as_deref().and_then(days);
        let ids = person_ids(spec, rows);
        let mut row = 0;
        while row < ids.len() {
            let id = ids[row];
            let stop = row + ids[row..].partition_point(|other| *other == id);
            let lower = births.get(&id).copied().unwrap_or(i32::MIN);
            let (mut first, mut last) = spans.get(&id).copied().unwrap_or((i32::MAX, i32::MIN));
            for at in row..stop {
                let begin = starts.value(at);
                if begin < lower || begin > upper {
                    report.events_outside += 1;
                    continue;
                }
                let end = ends.filter(|e| e.is_valid(at)).map_or(begin, |e| e.value(at));
                first = first.min(begin);
                last = last.max(if (begin..=upper).contains(&end) { end } else { begin });
            }
            if last != i32::MIN {
                spans.insert(id, (first, last));
            }
            row = stop;
        }
    }
    let mut out = Rows::default();
    for (id, (first, last)) in spans {
        out.len += 1;
        out.number("person_id", id);
        out.day("observation_period_start_date", first);
        out.day("observation_period_end_date", last);
        out.number("period_type_concept_id", PERIOD_TYPE_EHR);
    }
    report.observation_periods += out.len as u64;
    out
}

/// 1 January of each person's year of birth.
fn births(batch: &PersonBatch, tables: &Tables) -> BTreeMap<i64, i32> {
    let person = tables.iter().enumerate().find(|(_, t)| t.table == "person");
    let Some((spec, rows)) = person.and_then(|(i, spec)| Some((spec, batch.get(i)?))) else {
        return BTreeMap::new();
    };
    let years = spec.index_of("year_of_birth").and_then(|i| rows.column(i).as_primitive_opt::<Int64Type>());
    let year = |row: usize| years.and_then(|y| i32::try_from(y.value(row)).ok());
    let day = |row| year(row).and_then(|y| Date::from_ymd(y, 1, 1)).map_or(i32::MIN, Date::days);
    person_ids(spec, rows).iter().enumerate().map(|(row, id)| (*id, day(row))).collect()
}
