//! What a question about people is asked of: dataset versions as sources of the cohort engine, with what they declare.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use almoner_deid::{Declares, Profile, ProfileError, Zip3};
use almoner_model::{Code, ContributorId, DatasetId, ReleaseId, Tables};

use super::access::{AccessContext, AccessError};
use super::permitted::{PermittedIn, PermittedSubjects};
use crate::catalog::{Catalog, CatalogError};
use crate::cohort::execute::{ExecuteError, OffsetDays, Permitted, Source, SourceFile};
use crate::cohort::plan::{Concepts, DatasetFacts, Held, TableFacts, apart};
use crate::cohort::{DefinitionError, Plan, SimpleCohort, plan};
use crate::consent::{Category, CategorySet, Limits};
use crate::dataset::{DatasetVersion, Extent};
use crate::error::ErrorKind;
use crate::intake::vocabulary::LoadedVocabulary;
use crate::keys::Keyring;
use crate::mapping::vocabulary::ConceptLookup;
use crate::release::ReleaseError;

impl Concepts for LoadedVocabulary {
    fn of_code(&self, code: &Code) -> Option<i64> {
        self.index.find(code.vocabulary().id(), code.code()).map(|found| found.source)
    }

    fn knows(&self, concept: i64) -> bool {
        self.index.domain(concept).is_some()
    }

    fn standard(&self, concept: i64) -> Vec<i64> {
        self.index.standard(concept).into_iter().map(|s| s.concept).collect()
    }

    fn descendants(&self, concept: i64) -> Option<Vec<i64>> {
        // A hierarchy that cannot be read is none: the answer is a refusal, not a smaller cohort.
        if self.ancestors.is_empty() { None } else { self.ancestors.descendants(concept).ok() }
    }
}

/// A built-in profile, which also knows results that tell an age or a birth by the concepts of the loaded vocabulary.
///
/// # Errors
/// [`ProfileError`]: there is no such profile.
pub(super) fn profile(
    name: &str,
    tables: &Tables,
    vocabulary: Option<&dyn Concepts>,
) -> Result<Profile, ProfileError> {
    let concepts = |code: &Code| -> Vec<i64> {
        let Some((vocabulary, concept)) = vocabulary.and_then(|v| Some((v, v.of_code(code)?))) else {
            return Vec::new();
        };
        vocabulary.standard(concept).into_iter().chain([concept]).collect()
    };
    Ok(Profile::named(name, tables)?.with_age_concepts(concepts))
}

/// What counts and releases work on.
#[derive(Clone, Copy)]
pub struct DataContext<'a> {
    /// Ledger, state, registry, documents, time.
    pub access: AccessContext<'a>,
    /// The datasets.
    pub catalog: &'a Catalog,
    /// The key ring.
    pub keys: &'a Keyring,
    /// The canonical tables.
    pub tables: &'a Tables,
    /// The loaded vocabulary, if there is one.
    pub vocabulary: Option<&'a dyn Concepts>,
    /// Areas that may be named.
    pub zip3: &'a Arc<Zip3>,
    /// The date offset of a person's stored dates, by the dataset's epoch (`Registry::offset_days`).
    pub offset_days: OffsetDays<'a>,
    /// The folder of releases.
    pub releases: &'a std::path::Path,
    /// Name of the ledger.
    pub origin: &'a str,
}

/// Why a count, a release or a download was not done.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Access: state, consent, policy.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A dataset.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The definition.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The engine.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// The package.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// Nobody, with reasons.
    #[error("nobody in these datasets permits this: {}", reasons.join("; "))]
    Nobody {
        /// Why, each a sentence.
        reasons: Vec<String>,
    },
    /// A recipient asked for too many counts lately.
    #[error(
        "{asked} different cohorts were counted for this recipient in {} days, and that is as many as are answered, because many \
         answers together tell of single people; a cohort that was counted is answered again, a new one from {again}",
        super::count::WINDOW_DAYS
    )]
    Counts {
        /// How many.
        asked: u64,
        /// When the oldest of them is out of the reckoning.
        again: almoner_model::Timestamp,
    },
    /// The profile of the release is weaker than the data's own.
    #[error(
        "profile '{profile}' is weaker than the profile of dataset '{dataset}'; ask for one at least as strict"
    )]
    Weaker {
        /// The release's.
        profile: String,
        /// The dataset.
        dataset: DatasetId,
    },
    /// The project has dates of another kind of the same people.
    #[error(
        "release {release} of this project gave dates of another kind (true, moved or years only), and both kinds of one person \
         would tell by how much dates were moved: keep to its profile, or create a project of its own"
    )]
    OtherDates {
        /// The earlier release.
        release: ReleaseId,
    },
    /// Dates of the datasets were not moved alike.
    #[error(
        "datasets '{}' and '{}' do not keep one person's dates on one timeline (moved and true dates, or moved by different \
         offsets): ask for them in requests of their own", datasets[0], datasets[1]
    )]
    Timelines {
        /// Two of them.
        datasets: [DatasetId; 2],
    },
}

impl From<crate::store::StoreError> for DataError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Access(error.into())
    }
}

impl From<crate::state::ReadError> for DataError {
    fn from(error: crate::state::ReadError) -> Self {
        Self::Access(error.into())
    }
}

impl DataError {
    /// Which of the five kinds.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Access(e) => e.kind(),
            Self::Catalog(e) => e.kind(),
            Self::Definition(e) => e.kind(),
            Self::Execute(e) => e.kind(),
            Self::Release(e) => e.kind(),
            Self::Nobody { .. } => ErrorKind::Denied,
            Self::Counts { .. } => ErrorKind::Refused,
            Self::Weaker { .. } | Self::Timelines { .. } | Self::OtherDates { .. } => ErrorKind::Invalid,
        }
    }

    pub(super) fn failed(what: impl Into<String>) -> Self {
        Self::Access(AccessError::Failed(what.into()))
    }
}

