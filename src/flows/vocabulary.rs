//! Loading OMOP vocabularies, and mapping a dataset anew with them: a new version without a new upload.
//!
//! A remap reads the version before, gives rows the concepts of their codes (and the table of their concept's domain),
//! derives eras and periods again, and applies the profile once more to data that declares it already. Dates are as they
//! were: intervals are exact in shifted dates, so eras are too. Where dates are only years, eras cannot be derived again
//! and a remap is refused.

use std::collections::BTreeMap;
use std::path::Path;

use almoner_model::{DatasetId, Seq};
use serde::Serialize;

use super::act::Act;
use super::ingest::{IngestContext, IngestError, Update};
use crate::events::{Event, VocabularyLoaded};
use crate::intake::discover;
use crate::intake::vocabulary::{LoadReport, load as load_tables};
use crate::jobs::{Progress, Unit};
use crate::keys::label;
use crate::mapping::KeyedHasher;
use crate::mapping::vocabulary::{Assign, ConceptMapper, ConceptReport};

/// A vocabulary that was loaded.
#[derive(Clone, Debug, Serialize)]
pub struct Loaded {
    /// What it holds.
    #[serde(flatten)]
    pub loaded: LoadReport,
    /// Where the ledger says so.
    pub ledger_seq: Seq,
}

/// Loads the vocabulary tables of `dir` into `folder`.
///
/// # Errors
/// [`IngestError`]; the vocabulary that was there before still is.
pub fn load(
    ctx: &IngestContext<'_>,
    dir: &Path,
    folder: &Path,
    act: &Act,
    progress: &dyn Progress,
) -> Result<Loaded, IngestError> {
    progress.stage("vocabulary", None, Unit::Rows);
    let names = KeyedHasher::new(&ctx.keys.scoped(label::FILE_NAME, "vocabulary"));
    let export = discover(dir, ctx.limits, &names)?;
    let loaded = load_tables(&export, ctx.limits, folder)?;
    progress.advance(loaded.stats.concepts);
    let event = Event::VocabularyLoaded(VocabularyLoaded {
        vocabulary: loaded.sha256,
        concepts: loaded.stats.concepts,
    });
    let entry = super::ingest::entry(&event, act.event_id(0), act, Vec::new())?;
    let appended = ctx.store.append(vec![entry], &[])?;
    Ok(Loaded { loaded, ledger_seq: appended.first().map_or(0, |a| a.seq) })
}

/// What a remap came to.
#[derive(Clone, Debug, Serialize)]
pub struct Remapped {
    /// The dataset.
    pub dataset: DatasetId,
    /// The version that was published.
    pub version: u32,
    /// People in it.
    pub persons: u64,
    /// Rows by table.
    pub tables: BTreeMap<String, u64>,
    /// What the vocabulary did.
    pub concepts: ConceptReport,
    /// Where the ledger says that the version was published.
    pub ledger_seq: Seq,
}

/// Maps a dataset anew with the loaded vocabulary.
///
/// # Errors
/// [`IngestError::NotPossible`] without a vocabulary, where dates are only years, or where profile or tables changed
/// since; other errors as of an ingest. Nothing was published then.
pub fn remap(
    ctx: IngestContext<'_>,
    dataset: &DatasetId,
    act: Act,
    progress: &dyn Progress,
) -> Result<Remapped, IngestError> {
    let Some(vocabulary) = ctx.vocabulary else {
        return Err(IngestError::NotPossible(
            "no vocabulary is loaded: `almoner vocabulary load DIR`".to_owned(),
        ));
    };
    let update = Update::begin(ctx, dataset, act, progress)?;
    let mapper = || ConceptMapper::new(ctx.tables, &vocabulary.index, Assign::Known);
    let done = update.remap(&mapper)?;
    Ok(Remapped {
        dataset: dataset.clone(),
        version: done.manifest.version,
        persons: done.manifest.persons,
        tables: done.manifest.rows(),
        concepts: done.concepts,
        ledger_seq: done.ledger_seq,
    })
}
