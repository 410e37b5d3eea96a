//! Of a record that an export has several times, the version that counts.
//!
//! Several exports of changes may lie in one folder, and one record in several files, as other people's or as an error the
//! last time. One version counts, wherever it lies and whosever it is: see [`takes_over`]. The others are superseded, and
//! their rows go. This is settled part by part of all records; what stays in memory is the set of superseded lines, in
//! about 2 bytes each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};

use roaring::RoaringTreemap;

use super::{IngestError, Run};
use crate::gather::{GatherError, Gathering};
use crate::intake::{Export, Tally};
use crate::mapping::Stated;
use crate::mapping::fhir::takes_over;
use crate::mapping::outcome::reason;

/// What does not count.
#[derive(Default)]
struct Superseded {
    /// Its lines.
    lines: RoaringTreemap,
    /// Those that count as mapped so far, by the type or table that they count as.
    mapped: BTreeMap<&'static str, u64>,
}

impl Superseded {
    fn add(&mut self, other: Self) {
        self.lines |= other.lines;
        for (kind, records) in other.mapped {
            *self.mapped.entry(kind).or_default() += records;
        }
    }
}

/// Finds the versions that do not count, takes their rows out of `gathering`, and counts their lines as superseded.
pub(super) fn settle(
    run: &Run<'_>,
    export: &Export,
    gathering: &mut Gathering<'_>,
    lines: &mut Tally,
) -> Result<(), IngestError> {
    let files: HashMap<u32, &'static str> =
        export.inputs.iter().map(|input| (input.ordinal, input.kind.label())).collect();
    let superseded = superseded(run, gathering, &files)?;
    for (kind, records) in superseded.mapped {
        lines.move_to_unmapped(kind, reason::SUPERSEDED, records);
    }
    gathering.supersede(superseded.lines);
    Ok(())
}

/// The version that counts, of versions in the order of lines.
fn newest(same: &[Stated]) -> u64 {
    let mut rest = same.iter();
    let Some(mut best) = rest.next() else { return 0 };
    for version in rest {
        if takes_over(best.updated, version.updated) {
            best = version;
        }
    }
    best.ordinal
}

/// Everything that does not count, on all threads.
fn superseded(
    run: &Run<'_>,
    gathering: &Gathering<'_>,
    files: &HashMap<u32, &'static str>,
) -> Result<Superseded, IngestError> {
    let parts = gathering.layout().buckets();
    let (next, all) = (AtomicU32::new(0), Mutex::new(Superseded::default()));
    let some = || -> Result<(), GatherError> {
        loop {
            let part = next.fetch_add(1, Ordering::SeqCst);
            if part >= parts {
                return Ok(());
            }
            let mut found = Superseded::default();
            gathering.versions(part, |same| {
                let counts = newest(same);
                for version in same.iter().filter(|version| version.ordinal != counts) {
                    found.lines.insert(version.ordinal);
                    if version.mapped {
                        let file = files.get(&((version.ordinal >> 40) as u32)).copied();
                        let kind = version.kind.or(file).unwrap_or_default();
                        *found.mapped.entry(kind).or_default() += 1;
                    }
                }
            })?;
            all.lock().unwrap_or_else(PoisonError::into_inner).add(found);
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
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
}
