//! Dates that are not the date of anything, judged while they are true (`almoner_deid::Plausible`).
//!
//! A person row whose date of birth is a sentinel or lies in the future goes, and with it all rows of a person who has no
//! other: nothing is known about the person's age. An event whose own date is none goes. An end that is none is taken for
//! missing, as is a date and time. What went or was removed is counted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use almoner_deid::Plausible;
use almoner_model::{ColumnType, Date, IdentifierClass, TableOrigin, TableSpec, Tables};
use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
};
use arrow::datatypes::{Date32Type, Int64Type, TimestampMicrosecondType};
use serde::Serialize;

use super::GatherError;
use super::bucket::{Loose, Reason};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Dates of one table that were none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct ImplausibleDates {
    /// Rows that went because their own date was none, or their date of birth.
    pub rows: u64,
    /// Ends and times of day that were taken for missing.
    pub values: u64,
}

impl ImplausibleDates {
    pub(super) const fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.values += other.values;
    }
}

/// By table.
pub(super) type Counts = BTreeMap<usize, ImplausibleDates>;

/// Marks person rows whose date of birth is none.
pub(super) fn births(rules: &Plausible, tables: &Tables, loose: &mut [Loose], counts: &mut Counts) {
    let Some(person) = tables.index_of("person") else { return };
    for rows in loose.iter_mut().filter(|l| l.table == person) {
        let births = Births::of(&rows.rows);
        for row in 0..rows.subjects.len() {
            let fault = births.earliest(row).and_then(|(day, whole)| rules.birth(day, whole));
            if fault.is_some() && rows.gone[row].is_none() {
                rows.gone[row] = Some(Reason::ImplausibleBirth);
                counts.entry(person).or_default().rows += 1;
            }
        }
    }
}

/// Marks events whose own date is none, and removes their other dates that are. Person rows are settled by now.
pub(super) fn events(
    rules: &Plausible,
    tables: &Tables,
    loose: &mut [Loose],
    counts: &mut Counts,
) -> Result<(), GatherError> {
    let person = tables.index_of("person");
    let mut born: HashMap<i64, Date> = HashMap::new();
    for rows in loose.iter().filter(|l| Some(l.table) == person) {
        let births = Births::of(&rows.rows);
        let kept = (0..rows.subjects.len()).filter(|row| rows.gone[*row].is_none());
        born.extend(kept.filter_map(|row| Some((rows.subjects[row], births.earliest(row)?.0))));
    }
    for rows in loose.iter_mut() {
        let Some(spec) = tables.iter().nth(rows.table).filter(|s| s.origin == TableOrigin::Mapped) else {
            continue;
        };
        let births: Vec<Option<Date>> = rows.subjects.iter().map(|s| born.get(s).copied()).collect();
        let done = Judge { rules, spec, births: &births }.table(rows)?;
        if done != ImplausibleDates::default() {
            counts.entry(rows.table).or_default().add(done);
        }
    }
    Ok(())
}

/// The columns that say when somebody was born.
struct Births<'r> {
    parts: [Option<&'r Int64Array>; 3],
}

impl<'r> Births<'r> {
    fn of(rows: &'r RecordBatch) -> Self {
        let column = |name| rows.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
        Self { parts: ["year_of_birth", "month_of_birth", "day_of_birth"].map(column) }
    }

    /// The earliest day of birth that a row allows, and whether it is a whole date.
    fn earliest(&self, row: usize) -> Option<(Date, bool)> {
        let part = |at: usize| self.parts[at].filter(|c| c.is_valid(row)).map(|c| c.value(row));
        let year = i32::try_from(part(0)?).ok()?;
        let [month, day] = [part(1), part(2)].map(|n| n.and_then(|n| u32::try_from(n).ok()));
        let whole = month.zip(day).and_then(|(m, d)| Date::from_ymd(year, m, d));
        let earliest = || Date::from_ymd(year, month.unwrap_or(1), 1).or_else(|| Date::from_ymd(year, 1, 1));
        whole.map(|day| (day, true)).or_else(|| Some((earliest()?, false)))
    }
}

