//! The whole line of an ingest: from an export to a dataset version that is published.
//!
//! ```text
//! discover → reference pass (who is in it) → registry (subject ids) → map, in parallel → gather by bucket
//!   → derive → deidentify → measure risk → write → manifest → consents → ledger `dataset.published` → visible
//! ```
//!
//! Crash story. Until the ledger entry is durable nothing is visible; whatever else there is can be thrown away:
//!
//! - while mapping: spill files have no name and end with the process, and their key was in memory only;
//! - while writing: the folder `v<N>` is one that the ledger does not know; beginning `v<N>` again, or
//!   [`Catalog::remove_orphans`] at the next start, removes it;
//! - after the manifest, before the ledger: the same, although the version is complete;
//! - after the ledger entry: the version is visible, and repeating the command makes the next version of the same rows.
//!
//! Subject ids that the registry gave stay given; the same command finds them again. Only publication is an
//! acknowledgement. Consents of the export are recorded just before it, for what they refuse must be heard before the rows
//! can be asked for; a kill in between leaves them recorded, and the same command records nothing twice.

mod carried;
mod changes;
mod export;
mod people;
mod publish;
mod reports;
mod update;
mod versions;
mod whole;

#[cfg(test)]
mod tests;

pub use update::{Remap, Update, Updated};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use almoner_deid::{DeidError, Profile, ProfileError};
use almoner_model::{Clock, ContributorId, DatasetId, Date, Entropy, Seq, Tables};
use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, CatalogError};
use crate::cohort::plan::Concepts;
use crate::dataset::{DatasetError, Mode};
use crate::error::ErrorKind;
use crate::events::{ContributorRegistered, Event};
use crate::flows::access::{AccessContext, AccessError};
use crate::flows::act::Act;
use crate::flows::consent::ConsentSummary;
use crate::flows::question;
use crate::gather::GatherError;
use crate::intake::vocabulary::{LoadError, LoadedVocabulary};
use crate::intake::{Entry, Export, IntakeError, Limits, classify, discover};
use crate::jobs::{Progress, Unit};
use crate::keys::{Keyring, label};
use crate::mapping::outcome::{Reason, Rule};
use crate::mapping::{KeyedHasher, StageError};
use crate::registry::{Registry, RegistryError};
use crate::state::{records, topic};
use crate::store::{NewEntry, Precondition, Store, StoreError};

/// What an ingest works with. [`crate::app::App`] makes one; tests make their own.
#[derive(Clone, Copy)]
pub struct IngestContext<'a> {
    /// The canonical tables.
    pub tables: &'a Tables,
    /// The ledger and its state.
    pub store: &'a dyn Store,
    /// Who is who.
    pub registry: &'a Arc<Registry>,
    /// All keys.
    pub keys: &'a Keyring,
    /// Time.
    pub clock: &'a dyn Clock,
    /// Randomness.
    pub entropy: &'a dyn Entropy,
    /// Datasets.
    pub catalog: &'a Catalog,
    /// The vocabulary that codes are mapped with, where one is loaded.
    pub vocabulary: Option<&'a LoadedVocabulary>,
    /// A folder for working files, inside the data folder.
    pub spool: &'a Path,
    /// How much the machine gives.
    pub limits: &'a Limits,
    /// Records the consents of an export; without, they are counted and left.
    pub consents: Option<AccessContext<'a>>,
}

/// Where the export is.
pub enum Source {
    /// A folder, or one file.
    Path(PathBuf),
    /// Uploads that are spooled under other names.
    Uploads(Vec<Entry>),
}

/// What to ingest, and how.
pub struct IngestRequest {
    /// The export.
    pub source: Source,
    /// Whose data it is; registered where unknown.
    pub contributor: ContributorId,
    /// The dataset; the contributor's id where none is named.
    pub dataset: Option<DatasetId>,
    /// The profile.
    pub profile: String,
    /// Whether the export is everything, or what changed.
    pub mode: Mode,
    /// For a contributor that is new: whether its patients are linked with those of others that opted in.
    pub linkage: bool,
    /// What the caller says that the export cannot.
    pub told: Told,
    /// Who does it.
    pub act: Act,
}

