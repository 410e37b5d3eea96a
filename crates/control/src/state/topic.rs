//! Topics: what an entry is about, for preconditions ("nothing was said about this since I looked").
//!
//! Every flow tags what it appends with these and no others.

use almoner_model::{ContributorId, DatasetId, ProjectId, RecipientId, RequestId, SubjectId};

/// Any consent or withdrawal of anyone.
pub const CONSENT: &str = "consent";

/// Any publication of anyone's: an export can show that two who were known are one person.
pub const PUBLISHED: &str = "published";

/// Any erasure: what was known of who permits what before is not known any more.
pub const ERASED: &str = "erased";

/// Nobody's: what an entry lacks that came after the last instant at which it was to hold.
pub const TIME: &str = "time";

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

/// What a topic that changed is about, for people.
pub fn words(topic: &str) -> &'static str {
    match topic.split(':').next() {
        Some("consent" | "subject" | "erased") => "what people in it permit",
        Some("contributor") => "the rules of a hospital",
        Some("dataset" | "published") => "the data of a hospital",
        Some("request") => "what is said of the request",
        Some("releases" | "public-releases") => "what the recipient has already",
        Some("time") => "what holds at the time",
        Some("counts") => "what was counted for the recipient",
        _ => "what it rests on",
    }
}

/// A request: what its committees and its recipient said of it.
pub fn request(id: &RequestId) -> String {
    format!("request:{id}")
}

/// What was done by a request: permits, refusals, releases, downloads. It changes nothing of what may be done by it, and is
/// no precondition of anything.
pub fn done(id: &RequestId) -> String {
    format!("done:{id}")
}
