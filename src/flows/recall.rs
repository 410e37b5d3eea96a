//! Recalls: whose rows of a release its recipient has been asked to destroy.
//!
//! A withdrawal of mode `recall` reaches what was handed over before. The server cannot destroy it at its recipients; it
//! tells them, by the pseudonyms of that release, and boards see the same list. Who withdrew in another mode is not in it.

use almoner_model::{ContributorId, ReleaseId, Seq, SubjectId};
use serde::Serialize;

use super::access::AccessError;
use super::permitted::Sayings;
use super::question::{DataContext, DataError};
use super::release::members;
use crate::consent::{SubjectState, WithdrawalMode};
use crate::state::read;

/// Rows that are to be destroyed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Recalls {
    /// Of which release.
    pub release: ReleaseId,
    /// `person_id` in its tables, ascending.
    pub persons: Vec<String>,
    /// Ledger size that this is as of.
    pub as_of: Seq,
}

/// Whose rows of `release` its recipient has been asked to destroy.
///
/// # Errors
/// An unknown release, or if store or folder fail.
pub fn recalls(ctx: &DataContext<'_>, release: &ReleaseId) -> Result<Recalls, DataError> {
    let _still = ctx.catalog.still();
    let state = ctx.access.state();
    let as_of = ctx.access.store.size();
    let done = read::release(&state, release)?.ok_or(AccessError::Unknown("release"))?;
    let request = read::request(&state, &done.body.request)?.ok_or(AccessError::Unknown("request"))?;
    let mut sayings = Sayings::new(ctx.access, as_of)?;
    let mut persons = Vec::new();
    for member in members(ctx, release)?.members {
        let subject = member.subject.parse().ok().and_then(|n| SubjectId::new(n).ok());
        let subject = subject.ok_or_else(|| DataError::failed("a list of members is not intact"))?;
        if recalled(&sayings.of(subject)?, &request.contributors) {
            persons.push(member.pseudonym);
        }
    }
    persons.sort_by_key(|p| (p.len(), p.clone()));
    Ok(Recalls { release: release.clone(), persons, as_of })
}

/// Whether a recall of data of one of `holders` stands.
fn recalled(said: &SubjectState, holders: &[ContributorId]) -> bool {
    holders.iter().any(|holder| said.standing_for(holder).any(|w| w.mode == WithdrawalMode::Recall))
}
