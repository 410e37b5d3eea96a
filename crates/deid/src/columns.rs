//! The columnar adapter: [`deidentify`] applies a profile to whole record batches.
//!
//! It works on runs of rows of one person, column by column, without allocating for a row; a property test proves it
//! equal to [`crate::transform`] on every cell. It is the only maker of [`DeidBatch`].

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use almoner_model::{ColumnSpec, ColumnType, DatePrecision, IdentifierClass, TableOrigin, TableSpec};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Int64Array, PrimitiveArray, RecordBatch,
    StringArray, StringBuilder, new_null_array,
};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::datatypes::{Date32Type, Int64Type, TimestampMicrosecondType};

use crate::ages::protect_results;
use crate::batch::{DeidBatch, PersonBatch, ROW_KEY, person_ids};
use crate::core::{DeidContext, Micros, SubjectContext, birth_year, day_of, is_code, keep_time, keep_zip};
use crate::core::{Value, transform};
use crate::people::{resolve, runs_of};
use crate::plausible::{DatesError, Plausible};
use crate::profile::{Action, Profile, Rule};
use crate::report::{ColumnReport, DeidReport, TableReport};

/// Why a batch was not de-identified. Nothing of it leaves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeidError {
    /// The subjects do not ascend, or one occurs twice.
    #[error("subjects must be sorted by id without repetition (position {0})")]
    Subjects(usize),
    /// An offset that would move dates forward.
    #[error("a date offset is positive (position {0}); dates move backward only")]
    Forward(usize),
    /// A row of a person who is not among the subjects.
    #[error("{table}: row {row} is of a person who is not among the subjects")]
    UnknownPerson {
        /// The table.
        table: String,
        /// The row.
        row: usize,
    },
    /// True data with a date that is the date of nothing: it would give away how far the person's dates are moved.
    #[error("{table}.{column}: row {row} has a date that is a sentinel or lies in the future")]
    Implausible {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The row.
        row: usize,
    },
    /// The rules for dates do not load.
    #[error(transparent)]
    Dates(#[from] DatesError),
    /// The data has years only, the profile asks for days.
    #[error("the data has dates floored to the year; profile {0} asks for days, which cannot be made")]
    Precision(String),
}

/// One run of rows of one person.
pub(crate) struct Run<'a> {
    pub(crate) rows: Range<usize>,
    pub(crate) person: &'a SubjectContext,
}

/// Applies `profile` to `batch`. `subjects` are sorted by id and name every person in it (more may be named); their birth
/// dates and ages are completed from the person table, if the batch has one. Columns, types and the order of rows stay;
/// tables of which the profile drops the rows are missing in the result.
///
/// # Errors
/// [`DeidError`]; see there. An error leaves no partial result.
pub fn deidentify(
    batch: PersonBatch,
    profile: &Profile,
    subjects: &[SubjectContext],
    ctx: &DeidContext,
) -> Result<(DeidBatch, DeidReport), DeidError> {
    if let Some(at) = subjects.windows(2).position(|w| w[0].subject >= w[1].subject) {
        return Err(DeidError::Subjects(at + 1));
    }
    if let Some(at) = subjects.iter().position(|s| s.offset_days > 0) {
        return Err(DeidError::Forward(at));
    }
    if ctx.applied.is_some_and(|a| a.date_precision < profile.declares().date_precision) {
        return Err(DeidError::Precision(profile.name().to_owned()));
    }
    if ctx.applied.is_none() {
        check_dates(&batch, profile, &Plausible::at(ctx.reference_date)?)?;
    }
    let people = resolve(&batch, profile.tables(), subjects, ctx)?;
    let mut report = DeidReport {
        profile: profile.name().to_owned(),
        persons: people.len() as u64,
        persons_over_89: people.iter().filter(|p| p.over_89).count() as u64,
        ..DeidReport::default()
    };
    let mut out = BTreeMap::new();
    for (index, rows) in batch.into_tables() {
        let Some(spec) = profile.tables().iter().nth(index) else { continue };
        let (result, counts) = table(spec, &rows, profile, &people, ctx, &mut report)?;
        report.tables.insert(spec.table.clone(), counts);
        if let Some(result) = result {
            out.insert(index, result);
        }
    }
    Ok((DeidBatch::new(out), report))
}

