//! The catalogue: which datasets there are, and what each of them holds, in counts.
//!
//! The end of the arrow `deid → dataset → catalog`. A dataset is in the catalogue when the ledger says so; everything
//! shown is in its manifest, whose digest is in the ledger. Codes of fewer people than [`SMALLEST_CELL`] are not in the
//! manifest at all, and numbers of people below it are not shown. Numbers of people by code are near the true ones, so that
//! two versions do not show who joined (`facts`).

mod facts;

pub use facts::{Facts, Rows, add_rows};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use almoner_deid::Declares;
use almoner_model::{ContributorId, DatasetId, Timestamp};
use serde::Serialize;

use crate::blob::Blobs;
use crate::dataset::{DatasetError, DatasetVersion, Intact, Manifest, Mode, TableCatalog};
use crate::error::ErrorKind;
use crate::state::records;
use crate::store::{Store, StoreError};

/// The folder of complete versions that the ledger does not know. No dataset has such an id.
pub const ORPHANED: &str = ".orphaned";
/// The folder in which versions are written anew for an erasure. No dataset has such an id.
pub const ERASING: &str = ".erasing";
const MANIFEST: &str = "manifest.json";

/// Folders of versions that the ledger does not know.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Orphans {
    /// Complete ones, moved to where they are found.
    pub set_aside: Vec<String>,
    /// Parts of versions, removed.
    pub removed: Vec<String>,
}

/// No number of people below this is shown (the CMS cell size suppression policy).
pub const SMALLEST_CELL: u64 = 11;

/// Why the catalogue cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The ledger's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A version could not be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// There is no such dataset.
    #[error("there is no dataset {0}")]
    NoDataset(DatasetId),
    /// A record of the folded state is not what this version writes.
    #[error("the dataset records of the state are not intact; run `almoner verify`")]
    Malformed,
}

impl CatalogError {
    /// Which kind of "no" this is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Dataset(error) => error.kind(),
            Self::NoDataset(_) => ErrorKind::Invalid,
            Self::Malformed => ErrorKind::Fault,
        }
    }
}

/// The datasets of an exchange.
#[derive(Clone)]
pub struct Catalog {
    blobs: Blobs,
    store: Arc<dyn Store>,
    claimed: Arc<Mutex<Claimed>>,
    /// Held for reading by whoever reads files of datasets and releases, and for writing while they are exchanged.
    still: Arc<RwLock<()>>,
    intact: Arc<Intact>,
}

#[derive(Debug, Default)]
struct Claimed {
    datasets: BTreeSet<DatasetId>,
    all: bool,
}

/// Held while a version of a dataset is made: there is one maker at a time.
#[derive(Debug)]
pub struct Claim {
    dataset: DatasetId,
    claimed: Arc<Mutex<Claimed>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).datasets.remove(&self.dataset);
    }
}

/// Held while no version of any dataset is made.
#[derive(Debug)]
pub struct ClaimOfAll(Arc<Mutex<Claimed>>);

impl Drop for ClaimOfAll {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all = false;
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Catalog")
    }
}

/// One dataset, as the catalogue shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Listing {
    /// The dataset.
    pub dataset: DatasetId,
    /// Whose data.
    pub contributor: ContributorId,
    /// The latest version.
    pub version: u32,
    /// When it was made.
    pub created: Timestamp,
    /// How it came to be.
    pub mode: Mode,
    /// The profile that was applied.
    pub profile: String,
    /// What the data says of itself.
    pub declares: Declares,
    /// The version that the numbers are of: an earlier one, so long as few people changed since.
    pub counted_version: u32,
    /// People in it; `None` where fewer than the smallest cell.
    pub persons: Option<u64>,
    /// First and last year of any event.
    pub years: Option<(i32, i32)>,
    /// Rows by table; `None` where fewer people than the smallest cell have any.
    pub tables: BTreeMap<String, Option<u64>>,
    /// What recipients must agree to.
    pub terms_of_use: String,
}

/// One dataset in full.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// The listing.
    #[serde(flatten)]
    pub listing: Listing,
    /// Codes and findings by table; of tables that may be shown.
    pub contents: BTreeMap<String, TableCatalog>,
    /// Findings about the quality of the data.
    pub quality: serde_json::Value,
    /// Where the ledger says that the version was published.
    pub ledger_seq: u64,
    /// SHA-256 of the manifest.
    pub manifest: almoner_model::Digest,
}

