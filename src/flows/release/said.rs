//! What the members of a release said: the directives that permit them, and whether anything since the decision changes it.

use std::collections::BTreeSet;

use almoner_model::{ReleaseId, Seq, SubjectId};

use super::Case;
use crate::consent::{Use, Verdict, evaluate};
use crate::flows::access::AccessError;
use crate::flows::meanwhile::{self, changed};
use crate::flows::permitted::{Sayings, said_between};
use crate::flows::question::{DataContext, DataError};
use crate::release::build::Built;
use crate::release::members::{Gate, Members};
use crate::release::rekey::Rekey;

/// People whose records are read at once.
const AT_ONCE: usize = 4_096;

/// The members with the directives that permit them, one evaluation each.
///
/// # Errors
/// A conflict if a member is not permitted after all.
pub(super) fn list_members(
    ctx: &DataContext<'_>,
    case: &Case,
    rekey: &Rekey,
    id: &ReleaseId,
    built: &Built,
) -> Result<Members, DataError> {
    let as_of = case.permitted.as_of;
    let wanted: &Use = case.permit.wanted();
    let holders = case.question.contributors();
    let mut sayings = Sayings::new(ctx.access, as_of)?;
    let mut people = Vec::with_capacity(built.persons.len());
    for part in built.persons.chunks(AT_ONCE) {
        sayings.prepare(part.iter().copied())?;
        for subject in part {
            let said = sayings.of(*subject)?;
            let verdicts = holders.iter().map(|holder| evaluate(&said, holder, wanted));
            let directives: BTreeSet<Seq> =
                verdicts.filter(|verdict| verdict.permit).flat_map(|verdict| verdict.directives).collect();
            if directives.is_empty() {
                return Err(AccessError::Conflict("what members permit changed; try again".into()).into());
            }
            let also = sayings.ids(*subject).into_iter().filter(|id| id != subject).collect();
            people.push((*subject, also, directives.into_iter().collect()));
        }
    }
    let gate = Gate { report: built.gate.clone(), rows_left_out: built.left_out.clone() };
    Ok(Members::new(ctx.keys, rekey, id, people, gate)?)
}

/// Refuses if what a member said at a ledger position from the decision up to `to` changes what they permit; what others
/// said, and what leaves a member's permission as it is, does not matter. The members concerned are decided again, no
/// others.
///
/// # Errors
/// [`crate::store::StoreError::Precondition`] with the member's topic: everything is to be decided again.
pub(super) fn unchanged(
    ctx: &DataContext<'_>,
    case: &Case,
    list: &Members,
    to: Seq,
) -> Result<(), DataError> {
    let as_of = case.permitted.as_of;
    let spoke = said_between(&ctx.access, as_of, to)?;
    let joined = ctx.access.people.aliases().map_err(AccessError::from)? != case.permitted.aliases;
    if spoke.is_empty() && !joined {
        return Ok(());
    }
    let ids = |m: &almoner_ledger::members::Member| -> Vec<SubjectId> {
        let all = m.also.iter().chain([&m.subject]);
        all.filter_map(|id| SubjectId::new(id.parse().ok()?).ok()).collect()
    };
    let holders = case.question.contributors();
    let listed: BTreeSet<SubjectId> = list.members.iter().flat_map(&ids).collect();
    if let Some(one) =
        meanwhile::joined(&ctx.access, &case.permitted.aliases, |ids| !ids.is_disjoint(&listed))?
    {
        return Err(changed(one, to));
    }
    let (mut then, mut now) = (Sayings::new(ctx.access, as_of)?, Sayings::new(ctx.access, to)?);
    for member in &list.members {
        let ids: BTreeSet<SubjectId> = ids(member).into_iter().collect();
        let Some(speaker) = ids.iter().find(|id| spoke.contains(id)) else { continue };
        let (before, after) = (then.of_ids(&ids)?, now.of_ids(&ids)?);
        let same = |holder| {
            let verdict = |said| evaluate(said, holder, case.permit.wanted());
            alike(&verdict(&before), &verdict(&after))
        };
        if !holders.iter().all(same) {
            return Err(changed(*speaker, to));
        }
    }
    Ok(())
}

/// Whether two verdicts let the same leave by the same directives.
fn alike(a: &Verdict, b: &Verdict) -> bool {
    a.permit == b.permit && a.limits == b.limits && a.directives == b.directives
}
