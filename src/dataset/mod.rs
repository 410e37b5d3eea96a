//! Datasets: immutable versions of de-identified tables, as sorted Parquet files with a manifest.
//!
//! The arrow `deid → dataset → catalog`. A version lies in `datasets/<id>/v<N>/`:
//!
//! ```text
//! manifest.json                            what the version is: files, digests, profile, reports
//! <table>/bucket=<b>/part-0.parquet        rows sorted by (person, start date, event), zstd, statistics by row group
//! reports/…                                de-identification and risk for people, locators of what was quarantined
//! ```
//!
//! Only a [`DeidBatch`](almoner_deid::DeidBatch) can be written; an erasure writes rows of a version again, without some. A version is visible when its manifest stands and the
//! ledger says `dataset.published` with the manifest's digest; the files come first, each synced, so whatever was on its
//! way at a crash is a folder that the ledger does not know and that is removed at the next start.

mod manifest;
mod parquet;
mod reader;
mod rewrite;
mod verify;
mod writer;

pub use manifest::{
    CodeFrequency, ColumnEntry, DatasetCatalog, Erased, Extent, FORMAT, FileEntry, Manifest, Mode,
    ProfileEntry, ReportEntry, TableCatalog, TableEntry,
};
pub use reader::DatasetVersion;
pub use rewrite::Rewrite;
pub use verify::{Intact, Verified};
pub use writer::VersionWriter;

use crate::blob::BlobError;
use crate::error::ErrorKind;

/// Why a dataset version could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Parquet could not be written, or a file is not what was written.
    #[error("{file} is not readable Parquet")]
    Parquet {
        /// Which file.
        file: String,
    },
    /// A file's bytes are not those in the manifest.
    #[error("{file} differs from the manifest: it was altered or is damaged")]
    Differs {
        /// The first such file.
        file: String,
    },
    /// A file is there that the manifest does not name.
    #[error("{file} is not in the manifest")]
    Stranger {
        /// The first such file.
        file: String,
    },
    /// The manifest's bytes are not those that the ledger names.
    #[error("manifest.json is not the one that the ledger names: it was altered or is damaged")]
    ManifestDiffers,
    /// The manifest is not one of this format.
    #[error("manifest.json is not an {FORMAT} manifest")]
    ManifestFormat,
    /// There is no such dataset or version.
    #[error("there is no version {version} of dataset {dataset}")]
    NoVersion {
        /// The dataset.
        dataset: String,
        /// The version.
        version: u32,
    },
}

impl DatasetError {
    /// Which kind of "no" this is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NoVersion { .. } => ErrorKind::Invalid,
            Self::Blob(error) => error.kind(),
            _ => ErrorKind::Fault,
        }
    }
}

/// The folder of a version, below the folder of datasets.
pub fn version_folder(dataset: &almoner_model::DatasetId, version: u32) -> String {
    format!("{dataset}/v{version}")
}
