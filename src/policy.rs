//! Policy: the right to build releases, from a decision that permits. The rules and the decision are
//! [`almoner_control::policy`], so that an auditor decides again by the same ones.
//!
//! A [`Permit`] comes only from a decision that permits and the ledger entry that says so. It cannot be read back from bytes:
//! whoever resumes work decides again. Whether each *person* permits is not decided here (`consent`).

use std::collections::BTreeMap;

use almoner_model::{ContributorId, DatasetId, Digest, RequestId, Seq, Timestamp};
use serde::Serialize;

pub use almoner_control::policy::{
    BasisFacts, Decision, Effect, EngineError, Facts, HOUSE, Policy, ReleaseFacts, Rules, basis_fits, decide,
};

use crate::consent::Use;

/// What a permit allows.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Grant {
    /// The request.
    pub request: RequestId,
    /// From which datasets, in order of precedence.
    pub datasets: Vec<DatasetId>,
    /// Which tables.
    pub tables: Vec<String>,
    /// The cohort definition, a document.
    pub cohort: Digest,
    /// `public` or `controlled`.
    pub tier: String,
    /// The profile of the release.
    pub profile: String,
    /// The smallest class that the tier and every contributor accept.
    pub k_min: u32,
    /// The legal basis of each contributor's data, by id.
    pub legal_bases: BTreeMap<ContributorId, String>,
    /// The signed terms, a document.
    pub terms: Digest,
    /// What each person's consent is asked for; project and recipient are in it.
    pub wanted: Use,
}

/// The right to build releases for one request, as of one ledger size.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Permit {
    grant: Grant,
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

impl Permit {
    /// From a decision that permits and stands in the ledger at `entry`, with that entry's time.
    ///
    /// # Errors
    /// [`Refusal`] with the decision's reasons, if it does not permit.
    pub(crate) fn of(grant: Grant, decision: Decision, entry: Seq, at: Timestamp) -> Result<Self, Refusal> {
        match decision.effect() {
            Effect::Permit => Ok(Self { grant, decision, entry, at }),
            Effect::Deny => Err(Refusal { reasons: decision.reasons().to_vec(), as_of: decision.as_of() }),
        }
    }

    /// What it allows.
    pub const fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The decision that it rests on.
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The ledger entry of the decision.
    pub const fn entry(&self) -> Seq {
        self.entry
    }

    /// The time of that entry.
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// What each person's consent is asked for.
    pub const fn wanted(&self) -> &Use {
        &self.grant.wanted
    }
}
