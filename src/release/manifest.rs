//! `release.json`: what a package says about itself, and `SHA256SUMS`.
//!
//! Counts, names and digests only; nothing of a person. Member order is fixed by the types, so the bytes are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use almoner_deid::Declares;
use almoner_model::{
    ColumnSpec, ColumnType, ContributorId, DatasetId, Digest, Duo, IdentifierClass, ProjectId, RecipientId,
    ReleaseId, RequestId, Seq, Timestamp,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::ReleaseError;

/// The only format there is.
pub const FORMAT: &str = "almoner-release/1";

/// A column of a released table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ColumnEntry {
    /// Name.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Whether it may be null.
    pub nullable: bool,
    /// What it is.
    pub class: IdentifierClass,
    /// What the gate did to it; none where it stays as the profile left it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gate: Option<Change>,
    /// References that were nulled, because the row that they named is not in the release.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub references_nulled: u64,
}

/// A change of a column.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// What was done, in words.
    pub what: String,
    /// How many values are not what they were.
    pub values: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl ColumnEntry {
    /// Of a canonical column.
    pub fn of(spec: &ColumnSpec) -> Self {
        let (kind, nullable, class) = (spec.kind, spec.nullable, spec.class);
        Self { name: spec.name.clone(), kind, nullable, class, gate: None, references_nulled: 0 }
    }
}

/// A file of a package.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative path.
    pub path: String,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Length.
    pub bytes: u64,
    /// Rows, of a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Rows that say again what the gate generalised or withheld in the person table, and so are not here.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub rows_restating: u64,
    /// Columns, of a table.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub columns: Vec<ColumnEntry>,
}

impl FileEntry {
    /// Reads the file at `path` below `dir`.
    ///
    /// # Errors
    /// [`ReleaseError::Write`] if it cannot be read back.
    pub fn of(
        dir: &Path,
        path: String,
        rows: Option<u64>,
        columns: Vec<ColumnEntry>,
    ) -> Result<Self, ReleaseError> {
        let (sha256, bytes) = digest_file(&dir.join(&path))?;
        Ok(Self { path, sha256, bytes, rows, rows_restating: 0, columns })
    }
}

/// SHA-256 and length of a file.
///
/// # Errors
/// If it cannot be read.
pub fn digest_file(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((Digest(hash.finalize().into()), bytes));
        }
        hash.update(&buffer[..n]);
        bytes += n as u64;
    }
}

/// A dataset version that was read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DatasetEntry {
    /// The dataset.
    pub dataset: DatasetId,
    /// Its version.
    pub version: u32,
    /// Whose.
    pub contributor: ContributorId,
    /// SHA-256 of its manifest.
    pub manifest: Digest,
    /// On which legal ground.
    pub legal_basis: String,
}

/// Where the release stands in the log. Its own entry comes after the manifest, so it is beside it (`ledger/`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LedgerRef {
    /// Name of the log.
    pub origin: String,
    /// Size of the log that consent and rules were evaluated at.
    pub as_of: Seq,
    /// The permit's entry.
    pub permit: Seq,
}

/// What the gate measured.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RiskEntry {
    /// Least class size that was required.
    pub k_required: u32,
    /// Least class size reached.
    pub k_measured: u32,
    /// People left out to reach it; null if they are fewer than 11 and not nobody: whoever is left out is rare.
    pub persons_suppressed: Option<u64>,
    /// Earlier releases that it was measured together with: those of this project to this recipient, and of its others and
    /// of everyone those whose dates are the same.
    pub measured_with: Vec<ReleaseId>,
    /// The gate's report on what left. Boards can read what it measured before.
    pub report: serde_json::Value,
}

/// `release.json`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// Its id.
    pub release: ReleaseId,
    /// For which request.
    pub request: RequestId,
    /// For which project.
    pub project: ProjectId,
    /// Who receives.
    pub recipient: RecipientId,
    /// What for.
    pub purpose: Vec<Duo>,
    /// Ledger time of the permit that it was built under.
    pub created: Timestamp,
    /// The cohort definition's digest.
    pub cohort: Digest,
    /// What was read, in order of precedence.
    pub datasets: Vec<DatasetEntry>,
    /// The profile applied at release.
    pub profile: String,
    /// `public` or `controlled`.
    pub tier: String,
    /// What holds of the data, all applications together.
    pub declares: Declares,
    /// What the datasets could answer only nearly when the cohort was drawn, each a sentence.
    pub notes: Vec<String>,
    /// What may be said about identification: this data may remain pseudonymised personal data.
    pub notice: String,
    /// The recipient's signed terms.
    pub terms: Digest,
    /// People.
    pub persons: u64,
    /// The gate.
    pub risk: RiskEntry,
    /// People who were in it and were erased since; class sizes are as they were measured when it was built.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub persons_erased: u64,
    /// Root over the salted members (`almoner_ledger::package`).
    pub members_root: Digest,
    /// The log.
    pub ledger: LedgerRef,
    /// Every file but this one, `SHA256SUMS` and those in `ledger/`.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// The bytes of `release.json`.
    ///
    /// # Errors
    /// [`ReleaseError::Tables`] if a report holds what JSON cannot.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ReleaseError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|_| ReleaseError::Tables)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Rows by table.
    pub fn rows(&self) -> BTreeMap<String, u64> {
        let table = |f: &FileEntry| {
            let name = f.path.strip_prefix("tables/")?.strip_suffix(".parquet")?;
            Some((name.to_owned(), f.rows?))
        };
        self.files.iter().filter_map(table).collect()
    }

    /// `SHA256SUMS` as `sha256sum -c` reads it: every listed file and `release.json`.
    pub fn sums(&self, manifest: Digest) -> String {
        let mut lines: Vec<(String, Digest)> =
            self.files.iter().map(|f| (f.path.clone(), f.sha256)).collect();
        lines.push(("release.json".to_owned(), manifest));
        lines.sort();
        lines.into_iter().map(|(path, sha256)| format!("{sha256}  {path}\n")).collect()
    }
}
