//! `cohort::execute`: runs a plan over dataset versions. `(Plan, sources, permitted people) -> Members`.
//!
//! Reads only the columns that the plan needs, filters by concept or source value while reading, keeps the permitted
//! people, merges one person's runs across datasets and hands them to [`super::evaluate`]. Groups of buckets are done
//! one after another, so memory follows the group and not the datasets: buckets are leading bits of one keyed hash of
//! the person, so a person is in the same group in every dataset.
//!
//! Invariants: an event that a person's directive does not cover (data period, denied category) is not seen by the
//! program; where person rows of several datasets conflict, the first dataset of the request wins and the conflict is
//! counted. This folder is the only place that names polars for cohorts.

mod scan;

use std::path::PathBuf;

use almoner_model::{DatasetId, DatePrecision};

use super::evaluate::{Event, Person, evaluate};
use super::permitted::Permitted;
use super::plan::{Category, Plan};
use crate::error::ErrorKind;

/// Rows read in one group of buckets before the next begins.
const GROUP_ROWS: u64 = 32 << 20;

/// A Parquet file of a dataset version.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// The canonical table.
    pub table: String,
    /// Its bucket: the first `bucket_bits` bits of the keyed hash of its people.
    pub bucket: u32,
    /// Where it lies.
    pub path: PathBuf,
    /// How many rows it has.
    pub rows: u64,
}

/// A dataset version to read, in the order of the request.
#[derive(Clone, Debug)]
pub struct Source {
    /// Which dataset.
    pub dataset: DatasetId,
    /// How many leading bits name a bucket.
    pub bucket_bits: u8,
    /// How exact its event dates are.
    pub date_precision: DatePrecision,
    /// Its files.
    pub files: Vec<SourceFile>,
}

/// What a directive's limits need beside the directive.
pub struct Context<'a> {
    /// Days that were added to a person's true dates in the stored data (0 where dates are not shifted).
    pub offset_days: &'a (dyn Fn(i64) -> i32 + Sync),
    /// The data categories that directives can deny.
    pub categories: &'a [Category],
}

/// A member of a cohort.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Member {
    /// Subject id.
    pub subject: i64,
    /// Day of the index event in stored dates.
    pub index_day: Option<i32>,
}

/// What a run did. Counts only.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Report {
    /// People looked at.
    pub persons: u64,
    /// Of these, permitted.
    pub permitted: u64,
    /// Event rows that matched a query.
    pub events: u64,
    /// Event rows withheld by data period or category.
    pub withheld: u64,
    /// People whose rows in several datasets say different things; the first dataset won.
    pub conflicts: u64,
}

/// The members, sorted by subject.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Members {
    /// Sorted by subject, each once.
    pub members: Vec<Member>,
    /// What was done.
    pub report: Report,
}

/// Why a plan does not run.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// A file of a dataset version cannot be read as what its manifest says. The engine's own message is not repeated:
    /// it may quote values.
    #[error("dataset '{dataset}': table {table} cannot be read ({phase}); run `almoner verify`")]
    Read {
        /// Whose.
        dataset: DatasetId,
        /// Which table.
        table: String,
        /// At which step.
        phase: &'static str,
    },
}

impl ExecuteError {
    /// Always our fault.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Fault
    }
}

/// A person row as scanned.
#[derive(Clone, Copy, PartialEq, Eq)]
struct PersonRow {
    subject: i64,
    dataset: u16,
    person: Person,
}

/// An event row as scanned: it matched `query`, and the categories of `categories` (one bit each).
#[derive(Clone, Copy, PartialEq, Eq)]
struct EventRow {
    subject: i64,
    categories: u64,
    event: Event,
    dataset: u16,
}

/// Runs `plan` over `sources`.
///
/// # Errors
/// [`ExecuteError::Read`] if a file is not what its manifest says.
pub fn run(
    plan: &Plan,
    sources: &[Source],
    permitted: &Permitted,
    context: &Context<'_>,
) -> Result<Members, ExecuteError> {
    let mut out = Members::default();
    if permitted.is_empty() {
        return Ok(out);
    }
    for group in groups(plan, sources) {
        run_group(plan, &group, permitted, context, &mut out)?;
    }
    out.members.sort_unstable();
    Ok(out)
}

/// Splits the sources into groups of whole buckets of at most about [`GROUP_ROWS`] rows.
fn groups(plan: &Plan, sources: &[Source]) -> Vec<Vec<Source>> {
    let bits = sources.iter().map(|s| s.bucket_bits).min().unwrap_or(0);
    let needed =
        |file: &&SourceFile| file.table == "person" || plan.queries.iter().any(|q| q.table == file.table);
    let mut rows = vec![0u64; 1 << bits];
    for source in sources {
        for file in source.files.iter().filter(needed) {
            rows[(file.bucket >> (source.bucket_bits - bits)) as usize] += file.rows;
        }
    }
    let mut group_of = Vec::with_capacity(rows.len());
    let (mut group, mut filled) = (0usize, 0u64);
    for n in rows {
        if filled > 0 && filled + n > GROUP_ROWS {
            (group, filled) = (group + 1, 0);
        }
        filled += n;
        group_of.push(group);
    }
    (0..=group)
        .map(|g| {
            let part = |s: &Source| Source {
                files: s
                    .files
                    .iter()
                    .filter(needed)
                    .filter(|f| group_of[(f.bucket >> (s.bucket_bits - bits)) as usize] == g)
                    .cloned()
                    .collect(),
                ..s.clone()
            };
            sources.iter().map(part).collect()
        })
        .collect()
}

