//! Contributors: registered, listed, and the contract that holds for their data.

use almoner_model::{ContributorId, Digest, Seq};

use super::Act;
use super::access::{AccessContext, AccessError};
use crate::events::{ContractPublished, ContributorChanged, ContributorRegistered, Event};
use crate::policy::Policy;
use crate::state::records::{Contract, Contributor};
use crate::state::{read, topic};
use crate::store::{Appended, Precondition};

/// Registers a contributor.
///
/// # Errors
/// A conflict if the id is taken.
pub fn register(
    ctx: &AccessContext<'_>,
    act: &Act,
    contributor: ContributorRegistered,
) -> Result<Appended, AccessError> {
    check(&contributor.name, contributor.k_min)?;
    let topics = vec![topic::contributor(&contributor.contributor)];
    ctx.append(&Event::ContributorRegistered(contributor), act, None, topics, &[])
}

fn check(name: &str, k_min: Option<u32>) -> Result<(), AccessError> {
    if name.trim().is_empty() {
        return Err(AccessError::invalid("/name", "give the contributor a name"));
    }
    if k_min.is_some_and(|k| !(2..=1_000).contains(&k)) {
        return Err(AccessError::invalid("/k_min", "2 to 1000"));
    }
    Ok(())
}

/// Changes what was said when the contributor was registered, by hand or by its first export. What it says holds for
/// exports, counts and releases from its entry on; people who are linked stay so.
///
/// # Errors
/// [`AccessError::Unknown`]; a conflict if it was changed after entry `after`.
pub fn change(
    ctx: &AccessContext<'_>,
    act: &Act,
    change: ContributorChanged,
) -> Result<Appended, AccessError> {
    check(&change.name, change.k_min)?;
    read::contributor(&ctx.state(), &change.contributor)?.ok_or(AccessError::Unknown("contributor"))?;
    let topics = vec![topic::contributor(&change.contributor)];
    ctx.append(&Event::ContributorChanged(change), act, None, topics, &[])
}

/// The entry that said last what a contributor is: what a change of it names.
///
/// # Errors
/// If the store fails.
pub fn said_at(ctx: &AccessContext<'_>, contributor: &Contributor) -> Result<Seq, AccessError> {
    let change = read::contributor_change(&ctx.state(), &contributor.body.contributor)?;
    Ok(change.map_or(contributor.origin.seq, |c| c.origin.seq))
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
/// [`AccessError::Invalid`] if it does not compile, does not fit the schema, or permits nothing; a conflict if `replaces` is
/// given and another contract than that is in force.
pub fn publish_contract(
    ctx: &AccessContext<'_>,
    act: &Act,
    contributor: &ContributorId,
    text: &str,
    replaces: Option<Digest>,
) -> Result<Appended, AccessError> {
    let as_of = ctx.store.size();
    read::contributor(&ctx.state(), contributor)?.ok_or(AccessError::Unknown("contributor"))?;
    Policy::compile(text).map_err(|e| AccessError::invalid("/policy", e.to_string()))?;
    let policy: Digest = ctx.documents.put(text.as_bytes()).map_err(AccessError::Failed)?;
    let event = Event::ContractPublished(ContractPublished { contributor: contributor.clone(), policy });
    let topic = topic::contributor(contributor);
    let mut unchanged = Vec::new();
    if let Some(expected) = replaces.filter(|_| ctx.repeated(act).is_ok_and(|seq| seq.is_none())) {
        let in_force = read::contract(&ctx.state(), contributor)?.map(|c| c.body.policy);
        if in_force != Some(expected) {
            return Err(AccessError::Conflict("another contract is in force; read it first".into()));
        }
        unchanged.push(Precondition { topic: topic.clone(), as_of });
    }
    ctx.append(&event, act, None, vec![topic], &unchanged)
}
