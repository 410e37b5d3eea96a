//! Uploads: exports sent in pieces, encrypted at rest under a key that only their sender keeps.

use actix_web::HttpRequest;
use almoner_model::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

use crate::app::App;
use crate::flows::uploads::{DeclaredFile, UploadError, UploadRecord};
use crate::spool::UploadKey;
use crate::web::auth::Principal;
use crate::web::error::Problem;
use crate::web::schema::{Instant, OpaqueId, Sha256Hex, Slug};

pub mod commit;
pub mod create;
pub mod discard;
pub mod list;
pub mod read;
pub mod write;

/// The header that carries the key of an upload.
pub const KEY_HEADER: &str = "almoner-upload-key";

/// The key of an upload, as a header.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct KeyHeader {
    /// 32 random bytes in base64 that the client makes, keeps, and shows with every request of this upload. The server
    /// holds it in memory only while it answers and while the export is taken in.
    #[param(rename = "Almoner-Upload-Key", pattern = "^[A-Za-z0-9+/]{43}=$")]
    pub key: String,
}

/// A file of an upload.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// What it holds, and nothing of what it was called: `Patient.ndjson.gz`, `measurement.csv`, `export.zip` …
    #[schema(
        max_length = 80,
        pattern = "^[A-Za-z_0-9]+(/bundles)?\\.[a-z]+(\\.gz)?$",
        examples("Patient.ndjson.gz")
    )]
    pub name: String,
    /// Its size.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    pub bytes: u64,
    /// SHA-256 of its bytes.
    #[schema(value_type = Sha256Hex)]
    pub sha256: Digest,
}

/// An upload.
#[derive(Debug, Serialize, ToSchema)]
pub struct Upload {
    /// Its id.
    #[schema(value_type = OpaqueId)]
    pub id: String,
    /// Whose data.
    #[schema(value_type = Slug)]
    pub contributor: String,
    /// For which dataset.
    #[schema(value_type = Option<Slug>)]
    pub dataset: Option<String>,
    /// Under which profile.
    pub profile: Option<String>,
    /// Changes since the version before, instead of everything.
    pub incremental: bool,
    /// When it was declared.
    #[schema(value_type = Instant)]
    pub created: String,
    /// The job that takes it in, once committed.
    #[schema(value_type = Option<OpaqueId>)]
    pub job: Option<String>,
    /// Whether its dataset version is published. Nothing before that is an acknowledgement.
    pub published: bool,
    /// What the ingest came to, once published.
    pub result: Option<Value>,
    /// Its files, by ordinal from 0.
    pub files: Vec<FileState>,
}

/// How much of a file is here.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileState {
    /// Declared bytes.
    pub bytes: u64,
    /// Bytes that are here: where to go on.
    pub received: u64,
}

impl Upload {
    fn of(record: &UploadRecord, received: &[u64]) -> Self {
        let files = record.files.iter().zip(received);
        Self {
            id: record.id.clone(),
            contributor: record.contributor.to_string(),
            dataset: record.dataset.as_ref().map(ToString::to_string),
            profile: record.profile.clone(),
            incremental: record.incremental,
            created: record.created.to_string(),
            job: record.job.clone(),
            published: record.published,
            result: record.result.clone(),
            files: files.map(|(f, received)| FileState { bytes: f.bytes, received: *received }).collect(),
        }
    }
}

impl From<File> for DeclaredFile {
    fn from(f: File) -> Self {
        Self { name: f.name, bytes: f.bytes, sha256: f.sha256 }
    }
}

impl From<UploadError> for Problem {
    fn from(e: UploadError) -> Self {
        match e {
            UploadError::Unknown => Self::not_found(),
            UploadError::Declared(_) | UploadError::TooLong => Self::unacceptable(e),
            UploadError::Offset { received } => {
                Self::conflict(&e).with_measured(json!({"received": received}))
            }
            e => Self::new(e.kind(), e),
        }
    }
}

fn key(request: &HttpRequest) -> Result<UploadKey, Problem> {
    let text = request.headers().get(KEY_HEADER).and_then(|v| v.to_str().ok());
    let bytes = text.and_then(|t| STANDARD.decode(t).ok()).map(Zeroizing::new);
    let key: Option<[u8; 32]> = bytes.and_then(|b| b.as_slice().try_into().ok());
    key.map(UploadKey::new).ok_or_else(|| Problem::invalid("`Almoner-Upload-Key` is 32 bytes in base64."))
}

/// The upload, if `caller` may know of it.
fn find(app: &App, caller: &Principal, id: &str) -> Result<UploadRecord, Problem> {
    let record = app.uploads().find(id)?;
    if caller.covers_contributor(&record.contributor) { Ok(record) } else { Err(Problem::not_found()) }
}

fn view(app: &App, record: &UploadRecord) -> Result<Upload, Problem> {
    let received = app.uploads().received(record)?;
    Ok(Upload::of(record, &received))
}
