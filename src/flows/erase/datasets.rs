//! Every retained dataset version that has rows of the person is written anew without them.
//!
//! The crash story of one version. It is made whole in `datasets/.erasing/<id>-v<N>`. Then `dataset.rewritten` is appended,
//! which names its manifest, and then the two folders are exchanged. If we crash
//! - before the entry: the ledger names the manifest that stands in the version's folder, and the new folder is made again;
//! - after it: the ledger names the manifest in the new folder, which takes its place.

use std::collections::BTreeSet;

use almoner_model::{DatasetId, Digest, SubjectId};
use bytes::Bytes;

use super::{EraseContext, Step, Unfinished, step};
use crate::catalog::{CatalogError, ERASING, Facts, ORPHANED, SMALLEST_CELL};
use crate::dataset::{DatasetError, DatasetVersion, Erased, Rewrite, version_folder};
use crate::events::{DatasetRewritten, Event};
use crate::flows::Act;
use crate::flows::access::entry;
use crate::flows::question::DataError;
use crate::gather::Layout;
use crate::keys::label;
use crate::state::records::Dataset;
use crate::state::topic;

/// Writes the versions anew.
pub(super) fn rewrite(ctx: &EraseContext<'_>, unfinished: &Unfinished) -> Result<(), DataError> {
    let catalog = ctx.data.catalog;
    let ours = |record: &Dataset| unfinished.part.as_ref().is_none_or(|part| *part == record.contributor);
    for record in catalog.records()?.iter().filter(|record| ours(record)) {
        for published in &record.versions {
            one(ctx, unfinished, record, published.body.version)?;
        }
    }
    orphaned(ctx, unfinished)?;
    Ok(catalog.blobs().delete_all(ERASING).map_err(DatasetError::from).map_err(CatalogError::from)?)
}

/// Folders of one version.
struct Folders {
    version: String,
    new: String,
    old: String,
}

fn folders(dataset: &DatasetId, version: u32) -> Folders {
    let name = format!("{ERASING}/{dataset}-v{version}");
    Folders { version: version_folder(dataset, version), old: format!("{name}-old"), new: name }
}

/// The digest of the manifest in a folder.
fn manifest_in(ctx: &EraseContext<'_>, folder: &str) -> Option<Digest> {
    let bytes: Bytes = ctx.data.catalog.blobs().get(&format!("{folder}/manifest.json")).ok()?;
    Some(Digest::of(&bytes))
}

fn one(
    ctx: &EraseContext<'_>,
    unfinished: &Unfinished,
    record: &Dataset,
    version: u32,
) -> Result<(), DataError> {
    let (catalog, access) = (ctx.data.catalog, &ctx.data.access);
    let folders = folders(&record.dataset, version);
    let expected = record.manifest(version);
    if manifest_in(ctx, &folders.version) != expected && manifest_in(ctx, &folders.new) == expected {
        return exchange(ctx, &folders);
    }
    let before = catalog.version(&record.dataset, version)?;
    let Some(rewrite) = without(ctx, &before, (&folders.version, &folders.new), &unfinished.ids)? else {
        return Ok(());
    };
    let to = rewrite.seal().map_err(CatalogError::from)?;
    let body = DatasetRewritten {
        erasure: unfinished.erasure.clone(),
        dataset: record.dataset.clone(),
        version,
        from: before.digest,
        to,
        persons: rewrite.manifest.persons,
        tables: rewrite.manifest.rows(),
    };
    let name =
        format!("erasure {} round {} {} {version}", unfinished.erasure, unfinished.round, record.dataset);
    let act = Act::repeated(ctx.data.keys, unfinished.actor.clone(), name.as_bytes());
    let topics = vec![topic::dataset(&record.dataset), topic::PUBLISHED.to_owned()];
    let new = entry(&Event::DatasetRewritten(body), act.event_id(0), &act, None, topics)?;
    let _nobody_reads = catalog.exchange();
    step(ctx, Step::Dataset, || Ok(access.store.append(vec![new], &[]).map(drop)?))?;
    exchange(ctx, &folders)
}