impl Catalog {
    /// Over the folder of datasets and the ledger's store.
    pub fn new(blobs: Blobs, store: Arc<dyn Store>) -> Self {
        Self { blobs, store, claimed: Arc::default(), still: Arc::default(), intact: Arc::default() }
    }

    /// Checks that the files of `version` in `tables` are those that were published, before they are used. Files that
    /// were checked before and lie there unchanged are not read again.
    ///
    /// # Errors
    /// [`DatasetError::Differs`] with the first file that is not.
    pub fn check(&self, version: &DatasetVersion, tables: &BTreeSet<&str>) -> Result<(), CatalogError> {
        Ok(self.intact.check(version, tables)?)
    }

    /// Forgets what was checked, so that the next check reads the files themselves.
    pub fn forget_checks(&self) {
        self.intact.forget();
    }

    /// Claims a dataset for making its next version; `None` while another claim is held.
    pub fn claim(&self, dataset: &DatasetId) -> Option<Claim> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let free = !claimed.all && claimed.datasets.insert(dataset.clone());
        free.then(|| Claim { dataset: dataset.clone(), claimed: Arc::clone(&self.claimed) })
    }

    /// Claims all datasets, also those that are not there yet; `None` while any claim is held.
    pub fn claim_all(&self) -> Option<ClaimOfAll> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if claimed.all || !claimed.datasets.is_empty() {
            return None;
        }
        claimed.all = true;
        Some(ClaimOfAll(Arc::clone(&self.claimed)))
    }

    /// As long as it is held, files of datasets and releases stay what the ledger says.
    pub fn still(&self) -> RwLockReadGuard<'_, ()> {
        self.still.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody reads files of datasets and releases, and keeps everybody from it.
    pub fn exchange(&self) -> RwLockWriteGuard<'_, ()> {
        self.still.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder of datasets.
    pub const fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// What the ledger says of a dataset.
    ///
    /// # Errors
    /// [`CatalogError::Store`], [`CatalogError::Malformed`].
    pub fn record(&self, dataset: &DatasetId) -> Result<Option<records::Dataset>, CatalogError> {
        let value = self.store.get("dataset", dataset.as_str())?;
        value.map(|v| serde_json::from_value(v).map_err(|_| CatalogError::Malformed)).transpose()
    }

    /// What the ledger says of all datasets, by id.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn records(&self) -> Result<Vec<records::Dataset>, CatalogError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.scan("dataset", "", after.as_deref(), 500)?;
            let Some((last, _)) = page.last() else { return Ok(all) };
            after = Some(last.clone());
            for (_, value) in page {
                all.push(serde_json::from_value(value).map_err(|_| CatalogError::Malformed)?);
            }
        }
    }

    /// The latest version of a dataset.
    ///
    /// # Errors
    /// [`CatalogError::NoDataset`] if nothing was published under this id; [`CatalogError::Dataset`].
    pub fn latest(&self, dataset: &DatasetId) -> Result<DatasetVersion, CatalogError> {
        let record = self.record(dataset)?.ok_or_else(|| CatalogError::NoDataset(dataset.clone()))?;
        let last = record.versions.last().ok_or_else(|| CatalogError::NoDataset(dataset.clone()))?;
        self.open(&record, last.body.version)
    }

    /// One version of a dataset.
    ///
    /// # Errors
    /// As [`Self::latest`].
    pub fn version(&self, dataset: &DatasetId, version: u32) -> Result<DatasetVersion, CatalogError> {
        let record = self.record(dataset)?.ok_or_else(|| CatalogError::NoDataset(dataset.clone()))?;
        self.open(&record, version)
    }

    fn open(&self, record: &records::Dataset, version: u32) -> Result<DatasetVersion, CatalogError> {
        let dataset = &record.dataset;
        let manifest = record.manifest(version);
        let manifest =
            manifest.ok_or_else(|| DatasetError::NoVersion { dataset: dataset.to_string(), version })?;
        Ok(DatasetVersion::open(&self.blobs, dataset, version, &manifest)?)
    }

    /// All datasets, in their latest versions; with the numbers of these where `own` holds of the contributor.
    ///
    /// # Errors
    /// As [`Self::latest`].
    pub fn list(&self, own: &dyn Fn(&ContributorId) -> bool) -> Result<Vec<Listing>, CatalogError> {
        let records = self.records()?;
        records.iter().map(|r| Ok(self.listed(self.latest(&r.dataset)?, own)?.0)).collect()
    }

    /// One dataset in full; `own` as in [`Self::list`].
    ///
    /// # Errors
    /// As [`Self::latest`].
    pub fn describe(
        &self,
        dataset: &DatasetId,
        own: &dyn Fn(&ContributorId) -> bool,
    ) -> Result<Description, CatalogError> {
        let record = self.record(dataset)?.ok_or_else(|| CatalogError::NoDataset(dataset.clone()))?;
        let version = self.latest(dataset)?;
        let digest = version.digest;
        let (listing, counted) = self.listed(version, own)?;
        let shown = |table: &str| listing.tables.get(table).is_some_and(Option::is_some);
        let contents = counted.catalog.tables.iter().filter(|(table, _)| shown(table));
        Ok(Description {
            contents: contents.map(|(table, catalog)| (table.clone(), catalog.clone())).collect(),
            quality: counted.reports.get("quality").cloned().unwrap_or_default(),
            ledger_seq: record.versions.last().map_or(0, |v| v.origin.seq),
            manifest: digest,
            listing,
        })
    }

    /// How a version is listed, and the manifest that its numbers are of.
    fn listed(
        &self,
        version: DatasetVersion,
        own: &dyn Fn(&ContributorId) -> bool,
    ) -> Result<(Listing, Manifest), CatalogError> {
        let manifest = version.manifest;
        let counted = match manifest.counted_version {
            _ if own(&manifest.contributor) => Manifest { erased: None, ..manifest.clone() },
            shown if shown == manifest.version => manifest.clone(),
            shown => self.version(&manifest.dataset, shown)?.manifest,
        };
        Ok((listing(&manifest, &counted), counted))
    }

    /// Removes the folders of versions that the ledger does not know and that are not complete: what a crash left of an
    /// ingest. One that has its manifest is set aside, in `.orphaned`: the ledger may be older than the datasets.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn remove_orphans(&self) -> Result<Orphans, CatalogError> {
        let known: BTreeMap<String, usize> =
            self.records()?.into_iter().map(|r| (r.dataset.to_string(), r.versions.len())).collect();
        let mut orphans = Orphans::default();
        let datasets = self.blobs.folders("").map_err(DatasetError::from)?;
        for dataset in datasets.into_iter().filter(|name| name != ORPHANED && name != ERASING) {
            for version in self.blobs.folders(&dataset).map_err(DatasetError::from)? {
                let number = version.strip_prefix('v').and_then(|n| n.parse::<usize>().ok());
                if number.is_none_or(|n| n > known.get(&dataset).copied().unwrap_or(0)) {
                    let folder = format!("{dataset}/{version}");
                    let manifest = format!("{folder}/{MANIFEST}");
                    if self.blobs.size(&manifest).map_err(DatasetError::from)?.is_some() {
                        self.set_aside(&folder)?;
                        orphans.set_aside.push(folder);
                    } else {
                        self.blobs.delete_all(&folder).map_err(DatasetError::from)?;
                        orphans.removed.push(folder);
                    }
                }
            }
        }
        Ok(orphans)
    }
}

