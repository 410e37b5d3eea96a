//! One bucket: from loose staged rows to whole persons in canonical order.
//!
//! The heart of the arrow `mapping → gather → derive`. What is decided here, and how:
//!
//! - **Versions.** Of a record that the export has several times, the rows of the version that counts stay, and those of
//!   the others go, whosever they are ([`Gathering::supersede`]).
//! - **One person, one row.** Where several source records turned out to be one person, the row of the record that the
//!   others were merged into stays (else the first by locator), and likewise one death.
//! - **No person row**, neither here nor in the version before: nothing is known about the person's age, so none of the rows may leave
//!   (`dangling-patient`).
//! - **Dates** that are the date of nothing go first (`implausible-birth`, `implausible-date`): see `dates`.
//! - **Visits** are found within the person only. A row that names an unknown one loses the link and is counted; a visit
//!   detail, which cannot be without one, goes (`dangling-visit`).
//! - **Event ids** are `bucket << 32 | n` with n dense from 1 in the order (person, start, locator), for each table.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use almoner_model::{IdentifierClass, SubjectId, TableSpec};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array, UInt64Array, new_null_array,
};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{DataType, Date32Type, Field, Schema, SchemaRef, UInt32Type, UInt64Type};

use super::dates::{self, ImplausibleDates};
use super::{GatherError, Gathering};
use crate::mapping::staged::{StagedSchema, arrow_type};
use crate::mapping::{DETAIL_KEY, ORDINAL, PERSON, ROW_KEY, VISIT_KEY};

/// The extra column of internal files: finds the row of a source record in later exports. Releases never have it.
pub const ROW_KEY_COLUMN: &str = "_row_key";

/// Why rows went.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reason {
    /// The person has another person row.
    MergedPerson,
    /// The person has another death.
    SecondDeath,
    /// The person has no person row.
    DanglingPatient,
    /// A visit detail without its visit.
    DanglingVisit,
    /// A drug whose medication neither the export nor the version before has.
    DanglingMedication,
    /// The date of birth is a sentinel or lies in the future.
    ImplausibleBirth,
    /// The date of the event is a sentinel, lies in the future, or long before birth.
    ImplausibleDate,
}

impl Reason {
    /// As reports write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MergedPerson => "merged-person",
            Self::SecondDeath => "second-death",
            Self::DanglingPatient => "dangling-patient",
            Self::DanglingVisit => "dangling-visit",
            Self::DanglingMedication => "dangling-medication",
            Self::ImplausibleBirth => "implausible-birth",
            Self::ImplausibleDate => "implausible-date",
        }
    }

    /// Whether the line is at fault (quarantined) or its content merely stands elsewhere (unmapped).
    pub const fn quarantines(self) -> bool {
        !matches!(self, Self::MergedPerson | Self::SecondDeath)
    }
}

/// A line of the export that mapping gave rows to and that has none left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Dropped {
    /// Its locator: file ordinal << 40 | line.
    pub ordinal: u64,
    /// Why.
    pub reason: Reason,
    /// The table of the first row that went.
    pub table: usize,
}

/// What gathering a bucket did: counts and locators.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct GatherReport {
    /// Rows kept, by table.
    pub rows: BTreeMap<usize, u64>,
    /// Lines that have no row left, sorted by locator.
    pub dropped: Vec<Dropped>,
    /// Rows that named a visit or visit detail which is not there, by table.
    pub links_missing: BTreeMap<usize, u64>,
    /// Dates that were the date of nothing, by table.
    pub implausible: BTreeMap<usize, ImplausibleDates>,
}

impl GatherReport {
    /// Adds another bucket's.
    pub fn add(&mut self, other: Self) {
        for (table, n) in other.rows {
            *self.rows.entry(table).or_default() += n;
        }
        for (table, n) in other.links_missing {
            *self.links_missing.entry(table).or_default() += n;
        }
        for (table, dates) in other.implausible {
            self.implausible.entry(table).or_default().add(dates);
        }
        self.dropped.extend(other.dropped);
    }
}

/// Whole persons of one bucket, on true dates.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// The bucket.
    pub bucket: u32,
    /// The people, ascending.
    pub subjects: Vec<SubjectId>,
    /// Canonical tables with [`ROW_KEY_COLUMN`] last, sorted by (person, start, locator). Tables without rows are absent.
    pub tables: BTreeMap<usize, RecordBatch>,
    /// What was done.
    pub report: GatherReport,
}

