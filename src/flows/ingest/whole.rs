//! Whether what is said to be the whole export is that.
//!
//! A whole export takes the place of all that was there. Where a file of it was not read to its end, or where most people of
//! the version before are not in it, somebody may have sent the wrong thing; it is published when somebody says that it is
//! right.

use std::collections::HashSet;
use std::fmt::Write as _;

use almoner_model::SubjectId;

use super::changes::int;
use super::publish::stopped;
use super::{IngestError, Run, Stopped};
use crate::catalog::{CatalogError, SMALLEST_CELL};
use crate::dataset::Mode;
use crate::intake::kinds::stranger;
use crate::intake::{Export, FileReport};

/// How many broken files an error names.
const NAMED: usize = 5;
/// What numbers of people are rounded to.
const ROUND: u64 = 5;

/// Refuses a whole export of which one of `files` was not read to its end, or an archive cannot be opened.
pub(super) fn is_complete(run: &Run<'_>, export: &Export, files: &[FileReport]) -> Result<(), IngestError> {
    if run.mode != Mode::Full || run.told.accept_incomplete {
        return Ok(());
    }
    let files =
        stopped(files).map(|Stopped { file, kind, rule, .. }| format!("file {file} ({kind}): {rule}"));
    let damaged = export.strangers.iter().filter(|s| s.reason == stranger::ARCHIVE_DAMAGED);
    let archives = damaged.map(|s| format!("file {}: {}", s.ordinal, s.reason));
    let broken: Vec<String> = files.chain(archives).collect();
    if broken.is_empty() {
        return Ok(());
    }
    let mut text = broken.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    if broken.len() > NAMED {
        // Writing to a string does not fail.
        let _ = write!(text, "; and {} more", broken.len() - NAMED);
    }
    Err(IngestError::Incomplete(text))
}

/// Refuses a whole export that has less than half of the people of the version that it replaces. Where `files`, those that
/// say who is in it, were not all read to their ends, that is why, and is what it is told.
pub(super) fn has_its_people(
    run: &Run<'_>,
    export: &Export,
    files: &[FileReport],
    sent: &HashSet<SubjectId>,
) -> Result<(), IngestError> {
    if run.mode != Mode::Full || run.told.replace_all {
        return Ok(());
    }
    let latest = match run.ctx.catalog.latest(&run.dataset) {
        Err(CatalogError::NoDataset(_)) => return Ok(()),
        latest => latest?,
    };
    let (mut before, mut again) = (0, 0);
    for bucket in latest.buckets() {
        let Some(rows) = latest.bucket("person", bucket, Some(&["person_id"]))? else { continue };
        for person in int(&rows, "person_id").into_iter().flat_map(|people| people.values()) {
            before += 1;
            let subject = SubjectId::new(*person).ok().map(|subject| run.ctx.registry.current(subject));
            again += u64::from(subject.is_some_and(|subject| sent.contains(&subject)));
        }
    }
    if again * 2 >= before {
        return Ok(());
    }
    is_complete(run, export, files)?;
    let version = latest.manifest.version;
    Err(IngestError::OtherPeople { version, again: about(again), before: about(before) })
}

/// A number of people as it may be said.
fn about(people: u64) -> String {
    match people {
        0 => "none".to_owned(),
        _ if people < SMALLEST_CELL => format!("fewer than {SMALLEST_CELL}"),
        _ => format!("about {}", (people + ROUND / 2) / ROUND * ROUND),
    }
}
