//! Between a decision and its entry: what may have changed, and the append that sees to it that nothing has.
//!
//! A decision rests on the ledger up to a size, and on what the registry knew of who is the same person. At the append
//! whoever said something since, and whoever turned out to be somebody else too, is decided again; that no more was said
//! meanwhile is a precondition ([`topic::CONSENT`], [`topic::PUBLISHED`]: an export's merges are in the registry before its
//! version is published). So what others say does not hold anything up, and what a person concerned says is never missed.

use std::collections::BTreeSet;

use almoner_model::{ContributorId, Seq, SubjectId};

use super::access::{AccessContext, AccessError};
use super::permitted::{Sayings, said_between};
use super::question::DataError;
use crate::consent::{self, Use};
use crate::state::topic;
use crate::store::{NewEntry, Precondition, StoreError};

/// How often a decision is made again because what it rests on changed.
pub(super) const ATTEMPTS: usize = 5;
/// How often an append is tried again because somebody said something, whoever it was.
const APPENDS: usize = 100;

/// Makes a decision again while what it rests on changes.
///
/// # Errors
/// Those of `attempt`; a conflict that says what keeps changing.
pub(super) fn decided<T>(attempt: impl Fn() -> Result<T, DataError>) -> Result<T, DataError> {
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        match attempt() {
            Err(DataError::Access(AccessError::Store(StoreError::Precondition { topic, .. }))) => {
                last = topic
            }
            other => return other,
        }
    }
    Err(changing(&last).into())
}

/// That something keeps changing.
pub(super) fn changing(topic: &str) -> AccessError {
    AccessError::Conflict(format!("{} keeps changing; try again", topic::words(topic)))
}

/// What people permitted when something was decided.
#[derive(Clone, Copy)]
pub(super) struct Then<'a> {
    /// Of which use.
    pub wanted: &'a Use,
    /// At which hospitals.
    pub holders: &'a [ContributorId],
    /// Ledger size.
    pub as_of: Seq,
    /// Which ids were one person's.
    pub aliases: &'a [(SubjectId, SubjectId)],
}

/// Appends an entry that rests on what people permitted `then`, unless `unchanged` does not hold or one of the `concerned`
/// permits less of the use since. Gives its position.
///
/// # Errors
/// [`StoreError::Precondition`] with what changed: everything is to be decided again.
pub(super) fn append_unless_less_is_permitted(
    ctx: &AccessContext<'_>,
    new: &NewEntry,
    unchanged: &[Precondition],
    then: Then<'_>,
    concerned: impl Fn(&BTreeSet<SubjectId>) -> bool,
) -> Result<Seq, DataError> {
    append_if(ctx, new, unchanged, |size| {
        if let Some(one) = joined(ctx, then.aliases, &concerned)? {
            return Err(changed(one, size));
        }
        match permits_less_since(ctx, then, size, &concerned)? {
            Some(speaker) => Err(changed(speaker, size)),
            None => Ok(()),
        }
    })
}

/// That a decision about a person is to be made again.
pub(super) fn changed(subject: SubjectId, seq: Seq) -> DataError {
    AccessError::Store(StoreError::Precondition { topic: topic::subject(subject), seq }).into()
}

/// Appends an entry if `unchanged` and `check` hold, which is given a ledger size up to which people may have said
/// something; after it nobody has. Gives the entry's position.
///
/// # Errors
/// [`StoreError::Precondition`] with what changed; those of `check`; a conflict if people say more than can be checked.
pub(super) fn append_if(
    ctx: &AccessContext<'_>,
    new: &NewEntry,
    unchanged: &[Precondition],
    check: impl Fn(Seq) -> Result<(), DataError>,
) -> Result<Seq, DataError> {
    const SPEAK: [&str; 2] = [topic::CONSENT, topic::PUBLISHED];
    for _ in 0..APPENDS {
        let size = ctx.store.size();
        check(size)?;
        let nobody = SPEAK.map(|topic| Precondition { topic: topic.to_owned(), as_of: size });
        let all: Vec<Precondition> = unchanged.iter().cloned().chain(nobody).collect();
        match ctx.store.append(vec![new.clone()], &all) {
            Err(StoreError::Precondition { topic, .. }) if SPEAK.contains(&topic.as_str()) => {}
            other => {
                let seq = other.map_err(AccessError::Store)?.last().map(|a| a.seq);
                return seq.ok_or_else(|| DataError::failed("the store acknowledged nothing"));
            }
        }
    }
    Err(AccessError::Conflict("consents arrive faster than they can be looked at; try again".into()).into())
}

/// The first of the `concerned` who was not known to be the same person as somebody, and is now, or the other way round.
///
/// # Errors
/// If the registry fails.
pub(super) fn joined(
    ctx: &AccessContext<'_>,
    then: &[(SubjectId, SubjectId)],
    concerned: impl Fn(&BTreeSet<SubjectId>) -> bool,
) -> Result<Option<SubjectId>, AccessError> {
    let now = ctx.people.aliases()?;
    if now == then {
        return Ok(None);
    }
    let [then, now] = [then.to_vec(), now].map(|pairs| pairs.into_iter().collect::<BTreeSet<_>>());
    let mut differing = then.symmetric_difference(&now);
    Ok(differing.find(|(a, b)| concerned(&BTreeSet::from([*a, *b]))).map(|(a, _)| *a))
}

/// The first of those who said something since `then`, at a ledger position up to, not including, `to`, and
/// permit less since. Only people of whom `concerned` holds, given all their ids, are decided again.
///
/// # Errors
/// If store or registry fail.
fn permits_less_since(
    ctx: &AccessContext<'_>,
    Then { wanted, holders, as_of: from, .. }: Then<'_>,
    to: Seq,
    concerned: impl Fn(&BTreeSet<SubjectId>) -> bool,
) -> Result<Option<SubjectId>, AccessError> {
    let spoke = said_between(ctx, from, to)?;
    if spoke.is_empty() {
        return Ok(None);
    }
    let (mut then, mut now) = (Sayings::new(*ctx, from)?, Sayings::new(*ctx, to)?);
    for subject in spoke {
        let ids = now.ids(subject);
        if !concerned(&ids) {
            continue;
        }
        let (before, after) = (then.of_ids(&ids)?, now.of_ids(&ids)?);
        let less = |holder| {
            let (then, now) =
                (consent::evaluate(&before, holder, wanted), consent::evaluate(&after, holder, wanted));
            then.permit && !(now.permit && now.limits == then.limits)
        };
        if holders.iter().any(less) {
            return Ok(Some(subject));
        }
    }
    Ok(None)
}