/// The Arrow schema of a canonical table in internal files.
pub fn canonical_schema(spec: &TableSpec) -> SchemaRef {
    let mut fields: Vec<Field> =
        spec.columns.iter().map(|c| Field::new(&c.name, arrow_type(c.kind), c.nullable)).collect();
    fields.push(Field::new(ROW_KEY_COLUMN, DataType::Int64, false));
    Arc::new(Schema::new(fields))
}

/// Staged rows of one table, with their people.
pub(super) struct Loose {
    pub table: usize,
    pub rows: RecordBatch,
    pub subjects: Vec<i64>,
    /// Why each row went.
    pub gone: Vec<Option<Reason>>,
}

impl Loose {
    fn persons(&self) -> &[u32] {
        self.rows.column(PERSON).as_primitive::<UInt32Type>().values()
    }
    fn ordinals(&self) -> &[u64] {
        self.rows.column(ORDINAL).as_primitive::<UInt64Type>().values()
    }
    fn row_keys(&self) -> &[u64] {
        self.rows.column(ROW_KEY).as_primitive::<UInt64Type>().values()
    }
}

/// Event ids of visits or visit details by (person, row key).
type EventIds = HashMap<(i64, u64), i64>;

/// What the version before has in a bucket that an incremental export changes: new rows are numbered after its rows, and
/// may name its visits.
#[derive(Clone, Debug, Default)]
pub struct Base {
    /// Its people: those who have a person row.
    pub persons: HashSet<i64>,
    /// Rows by table.
    pub rows: BTreeMap<usize, u64>,
    /// Event ids of its visits by (person, row key).
    pub visits: HashMap<(i64, u64), i64>,
    /// Event ids of its visit details by (person, row key).
    pub details: HashMap<(i64, u64), i64>,
}

impl Gathering<'_> {
    /// Gathers one bucket. May be called for several buckets at once, when all sinks are done.
    ///
    /// # Errors
    /// [`GatherError`]: working files, memory, or more rows than ids.
    pub fn bucket(&self, bucket: u32) -> Result<Gathered, GatherError> {
        self.bucket_after(bucket, &Base::default())
    }

    /// Gathers one bucket of changes to a version that has `base` in it.
    ///
    /// # Errors
    /// As [`Self::bucket`].
    pub fn bucket_after(&self, bucket: u32, base: &Base) -> Result<Gathered, GatherError> {
        let mut loose = Vec::new();
        let stated = self.stated_table();
        for (table, rows) in self.load(bucket, |table| table != stated)?.into_iter().enumerate() {
            if let Some(rows) = rows.map(|rows| self.without_superseded(rows)).transpose()? {
                let persons = rows.column(PERSON).as_primitive::<UInt32Type>().values();
                let subject = |p: &u32| self.persons.subject(*p).map_or(0, SubjectId::get);
                let subjects = persons.iter().map(subject).collect();
                let keys = rows.column(ROW_KEY).as_primitive::<UInt64Type>().values();
                let left_out = |key: &u64| self.left_out.contains(key).then_some(Reason::DanglingMedication);
                let gone = keys.iter().map(left_out).collect();
                loose.push(Loose { table, rows, subjects, gone });
            }
        }
        let mut report = GatherReport::default();
        dates::births(&self.dates, &self.tables, &mut loose, &mut report.implausible);
        self.keep_one_each(&mut loose, &base.persons);
        dates::events(&self.dates, &self.tables, &mut loose, &mut report.implausible)?;
        let mut made = BTreeMap::new();
        let mut visits = base.visits.clone();
        let mut details = base.details.clone();
        // Visits are read by details, and both by all others.
        let rank = |table: usize| self.tables.iter().nth(table).map_or(2, |spec| rank(&spec.table));
        loose.sort_by_key(|l| (rank(l.table), l.table));
        for rows in &mut loose {
            let Some(spec) = self.tables.iter().nth(rows.table) else { continue };
            if spec.table == "visit_detail" {
                drop_without_visit(rows, &visits);
            }
            let sorted = sort(spec, rows);
            let before = base.rows.get(&rows.table).copied().unwrap_or(0) as i64;
            let shape = Shape { spec, bucket, before, visits: &visits, details: &details };
            let (batch, missing) = shape.canonical(rows, &sorted)?;
            match spec.table.as_str() {
                "visit_occurrence" => visits.extend(event_ids(spec, rows, &sorted, &batch)),
                "visit_detail" => details.extend(event_ids(spec, rows, &sorted, &batch)),
                _ => {}
            }
            if missing > 0 {
                report.links_missing.insert(rows.table, missing);
            }
            if batch.num_rows() > 0 {
                report.rows.insert(rows.table, batch.num_rows() as u64);
                made.insert(rows.table, batch);
            }
        }
        report.dropped = dropped_lines(&loose);
        let kept = loose.iter().flat_map(|l| l.subjects.iter().zip(&l.gone));
        let mut ids: Vec<i64> =
            kept.filter(|(_, gone)| gone.is_none()).map(|(subject, _)| *subject).collect();
        ids.sort_unstable();
        ids.dedup();
        let subjects = ids.into_iter().filter_map(|id| SubjectId::new(id).ok()).collect();
        Ok(Gathered { bucket, subjects, tables: made, report })
    }

    /// Rows without those of versions that do not count.
    fn without_superseded(&self, rows: RecordBatch) -> Result<RecordBatch, GatherError> {
        let ordinals = rows.column(ORDINAL).as_primitive::<UInt64Type>().values();
        if self.superseded.is_empty() || !ordinals.iter().any(|line| self.superseded.contains(*line)) {
            return Ok(rows);
        }
        let stays: BooleanArray =
            ordinals.iter().map(|line| Some(!self.superseded.contains(*line))).collect();
        Ok(filter_record_batch(&rows, &stays)?)
    }

    /// One person row and one death for each person; nothing for people without a person row, here or before (`known`).
    fn keep_one_each(&self, loose: &mut [Loose], known: &HashSet<i64>) {
        let person = self.tables.index_of("person");
        let death = self.tables.index_of("death");
        for rows in loose.iter_mut() {
            let reason = match Some(rows.table) {
                table if table == person => Reason::MergedPerson,
                table if table == death => Reason::SecondDeath,
                _ => continue,
            };
            let mut best: HashMap<i64, (bool, u64, usize)> = HashMap::new();
            for row in (0..rows.subjects.len()).filter(|row| rows.gone[*row].is_none()) {
                let ordinal = rows.persons()[row];
                let rank = (self.persons.resolve(ordinal) != ordinal, rows.ordinals()[row], row);
                best.entry(rows.subjects[row]).and_modify(|b| *b = (*b).min(rank)).or_insert(rank);
            }
            for (row, gone) in rows.gone.iter_mut().enumerate() {
                if gone.is_none() && best.get(&rows.subjects[row]).is_some_and(|(_, _, kept)| *kept != row) {
                    *gone = Some(reason);
                }
            }
        }
        let here: HashSet<i64> = loose
            .iter()
            .filter(|l| Some(l.table) == person)
            .flat_map(|l| l.subjects.iter().zip(&l.gone).filter(|(_, gone)| gone.is_none()).map(|(s, _)| *s))
            .collect();
        for rows in loose.iter_mut().filter(|l| Some(l.table) != person) {
            for (gone, subject) in rows.gone.iter_mut().zip(&rows.subjects) {
                if gone.is_none() && !here.contains(subject) && !known.contains(subject) {
                    *gone = Some(Reason::DanglingPatient);
                }
            }
        }
    }
}

