//! Policy: whether a request may be released, by the rules of the exchange and of each contributor.
//!
//! Arrow of the line: request ─ policy ─> [`Decision`] ─> [`Permit`] ──> `release`. A permit cannot be made elsewhere and
//! cannot be read back from bytes: whoever resumes work derives it again.

use std::collections::BTreeMap;

use almoner_model::{ContributorId, DatasetId, Digest, ProjectId, RecipientId, RequestId, Seq, Timestamp};
use serde::Serialize;

use crate::consent::Use;

/// Permit or deny.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Permit.
    Permit,
    /// Deny.
    Deny,
}

/// What was decided about a request, and from what, so that it can be decided again.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Decision {
    /// The effect.
    pub effect: Outcome,
    /// Why not, each a sentence; empty for a permit.
    pub reasons: Vec<String>,
    /// Digests of the rules that were applied, by contributor (`house` for the exchange's own).
    pub policies: BTreeMap<String, Digest>,
    /// Ledger size that it was made at.
    pub as_of: Seq,
}

/// The right to build releases for one request, as of one ledger size.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Permit {
    request: RequestId,
    project: ProjectId,
    recipient: RecipientId,
    datasets: Vec<DatasetId>,
    tables: Vec<String>,
    cohort: Digest,
    tier: String,
    profile: String,
    k_min: u32,
    legal_bases: BTreeMap<ContributorId, String>,
    terms: Digest,
    wanted: Use,
    decision: Decision,
    entry: Seq,
    at: Timestamp,
}

/// Why there is no permit.
#[derive(Clone, PartialEq, Debug, Serialize, thiserror::Error)]
#[error("no permit: {}", reasons.join("; "))]
pub struct Refusal {
    /// Why not, each a sentence.
    pub reasons: Vec<String>,
    /// Ledger size that it was found at.
    pub as_of: Seq,
}

macro_rules! readable {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        impl Permit {
            $($(#[$doc])* pub const fn $name(&self) -> &$type { &self.$name })*
        }
    };
}

readable! {
    /// The request.
    request: RequestId;
    /// Its project.
    project: ProjectId;
    /// Who receives.
    recipient: RecipientId;
    /// From which datasets, in order of precedence.
    datasets: Vec<DatasetId>;
    /// Which tables.
    tables: Vec<String>;
    /// The cohort definition, a blob.
    cohort: Digest;
    /// `public` or `controlled`.
    tier: String;
    /// The profile of the release.
    profile: String;
    /// The smallest class that every rule accepts.
    k_min: u32;
    /// The legal basis of each contributor's data, by id.
    legal_bases: BTreeMap<ContributorId, String>;
    /// The signed terms, a blob.
    terms: Digest;
    /// What consent is asked for.
    wanted: Use;
    /// The decision that it rests on.
    decision: Decision;
    /// Its entry in the ledger.
    entry: Seq;
    /// The time of that entry.
    at: Timestamp;
}
