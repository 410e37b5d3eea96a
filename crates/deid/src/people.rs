//! Who is in a batch: runs of rows by person, and what the rules need to know of each person (date of birth, whether
//! over 89 at any event or, unless the person died, at the reference date).

use almoner_model::{Date, IdentifierClass, TableSpec, Tables};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Int64Type};

use crate::batch::{PersonBatch, person_ids};
use crate::columns::{DeidError, Run};
use crate::core::{DeidContext, SubjectContext, TOP_AGE, mid_year};
use crate::plausible::Plausible;

/// The runs of a table: `ids` ascend, `people` are sorted by id.
pub(crate) fn runs_of<'p>(
    spec: &TableSpec,
    ids: &[i64],
    people: &'p [SubjectContext],
) -> Result<Vec<Run<'p>>, DeidError> {
    let mut runs = Vec::new();
    let (mut row, mut at) = (0, 0);
    while row < ids.len() {
        let id = ids[row];
        at += people[at..].partition_point(|p| p.subject.get() < id);
        let Some(person) = people.get(at).filter(|p| p.subject.get() == id) else {
            return Err(DeidError::UnknownPerson { table: spec.table.clone(), row });
        };
        let end = row + ids[row..].partition_point(|other| *other == id);
        runs.push(Run { rows: row..end, person });
        row = end;
    }
    Ok(runs)
}

/// First and last date of anything that happened to a person, and the day of death.
#[derive(Clone, Copy)]
struct Span {
    first: i32,
    last: i32,
    death: Option<i32>,
}

impl Span {
    const EMPTY: Self = Self { first: i32::MAX, last: i32::MIN, death: None };

    fn add(&mut self, day: i32, death: bool) {
        self.first = self.first.min(day);
        self.last = self.last.max(day);
        if death {
            self.death = Some(self.death.map_or(day, |d| d.max(day)));
        }
    }
}

/// What the person table says of a person's birth.
#[derive(Clone, Copy, Default)]
struct Birth {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    flagged: bool,
}

/// Completes `subjects` from the batch.
pub(crate) fn resolve(
    batch: &PersonBatch,
    tables: &Tables,
    subjects: &[SubjectContext],
    ctx: &DeidContext,
) -> Result<Vec<SubjectContext>, DeidError> {
    let last_day = Plausible::at(ctx.reference_date)?.last_day();
    let mut spans = vec![Span::EMPTY; subjects.len()];
    let mut births = vec![Birth::default(); subjects.len()];
    for (spec, rows) in tables.iter().enumerate().filter_map(|(i, spec)| Some((spec, batch.get(i)?))) {
        let index = |run: &Run<'_>| subjects.partition_point(|p| p.subject < run.person.subject);
        let runs = runs_of(spec, person_ids(spec, rows), subjects)?;
        let death = spec.table == "death";
        for (at, _) in spec.columns.iter().enumerate().filter(|(_, c)| c.class == IdentifierClass::EventDate)
        {
            let Some(days) = rows.column(at).as_primitive_opt::<Date32Type>() else { continue };
            for run in &runs {
                let span = &mut spans[index(run)];
                for row in run.rows.clone().filter(|row| days.is_valid(*row)) {
                    span.add(days.value(row), death);
                }
            }
        }
        if spec.table == "person" {
            for run in &runs {
                births[index(run)] = read_birth(spec, rows, run.rows.start);
            }
        }
    }
    let complete = |((subject, span), birth): ((&SubjectContext, Span), Birth)| {
        complete(subject, span, birth, ctx, last_day)
    };
    Ok(subjects.iter().zip(spans).zip(births).map(complete).collect())
}

fn read_birth(spec: &TableSpec, rows: &RecordBatch, row: usize) -> Birth {
    let number = |name: &str| {
        let column = rows.column(spec.index_of(name)?).as_primitive_opt::<Int64Type>()?;
        column.is_valid(row).then(|| column.value(row))
    };
    let flag = spec.index_of("age_90_plus").and_then(|i| rows.column(i).as_boolean_opt());
    Birth {
        year: number("year_of_birth"),
        month: number("month_of_birth"),
        day: number("day_of_birth"),
        flagged: flag.is_some_and(|f| f.value(row)),
    }
}

/// The age test takes the earliest day of birth that is possible (45 CFR 164.514(b)(2)(i)(C) must not fail for want of a
/// month), the date that moves is the exact one, or the middle of the year but not after the first event of that year.
///
/// An age is one that the person reached: until death, where that is known, else until the reference date, and in either
/// case until the last event. Nothing after `last_day` is an event.
fn complete(
    subject: &SubjectContext,
    span: Span,
    birth: Birth,
    ctx: &DeidContext,
    last_day: i32,
) -> SubjectContext {
    let part = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
    let year = birth.year.and_then(|y| i32::try_from(y).ok());
    let ymd = |month, day| year.and_then(|y| Date::from_ymd(y, month, day));
    let exact = part(birth.month).zip(part(birth.day)).and_then(|(m, d)| ymd(m, d));
    let earliest =
        subject.birth.or(exact).or_else(|| part(birth.month).and_then(|m| ymd(m, 1))).or_else(|| ymd(1, 1));
    let first = Date::from_days(span.first);
    let assumed = birth.year.and_then(mid_year).map(|mid| match year {
        Some(y) if span.first != i32::MAX && first.year() == y => mid.min(first),
        _ => mid,
    });
    let until = span.death.map(Date::from_days).or(subject.death).unwrap_or(ctx.reference_date);
    let last = until.max(Date::from_days(span.last)).min(Date::from_days(last_day));
    let over_89 = subject.over_89 || birth.flagged || earliest.is_some_and(|b| last.age_since(b) >= TOP_AGE);
    SubjectContext { birth: subject.birth.or(exact).or(assumed), over_89, ..subject.clone() }
}