fn rank(table: &str) -> u8 {
    match table {
        "visit_occurrence" => 0,
        "visit_detail" => 1,
        _ => 2,
    }
}

fn drop_without_visit(rows: &mut Loose, visits: &EventIds) {
    let keys = rows.rows.column(VISIT_KEY).as_primitive::<UInt64Type>().clone();
    for row in 0..rows.subjects.len() {
        let found = keys.is_valid(row) && visits.contains_key(&(rows.subjects[row], keys.value(row)));
        if !found && rows.gone[row].is_none() {
            rows.gone[row] = Some(Reason::DanglingVisit);
        }
    }
}

/// The rows that stay, in the order (person, start, locator).
fn sort(spec: &TableSpec, rows: &Loose) -> Vec<u32> {
    let start = spec.start.as_deref().and_then(|start| rows.rows.column_by_name(start));
    let start = start.map(|start| start.as_primitive::<Date32Type>().values().as_ref());
    let ordinals = rows.ordinals();
    let stays = |row: &u32| rows.gone[*row as usize].is_none();
    let mut keyed: Vec<(i64, i32, u64, u32)> = (0..rows.subjects.len() as u32)
        .filter(stays)
        .map(|row| {
            let at = row as usize;
            (rows.subjects[at], start.map_or(0, |s| s[at]), ordinals[at], row)
        })
        .collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(.., row)| row).collect()
}

fn event_ids(spec: &TableSpec, rows: &Loose, sorted: &[u32], batch: &RecordBatch) -> EventIds {
    let Some(ids) = spec.event_id.as_deref().and_then(|c| batch.column_by_name(c)) else {
        return EventIds::new();
    };
    let ids = ids.as_primitive::<arrow::datatypes::Int64Type>().values();
    let key = |row: &u32| (rows.subjects[*row as usize], rows.row_keys()[*row as usize]);
    sorted.iter().map(key).zip(ids.iter().copied()).collect()
}