/// What a caller says of an export that the export itself cannot say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// Equal `Patient.id`s (FHIR) and `person_id`s (OMOP) of the contributor are the same person. To be said when the second
    /// form of its data first comes.
    pub same_person_ids: bool,
    /// A whole export counts as whole although a file of it could not be read to its end.
    pub accept_incomplete: bool,
    /// A whole export replaces a version of which it has less than half of the people.
    pub replace_all: bool,
}

/// What an ingest came to.
#[derive(Clone, Debug, Serialize)]
pub struct IngestSummary {
    /// The dataset.
    pub dataset: DatasetId,
    /// The version that was published.
    pub version: u32,
    /// Whose data.
    pub contributor: ContributorId,
    /// The profile that was applied.
    pub profile: String,
    /// People in the version.
    pub persons: u64,
    /// Rows by table.
    pub tables: BTreeMap<String, u64>,
    /// Lines read and what became of them.
    pub lines: Lines,
    /// Unmapped lines, by reason.
    pub reasons: BTreeMap<Reason, u64>,
    /// Quarantined lines, by rule.
    pub rules: BTreeMap<Rule, u64>,
    /// Files that could not be read to their end.
    pub stopped: Vec<Stopped>,
    /// Entries of the export that were left alone, by reason.
    pub strangers: BTreeMap<&'static str, u64>,
    /// Record numbers that more than one patient of the contributor has or had, and by which consents therefore name nobody.
    pub record_numbers_ambiguous: u64,
    /// Consents found and recorded.
    pub consents: Consents,
    /// Where the ledger says that the version was published.
    pub ledger_seq: Seq,
    /// How long it took.
    pub seconds: f64,
}

/// A file that could not be read to its end: what followed is not in the version.
#[derive(Clone, Debug, Serialize)]
pub struct Stopped {
    /// Its ordinal in the export.
    pub file: u32,
    /// What it holds.
    pub kind: &'static str,
    /// Lines read before.
    pub lines: u64,
    /// Why: `truncated`, `corrupt-container`, `expansion-limit`, ….
    pub rule: Rule,
}

/// Lines read and what became of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Lines {
    /// All.
    pub read: u64,
    /// That became rows.
    pub mapped: u64,
    /// Of which nothing was made.
    pub unmapped: u64,
    /// That are not what they should be.
    pub quarantined: u64,
}

/// Consents of an export.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Consents {
    /// Found.
    pub found: u64,
    /// What became of them; `None` where they were not taken.
    #[serde(flatten)]
    pub taken: Option<ConsentSummary>,
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The export cannot be read.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// Rows could not be kept.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// Rows could not be gathered.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The profile does not load.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// De-identification refused the rows.
    #[error(transparent)]
    Deid(#[from] DeidError),
    /// A dataset file could not be written.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The catalogue failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The vocabulary does not load.
    #[error(transparent)]
    Vocabulary(#[from] LoadError),
    /// The consents of the export could not be recorded.
    #[error("the consents of the export could not be recorded: {0}")]
    Consents(#[from] AccessError),
    /// The ledger did not take the entry.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The dataset is another contributor's.
    #[error("dataset {0} belongs to another contributor: name another with --dataset")]
    NotYours(DatasetId),
    /// Another ingest into the dataset is running.
    #[error("another ingest into dataset {0}, or an erasure, is running: wait for it")]
    Busy(DatasetId),
    /// Nobody in the export could be taken in.
    #[error("nobody in the export could be taken in: {0} lines were read and {1} of them quarantined")]
    Nobody(u64, u64),
    /// A whole export was not read to its end. Says which files, and why.
    #[error(
        "the export cannot be read to its end, so it is not the whole: {0}. `almoner inspect DIR --files` names files by \
         number. Send it whole, or publish what there is with --accept-incomplete (accept_incomplete)"
    )]
    Incomplete(String),
    /// A whole export has other people than the version that it would replace.
    #[error(
        "of {before} people of version {version}, {again} are in this export, which would replace them all: choose another \
         dataset with --dataset, send changes with --incremental, or say with --replace-all (replace_all) that it is right"
    )]
    OtherPeople {
        /// The version that is there.
        version: u32,
        /// How many of its people the export has, rounded.
        again: String,
        /// How many people it has, rounded.
        before: String,
    },
    /// The mode is not possible here.
    #[error("{0}")]
    NotPossible(String),
    /// The caller wanted it to stop.
    #[error("stopped as asked; nothing was published")]
    Cancelled,
    /// Something of ours failed.
    #[error("{0}")]
    Internal(String),
}