fn exchange(ctx: &EraseContext<'_>, folders: &Folders) -> Result<(), DataError> {
    step(ctx, Step::DatasetExchange, || {
        let blobs = ctx.data.catalog.blobs();
        let done = blobs.replace(&folders.new, &folders.version, &folders.old);
        ctx.data.catalog.forget_checks();
        Ok(done.map_err(DatasetError::from).map_err(CatalogError::from)?)
    })
}

/// Writes `version`, which lies in the folder `from`, without the people with these ids into the folder `to`, and counts anew
/// what the catalogue shows once enough people are gone.
fn without<'a>(
    ctx: &EraseContext<'a>,
    version: &DatasetVersion,
    (from, to): (&str, &str),
    ids: &BTreeSet<SubjectId>,
) -> Result<Option<Rewrite<'a>>, DataError> {
    let layout = Layout::new(&ctx.data.keys.key(label::BUCKET_LAYOUT), version.manifest.bucket_bits);
    let buckets: BTreeSet<u32> = ids.iter().map(|id| layout.bucket(*id)).collect();
    let people: BTreeSet<i64> = ids.iter().map(|id| id.get()).collect();
    let (blobs, tables) = (ctx.data.catalog.blobs(), ctx.data.tables);
    let made = Rewrite::new(blobs, tables, version, (from, to), &people, |b| buckets.contains(&b));
    let Some(mut rewrite) = made.map_err(CatalogError::from)? else { return Ok(None) };
    let gone = version.manifest.persons.saturating_sub(rewrite.manifest.persons);
    let before = version.manifest.erased.clone().unwrap_or_else(|| Erased {
        persons: 0,
        since_counted: 0,
        shown_persons: version.manifest.persons,
        shown_rows: version.manifest.rows(),
    });
    let mut erased =
        Erased { persons: before.persons + gone, since_counted: before.since_counted + gone, ..before };
    if erased.since_counted >= SMALLEST_CELL {
        let left = rewrite.version();
        rewrite.manifest.catalog = facts(ctx, &left)?.catalog(ctx.data.keys);
        erased.since_counted = 0;
        (erased.shown_persons, erased.shown_rows) = (rewrite.manifest.persons, rewrite.manifest.rows());
    }
    rewrite.manifest.erased = Some(erased);
    Ok(Some(rewrite))
}

fn facts(ctx: &EraseContext<'_>, version: &DatasetVersion) -> Result<Facts, DataError> {
    let mut facts = Facts::default();
    for bucket in version.buckets() {
        for spec in ctx.data.tables.iter() {
            let rows = version.bucket(&spec.table, bucket, None).map_err(CatalogError::from)?;
            if let Some(rows) = rows {
                facts.table(spec, &rows);
            }
        }
    }
    Ok(facts)
}

/// Versions that the ledger does not know and that were set aside: they are written anew too, without an entry.
fn orphaned(ctx: &EraseContext<'_>, unfinished: &Unfinished) -> Result<(), DataError> {
    let blobs = ctx.data.catalog.blobs();
    let listed = blobs.folders(ORPHANED).map_err(DatasetError::from).map_err(CatalogError::from)?;
    for name in listed {
        let from = format!("{ORPHANED}/{name}");
        // What is no version of this format has no rows that could be read.
        let Ok(version) = DatasetVersion::inspect(&blobs.path(&from)) else { continue };
        if unfinished.part.as_ref().is_some_and(|part| *part != version.manifest.contributor) {
            continue;
        }
        let new = format!("{ERASING}/{name}");
        if let Some(rewrite) = without(ctx, &version, (&from, &new), &unfinished.ids)? {
            rewrite.seal().map_err(CatalogError::from)?;
            let done = blobs.replace(&new, &from, &format!("{new}-old"));
            done.map_err(DatasetError::from).map_err(CatalogError::from)?;
        }
    }
    Ok(())
}
