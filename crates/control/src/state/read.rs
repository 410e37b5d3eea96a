//! Typed reading of the folded state, from the fold's own view or from a store.

use almoner_model::{ContributorId, DatasetId, Digest, ProjectId, ReleaseId, RequestId, Seq, SubjectId};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::View;
use super::records::{
    Contract, Contributor, ContributorChange, Count, Dataset, Download, Invitation, LastErasure, LegalBasis,
    LegalBasisEnd, LogKeys, PermitRecord, Project, Release, ReleaseRewrites, Request, Shape, SubjectRecord,
    Token, seq_key, subject_key,
};

/// Why a record could not be read. Always our fault.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// The store failed.
    #[error("the state cannot be read: {0}")]
    Store(String),
    /// A record is not what this version writes.
    #[error("the {0} record of the state is not intact; run `almoner verify`")]
    Malformed(&'static str),
}

/// Where records are read from.
pub trait Read {
    /// One record.
    ///
    /// # Errors
    /// If the store fails.
    fn get(&self, kind: &str, key: &str) -> Result<Option<Value>, ReadError>;

    /// Records whose key begins with `prefix` and comes after `after`, in key order, at most `limit`.
    ///
    /// # Errors
    /// If the store fails.
    fn scan(
        &self,
        kind: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, ReadError>;
}

impl Read for &dyn View {
    fn get(&self, kind: &str, key: &str) -> Result<Option<Value>, ReadError> {
        Ok(View::get(*self, kind, key))
    }

    fn scan(
        &self,
        kind: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, ReadError> {
        Ok(View::scan(*self, kind, prefix, after, limit))
    }
}

fn one<T: DeserializeOwned>(from: &impl Read, kind: &'static str, key: &str) -> Result<Option<T>, ReadError> {
    from.get(kind, key)?
        .map(|value| serde_json::from_value(value).map_err(|_| ReadError::Malformed(kind)))
        .transpose()
}

/// Records of a kind in key order, with their keys.
///
/// # Errors
/// [`ReadError`].
pub fn page<T: DeserializeOwned>(
    from: &impl Read,
    kind: &'static str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, T)>, ReadError> {
    let rows = from.scan(kind, "", after, limit)?;
    rows.into_iter()
        .map(|(key, value)| {
            serde_json::from_value(value).map(|v| (key, v)).map_err(|_| ReadError::Malformed(kind))
        })
        .collect()
}

/// All records of a kind. For kinds that stay small: contributors, datasets, projects, requests, legal bases.
///
/// # Errors
/// [`ReadError`].
pub fn all<T: DeserializeOwned>(from: &impl Read, kind: &'static str) -> Result<Vec<T>, ReadError> {
    let mut out = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let rows = page(from, kind, after.as_deref(), 500)?;
        let full = rows.len() == 500;
        after = rows.last().map(|(key, _)| key.clone());
        out.extend(rows.into_iter().map(|(_, record)| record));
        if !full {
            return Ok(out);
        }
    }
}

/// Of whom a document of a hospital was recorded.
///
/// # Errors
/// [`ReadError`].
pub fn subjects_of_lineage(
    from: &impl Read,
    contributor: &ContributorId,
    lineage: &str,
) -> Result<Vec<SubjectId>, ReadError> {
    let rows = from.scan("consent-lineage", &format!("{contributor}/{lineage}/"), None, 1_000)?;
    let read =
        |(_, value)| serde_json::from_value(value).map_err(|_| ReadError::Malformed("consent-lineage"));
    rows.into_iter().map(read).collect()
}

/// SHA-256 of the manifest that a release has now.
///
/// # Errors
/// [`ReadError`].
pub fn release_manifest(from: &impl Read, release: &Release) -> Result<Digest, ReadError> {
    let rewrites = release_rewrites(from, &release.body.release)?.unwrap_or_default();
    Ok(rewrites.times.last().map_or(release.body.manifest, |last| last.body.to))
}

macro_rules! readers {
    ($($(#[$doc:meta])* $name:ident($id:ident: $type:ty) -> $record:ty = $kind:literal, $key:expr;)*) => {
        $($(#[$doc])*
        ///
        /// # Errors
        /// [`ReadError`].
        pub fn $name(from: &impl Read, $id: $type) -> Result<Option<$record>, ReadError> {
            one(from, $kind, $key)
        })*
    };
}

readers! {
    /// A contributor.
    contributor(id: &ContributorId) -> Contributor = "contributor", id.as_str();
    /// The rules of a contributor that are in force.
    contract(id: &ContributorId) -> Contract = "contract", id.as_str();
    /// A dataset.
    dataset(id: &DatasetId) -> Dataset = "dataset", id.as_str();
    /// A legal basis.
    legal_basis(id: &str) -> LegalBasis = "legal-basis", id;
    /// The end of a legal basis.
    legal_basis_end(id: &str) -> LegalBasisEnd = "legal-basis-end", id;
    /// The last change of a contributor.
    contributor_change(id: &ContributorId) -> ContributorChange = "contributor-change", id.as_str();
    /// A project.
    project(id: &ProjectId) -> Project = "project", id.as_str();
    /// A request.
    request(id: &RequestId) -> Request = "request", id.as_str();
    /// The last decision on a permit for a request.
    permit(id: &RequestId) -> PermitRecord = "permit", id.as_str();
    /// A release.
    release(id: &ReleaseId) -> Release = "release", id.as_str();
    /// How a release was written anew.
    release_rewrites(id: &ReleaseId) -> ReleaseRewrites = "release-rewritten", id.as_str();
    /// The last erasure; the key is `last`.
    last_erasure(key: &str) -> LastErasure = "erased", key;
    /// A download.
    download(id: &str) -> Download = "download", id;
    /// How the ledger's keys followed each other; the key is [`LogKeys::KEY`].
    log_keys(key: &str) -> LogKeys = "log-keys", key;
    /// An API token.
    token(id: &str) -> Token = "token", id;
    /// An invitation.
    invitation(id: &str) -> Invitation = "invitation", id;
    /// The count that an entry answered.
    count(seq: Seq) -> Count = "count", &seq_key(seq);
    /// What a person said.
    subject(id: SubjectId) -> SubjectRecord = "subject-directives", &subject_key(id);
    /// A shape of directives.
    shape(digest: &Digest) -> Shape = "shape", &digest.to_string();
}
