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

pub mod permitted;
mod scan;

use std::path::PathBuf;

use almoner_model::{DatasetId, DatePrecision, Origin};

use super::evaluate::{Event, Person, evaluate};
use super::plan::Plan;
use crate::error::ErrorKind;
pub use permitted::{Permitted, covers};

/// Most datasets in one run.
pub const MAX_SOURCES: usize = 64;

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
    /// The epoch of the offsets that its dates were moved by; none where they were not moved.
    pub offset_epoch: Option<u32>,
    /// Its files.
    pub files: Vec<SourceFile>,
}

/// Days that were added to a person's true dates in data that was stored in an epoch: `(subject, epoch)`.
pub type OffsetDays<'a> = &'a (dyn Fn(i64, u32) -> i32 + Sync);

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
    /// Event rows not seen, because their dataset's use, their category or their day is not permitted.
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
    /// More datasets than one run takes.
    #[error("a cohort is drawn from at most {MAX_SOURCES} datasets")]
    TooMany,
}

impl ExecuteError {
    /// An unreadable file is our fault.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } => ErrorKind::Fault,
            Self::TooMany => ErrorKind::Invalid,
        }
    }
}

/// A person row as scanned.
#[derive(Clone, Copy, PartialEq, Eq)]
struct PersonRow {
    subject: i64,
    dataset: u16,
    person: Person,
}

/// An event row as scanned.
#[derive(Clone, Copy, PartialEq, Eq)]
struct EventRow {
    subject: i64,
    event: Event,
    dataset: u16,
    origin: Origin,
}

/// Runs `plan` over `sources`, each with the people who permit its use.
///
/// # Errors
/// [`ExecuteError`] if a file is not what its manifest says, or there are more than [`MAX_SOURCES`] sources.
pub fn run(
    plan: &Plan,
    sources: &[Source],
    permitted: &[Permitted<'_>],
    offset_days: OffsetDays<'_>,
) -> Result<Members, ExecuteError> {
    let mut out = Members::default();
    if sources.len() > MAX_SOURCES || sources.len() != permitted.len() {
        return Err(ExecuteError::TooMany);
    }
    if permitted.iter().all(|p| p.ids.is_empty()) {
        return Ok(out);
    }
    let needed = |table: &str| table == "person" || plan.queries.iter().any(|q| q.table == table);
    for group in groups(sources, &needed, GROUP_ROWS) {
        run_group(plan, &group, permitted, offset_days, &mut out)?;
    }
    out.members.sort_unstable();
    Ok(out)
}

/// Splits the sources into groups of whole buckets, in order, each of at most about `rows_max` rows of the needed tables
/// (a bucket with more is a group by itself). A person is in one group only.
pub fn groups(sources: &[Source], needed: &dyn Fn(&str) -> bool, rows_max: u64) -> Vec<Vec<Source>> {
    let bits = sources.iter().map(|s| s.bucket_bits).min().unwrap_or(0);
    let mut rows = vec![0u64; 1 << bits];
    for source in sources {
        for file in source.files.iter().filter(|f| needed(&f.table)) {
            rows[(file.bucket >> (source.bucket_bits - bits)) as usize] += file.rows;
        }
    }
    let mut group_of = Vec::with_capacity(rows.len());
    let (mut group, mut filled) = (0usize, 0u64);
    for n in rows {
        if filled > 0 && filled + n > rows_max {
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
                    .filter(|f| needed(&f.table))
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
    permitted: &[Permitted<'_>],
    offset_days: OffsetDays<'_>,
    out: &mut Members,
) -> Result<(), ExecuteError> {
    let (mut persons, mut events) = (Vec::new(), Vec::new());
    let mut tables: Vec<&str> = plan.queries.iter().map(|q| q.table).collect();
    tables.sort_unstable();
    tables.dedup();
    for (i, source) in sources.iter().enumerate() {
        scan::persons(plan, source, i as u16, &mut persons)?;
        for table in &tables {
            let limited = !permitted[i].limits.is_empty();
            scan::events(plan, (source, i as u16), table, limited, &mut events)?;
        }
    }
    // Both are runs that are already sorted by subject, one for each file: a stable sort merges runs.
    persons.sort_by_key(|p: &PersonRow| (p.subject, p.dataset));
    events.sort_by_key(|e: &EventRow| (e.subject, e.event));
    out.report.events += events.len() as u64;
    let mut evaluator =
        Evaluator { plan, sources, permitted, offset_days, at: vec![0; sources.len()], run: Vec::new() };
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
    permitted: &'a [Permitted<'a>],
    offset_days: OffsetDays<'a>,
    /// Where the search for the last person ended, by source.
    at: Vec<usize>,
    run: Vec<Event>,
}

impl Evaluator<'_> {
    /// Whether the person permits the use of a source's data.
    fn permits(&mut self, row: &PersonRow) -> bool {
        let source = row.dataset as usize;
        let found = self.permitted[source].find(row.subject, self.at[source]);
        self.at[source] = found.unwrap_or_else(|at| at);
        found.is_ok()
    }

    /// Appends what the person lets be seen of their events.
    fn see(&mut self, events: &[EventRow], permitting: u64) {
        self.run.clear();
        for row in events.iter().filter(|e| permitting & 1 << e.dataset != 0) {
            let usable = self.permitted[row.dataset as usize].limits.get(&row.subject).is_none_or(|limits| {
                let source = &self.sources[row.dataset as usize];
                let offset = source.offset_epoch.map_or(0, |epoch| (self.offset_days)(row.subject, epoch));
                let last = last_day(row.event.day, source.date_precision);
                let table = self.plan.queries[row.event.query as usize].table;
                covers(limits, (table, row.origin), Some((row.event.day, last)), offset)
            });
            if usable {
                self.run.push(row.event);
            }
        }
    }

    fn person(&mut self, rows: &[PersonRow], events: &[EventRow], out: &mut Members) {
        out.report.persons += 1;
        let permitting =
            rows.iter().fold(0u64, |mask, row| mask | u64::from(self.permits(row)) << row.dataset);
        let mut usable = rows.iter().filter(|row| permitting & 1 << row.dataset != 0);
        let Some(first) = usable.next() else { return };
        out.report.permitted += 1;
        out.report.conflicts += u64::from(usable.any(|row| row.person != first.person));
        if events.is_empty() && !self.plan.program.index.is_empty() {
            return;
        }
        self.see(events, permitting);
        out.report.withheld += (events.len() - self.run.len()) as u64;
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