/// Judges the rows of one table.
struct Judge<'j> {
    rules: &'j Plausible,
    spec: &'j TableSpec,
    /// The earliest day of birth of each row's person.
    births: &'j [Option<Date>],
}

impl Judge<'_> {
    fn table(&self, rows: &mut Loose) -> Result<ImplausibleDates, GatherError> {
        let mut counts = ImplausibleDates::default();
        let start = self.spec.start.as_deref().and_then(|name| rows.rows.column_by_name(name).cloned());
        let start = start.as_ref().and_then(|c| c.as_primitive_opt::<Date32Type>());
        if let Some(start) = start {
            for (row, gone) in rows.gone.iter_mut().enumerate().filter(|(_, gone)| gone.is_none()) {
                if self.rules.event(start.value(row), self.births[row]).is_some() {
                    *gone = Some(Reason::ImplausibleDate);
                    counts.rows += 1;
                }
            }
        }
        let mut columns = rows.rows.columns().to_vec();
        let mut changed = false;
        for column in self.spec.columns.iter().filter(|c| self.spec.start.as_deref() != Some(c.name.as_str()))
        {
            let Some((at, _)) = rows.rows.schema_ref().column_with_name(&column.name) else { continue };
            let faulty = self.faulty(column.class, &column.name, &columns[at], &rows.gone);
            if faulty.is_empty() {
                continue;
            }
            counts.values += faulty.len() as u64;
            columns[at] = without(column.kind, &columns[at], &faulty, start.filter(|_| !column.nullable));
            changed = true;
        }
        if changed {
            rows.rows = RecordBatch::try_new(rows.rows.schema(), columns)?;
        }
        Ok(counts)
    }

    /// The rows that stay whose value in a column is the date of nothing, ascending.
    fn faulty(
        &self,
        class: IdentifierClass,
        name: &str,
        array: &ArrayRef,
        gone: &[Option<Reason>],
    ) -> Vec<usize> {
        let stays = |row: &usize| gone[*row].is_none() && array.is_valid(*row);
        let rows = (0..array.len()).filter(stays);
        let planned = name.contains("end");
        let event = |day: i32, row: usize| match planned {
            true => self.rules.end(day, self.births[row]).is_some(),
            false => self.rules.event(day, self.births[row]).is_some(),
        };
        match class {
            IdentifierClass::EventDate => {
                let Some(days) = array.as_primitive_opt::<Date32Type>() else { return Vec::new() };
                rows.filter(|row| event(days.value(*row), *row)).collect()
            }
            IdentifierClass::EventDatetime | IdentifierClass::BirthDatetime => {
                let Some(micros) = array.as_primitive_opt::<TimestampMicrosecondType>() else {
                    return Vec::new();
                };
                let day = |row: usize| {
                    i32::try_from(micros.value(row).div_euclid(MICROS_PER_DAY)).unwrap_or(i32::MAX)
                };
                rows.filter(|row| match class {
                    IdentifierClass::BirthDatetime => {
                        self.rules.birth(Date::from_days(day(*row)), true).is_some()
                    }
                    _ => event(day(*row), *row),
                })
                .collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The array with nulls in `rows`, or with what `instead` has there.
fn without(kind: ColumnType, array: &ArrayRef, rows: &[usize], instead: Option<&Date32Array>) -> ArrayRef {
    let faulty = |row: usize| rows.binary_search(&row).is_ok();
    match kind {
        ColumnType::Datetime => {
            let values = array.as_primitive::<TimestampMicrosecondType>();
            let keep = |row| (values.is_valid(row) && !faulty(row)).then(|| values.value(row));
            Arc::new((0..values.len()).map(keep).collect::<TimestampMicrosecondArray>())
        }
        _ => {
            let values = array.as_primitive::<Date32Type>();
            let day = |row: usize| match faulty(row) {
                true => instead.map(|days| days.value(row)),
                false => values.is_valid(row).then(|| values.value(row)),
            };
            Arc::new((0..values.len()).map(day).collect::<Date32Array>())
        }
    }
}
