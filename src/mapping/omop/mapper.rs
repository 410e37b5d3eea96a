//! One OMOP row in, one staged row (or none, and why) out.

use std::collections::BTreeMap;

use almoner_model::dates::LocalDateTime;
use almoner_model::{Code, Date, DatePrecision, Tables, Vocabulary};

use super::columns::{DateFallback, Plan, Read, Source};
use super::{Cells, OmopPeople, plain_id, values};
use crate::mapping::fhir::References;
use crate::mapping::outcome::{Locator, Outcome, reason, rule};
use crate::mapping::vocabulary::ConceptLookup;
use crate::mapping::{Form, KeyedHasher, PersonIndex, RowWriter, StageError, StagedBuilder, Stated};

/// What mapping looks up. Shared by all threads of a run.
#[derive(Clone, Copy)]
pub struct OmopContext<'c> {
    /// Whose ids are known, under which ordinal.
    pub persons: &'c PersonIndex,
    /// Where people live.
    pub people: &'c OmopPeople,
    /// Which people the export says were deleted, where it has FHIR as well.
    pub references: &'c References,
    /// Codes of concepts; [`crate::mapping::vocabulary::NoVocabulary`] without.
    pub vocabulary: &'c dyn ConceptLookup,
}

/// What was noticed and is no fault of a row: counts by table and column.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Noted {
    /// Source values that were dropped because they are no code of a known system.
    pub source_values_dropped: BTreeMap<(usize, usize), u64>,
    /// End dates that were missing and became the start date, by table.
    pub ends_from_start: BTreeMap<usize, u64>,
    /// In an export of changes: keys of the rows that are stated anew, whosever they are now.
    pub restated: Vec<u64>,
    /// In an export of changes: keys of the people whose location the export does not have, each with its line.
    pub unplaced: Vec<(u64, u64)>,
}

impl Noted {
    /// Notes a person whose location an export of changes does not have.
    fn unplaced(&mut self, ctx: &OmopContext<'_>, record: (u64, u64), location: Option<&str>) {
        let unknown = location.is_some_and(|id| ctx.people.place(id).is_none());
        if unknown && ctx.persons.continues() {
            self.unplaced.push(record);
        }
    }

    /// Adds what another thread noticed.
    pub fn add(&mut self, other: &Self) {
        for (key, n) in &other.source_values_dropped {
            *self.source_values_dropped.entry(*key).or_default() += n;
        }
        for (key, n) in &other.ends_from_start {
            *self.ends_from_start.entry(*key).or_default() += n;
        }
        self.restated.extend(&other.restated);
        self.unplaced.extend(&other.unplaced);
    }
}

/// Maps rows; one a thread.
pub struct OmopMapper<'c> {
    ctx: OmopContext<'c>,
    hasher: KeyedHasher,
    tables: Tables,
    rows: StagedBuilder<'c>,
    noted: Noted,
    scratch: String,
    /// Row key of the present row, once it is known.
    stated_key: Option<u64>,
}

impl<'c> OmopMapper<'c> {
    /// A mapper that writes to `rows`.
    pub fn new(ctx: OmopContext<'c>, rows: StagedBuilder<'c>) -> Self {
        let (hasher, tables) = (ctx.persons.hasher().clone(), rows.tables().clone());
        Self { ctx, hasher, tables, rows, noted: Noted::default(), scratch: String::new(), stated_key: None }
    }

    /// Sends what is left to the sink, and says what was noticed.
    ///
    /// # Errors
    /// [`StageError::Sink`].
    pub fn finish(self) -> Result<Noted, StageError> {
        self.rows.finish()?;
        Ok(self.noted)
    }

    /// Maps one row of a file with the given plan.
    ///
    /// # Errors
    /// [`StageError`] where the run cannot go on.
    pub fn row(&mut self, plan: &Plan, at: Locator, cells: Cells<'_>) -> Result<Outcome, StageError> {
        self.stated_key = None;
        let outcome = self.mapped(plan, at, cells)?;
        // A row that is not what it should be states nothing.
        if let (Some(key), Outcome::Mapped | Outcome::Unmapped(_)) = (self.stated_key, outcome) {
            let mapped = outcome == Outcome::Mapped;
            let ordinal = at.ordinal();
            self.rows.stated(Stated { key, ordinal, mapped, kind: None, updated: None })?;
            // What the version before has of it goes, also where it was another person's.
            if self.ctx.persons.continues() {
                self.noted.restated.push(key);
            }
        }
        Ok(outcome)
    }

