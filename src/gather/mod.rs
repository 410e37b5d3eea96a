//! Gather: staged rows of many files become whole persons, in bounded memory.
//!
//! The arrow `mapping → gather → derive`. Each mapping thread has a [`GatherSink`], which sorts every batch by the bucket
//! of its people and keeps it in memory up to a limit, beyond which pieces go to an encrypted spill file. When all input
//! is read, [`Gathering::versions`] says which records came several times, and [`Gathering::bucket`] takes one bucket at a
//! time: versions that do not count and dates that are none are dropped, people who turned out to be one are made one, rows
//! are sorted by (person, start date, locator), visits are resolved, and event ids are given.
//!
//! Invariants: the result depends on the rows and their locators, never on threads, batches or spilling; memory depends on
//! the limit and the largest bucket, never on the export. Does not generalise or shift anything.

mod assemble;
mod bucket;
mod dates;
mod layout;
mod sink;
mod spill;
mod versions;

#[cfg(test)]
mod tests;

pub use assemble::assemble;
pub use bucket::{Base, Dropped, GatherReport, Gathered, ROW_KEY_COLUMN, Reason, canonical_schema};
pub use dates::ImplausibleDates;
pub use layout::Layout;
pub use sink::{GatherSink, Gathering};
pub use spill::SpillKey;

use crate::error::ErrorKind;

/// Why gathering failed. None of it is the input's fault.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The spill file could not be written or read.
    #[error("working files of the ingest could not be written or read: is the disk full?")]
    Io(#[from] std::io::Error),
    /// A piece of a spill file was altered.
    #[error("a working file of the ingest was altered while it was used; run the command again")]
    Sealed,
    /// Arrow refused.
    #[error("gathered columns do not fit together")]
    Arrow(#[from] arrow::error::ArrowError),
    /// More events of one table in one bucket than an event id can number.
    #[error("more than 2^32 rows of one table in one bucket")]
    TooManyRows,
}

impl GatherError {
    /// Always a fault of ours or of the machine.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Fault
    }
}
