//! Intake: an export's files, found, opened and read line by line, each line accounted for.
//!
//! The arrow `export → intake → mapping`. Invariants: memory does not grow with the export; every line ends in exactly
//! one outcome; a broken line or container costs that line or the rest of that container, never the run; nothing of the
//! input is in a report or an error but locators, and names as keyed digests. It does not know what a line means
//! (`mapping`), whose it is (`registry`), or where rows go (`gather`).

pub mod discover;
pub mod fhir;
pub mod kinds;
pub mod limits;
pub mod lines;
mod records;
pub mod report;
pub mod source;
pub mod tables;
pub mod vocabulary;

pub use discover::{
    Entry, Export, InputFile, IntakeError, Listed, NameDigest, Stranger, classify, discover, list,
};
pub use fhir::{map_fhir, read_references};
pub use kinds::{FhirFile, InputKind, TableFormat, canonical_name, left_alone};
pub use limits::Limits;
pub use lines::{FileRead, LineWorker, LinesRead, read_lines};
pub use report::{Counts, FileReport, IntakeReport, Quarantine, QuarantineSink, Quarantined, Tally};
pub use source::{ByteSource, LocalFile, RawSource, ReadSeek, SourceFault};
pub use tables::{RowWorker, read_tables};

#[cfg(test)]
mod tests;

pub use crate::mapping::outcome::{Locator, Outcome, Reason, Rule};