    fn mapped(&mut self, plan: &Plan, at: Locator, cells: Cells<'_>) -> Result<Outcome, StageError> {
        if cells.len() < plan.width || (plan.width..cells.len()).any(|extra| cells.get(extra).is_some()) {
            return Ok(Outcome::broken(rule::WRONG_FIELD_COUNT));
        }
        let cell = |column: Option<usize>| column.and_then(|c| cells.get(c));
        let Some(person_id) = cell(plan.person) else { return Ok(Outcome::broken(rule::MISSING_PATIENT)) };
        let Some(id) = cell(plan.id) else { return Ok(Outcome::broken(rule::NO_ID)) };
        let Some(person) = self.ctx.persons.find(Form::Omop, plain_id(person_id)) else {
            return Ok(Outcome::broken(rule::DANGLING_PATIENT));
        };
        let Some(spec) = self.tables.iter().nth(plan.table) else {
            return Ok(Outcome::Unmapped(reason::TYPE_NOT_CARRIED));
        };
        let row_key = self.hasher.row_key(&spec.table, plain_id(id));
        self.stated_key = Some(row_key);
        if self.ctx.references.is_deleted_person(self.ctx.persons, person) {
            return Ok(Outcome::Unmapped(reason::DELETED));
        }
        let key = |table: &str, column: Option<usize>| {
            let id = cell(column).map(plain_id).filter(|id| *id != "0")?;
            Some(self.hasher.row_key(table, id))
        };
        self.noted.unplaced(&self.ctx, (row_key, at.ordinal()), cell(plan.location));
        let visit = key("visit_occurrence", plan.visit);
        let detail = key("visit_detail", plan.detail);
        let (start, end) = match dates(plan, cells) {
            Ok(dates) => dates,
            Err(outcome) => return Ok(outcome),
        };
        let mut row = self.rows.row(plan.table, person, at.ordinal(), row_key);
        if let Some(visit) = visit {
            row.visit_key(visit);
        }
        if let Some(detail) = detail {
            row.detail_key(detail);
        }
        if let (Some(fallback), Some(start)) = (plan.start, start) {
            row.date(fallback.column, start);
        }
        if let (Some(fallback), Some(start)) = (plan.end, start) {
            if end.is_none() {
                *self.noted.ends_from_start.entry(plan.table).or_default() += 1;
            }
            row.date(fallback.column, end.unwrap_or(start));
        }
        let mut writer = Writer {
            row,
            vocabulary: self.ctx.vocabulary,
            dropped: &mut self.noted.source_values_dropped,
            scratch: &mut self.scratch,
            table: plan.table,
        };
        for source in &plan.sources {
            if let Some(text) = cells.get(source.cell)
                && let Err(outcome) = writer.set(source, text, cells)
            {
                return Ok(outcome);
            }
        }
        let mut row = writer.row;
        if spec.table == "person"
            && let Err(outcome) = person_columns(&mut row, spec, plan, cells, self.ctx.people)
        {
            return Ok(outcome);
        }
        match row.finish() {
            Ok(()) => Ok(Outcome::Mapped),
            Err(StageError::Missing { .. }) => Ok(Outcome::broken(rule::NO_BIRTH_DATE)),
            Err(error) => Err(error),
        }
    }
}

/// Start and end of a row; a table that has a start has one in every row.
fn dates(plan: &Plan, cells: Cells<'_>) -> Result<(Option<Date>, Option<Date>), Outcome> {
    let start = date(plan.start, cells)?;
    if start.is_none() && plan.start.is_some() {
        return Err(Outcome::Unmapped(reason::NO_DATE));
    }
    Ok((start, date(plan.end, cells)?))
}

/// A date column, or the day of its date-time.
fn date(fallback: Option<DateFallback>, cells: Cells<'_>) -> Result<Option<Date>, Outcome> {
    let Some(fallback) = fallback else { return Ok(None) };
    let columns = [fallback.cell, fallback.datetime];
    let Some((cell, text)) = columns.into_iter().flatten().find_map(|c| Some((c, cells.get(c)?))) else {
        return Ok(None);
    };
    match values::date_time(text) {
        Some((date, _)) => Ok(Some(date)),
        None => Err(broken(rule::INVALID_DATE, cell)),
    }
}

/// Quarantined because of a cell; the locator's column is its number, from 1.
fn broken(rule: &'static str, cell: usize) -> Outcome {
    Outcome::Quarantined { rule, column: u32::try_from(cell + 1).ok() }
}