/// True dates that would be recognised wherever they are moved must be gone by now.
fn check_dates(batch: &PersonBatch, profile: &Profile, dates: &Plausible) -> Result<(), DeidError> {
    for (index, rows) in batch.tables() {
        let spec = profile.tables().iter().nth(*index).filter(|s| s.origin == TableOrigin::Mapped);
        let Some(spec) = spec else { continue };
        for (column, array) in spec.columns.iter().zip(rows.columns()) {
            let found = match column.class {
                IdentifierClass::EventDate => array
                    .as_primitive_opt::<Date32Type>()
                    .and_then(|days| days.iter().position(|d| d.is_some_and(|d| dates.never(d)))),
                IdentifierClass::EventDatetime => {
                    array.as_primitive_opt::<TimestampMicrosecondType>().and_then(|times| {
                        times.iter().position(|t| t.is_some_and(|t| dates.never(day_of(t).days())))
                    })
                }
                _ => None,
            };
            if let Some(row) = found {
                let (table, column) = (spec.table.clone(), column.name.clone());
                return Err(DeidError::Implausible { table, column, row });
            }
        }
    }
    Ok(())
}

fn table(
    spec: &TableSpec,
    batch: &RecordBatch,
    profile: &Profile,
    people: &[SubjectContext],
    ctx: &DeidContext,
    all: &mut DeidReport,
) -> Result<(Option<RecordBatch>, TableReport), DeidError> {
    let runs = runs_of(spec, person_ids(spec, batch), people)?;
    let drop_rows = spec.columns.iter().any(|c| profile.rule(c.class).action == Action::DropRows);
    let rows = batch.num_rows() as u64;
    let mut report = TableReport { rows_in: rows, ..TableReport::default() };
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (column, array) in spec.columns.iter().zip(batch.columns()) {
        let rule = profile.rule(column.class);
        let result = if drop_rows {
            new_null_array(array.data_type(), 0)
        } else {
            apply(column, rule, array, &runs, ctx, &mut all.dates_raised)
        };
        let values = |a: &ArrayRef| (a.len() - a.null_count()) as u64;
        report.columns.insert(
            column.name.clone(),
            ColumnReport {
                class: column.class,
                action: if drop_rows { Action::DropRows } else { rule.action },
                values_in: values(array),
                values_out: values(&result),
            },
        );
        columns.push(result);
    }
    if drop_rows {
        return Ok((None, report));
    }
    if profile.age_top_code() {
        protect_results(spec, profile.ages(), &runs, &mut columns, &mut all.ages);
    }
    if let Some(row_key) = batch.column_by_name(ROW_KEY) {
        columns.push(Arc::clone(row_key));
    }
    report.rows_out = rows;
    let result = RecordBatch::try_new(batch.schema(), columns)
        .expect("types and lengths stay, and load checked that only nullable columns are dropped");
    Ok((Some(result), report))
}

/// One column. Falls back to the scalar core for what has no faster way.
fn apply(
    column: &ColumnSpec,
    rule: Rule,
    array: &ArrayRef,
    runs: &[Run<'_>],
    ctx: &DeidContext,
    raised: &mut u64,
) -> ArrayRef {
    match rule.action {
        Action::Drop | Action::DropRows => new_null_array(array.data_type(), array.len()),
        Action::TopCode => {
            let mut flags = arrow::array::BooleanBufferBuilder::new(array.len());
            runs.iter().for_each(|run| flags.append_n(run.rows.len(), run.person.over_89));
            let flags: BooleanBuffer = flags.finish();
            Arc::new(BooleanArray::new(flags, None))
        }
        Action::Zip3 => strings(array, |zip| ctx.zip3.generalise(zip)),
        Action::Zip5 => strings(array, keep_zip),
        Action::Code => codes(array),
        Action::Keep | Action::Shift | Action::Year | Action::Pseudonym => {
            if column.class == IdentifierClass::BirthYear {
                return birth_years(rule, array, runs, ctx);
            }
            if column.class == IdentifierClass::Region {
                #[expect(
                    clippy::redundant_closure,
                    reason = "the function's answer outlives what is asked for"
                )]
                return strings(array, |text| almoner_model::state_code(text));
            }
            if column.class == IdentifierClass::EventTime && column.kind == ColumnType::String {
                return strings(array, keep_time);
            }
            if let Some(days) = array.as_primitive_opt::<Date32Type>() {
                return dates(rule, days, runs, ctx, raised);
            }
            if array.as_primitive_opt::<TimestampMicrosecondType>().is_some() {
                return datetimes(column, rule, array, runs, ctx, raised);
            }
            Arc::clone(array)
        }
    }
}

