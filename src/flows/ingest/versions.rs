//! Of a record that an export has several times, the version that counts.
//!
//! Several exports of changes may lie in one folder, and one record in several files, as other people's or as an error the
//! last time. One version counts, wherever it lies and whosever it is: see [`takes_over`]. The others are superseded, and
//! their rows go. Exports without such records pay for it with the sorting of keys only; in others the lines in question are
//! read once more.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use almoner_model::Timestamp;

use super::{IngestError, Run};
use crate::gather::{GatherError, Gathering};
use crate::intake::{Export, Tally, read_versions};
use crate::mapping::Stated;
use crate::mapping::fhir::takes_over;
use crate::mapping::outcome::reason;

/// Finds the versions that do not count, takes their rows out of `gathering`, and counts their lines as superseded.
pub(super) fn settle(
    run: &Run<'_>,
    export: &Export,
    gathering: &mut Gathering<'_>,
    lines: &mut Tally,
) -> Result<(), IngestError> {
    let repeated = repeated(run, gathering)?;
    if repeated.is_empty() {
        return Ok(());
    }
    let wanted: HashSet<u64> = repeated.iter().map(|record| record.ordinal).collect();
    let versions = read_versions(export, run.ctx.limits, &wanted)?;
    let tables: HashMap<u32, &'static str> =
        export.inputs.iter().map(|input| (input.ordinal, input.kind.label())).collect();
    let mut superseded = HashSet::new();
    for same in repeated.chunk_by(|a, b| a.key == b.key) {
        let counts = newest(same, |line| versions.get(&line).and_then(|version| version.updated));
        for record in same.iter().filter(|record| record.ordinal != counts) {
            superseded.insert(record.ordinal);
            let table = tables.get(&((record.ordinal >> 40) as u32)).copied().unwrap_or_default();
            let kind = versions.get(&record.ordinal).map_or(table, |version| version.kind);
            if record.mapped {
                lines.move_to_unmapped(kind, reason::SUPERSEDED);
            }
        }
    }
    gathering.supersede(superseded);
    Ok(())
}

/// The line of the version that counts, of versions in the order of lines.
fn newest(same: &[Stated], updated: impl Fn(u64) -> Option<Timestamp>) -> u64 {
    let mut best: Option<(u64, Option<Timestamp>)> = None;
    for line in same.iter().map(|record| record.ordinal) {
        let when = updated(line);
        if best.is_none_or(|(_, before)| takes_over(before, when)) {
            best = Some((line, when));
        }
    }
    best.map_or(0, |(line, _)| line)
}

/// Everything that the export states more than once, in the order of keys and lines, on all threads.
fn repeated(run: &Run<'_>, gathering: &Gathering<'_>) -> Result<Vec<Stated>, IngestError> {
    let parts = gathering.layout().buckets();
    let (next, all) = (AtomicU32::new(0), Mutex::new(Vec::new()));
    let some = || -> Result<(), GatherError> {
        loop {
            let part = next.fetch_add(1, Ordering::SeqCst);
            if part >= parts {
                return Ok(());
            }
            let found = gathering.repeated(part)?;
            all.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
        }
    };
    let threads = run.ctx.limits.threads.get().min(parts as usize);
    std::thread::scope(|scope| -> Result<(), GatherError> {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        let mut first = Ok(());
        for thread in started {
            match thread.join() {
                Ok(result) => first = first.and(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        first
    })?;
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.sort_unstable_by_key(|record: &Stated| (record.key, record.ordinal));
    Ok(all)
}