fn run_group(
    plan: &Plan,
    sources: &[Source],
    permitted: &Permitted,
    context: &Context<'_>,
    out: &mut Members,
) -> Result<(), ExecuteError> {
    let (mut persons, mut events) = (Vec::new(), Vec::new());
    let mut tables: Vec<&str> = plan.queries.iter().map(|q| q.table).collect();
    tables.sort_unstable();
    tables.dedup();
    for (i, source) in sources.iter().enumerate() {
        scan::persons(plan, source, i as u16, &mut persons)?;
        for table in &tables {
            scan::events(plan, source, i as u16, table, context.categories, &mut events)?;
        }
    }
    // Both are runs that are already sorted by subject, one for each file: a stable sort merges runs.
    persons.sort_by_key(|p: &PersonRow| (p.subject, p.dataset));
    events.sort_by_key(|e: &EventRow| (e.subject, e.event));
    out.report.events += events.len() as u64;
    let mut evaluator = Evaluator { plan, sources, permitted, context, at: 0, run: Vec::new() };
    let mut rest = events.as_slice();
    for same in persons.chunk_by(|a, b| a.subject == b.subject) {
        let subject = same[0].subject;
        let skip = rest.partition_point_from(|e| e.subject < subject);
        let end = rest[skip..].partition_point_from(|e| e.subject == subject);
        let (own, after) = rest[skip..].split_at(end);
        rest = after;
        evaluator.person(same, own, out);
    }
    Ok(())
}

/// `partition_point` for short prefixes: steps that double, so that a walk over all runs is linear.
trait PartitionPointFrom<T> {
    fn partition_point_from(&self, before: impl Fn(&T) -> bool) -> usize;
}

impl<T> PartitionPointFrom<T> for [T] {
    fn partition_point_from(&self, before: impl Fn(&T) -> bool) -> usize {
        let mut high = 1;
        while high <= self.len() && before(&self[high - 1]) {
            high *= 2;
        }
        let low = high / 2;
        low + self[low..high.min(self.len())].partition_point(before)
    }
}

struct Evaluator<'a> {
    plan: &'a Plan,
    sources: &'a [Source],
    permitted: &'a Permitted,
    context: &'a Context<'a>,
    at: usize,
    run: Vec<Event>,
}

impl Evaluator<'_> {
    fn person(&mut self, rows: &[PersonRow], events: &[EventRow], out: &mut Members) {
        let first = rows[0];
        out.report.persons += 1;
        if rows.iter().any(|r| r.person != first.person) {
            out.report.conflicts += 1;
        }
        match self.permitted.find(first.subject, self.at) {
            Ok(at) => self.at = at,
            Err(at) => {
                self.at = at;
                return;
            }
        }
        out.report.permitted += 1;
        if events.is_empty() && !self.plan.program.index.is_empty() {
            return;
        }
        self.run.clear();
        let limits = self.permitted.limits_at(self.at);
        if limits.is_open() {
            self.run.extend(events.iter().map(|e| e.event));
        } else {
            let offset = (self.context.offset_days)(first.subject);
            let denied = self.context.categories.iter().enumerate().fold(0u64, |mask, (bit, category)| {
                mask | u64::from(limits.denied_categories.contains(&category.name)) << bit
            });
            let usable = |e: &&EventRow| {
                let precision = self.sources[e.dataset as usize].date_precision;
                let last = last_day(e.event.day, precision);
                e.categories & denied == 0 && limits.covers(e.event.day, last, offset)
            };
            self.run.extend(events.iter().filter(usable).map(|e| e.event));
            out.report.withheld += (events.len() - self.run.len()) as u64;
        }
        if let Some(found) = evaluate(&self.plan.program, &first.person, &self.run) {
            out.members.push(Member { subject: first.subject, index_day: found.index_day });
        }
    }
}

/// The last day that a stored date can stand for.
pub(crate) fn last_day(day: i32, precision: DatePrecision) -> i32 {
    let date = almoner_model::Date::from_days(day);
    let first_after = match precision {
        DatePrecision::Day => return day,
        DatePrecision::Month if date.month() < 12 => {
            almoner_model::Date::from_ymd(date.year(), date.month() + 1, 1)
        }
        DatePrecision::Month | DatePrecision::Year => almoner_model::Date::from_ymd(date.year() + 1, 1, 1),
    };
    first_after.map_or(i32::MAX, |d| d.days() - 1)
}

#[cfg(test)]
mod tests;
