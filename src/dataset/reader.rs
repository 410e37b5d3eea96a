//! Reading a version: its manifest, and its tables by bucket.

use std::path::{Path, PathBuf};

use almoner_model::{DatasetId, Digest};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::manifest::{FileEntry, Manifest};
use super::{DatasetError, parquet, version_folder};
use crate::blob::Blobs;

/// A dataset version that is visible.
#[derive(Clone, Debug)]
pub struct DatasetVersion {
    /// What it is.
    pub manifest: Manifest,
    /// SHA-256 of `manifest.json`.
    pub digest: Digest,
    /// Its folder.
    pub root: PathBuf,
    folder: String,
}

impl DatasetVersion {
    /// Opens a version and compares its manifest with the digest that the ledger names.
    ///
    /// # Errors
    /// [`DatasetError::NoVersion`], [`DatasetError::ManifestDiffers`], [`DatasetError::ManifestFormat`].
    pub fn open(
        blobs: &Blobs,
        dataset: &DatasetId,
        version: u32,
        expected: &Digest,
    ) -> Result<Self, DatasetError> {
        let folder = version_folder(dataset, version);
        let bytes = match blobs.get(&format!("{folder}/manifest.json")) {
            Err(crate::blob::BlobError::Absent(_)) => {
                return Err(DatasetError::NoVersion { dataset: dataset.to_string(), version });
            }
            other => other?,
        };
        let digest = Digest::of(&bytes);
        if digest != *expected {
            return Err(DatasetError::ManifestDiffers);
        }
        let manifest = Manifest::read(&bytes)?;
        if manifest.dataset != *dataset || manifest.version != version {
            return Err(DatasetError::ManifestDiffers);
        }
        Ok(Self { manifest, digest, root: blobs.path(&folder), folder })
    }

    /// Opens the version in a folder of the local disk, by itself: for looking at it, not for trusting it.
    ///
    /// # Errors
    /// [`DatasetError`].
    pub fn inspect(root: &Path) -> Result<Self, DatasetError> {
        let bytes = std::fs::read(root.join("manifest.json")).map_err(|_| DatasetError::ManifestFormat)?;
        let manifest = Manifest::read(&bytes)?;
        let folder = version_folder(&manifest.dataset, manifest.version);
        Ok(Self { manifest, digest: Digest::of(&bytes), root: root.to_owned(), folder })
    }

    /// What is being written below `root`, whose manifest is not there yet.
    pub(super) fn within(manifest: Manifest, root: PathBuf) -> Self {
        let folder = version_folder(&manifest.dataset, manifest.version);
        Self { digest: Digest::of(manifest.to_bytes()), manifest, root, folder }
    }

    /// Its folder, below the folder of datasets.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// Where a file lies.
    pub fn path(&self, file: &FileEntry) -> PathBuf {
        file.path.split('/').fold(self.root.clone(), |path, part| path.join(part))
    }

    /// The files of a table, by bucket.
    pub fn files<'v>(&'v self, table: &str) -> impl Iterator<Item = &'v FileEntry> {
        self.manifest.files.iter().filter(move |f| f.table == table)
    }

    /// The buckets that have rows, ascending.
    pub fn buckets(&self) -> Vec<u32> {
        let mut buckets: Vec<u32> = self.manifest.files.iter().map(|f| f.bucket).collect();
        buckets.sort_unstable();
        buckets.dedup();
        buckets
    }

    /// Streams the rows of one file; of `columns` only, where given.
    ///
    /// # Errors
    /// [`DatasetError::Parquet`], now or while it is read.
    pub fn stream(
        &self,
        file: &FileEntry,
        columns: Option<&[&str]>,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, DatasetError>> + use<>, DatasetError> {
        let name = file.path.clone();
        let unreadable = move || DatasetError::Parquet { file: name.clone() };
        let source = std::fs::File::open(self.path(file)).map_err(|_| unreadable())?;
        let reader = parquet::read(source, columns).map_err(|_| unreadable())?;
        Ok(reader.map(move |batch| batch.map_err(|_| unreadable())))
    }

    /// All rows of a table in one bucket; `None` without any.
    ///
    /// # Errors
    /// [`DatasetError::Parquet`].
    pub fn bucket(
        &self,
        table: &str,
        bucket: u32,
        columns: Option<&[&str]>,
    ) -> Result<Option<RecordBatch>, DatasetError> {
        let mut rows = Vec::new();
        for file in self.files(table).filter(|f| f.bucket == bucket) {
            for batch in self.stream(file, columns)? {
                rows.push(batch?);
            }
        }
        let Some(first) = rows.first() else { return Ok(None) };
        let joined = concat_batches(&first.schema(), &rows);
        joined.map(Some).map_err(|_| DatasetError::Parquet { file: format!("{table}/bucket={bucket}") })
    }
}