/// Lines that lost rows and have none left.
fn dropped_lines(loose: &[Loose]) -> Vec<Dropped> {
    let mut lost: BTreeMap<u64, (Reason, usize)> = BTreeMap::new();
    for rows in loose {
        for (row, reason) in rows.gone.iter().enumerate().filter_map(|(row, gone)| gone.map(|g| (row, g))) {
            let first = (reason, rows.table);
            lost.entry(rows.ordinals()[row]).and_modify(|l| *l = (*l).min(first)).or_insert(first);
        }
    }
    if lost.is_empty() {
        return Vec::new();
    }
    for rows in loose {
        for (row, gone) in rows.gone.iter().enumerate() {
            if gone.is_none() {
                lost.remove(&rows.ordinals()[row]);
            }
        }
    }
    lost.into_iter().map(|(ordinal, (reason, table))| Dropped { ordinal, reason, table }).collect()
}

/// How rows of one table become canonical.
struct Shape<'a> {
    spec: &'a TableSpec,
    bucket: u32,
    /// Rows of the table that are there already.
    before: i64,
    visits: &'a EventIds,
    details: &'a EventIds,
}

impl Shape<'_> {
    /// The canonical rows, and how many of them named a visit or detail that is not there.
    fn canonical(&self, rows: &Loose, sorted: &[u32]) -> Result<(RecordBatch, u64), GatherError> {
        if u32::try_from(sorted.len()).is_err() {
            return Err(GatherError::TooManyRows);
        }
        let order = UInt32Array::from(sorted.to_vec());
        let subjects: Vec<i64> = sorted.iter().map(|row| rows.subjects[*row as usize]).collect();
        let taken = |position: usize| take(rows.rows.column(position), &order, None);
        let first = (i64::from(self.bucket) << 32) + self.before;
        let own = match self.spec.table.as_str() {
            "visit_occurrence" => Some(self.lookup(rows, sorted, &subjects, first)),
            _ => None,
        };
        let visits = own.as_ref().unwrap_or(self.visits);
        let mut missing = 0;
        let positions = StagedSchema::of(self.spec).position;
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.spec.columns.len() + 1);
        for (column, position) in self.spec.columns.iter().zip(positions) {
            arrays.push(match (position, column.class) {
                (Some(position), _) => taken(position)?,
                (None, IdentifierClass::SubjectId) => Arc::new(Int64Array::from(subjects.clone())),
                (None, IdentifierClass::EventId) => {
                    Arc::new(Int64Array::from_iter_values((1..=sorted.len() as i64).map(|n| first + n)))
                }
                (None, _) => {
                    let (key, ids) = match column.name.as_str() {
                        "visit_occurrence_id" | "preceding_visit_occurrence_id" => (VISIT_KEY, visits),
                        "visit_detail_id" | "parent_visit_detail_id" => (DETAIL_KEY, self.details),
                        _ => {
                            arrays.push(new_null_array(&DataType::Int64, sorted.len()));
                            continue;
                        }
                    };
                    let (found, lost) = resolve(taken(key)?.as_primitive(), &subjects, ids);
                    missing += lost;
                    found
                }
            });
        }
        let keys = sorted.iter().map(|row| rows.row_keys()[*row as usize] as i64);
        arrays.push(Arc::new(Int64Array::from_iter_values(keys)));
        Ok((RecordBatch::try_new(canonical_schema(self.spec), arrays)?, missing))
    }

    /// The event ids that visits are about to get, for links among visits.
    fn lookup(&self, rows: &Loose, sorted: &[u32], subjects: &[i64], first: i64) -> EventIds {
        let keys = sorted.iter().map(|row| rows.row_keys()[*row as usize]);
        let mut ids = self.visits.clone();
        ids.extend(subjects.iter().copied().zip(keys).zip(1i64..).map(|(key, n)| (key, first + n)));
        ids
    }
}

fn resolve(keys: &UInt64Array, subjects: &[i64], ids: &EventIds) -> (ArrayRef, u64) {
    if keys.null_count() == keys.len() {
        return (new_null_array(&DataType::Int64, keys.len()), 0);
    }
    let mut missing = 0;
    let found: Int64Array = keys
        .iter()
        .zip(subjects)
        .map(|(key, subject)| {
            let key = key?;
            let id = ids.get(&(*subject, key)).copied();
            missing += u64::from(id.is_none());
            id
        })
        .collect();
    (Arc::new(found), missing)
}
