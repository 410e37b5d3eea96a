//! Contributors: registered, listed, and the contract that holds for their data.

use almoner_model::{ContributorId, Digest};

use super::Act;
use super::access::{AccessContext, AccessError};
use crate::events::{ContractPublished, ContributorRegistered, Event};
use crate::policy::Policy;
use crate::state::records::{Contract, Contributor};
use crate::state::{read, topic};
use crate::store::Appended;

/// Registers a contributor.
///
/// # Errors
/// A conflict if the id is taken.
pub fn register(
    ctx: &AccessContext<'_>,
    act: &Act,
    contributor: ContributorRegistered,
) -> Result<Appended, AccessError> {
    if contributor.name.trim().is_empty() {
        return Err(AccessError::invalid("/name", "give the contributor a name"));
    }
    if contributor.k_min.is_some_and(|k| !(2..=1_000).contains(&k)) {
        return Err(AccessError::invalid("/k_min", "2 to 1000"));
    }
    let topics = vec![topic::contributor(&contributor.contributor)];
    ctx.append(&Event::ContributorRegistered(contributor), act, None, topics, &[])
}

/// A contributor with its contract.
///
/// # Errors
/// [`AccessError::Unknown`].
pub fn show(
    ctx: &AccessContext<'_>,
    id: &ContributorId,
) -> Result<(Contributor, Option<Contract>), AccessError> {
    let found = read::contributor(&ctx.state(), id)?.ok_or(AccessError::Unknown("contributor"))?;
    Ok((found, read::contract(&ctx.state(), id)?))
}

/// All contributors, by id.
///
/// # Errors
/// If the store fails.
pub fn list(ctx: &AccessContext<'_>) -> Result<Vec<Contributor>, AccessError> {
    Ok(read::all(&ctx.state(), "contributor")?)
}

/// Puts a contract in force: a Cedar policy over `schemas/policy/almoner.cedarschema` that is asked beside the house rules
/// for every release and count of this contributor's data.
///
/// # Errors
/// [`AccessError::Invalid`] if it does not compile, does not fit the schema, or permits nothing.
pub fn publish_contract(
    ctx: &AccessContext<'_>,
    act: &Act,
    contributor: &ContributorId,
    text: &str,
) -> Result<Appended, AccessError> {
    read::contributor(&ctx.state(), contributor)?.ok_or(AccessError::Unknown("contributor"))?;
    Policy::compile(text).map_err(|e| AccessError::invalid("/policy", e.to_string()))?;
    let policy: Digest = ctx.documents.put(text.as_bytes()).map_err(AccessError::Failed)?;
    let event = Event::ContractPublished(ContractPublished { contributor: contributor.clone(), policy });
    ctx.append(&event, act, None, vec![topic::contributor(contributor)], &[])
}
