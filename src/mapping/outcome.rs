//! What became of one input record: mapped, unmapped with a reason, or quarantined with a rule.
//!
//! The accounting side of the arrow `intake → mapping`. Every record of every input ends in exactly one [`Outcome`], so
//! that what was read is the sum of what became of it. Types, reasons and rules are fixed words of this program, never
//! text of the input; a [`Locator`] says where, never what.

use serde::Serialize;

/// Where a record lies: the input file by ordinal, the record by its line, and the column where one is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct Locator {
    /// Ordinal of the input file in the report's list of files.
    pub file: u32,
    /// Line of the record, from 1. In a Parquet file: the row, from 1.
    pub line: u64,
    /// Byte column in the line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl Locator {
    /// A whole line.
    pub const fn line(file: u32, line: u64) -> Self {
        Self { file, line, column: None }
    }

    /// The same line, at a column.
    #[must_use]
    pub const fn at_column(self, column: Option<u32>) -> Self {
        Self { column, ..self }
    }

    /// File and line in one number that keeps their order: `file << 40 | line`.
    pub const fn ordinal(self) -> u64 {
        ((self.file as u64) << 40) | (self.line & ((1 << 40) - 1))
    }
}

/// What became of one input record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It became rows (or, for a consent or a deletion, was handed on).
    Mapped,
    /// It is well-formed and nothing was made of it.
    Unmapped(Reason),
    /// It is not what it should be.
    Quarantined {
        /// What it broke.
        rule: Rule,
        /// Byte column of the fault, from 1, where one is known.
        column: Option<u32>,
    },
}

impl Outcome {
    /// Quarantined as a whole.
    pub const fn broken(rule: Rule) -> Self {
        Self::Quarantined { rule, column: None }
    }
}

/// A word of this program saying why a well-formed record became no row. See [`reason`].
pub type Reason = &'static str;

/// A word of this program naming what a quarantined record broke. See [`rule`].
pub type Rule = &'static str;

/// Why a well-formed record became no row.
pub mod reason {
    use super::Reason;

    /// Nothing but white space.
    pub const BLANK_LINE: Reason = "blank-line";
    /// A resource type or table that has no place in the canonical tables.
    pub const TYPE_NOT_CARRIED: Reason = "type-not-carried";
    /// A note: free text does not leave.
    pub const NOTE_DROPPED: Reason = "note-dropped";
    /// Its status says that it was recorded by mistake.
    pub const ENTERED_IN_ERROR: Reason = "entered-in-error";
    /// Its status says that it did not happen.
    pub const NOT_DONE: Reason = "not-done";
    /// It was planned, proposed, or refuted: nothing that happened.
    pub const NOT_A_FACT: Reason = "not-a-fact";
    /// It is suspected, provisional, or one of several possibilities: nothing that is known to be so.
    pub const NOT_CONFIRMED: Reason = "not-confirmed";
    /// Its status is one that its source does not know, or that R4 does not have.
    pub const UNKNOWN_STATUS: Reason = "unknown-status";
    /// It lies in the person's record and is about somebody or something else.
    pub const ABOUT_ANOTHER: Reason = "about-another";
    /// A modifier extension or implicit rules change what it says in a way that is not known here.
    pub const MODIFIED: Reason = "modified-by-extension";
    /// Nothing was found out: it says why there is no result.
    pub const NO_RESULT: Reason = "no-result";
    /// It says nothing about when.
    pub const NO_DATE: Reason = "no-date";
    /// It belongs to no patient (facility equipment, a group, a location).
    pub const NO_PATIENT: Reason = "no-patient";
    /// It has no code at all.
    pub const NO_CODE: Reason = "no-code";
    /// A report whose results are records of their own.
    pub const RESULTS_CARRY_IT: Reason = "carried-by-its-results";
    /// A patient record that was merged into another: its events go to the other.
    pub const MERGED: Reason = "merged-into-another";
    /// The export says that it, or its patient, was deleted.
    pub const DELETED: Reason = "deleted-at-the-source";
    /// Derived tables are computed again from the events.
    pub const DERIVED: Reason = "derived-again";
    /// An older version of a record that the export has too.
    pub const SUPERSEDED: Reason = "superseded";
}

/// What a quarantined record broke.
pub mod rule {
    use super::Rule;

    /// Not JSON.
    pub const MALFORMED_JSON: Rule = "malformed-json";
    /// JSON, but not of the shape that the resource type has.
    pub const WRONG_TYPE: Rule = "wrong-type";
    /// Longer than the line limit.
    pub const LINE_TOO_LONG: Rule = "line-too-long";
    /// Has a NUL byte.
    pub const NUL_BYTE: Rule = "nul-byte";
    /// Not UTF-8.
    pub const INVALID_UTF8: Rule = "invalid-utf8";
    /// The container ends in the middle of a record.
    pub const TRUNCATED: Rule = "truncated";
    /// The container cannot be read on from here.
    pub const CORRUPT_CONTAINER: Rule = "corrupt-container";
    /// The container expands beyond what is plausible.
    pub const EXPANSION_LIMIT: Rule = "expansion-limit";
    /// No `resourceType`, or an empty one.
    pub const NO_RESOURCE_TYPE: Rule = "no-resource-type";
    /// No id where one is needed.
    pub const NO_ID: Rule = "no-id";
    /// A date that is none.
    pub const INVALID_DATE: Rule = "invalid-date";
    /// No birth date where one is needed.
    pub const NO_BIRTH_DATE: Rule = "no-birth-date";
    /// A patient whom neither the export nor the registry knows.
    pub const DANGLING_PATIENT: Rule = "dangling-patient";
    /// A resource that must name its patient and does not.
    pub const MISSING_PATIENT: Rule = "missing-patient";
    /// A Patient or Medication in a file named for another type: such files are not searched for people.
    pub const MISPLACED: Rule = "misplaced";
    /// A Bundle of deletions outside of the folder `deleted`: nothing is deleted by it.
    pub const MISPLACED_DELETION: Rule = "misplaced-deletion";
    /// The same record twice.
    pub const DUPLICATE_ID: Rule = "duplicate-id";
    /// A number that is none, or out of range.
    pub const INVALID_NUMBER: Rule = "invalid-number";
    /// A row with another number of fields than the header.
    pub const WRONG_FIELD_COUNT: Rule = "wrong-field-count";
    /// A quote in delimited text that is not closed where its record should end.
    pub const UNBALANCED_QUOTE: Rule = "unbalanced-quote";
}
