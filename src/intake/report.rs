//! What was read and what became of it: exact counts, and the list of quarantined records.
//!
//! The accounting of the arrow `intake → mapping`: lines read = mapped + unmapped + quarantined, under any number of
//! threads. Reports hold counts, fixed words and locators; no value, and no file's name.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::discover::{InputFile, NameDigest, Stranger};
use super::lines::FileRead;
use crate::mapping::outcome::{Locator, Outcome, Reason, Rule};

/// Counts of one resource type or table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// Records read.
    pub read: u64,
    /// Records that became rows.
    pub mapped: u64,
    /// Well-formed records of which nothing was made.
    pub unmapped: u64,
    /// Records that are not what they should be.
    pub quarantined: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.read += other.read;
        self.mapped += other.mapped;
        self.unmapped += other.unmapped;
        self.quarantined += other.quarantined;
    }
}

/// The counts of one thread; threads are added up at the end.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Tally {
    /// All records.
    #[serde(flatten)]
    pub total: Counts,
    /// By resource type or table.
    pub types: BTreeMap<&'static str, Counts>,
    /// Unmapped records: type, then reason.
    pub reasons: BTreeMap<&'static str, BTreeMap<Reason, u64>>,
    /// Quarantined records by rule.
    pub rules: BTreeMap<Rule, u64>,
}

impl Tally {
    /// Counts one record of `type_name`.
    pub fn count(&mut self, type_name: &'static str, outcome: Outcome) {
        let mut one = Counts { read: 1, ..Counts::default() };
        match outcome {
            Outcome::Mapped => one.mapped = 1,
            Outcome::Unmapped(reason) => {
                one.unmapped = 1;
                *self.reasons.entry(type_name).or_default().entry(reason).or_default() += 1;
            }
            Outcome::Quarantined { rule, .. } => {
                one.quarantined = 1;
                *self.rules.entry(rule).or_default() += 1;
            }
        }
        self.total.add(one);
        self.types.entry(type_name).or_default().add(one);
    }

    /// A record that was counted as mapped turns out to be quarantined after all (a duplicate found by gather).
    pub fn move_to_quarantine(&mut self, type_name: &'static str, rule: Rule) {
        for counts in [&mut self.total, self.types.entry(type_name).or_default()] {
            counts.mapped = counts.mapped.saturating_sub(1);
            counts.quarantined += 1;
        }
        *self.rules.entry(rule).or_default() += 1;
    }

    /// `records` that were counted as mapped turn out to have made no row after all (their person has another).
    pub fn move_to_unmapped(&mut self, type_name: &'static str, reason: Reason, records: u64) {
        for counts in [&mut self.total, self.types.entry(type_name).or_default()] {
            counts.mapped = counts.mapped.saturating_sub(records);
            counts.unmapped += records;
        }
        *self.reasons.entry(type_name).or_default().entry(reason).or_default() += records;
    }

    /// Adds another thread's counts.
    pub fn add(&mut self, other: &Self) {
        self.total.add(other.total);
        for (name, counts) in &other.types {
            self.types.entry(name).or_default().add(*counts);
        }
        for (name, reasons) in &other.reasons {
            let mine = self.reasons.entry(name).or_default();
            for (reason, n) in reasons {
                *mine.entry(reason).or_default() += n;
            }
        }
        for (rule, n) in &other.rules {
            *self.rules.entry(rule).or_default() += n;
        }
    }

    /// Unmapped records by reason, types added up.
    pub fn by_reason(&self) -> BTreeMap<Reason, u64> {
        let mut flat = BTreeMap::new();
        for reasons in self.reasons.values() {
            for (reason, n) in reasons {
                *flat.entry(*reason).or_default() += n;
            }
        }
        flat
    }

    /// Whether every record ended in exactly one outcome, in total and by type.
    pub fn balances(&self) -> bool {
        let exact = |c: &Counts| c.read == c.mapped + c.unmapped + c.quarantined;
        exact(&self.total) && self.types.values().all(exact)
    }
}

/// A quarantined record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Quarantined {
    /// Where it lies.
    pub at: Locator,
    /// What it broke.
    pub rule: Rule,
}

/// Takes every quarantined record's locator, in no particular order.
pub trait QuarantineSink: Send {
    /// Writes one down.
    ///
    /// # Errors
    /// Whatever the store says; the run ends.
    fn record(&mut self, record: &Quarantined) -> io::Result<()>;
}

/// Writes one JSON object a line, buffered by `W`; `io::sink()` keeps none.
impl<W: io::Write + Send> QuarantineSink for W {
    fn record(&mut self, record: &Quarantined) -> io::Result<()> {
        serde_json::to_writer(&mut *self, record)?;
        self.write_all(b"\n")
    }
}

/// Collects quarantined records from all threads: the first of them in file order for the report, all for the sink.
pub struct Quarantine<'s> {
    listed_max: usize,
    inner: Mutex<(BTreeSet<Quarantined>, Box<dyn QuarantineSink + 's>)>,
}

impl<'s> Quarantine<'s> {
    /// Lists at most `listed_max`, and writes all to `sink`.
    pub fn new(listed_max: usize, sink: Box<dyn QuarantineSink + 's>) -> Self {
        Self { listed_max, inner: Mutex::new((BTreeSet::new(), sink)) }
    }

    /// Takes one.
    ///
    /// # Errors
    /// What the sink says.
    pub fn record(&self, at: Locator, rule: Rule) -> io::Result<()> {
        let record = Quarantined { at, rule };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.1.record(&record)?;
        inner.0.insert(record);
        if inner.0.len() > self.listed_max {
            inner.0.pop_last();
        }
        Ok(())
    }

    /// The listed ones, in file order.
    pub fn into_listed(self) -> Vec<Quarantined> {
        let inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        inner.0.into_iter().collect()
    }
}

/// One input in the report.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// Its ordinal.
    pub ordinal: u32,
    /// Keyed digest of its name.
    pub name: NameDigest,
    /// What it was taken for.
    pub kind: &'static str,
    /// Stored bytes.
    pub bytes: u64,
    /// Lines read from it.
    pub lines: u64,
    /// Why reading stopped before its end, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Rule>,
}

impl FileReport {
    /// Of files that were read so far, in the same order.
    pub fn all(files: &[&InputFile], read: &[FileRead]) -> Vec<Self> {
        let report = |(input, file): (&&InputFile, &FileRead)| Self {
            ordinal: input.ordinal,
            name: input.name,
            kind: input.kind.label(),
            bytes: input.bytes,
            lines: file.lines,
            stopped: file.stopped,
        };
        files.iter().zip(read).map(report).collect()
    }
}

/// The report of one intake.
#[derive(Clone, Debug, Default, Serialize)]
pub struct IntakeReport {
    /// Lines read and what became of them.
    pub lines: Tally,
    /// The first quarantined records, in file order.
    pub quarantine: Vec<Quarantined>,
    /// The inputs.
    pub files: Vec<FileReport>,
    /// What was left alone.
    pub strangers: Vec<Stranger>,
}