fn birth_years(rule: Rule, array: &ArrayRef, runs: &[Run<'_>], ctx: &DeidContext) -> ArrayRef {
    let years = array.as_primitive::<Int64Type>();
    let mut out = Vec::with_capacity(years.len());
    for run in runs {
        let changed = years.values()[run.rows.clone()].iter().map(|y| birth_year(rule, run.person, ctx, *y));
        out.extend(changed);
    }
    Arc::new(Int64Array::new(ScalarBuffer::from(out), years.nulls().cloned()))
}

/// Moves or floors dates by runs, and raises those of people over 89 to the floor.
fn dates(
    rule: Rule,
    array: &PrimitiveArray<Date32Type>,
    runs: &[Run<'_>],
    ctx: &DeidContext,
    raised: &mut u64,
) -> ArrayRef {
    let values = array.values();
    let mut out: Vec<i32> = Vec::with_capacity(values.len());
    let floor = ctx.floor_date().days();
    let mut years = YearStarts::default();
    for run in runs {
        let rows = run.rows.clone();
        match rule.action {
            Action::Shift => {
                out.extend(values[rows.clone()].iter().map(|d| d.saturating_add(run.person.offset_days)));
            }
            Action::Year => out.extend(values[rows.clone()].iter().map(|d| years.floor(*d))),
            _ => out.extend_from_slice(&values[rows.clone()]),
        }
        if rule.age_top_code && run.person.over_89 {
            for row in rows {
                if out[row] < floor {
                    out[row] = floor;
                    *raised += u64::from(array.is_valid(row));
                }
            }
        }
    }
    Arc::new(Date32Array::new(ScalarBuffer::from(out), array.nulls().cloned()))
}

/// Datetimes are rare in what leaves (no built-in profile moves them), so the scalar core does them.
fn datetimes(
    column: &ColumnSpec,
    rule: Rule,
    array: &ArrayRef,
    runs: &[Run<'_>],
    ctx: &DeidContext,
    raised: &mut u64,
) -> ArrayRef {
    if rule.action == Action::Keep && !rule.age_top_code {
        return Arc::clone(array);
    }
    let micros = array.as_primitive::<TimestampMicrosecondType>();
    let mut out = Vec::with_capacity(micros.len());
    let floor = ctx.floor_date().micros();
    let lower = Rule { age_top_code: false, ..rule };
    for run in runs {
        for row in run.rows.clone() {
            let value = Value::Datetime(micros.value(row));
            let get = |rule| match transform(column.class, rule, run.person, ctx, value) {
                Value::Datetime(v) => v,
                _ => 0,
            };
            let changed = get(rule);
            *raised += u64::from(micros.is_valid(row) && changed == floor && get(lower) != floor);
            out.push(changed);
        }
    }
    Arc::new(PrimitiveArray::<TimestampMicrosecondType>::new(
        ScalarBuffer::from(out),
        micros.nulls().cloned(),
    ))
}

/// The first day of the year of one date after another; neighbours are mostly of the same year.
#[derive(Default)]
struct YearStarts {
    start: i32,
    end: i32,
}

impl YearStarts {
    fn floor(&mut self, day: i32) -> i32 {
        if !(self.start..self.end).contains(&day) {
            let date = almoner_model::Date::from_days(day);
            self.start = date.start_of_year().days();
            let leap = almoner_model::Date::from_ymd(date.year(), 2, 29).is_some();
            self.end = self.start + 365 + i32::from(leap);
        }
        self.start
    }
}

/// Replaces texts; a column in which nothing changes is shared, not copied.
fn strings(array: &ArrayRef, f: impl for<'v> Fn(&'v str) -> Option<&'v str>) -> ArrayRef {
    let texts: &StringArray = array.as_string();
    if texts.iter().flatten().all(|text| f(text) == Some(text)) {
        return Arc::clone(array);
    }
    let mut out = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
    texts.iter().for_each(|text| out.append_option(text.and_then(&f)));
    Arc::new(out.finish())
}

/// Keeps what is a code. A column has few different codes, so each is judged once.
fn codes(array: &ArrayRef) -> ArrayRef {
    let texts: &StringArray = array.as_string();
    let mut known: HashMap<&str, bool> = HashMap::new();
    let mut kept: Vec<Option<&str>> = Vec::with_capacity(texts.len());
    for text in texts {
        let stays = text.is_some_and(|text| *known.entry(text).or_insert_with_key(|text| is_code(text)));
        kept.push(text.filter(|_| stays));
    }
    let changed = kept.iter().filter(|text| text.is_none()).count() != texts.null_count();
    if changed { Arc::new(StringArray::from(kept)) } else { Arc::clone(array) }
}

/// `Year` is coarser than `Month` and `Day`; the comparison in [`deidentify`] rests on it.
const _: () = assert!((DatePrecision::Year as u8) < DatePrecision::Day as u8);

#[cfg(test)]
mod tests;
