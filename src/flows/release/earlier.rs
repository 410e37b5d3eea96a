//! What a recipient has already: the earlier releases of a project to it, and those of its other projects and of everyone
//! that show people on the same dates.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use almoner_deid::{Declares, Profile};
use almoner_model::{Digest, ReleaseId, SubjectId};

use super::{Case, members, named, package_folder, recover_one};
use crate::flows::access::{AccessError, SamePeople};
use crate::flows::question::{DataContext, DataError};
use crate::release::ReleaseError;
use crate::release::manifest::Manifest;
use crate::release::package::pseudonym;
use crate::release::rekey::Rekey;
use crate::risk::Earlier;
use crate::state::{read, records};

/// The tier of releases that anyone may have.
pub(super) const PUBLIC: &str = "public";

/// Refuses if an earlier release of the project to its recipient has dates of another kind than `declares`.
///
/// # Errors
/// [`DataError::OtherDates`]; if one cannot be read.
pub(super) fn one_kind_of_dates(
    ctx: &DataContext<'_>,
    case: &Case,
    declares: Declares,
) -> Result<(), DataError> {
    let kind = |of: Declares| (of.date_precision, of.shifted);
    for record in before(ctx, case)? {
        if same_ids(case, &record) && kind(finished(ctx, &record)?.declares) != kind(declares) {
            return Err(DataError::OtherDates { release: record.body.release });
        }
    }
    Ok(())
}

/// The releases that stand in the ledger before the decision, in their order, and that are read beside the new one: all of
/// the project to its recipient, where people have the same pseudonyms; and where `profile` leaves dates as they lie in the
/// dataset, all such releases to the recipient and public ones, where they have the same dates. People are found again by
/// who they are. `found` are the subjects of the new release, ascending.
///
/// # Errors
/// If one cannot be read.
pub(super) fn earlier(
    ctx: &DataContext<'_>,
    case: &Case,
    profile: &Profile,
    rekey: &Rekey,
    found: &[i64],
) -> Result<(Vec<ReleaseId>, Earlier), DataError> {
    let same = ctx.access.same_people()?;
    let (mut with, mut told) = (Vec::new(), Earlier::none());
    for record in before(ctx, case)? {
        if same_ids(case, &record) || same_dates(ctx, case, profile, &record)? {
            one(ctx, &record, rekey, (&same, found), &mut told)?;
            with.push(record.body.release);
        }
    }
    Ok((with, told))
}

/// Whether people have the same pseudonyms in an earlier release.
fn same_ids(case: &Case, record: &records::Release) -> bool {
    let wanted = case.permit.wanted();
    record.body.recipient == wanted.recipient && record.body.project == wanted.project
}

/// Whether the recipient may have an earlier release, and people have the same dates in it.
fn same_dates(
    ctx: &DataContext<'_>,
    case: &Case,
    profile: &Profile,
    record: &records::Release,
) -> Result<bool, DataError> {
    let moves = |profile: &Profile| profile.declares().shifted;
    let request = read::request(&ctx.access.state(), &record.body.request)?;
    let asked = request.ok_or(AccessError::Unknown("request"))?.submitted.body;
    let may_have = record.body.recipient == case.permit.wanted().recipient || asked.tier == PUBLIC;
    Ok(may_have && !moves(profile) && !moves(&named(ctx, &asked.profile)?))
}

/// All earlier releases.
fn before(ctx: &DataContext<'_>, case: &Case) -> Result<Vec<records::Release>, DataError> {
    let mut all: Vec<records::Release> = read::all(&ctx.access.state(), "release")?;
    all.retain(|r| r.origin.seq < case.permitted.as_of);
    all.sort_by_key(|r| r.origin.seq);
    Ok(all)
}

/// The manifest of an earlier release, as the ledger names it. One that was left unfinished is finished.
fn finished(ctx: &DataContext<'_>, record: &records::Release) -> Result<Manifest, DataError> {
    let release = &record.body.release;
    if !package_folder(ctx.releases, release).exists() {
        // Its entry stands in the ledger and something kept its folder from being renamed.
        recover_one(ctx, release)?;
    }
    let broken = || ReleaseError::Earlier(release.clone());
    let bytes = fs::read(package_folder(ctx.releases, release).join("release.json")).map_err(|_| broken())?;
    if Digest::of(&bytes) != read::release_manifest(&ctx.access.state(), record).map_err(AccessError::from)? {
        return Err(broken().into());
    }
    Ok(serde_json::from_slice(&bytes).map_err(|_| broken())?)
}

/// Takes in an earlier release. Of its tables nothing is read if none of its members can be in the new one.
fn one(
    ctx: &DataContext<'_>,
    record: &records::Release,
    rekey: &Rekey,
    (same, found): (&SamePeople, &[i64]),
    told: &mut Earlier,
) -> Result<(), DataError> {
    let release = &record.body.release;
    let broken = || ReleaseError::Earlier(release.clone());
    let manifest = finished(ctx, record)?;
    let mut now: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for member in members(ctx, release)?.members {
        let mut ids = BTreeSet::new();
        for id in member.also.iter().chain([&member.subject]) {
            let subject = id.parse().ok().and_then(|n| SubjectId::new(n).ok()).ok_or_else(broken)?;
            ids.extend(same.of(subject));
        }
        ids.retain(|id| found.binary_search(&id.get()).is_ok());
        if !ids.is_empty() {
            let ids = ids.into_iter().map(|id| pseudonym(rekey, id)).collect::<Result<Vec<_>, _>>()?;
            now.insert(member.pseudonym.parse().map_err(|_| broken())?, ids);
        }
    }
    if now.is_empty() {
        told.add_strangers();
        return Ok(());
    }
    let people = crate::release::told::people(&package_folder(ctx.releases, release), &manifest, ctx.tables)?;
    let of = |id: i64| now.get(&id).cloned().unwrap_or_default();
    Ok(told.add(&people, of).map_err(ReleaseError::risk)?)
}
