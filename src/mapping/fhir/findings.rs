//! What mapping noticed about rows that it kept: counts for the data-quality report, without a value.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

macro_rules! findings {
    ($($(#[$doc:meta])* $name:ident $word:literal;)*) => {
        /// Something noticed about a row that was kept.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Finding { $($(#[$doc])* $name),* }

        impl Finding {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The word in reports.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }
        }
    };
}

findings! {
    /// None of the record's codes is of a known system.
    UnmappedLocalCode "unmapped-local-code";
    /// A code is of a known system and not written as that system writes codes; it was dropped.
    MalformedCode "malformed-code";
    /// The event lies before the birth of its person.
    BeforeBirth "date-before-birth";
    /// The event lies after the export was taken in.
    FutureDate "date-in-the-future";
    /// A period ends before it starts; the end was dropped.
    EndBeforeStart "end-before-start";
    /// Only a year or a month was given; the first day stands for it.
    PartialDate "partial-date";
    /// The date of recording stands for the date of the event.
    RecordedDate "date-of-recording-used";
    /// A device without a date of use is dated by its manufacture.
    ManufactureDate "date-of-manufacture-used";
    /// A visit without an end ends on its first day.
    OpenVisit "visit-without-end";
    /// The encounter cannot be read from the reference.
    UnresolvableEncounter "unresolvable-encounter";
    /// A text value was dropped.
    TextValueDropped "text-value-dropped";
    /// A value of a kind without a column (a range, a ratio, a time, an attachment) was dropped.
    ValueDropped "value-dropped";
    /// A text of a report was dropped while the rest was kept.
    NoteDropped "note-dropped";
    /// A death without its date made no row.
    DeathWithoutDate "death-without-date";
    /// The medication that the record refers to is not in the export.
    DanglingMedication "dangling-medication";
    /// A patient record was deleted that had been merged into another, whose history stays.
    DeletedAfterMerge "deleted-after-merge";
    /// A number's unit is not a UCUM code; the number was kept without it.
    UnknownUnit "quantity-without-known-unit";
}

/// Counts of findings, and of local codes by code system. One a thread; added up at the end.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    counts: [u64; Finding::ALL.len()],
    /// Rows without a known code by keyed digest of the code system: for their contributor only.
    pub local_systems: HashMap<u64, u64>,
}

/// Most code systems that are told apart.
const LOCAL_SYSTEMS_MAX: usize = 10_000;

impl Findings {
    /// Counts one.
    pub fn note(&mut self, finding: Finding) {
        self.counts[finding as usize] += 1;
    }

    /// Counts a row whose only code is of the system with this keyed digest.
    pub fn note_local(&mut self, system: u64) {
        self.note(Finding::UnmappedLocalCode);
        if self.local_systems.len() < LOCAL_SYSTEMS_MAX || self.local_systems.contains_key(&system) {
            *self.local_systems.entry(system).or_default() += 1;
        }
    }

    /// How many of one kind.
    pub const fn count(&self, finding: Finding) -> u64 {
        self.counts[finding as usize]
    }

    /// Adds another thread's.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        for (system, n) in &other.local_systems {
            *self.local_systems.entry(*system).or_default() += n;
        }
    }

    /// By word, those that occurred.
    pub fn by_word(&self) -> BTreeMap<&'static str, u64> {
        Finding::ALL.iter().map(|f| (f.word(), self.count(*f))).filter(|(_, n)| *n > 0).collect()
    }

    /// The report.
    pub fn report(&self) -> FindingsReport {
        FindingsReport {
            findings: self.by_word(),
            local_code_systems: self
                .local_systems
                .iter()
                .map(|(system, n)| (format!("{system:016x}"), *n))
                .collect(),
        }
    }
}

/// Findings as reported.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FindingsReport {
    /// Counts by word.
    pub findings: BTreeMap<&'static str, u64>,
    /// Rows without a known code by keyed digest of their code system: for their contributor only.
    pub local_code_systems: BTreeMap<String, u64>,
}