impl Catalog {
    fn set_aside(&self, folder: &str) -> Result<(), CatalogError> {
        for n in 0.. {
            let to = format!("{ORPHANED}/{}-{n}", folder.replace('/', "-"));
            if !self.blobs.path(&to).exists() {
                self.blobs.rename(folder, &to).map_err(DatasetError::from)?;
                break;
            }
        }
        Ok(())
    }
}

/// The version of `manifest`, with the numbers of `counted`.
fn listing(manifest: &Manifest, counted: &Manifest) -> Listing {
    let visible = |persons: u64| persons >= SMALLEST_CELL;
    let of = |table: &String| counted.catalog.tables.get(table).map_or(0, |t| t.persons);
    let own = || (counted.persons, counted.rows());
    // So long as few people were erased, the numbers from before: by the difference they would tell of them.
    let (persons, rows) =
        counted.erased.as_ref().map_or_else(own, |e| (e.shown_persons, e.shown_rows.clone()));
    Listing {
        dataset: manifest.dataset.clone(),
        contributor: manifest.contributor.clone(),
        version: manifest.version,
        created: manifest.created,
        mode: manifest.mode,
        profile: manifest.profile.name.clone(),
        declares: manifest.declares,
        counted_version: counted.version,
        persons: visible(persons).then_some(persons),
        years: counted.catalog.years,
        tables: rows.into_iter().map(|(name, n)| (name.clone(), visible(of(&name)).then_some(n))).collect(),
        terms_of_use: manifest.terms_of_use.clone(),
    }
}
