//! Topics: what an entry is about, for preconditions ("nothing was said about this since I looked").
//!
//! Every flow tags what it appends with these and no others.

use almoner_model::{ContributorId, DatasetId, ProjectId, RecipientId, RequestId, SubjectId};

/// Any consent or withdrawal of anyone.
pub const CONSENT: &str = "consent";

/// Any withdrawal of anyone.
pub const WITHDRAWAL: &str = "withdrawal";

/// A person. The store adds it to every entry that concerns one.
pub fn subject(id: SubjectId) -> String {
    format!("subject:{id}")
}

/// A contributor: its registration, contract and legal bases.
pub fn contributor(id: &ContributorId) -> String {
    format!("contributor:{id}")
}

/// A dataset.
pub fn dataset(id: &DatasetId) -> String {
    format!("dataset:{id}")
}

/// A project.
pub fn project(id: &ProjectId) -> String {
    format!("project:{id}")
}

/// The counts that a recipient was told, in all its projects.
pub fn counts(recipient: &RecipientId) -> String {
    format!("counts:{recipient}")
}

/// Releases that anyone may have.
pub const PUBLIC_RELEASES: &str = "public-releases";

/// The releases to a recipient, in all its projects.
pub fn releases(id: &RecipientId) -> String {
    format!("releases:{id}")
}

/// A request: its decisions, terms, permits and releases.
pub fn request(id: &RequestId) -> String {
    format!("request:{id}")
}