impl IngestError {
    /// Which kind of "no" this is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Intake(error) => error.kind(),
            Self::Gather(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::Dataset(error) => error.kind(),
            Self::Catalog(error) => error.kind(),
            Self::Consents(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Vocabulary(error) => error.kind(),
            Self::Profile(_)
            | Self::Nobody(..)
            | Self::Incomplete(_)
            | Self::OtherPeople { .. }
            | Self::NotPossible(_) => ErrorKind::Invalid,
            Self::NotYours(_) => ErrorKind::Denied,
            Self::Busy(_) | Self::Cancelled => ErrorKind::Conflict,
            Self::Stage(_) | Self::Deid(_) | Self::Internal(_) => ErrorKind::Fault,
        }
    }
}

/// What a run has settled before it reads the export.
pub(super) struct Run<'a> {
    ctx: IngestContext<'a>,
    progress: &'a dyn Progress,
    contributor: records::Contributor,
    dataset: DatasetId,
    version: u32,
    profile: Profile,
    mode: Mode,
    /// The day at which ages are tested: that of the ingest.
    reference_date: Date,
    /// The epoch of date offsets.
    epoch: u32,
    /// What the caller says that the export cannot.
    told: Told,
    /// Ledger size when the version number was chosen.
    as_of: Seq,
    act: Act,
}

/// Runs an ingest to publication.
///
/// # Errors
/// [`IngestError`]; nothing was published, and the same request can be made again.
pub fn run(
    ctx: IngestContext<'_>,
    request: IngestRequest,
    progress: &dyn Progress,
) -> Result<IngestSummary, IngestError> {
    let started = now();
    let hasher = KeyedHasher::new(&ctx.keys.scoped(label::ROW_KEY, request.contributor.as_str()));
    let export = open(&ctx, &request, progress)?;
    let profile = profile(&ctx, &request.profile)?;
    let dataset = match request.dataset {
        Some(dataset) => dataset,
        None => request.contributor.as_str().parse().map_err(|e| IngestError::Internal(format!("{e}")))?,
    };
    let _claim = ctx.catalog.claim(&dataset).ok_or_else(|| IngestError::Busy(dataset.clone()))?;
    let contributor = contributor(&ctx, &request.contributor, request.linkage, &request.act)?;
    let as_of = ctx.store.size();
    let version = next_version(&ctx, &dataset, &request.contributor)?;
    let base = match request.mode {
        Mode::Full => None,
        _ => Some(update::base(&ctx, &dataset, &profile)?),
    };
    let epoch = match &base {
        Some(base) => base.manifest.offset_epoch,
        None => ctx.registry.offset_epoch()?,
    };
    let run = Run {
        ctx,
        progress,
        contributor,
        dataset,
        version,
        profile,
        mode: request.mode,
        reference_date: ctx.clock.now().date(),
        epoch,
        told: request.told,
        as_of,
        act: request.act,
    };
    let people = people::find(&run, &export, hasher)?;
    let bits = base.as_ref().map(|base| base.manifest.bucket_bits);
    let mapped = export::map(&run, &export, &people, bits)?;
    whole::is_complete(&run, &export, &mapped.report.files)?;
    let (contributor, agree) = (&run.contributor.body.contributor, run.told.same_person_ids);
    ctx.registry.keep_id_spaces(contributor, &people::forms(&export), people.persons.spaces(), agree)?;
    let mut summary = match &base {
        None => publish::publish(&run, &export, &people, mapped)?,
        Some(base) => update::publish(&run, &export, &people, mapped, base)?,
    };
    summary.seconds = now().duration_since(started).as_secs_f64();
    Ok(summary)
}

