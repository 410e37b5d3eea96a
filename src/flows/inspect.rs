//! Says what a path is: an export, a dataset version, a release, or a Parquet file. Reads, writes nothing, needs no data
//! folder. Of an export it says what would be read; names of its entries are the caller's own and are said as they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use almoner_deid::Declares;
use almoner_model::Timestamp;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use serde::Serialize;

use crate::dataset::{DatasetError, DatasetVersion, Mode, Verified};
use crate::error::ErrorKind;
use crate::intake::{IntakeError, Limits, Listed, discover, list};
use crate::mapping::KeyedHasher;

/// What a path is.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Inspected {
    /// An export, by what its files hold.
    Export {
        /// Files and stored bytes by resource type or table.
        inputs: BTreeMap<&'static str, Inputs>,
        /// Entries that would be left alone, by reason.
        strangers: BTreeMap<&'static str, u64>,
        /// Every entry with the number that reports give it, if that was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        files: Option<Vec<Listed>>,
    },
    /// A dataset version, checked against its own manifest (not against the ledger).
    Dataset {
        /// `dataset version N`.
        name: String,
        /// When it was made.
        created: Timestamp,
        /// How it came to be.
        mode: Mode,
        /// The profile that was applied.
        profile: String,
        /// What the data says of itself.
        declares: Declares,
        /// People in it.
        persons: u64,
        /// Rows by table.
        tables: BTreeMap<String, u64>,
        /// Files that were hashed.
        verified: Verified,
    },
    /// A release package.
    Release {
        /// Its manifest.
        manifest: serde_json::Value,
    },
    /// A Parquet file.
    Parquet {
        /// Rows.
        rows: i64,
        /// Row groups.
        row_groups: usize,
        /// Columns with their types.
        columns: Vec<String>,
    },
}

/// Files of one kind.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Inputs {
    /// How many.
    pub files: u64,
    /// Stored bytes.
    pub bytes: u64,
}

/// Why it cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It is a dataset version that is not whole.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// It is no export.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// It is named like Parquet and is not.
    #[error("the file is not readable Parquet")]
    Parquet,
    /// Its manifest is not JSON.
    #[error("release.json is not readable")]
    Release,
}

impl InspectError {
    /// Which kind of "no" this is.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Says what `path` is, an export's `files` by name if that is wanted.
///
/// # Errors
/// [`InspectError`] if it is none of these, or is damaged.
pub fn inspect(path: &Path, limits: &Limits, files: bool) -> Result<Inspected, InspectError> {
    if path.join("manifest.json").is_file() {
        return dataset(path);
    }
    if let Ok(bytes) = std::fs::read(path.join("release.json")) {
        let manifest = serde_json::from_slice(&bytes).map_err(|_| InspectError::Release)?;
        return Ok(Inspected::Release { manifest });
    }
    if path.is_file() && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet")) {
        return parquet(path);
    }
    // Names are hashed in reports only, and nothing is reported here.
    let export = discover(path, limits, &KeyedHasher::new(&[0; 32]))?;
    let mut inputs: BTreeMap<&'static str, Inputs> = BTreeMap::new();
    for input in &export.inputs {
        let of = inputs.entry(input.kind.label()).or_default();
        of.files += 1;
        of.bytes += input.bytes;
    }
    let mut strangers = BTreeMap::new();
    for stranger in &export.strangers {
        *strangers.entry(stranger.reason).or_default() += 1;
    }
    let files = if files { Some(list(path, limits)?) } else { None };
    Ok(Inspected::Export { inputs, strangers, files })
}

fn dataset(path: &Path) -> Result<Inspected, InspectError> {
    let version = DatasetVersion::inspect(path)?;
    let verified = version.verify()?;
    let manifest = version.manifest;
    Ok(Inspected::Dataset {
        name: format!("{} version {}", manifest.dataset, manifest.version),
        created: manifest.created,
        mode: manifest.mode,
        profile: manifest.profile.name.clone(),
        declares: manifest.declares,
        persons: manifest.persons,
        tables: manifest.rows(),
        verified,
    })
}

fn parquet(path: &Path) -> Result<Inspected, InspectError> {
    let file = File::open(path).map_err(|_| InspectError::Parquet)?;
    let reader = SerializedFileReader::new(file).map_err(|_| InspectError::Parquet)?;
    let meta = reader.metadata().file_metadata();
    let columns = meta.schema_descr().columns().iter();
    let columns = columns.map(|c| format!("{}: {}", c.path().string(), c.physical_type())).collect();
    Ok(Inspected::Parquet { rows: meta.num_rows(), row_groups: reader.num_row_groups(), columns })
}