/// What a person's row needs beside its cells: the year of birth, and where the person lives.
fn person_columns(
    row: &mut RowWriter<'_, '_>,
    spec: &almoner_model::TableSpec,
    plan: &Plan,
    cells: Cells<'_>,
    people: &OmopPeople,
) -> Result<(), Outcome> {
    let source = |name: &str| {
        let column = spec.index_of(name)?;
        plan.sources.iter().find(|s| s.column == column)
    };
    let value = |name: &str| source(name).and_then(|s| cells.get(s.cell));
    let birth = value("birth_datetime").and_then(values::date_time);
    let part = |name: &str| value(name).and_then(values::integer);
    if let (None, Some((birth, _)), Some(column)) =
        (part("year_of_birth"), birth, spec.index_of("year_of_birth"))
    {
        row.int64(column, i64::from(birth.year()));
    }
    if let Some(year) = part("year_of_birth") {
        let number = |n: Option<i64>, absent| u32::try_from(n.unwrap_or(absent)).ok();
        let whole = i32::try_from(year)
            .ok()
            .zip(number(part("month_of_birth"), 1))
            .zip(number(part("day_of_birth"), 1));
        if whole.and_then(|((y, m), d)| Date::from_ymd(y, m, d)).is_none() {
            return Err(Outcome::broken(rule::INVALID_DATE));
        }
    }
    if let Some(place) = plan.location.and_then(|c| cells.get(c)).and_then(|id| people.place(id)) {
        for (name, text) in [("zip", &place.zip), ("state", &place.state)] {
            if let (Some(column), Some(text)) = (spec.index_of(name), text) {
                row.string(column, text);
            }
        }
    }
    Ok(())
}

/// Writes the cells of one row.
struct Writer<'w, 'b, 's> {
    row: RowWriter<'b, 's>,
    vocabulary: &'w dyn ConceptLookup,
    dropped: &'w mut BTreeMap<(usize, usize), u64>,
    scratch: &'w mut String,
    table: usize,
}

impl Writer<'_, '_, '_> {
    fn set(&mut self, source: &Source, text: &str, cells: Cells<'_>) -> Result<(), Outcome> {
        let Source { column, cell, read } = *source;
        match read {
            Read::Integer | Read::LooseInteger => match values::integer(text) {
                Some(n) => drop(self.row.int64(column, n)),
                None if read == Read::LooseInteger || text == "NA" => {}
                None => return Err(broken(rule::INVALID_NUMBER, cell)),
            },
            Read::Number => match values::number(text) {
                Some(n) => drop(self.row.float64(column, n)),
                None if text == "NA" => {}
                None => return Err(broken(rule::INVALID_NUMBER, cell)),
            },
            Read::Date => match values::date_time(text) {
                Some((date, _)) => drop(self.row.date(column, date)),
                None if text == "NA" => {}
                None => return Err(broken(rule::INVALID_DATE, cell)),
            },
            Read::Datetime => match values::date_time(text) {
                Some((date, seconds)) => {
                    let seconds = Some(seconds.unwrap_or(0));
                    let when = LocalDateTime { date, precision: DatePrecision::Day, seconds };
                    if let Some(micros) = when.micros() {
                        self.row.datetime(column, micros);
                    }
                }
                None if text == "NA" => {}
                None => return Err(broken(rule::INVALID_DATE, cell)),
            },
            Read::Text => drop(self.row.string(column, text)),
            Read::Code(concepts) => self.code(column, text, concepts, cells),
        }
        Ok(())
    }

    /// Keeps a source value that is a code, and counts one that is not.
    fn code(&mut self, column: usize, text: &str, concepts: [Option<usize>; 2], cells: Cells<'_>) {
        if Code::parse(text).is_some() {
            self.row.string(column, text);
            return;
        }
        let mut named = concepts.into_iter().flatten().filter_map(|cell| values::integer(cells.get(cell)?));
        let known = named.find_map(|concept| self.vocabulary_of(text, concept));
        match known {
            Some(vocabulary) => {
                self.scratch.clear();
                self.scratch.push_str(vocabulary.id());
                self.scratch.push(':');
                self.scratch.push_str(text);
                self.row.string(column, self.scratch);
            }
            None => *self.dropped.entry((self.table, column)).or_default() += 1,
        }
    }

    /// The system that has `text` as the code of this very concept.
    fn vocabulary_of(&self, text: &str, concept: i64) -> Option<Vocabulary> {
        let of = |v: &&Vocabulary| {
            v.accepts(text) && self.vocabulary.find(v.id(), text).is_some_and(|found| found.source == concept)
        };
        if concept == 0 { None } else { Vocabulary::ALL.iter().find(of).copied() }
    }
}
