//! `manifest.json`: what a dataset version is.
//!
//! Written once, as the last file of a version; its SHA-256 stands in the ledger. It holds counts and rules, and no
//! value of any person; code frequencies below the smallest cell are not in it.

use std::collections::BTreeMap;

use almoner_deid::{Action, Declares};
use almoner_model::{ColumnType, ContributorId, DatasetId, Date, Digest, IdentifierClass, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::DatasetError;

/// The only format there is.
pub const FORMAT: &str = "almoner-dataset/1";

/// How a version came to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// From an export of everything.
    Full,
    /// From the version before and an export of changes.
    Incremental,
    /// From the version before and another vocabulary.
    Remap,
}

impl Mode {
    /// As the ledger writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Remap => "remap",
        }
    }
}

/// Which profile was applied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProfileEntry {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// SHA-256 of its text.
    pub sha256: Digest,
}

/// One Parquet file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileEntry {
    /// Below the version's folder.
    pub path: String,
    /// Whose rows.
    pub table: String,
    /// Which people.
    pub bucket: u32,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Its size.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
}

/// One file for people to read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReportEntry {
    /// Below the version's folder.
    pub path: String,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Its size.
    pub bytes: u64,
}

/// One column, and what was done about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ColumnEntry {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// What it is.
    pub class: IdentifierClass,
    /// What was done about it.
    pub action: Action,
}

/// One table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableEntry {
    /// Its rows.
    pub rows: u64,
    /// Its columns.
    pub columns: Vec<ColumnEntry>,
}

/// How often a code occurs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CodeFrequency {
    /// `VOCABULARY:code`, or `concept:<id>` where the row has no source code.
    pub code: String,
    /// Its standard concept; 0 without one.
    pub concept: i64,
    /// About so many people have it; never below the smallest cell.
    pub persons: u64,
}

/// How many of the rows that have a code at all have it in one form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// No row.
    #[default]
    None,
    /// Some rows.
    Some,
    /// Every row.
    All,
}

/// What a catalogue shows of a table.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TableCatalog {
    /// People with a row.
    pub persons: u64,
    /// The most frequent codes.
    pub codes: Vec<CodeFrequency>,
    /// Codes that are not shown: too few people, or too far down the list; rounded up to a multiple of ten.
    pub codes_hidden: u64,
    /// Rows with a code of a known system, among those with a code or a concept.
    pub source_codes: Extent,
    /// Rows with a concept, among the same.
    pub concepts: Extent,
    /// Rows with neither a concept nor a code.
    pub rows_without_code: u64,
    /// Rows whose end lies before their start.
    pub ends_before_start: u64,
}

/// What a catalogue shows of a version.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DatasetCatalog {
    /// The first and last year of any event, as declared.
    pub years: Option<(i32, i32)>,
    /// The least number of people of whom a code is shown.
    pub smallest_cell: u64,
    /// By table.
    pub tables: BTreeMap<String, TableCatalog>,
}

/// People who were erased since a version was published.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Erased {
    /// How many.
    pub persons: u64,
    /// How many since the catalogue's numbers were counted.
    pub since_counted: u64,
    /// The number of people that the catalogue shows.
    pub shown_persons: u64,
    /// Rows by table that the catalogue shows.
    pub shown_rows: BTreeMap<String, u64>,
}

/// What a dataset version is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// The dataset.
    pub dataset: DatasetId,
    /// Its version, from 1.
    pub version: u32,
    /// Whose data.
    pub contributor: ContributorId,
    /// When it was made.
    pub created: Timestamp,
    /// The profile that was applied.
    pub profile: ProfileEntry,
    /// SHA-256 of the table specifications.
    pub tables_sha256: Digest,
    /// The vocabulary that codes were mapped with.
    pub vocabulary: Option<Digest>,
    /// How it came to be.
    pub mode: Mode,
    /// The version that it continues.
    pub base_version: Option<u32>,
    /// What the data says of itself.
    pub declares: Declares,
    /// The day at which ages were tested.
    pub reference_date: Date,
    /// The epoch of the date offsets.
    pub offset_epoch: u32,
    /// Leading bits of the layout.
    pub bucket_bits: u8,
    /// The version whose numbers the catalogue shows for this one: so long as fewer than [`DatasetCatalog::smallest_cell`]
    /// people joined or left, those that it showed before.
    pub counted_version: u32,
    /// People in it.
    pub persons: u64,
    /// The tables, those without rows included.
    pub tables: BTreeMap<String, TableEntry>,
    /// The Parquet files, by path.
    pub files: Vec<FileEntry>,
    /// Files for people, by path.
    pub report_files: Vec<ReportEntry>,
    /// Counts of every stage: `intake`, `gather`, `derive`, `deid`, `risk`, `quality`.
    pub reports: BTreeMap<String, Value>,
    /// What a catalogue shows.
    pub catalog: DatasetCatalog,
    /// What recipients must agree to.
    pub terms_of_use: String,
    /// People who were erased since, if any; reports are as they were when the version was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<Erased>,
}

impl Manifest {
    /// The bytes of `manifest.json`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes =
            serde_json::to_vec_pretty(self).expect("a manifest has text keys and no failing type");
        bytes.push(b'\n');
        bytes
    }

    /// Reads `manifest.json`.
    ///
    /// # Errors
    /// [`DatasetError::ManifestFormat`].
    pub fn read(bytes: &[u8]) -> Result<Self, DatasetError> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|_| DatasetError::ManifestFormat)?;
        if manifest.format == FORMAT { Ok(manifest) } else { Err(DatasetError::ManifestFormat) }
    }

    /// Rows by table, of tables that have any.
    pub fn rows(&self) -> BTreeMap<String, u64> {
        self.tables.iter().filter(|(_, t)| t.rows > 0).map(|(name, t)| (name.clone(), t.rows)).collect()
    }
}