#[expect(clippy::disallowed_methods, reason = "measures how long the run took, for its report")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn open(
    ctx: &IngestContext<'_>,
    request: &IngestRequest,
    progress: &dyn Progress,
) -> Result<Export, IngestError> {
    progress.stage("discover", None, Unit::Files);
    let names = KeyedHasher::new(&ctx.keys.scoped(label::FILE_NAME, request.contributor.as_str()));
    let export = match &request.source {
        Source::Path(path) => discover(path, ctx.limits, &names)?,
        Source::Uploads(entries) => classify(entries.clone(), ctx.limits, &names)?,
    };
    progress.advance(export.inputs.len() as u64);
    Ok(export)
}

fn profile(ctx: &IngestContext<'_>, name: &str) -> Result<Profile, ProfileError> {
    question::profile(name, ctx.tables, ctx.vocabulary.map(|v| v as &dyn Concepts))
}

/// The contributor's record; registers one that is unknown.
fn contributor(
    ctx: &IngestContext<'_>,
    id: &ContributorId,
    linkage: bool,
    act: &Act,
) -> Result<records::Contributor, IngestError> {
    let read = || -> Result<Option<records::Contributor>, IngestError> {
        let value = ctx.store.get("contributor", id.as_str())?;
        let record = value.map(serde_json::from_value).transpose();
        record.map_err(|_| IngestError::Internal("the contributor's record is not intact".to_owned()))
    };
    let as_of = ctx.store.size();
    if let Some(known) = read()? {
        return Ok(known);
    }
    let body = ContributorRegistered { contributor: id.clone(), name: id.to_string(), linkage, k_min: None };
    let topic = topic::contributor(id);
    // The registration is an act of its own: repeating the ingest must not repeat it.
    let registering = Act::repeated(ctx.keys, act.actor.clone(), format!("register {id}").as_bytes());
    let entry =
        entry(&Event::ContributorRegistered(body), registering.event_id(0), act, vec![topic.clone()])?;
    match ctx.store.append(vec![entry], &[Precondition { topic, as_of }]) {
        Ok(_) | Err(StoreError::Precondition { .. } | StoreError::Rejected(_)) => {}
        Err(error) => return Err(error.into()),
    }
    read()?.ok_or_else(|| IngestError::Internal("the contributor was not registered".to_owned()))
}

/// A ledger entry of `event`.
pub(crate) fn entry(
    event: &Event,
    event_id: String,
    act: &Act,
    topics: Vec<String>,
) -> Result<NewEntry, IngestError> {
    let payload =
        event.payload().map_err(|_| IngestError::Internal("an entry could not be written".to_owned()))?;
    Ok(NewEntry {
        event_id,
        kind: event.kind(),
        actor: act.actor.clone(),
        subject: None,
        payload,
        policy: None,
        decision: None,
        as_of: None,
        until: None,
        topics,
    })
}

fn next_version(
    ctx: &IngestContext<'_>,
    dataset: &DatasetId,
    contributor: &ContributorId,
) -> Result<u32, IngestError> {
    match ctx.catalog.record(dataset)? {
        None => Ok(1),
        Some(record) if record.contributor == *contributor => Ok(record.versions.len() as u32 + 1),
        Some(_) => Err(IngestError::NotYours(dataset.clone())),
    }
}

/// Removes the working folders of ingests that a crash ended. Only for the owner of the data folder, before any ingest.
pub fn remove_leftovers(spool: &Path) {
    let Ok(items) = std::fs::read_dir(spool) else { return };
    for item in items.flatten() {
        if item.file_name().to_string_lossy().starts_with("ingest-") {
            // A folder that cannot be removed holds locators and sealed rows without a key; the next start tries again.
            let _ = std::fs::remove_dir_all(item.path());
        }
    }
}
