//! How much one export may ask of the machine.

use std::num::NonZeroUsize;

/// Bounds on reading. Memory is at most about `(threads + readers + 4) × block_bytes`, plus one line of at most
/// `line_bytes` a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest line, in bytes. A longer one is quarantined without being held.
    pub line_bytes: usize,
    /// Bytes handed from a reader to a mapper at a time.
    pub block_bytes: usize,
    /// Mapping threads.
    pub threads: NonZeroUsize,
    /// Expanded bytes below which the ratio of a file or archive member is not looked at. A bomb of many members expands to
    /// this for each of them.
    pub expansion_free_bytes: u64,
    /// Expanded bytes for each stored byte, at most. Clinical NDJSON compresses 10 to 40 times; a bomb a thousand times.
    pub expansion_ratio_max: u64,
    /// Largest packed file that is held in memory as a whole (a Parquet table in a zip), in bytes. One at a time is.
    pub member_bytes_max: u64,
    /// Most files in one export.
    pub files_max: usize,
    /// Deepest folder below the export's own.
    pub depth_max: usize,
    /// Quarantined records listed in the report; all of them go to the [`super::QuarantineSink`].
    pub quarantine_listed: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes: 16 << 20,
            block_bytes: 1 << 20,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            expansion_free_bytes: 2 << 20,
            expansion_ratio_max: 250,
            member_bytes_max: 512 << 20,
            files_max: 100_000,
            depth_max: 16,
            quarantine_listed: 1_000,
        }
    }
}