/// A planned question over dataset versions.
pub struct Question {
    /// The versions, in order of precedence.
    pub versions: Vec<DatasetVersion>,
    /// The same, for the engine.
    pub sources: Vec<Source>,
    /// The plan.
    pub plan: Plan,
}

impl Question {
    /// Plans `definition` over the latest versions of `datasets`.
    ///
    /// # Errors
    /// [`DataError::Definition`] with the JSON Pointer of what cannot be answered, [`DataError::Catalog`].
    pub fn new(ctx: &DataContext<'_>, definition: &[u8], datasets: &[DatasetId]) -> Result<Self, DataError> {
        let cohort = SimpleCohort::parse(definition)?;
        let mut versions: Vec<DatasetVersion> = Vec::new();
        for dataset in datasets {
            if versions.iter().all(|v| v.manifest.dataset != *dataset) {
                versions.push(ctx.catalog.latest(dataset)?);
            }
        }
        let facts: Vec<DatasetFacts> = versions.iter().map(facts).collect();
        let plan = plan(&cohort, &facts, ctx.vocabulary)?;
        let tables: BTreeSet<&str> =
            plan.tables().into_iter().chain(["person", "observation_period"]).collect();
        for version in &versions {
            ctx.catalog.check(version, &tables)?;
        }
        Ok(Self { sources: versions.iter().map(source).collect(), versions, plan })
    }

    /// The categories of data that the criteria look at; a count looks at who is there in any case.
    ///
    /// # Errors
    /// Never for a plan of canonical tables.
    pub fn categories(&self) -> Result<CategorySet, DataError> {
        let set = CategorySet::of_tables(self.plan.tables());
        set.map(|s| s.with(Category::Demographics))
            .map_err(|_| DataError::failed("a plan names an unknown table"))
    }

    /// Whose data.
    pub fn contributors(&self) -> Vec<ContributorId> {
        let mut all: Vec<ContributorId> =
            self.versions.iter().map(|v| v.manifest.contributor.clone()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Refuses datasets that cannot stand in one release: one person's rows would lie on several timelines.
    ///
    /// # Errors
    /// [`DataError::Timelines`].
    pub fn one_timeline(&self) -> Result<(), DataError> {
        let facts: Vec<DatasetFacts> = self.versions.iter().map(facts).collect();
        match apart(&facts) {
            None => Ok(()),
            Some((a, b)) => Err(DataError::Timelines { datasets: [a.clone(), b.clone()] }),
        }
    }

    /// Which versions.
    pub fn version_numbers(&self) -> BTreeMap<DatasetId, u32> {
        self.versions.iter().map(|v| (v.manifest.dataset.clone(), v.manifest.version)).collect()
    }

    /// The permitted people of each source, in order.
    pub fn permitted<'p>(&self, permitted: &'p PermittedSubjects) -> Vec<Permitted<'p>> {
        static NOBODY: BTreeMap<i64, Limits> = BTreeMap::new();
        let view = |p: &'p PermittedIn| Permitted { ids: &p.ids, limits: &p.limits };
        let of = |v: &DatasetVersion| permitted.datasets.get(&v.manifest.dataset).map(view);
        self.versions.iter().map(|v| of(v).unwrap_or(Permitted { ids: &[], limits: &NOBODY })).collect()
    }

    /// What the versions declare, taken together: the least that holds of each.
    pub fn declared(&self) -> Option<Declares> {
        let all = self.versions.iter().map(|v| v.manifest.declares);
        all.reduce(|a, b| Declares { shift_days_max: a.shift_days_max.max(b.shift_days_max), ..a.after(b) })
    }
}

fn source(version: &DatasetVersion) -> Source {
    let m = &version.manifest;
    let file = |f: &crate::dataset::FileEntry| SourceFile {
        table: f.table.clone(),
        bucket: f.bucket,
        path: version.path(f),
        rows: f.rows,
    };
    Source {
        dataset: m.dataset.clone(),
        bucket_bits: m.bucket_bits,
        date_precision: m.declares.date_precision,
        offset_epoch: m.declares.shifted.then_some(m.offset_epoch),
        files: m.files.iter().map(file).collect(),
    }
}

fn facts(version: &DatasetVersion) -> DatasetFacts {
    let m = &version.manifest;
    let held = |extent: Extent| match extent {
        Extent::None => Held::None,
        Extent::Some => Held::Some,
        Extent::All => Held::All,
    };
    let table = |(name, entry): (&String, &crate::dataset::TableEntry)| {
        let listed = m.catalog.tables.get(name);
        // Where a vocabulary was applied, a row without a concept has a code that has none.
        let mapped = m.vocabulary.is_some() && entry.rows > 0;
        let facts = TableFacts {
            rows: entry.rows,
            concept_ids: if mapped { Held::All } else { listed.map_or(Held::None, |t| held(t.concepts)) },
            source_codes: listed.map_or(Held::None, |t| held(t.source_codes)),
        };
        (name.clone(), facts)
    };
    DatasetFacts {
        dataset: m.dataset.clone(),
        date_precision: m.declares.date_precision,
        offset_epoch: m.declares.shifted.then_some(m.offset_epoch),
        age_top_code: m.declares.age_top_code,
        tables: m.tables.iter().map(table).collect(),
    }
}
