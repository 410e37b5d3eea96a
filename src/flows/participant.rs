//! The participant: sees what they said at the hospital that invited them, and what came of it.
//!
//! How one comes to act as a participant is `flows::invitation`. Whoever it is, it was proved to one hospital only, and that
//! hospital may hold what it handed out: a participant sees and decides for that hospital's data, never for another's.

use std::collections::BTreeMap;

use almoner_model::{ContributorId, ProjectId, ReleaseId, Seq, SubjectId, Timestamp};
use serde::Serialize;

use super::access::{AccessContext, AccessError};
use super::consent::said_by;
use super::permitted::Sayings;
use super::release::MEMBER_KIND;
use crate::consent::{self, CategorySet, Directive, Purpose, Use, WithdrawalMode, WithdrawalState};
use crate::events::{ConsentRecorded, RequestSubmitted};
use crate::state::records::{Count, Logged, Release, subject_key};
use crate::state::{read, topic};
use crate::store::EntryFilter;

/// A person, as far as one hospital knows them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Participant {
    /// The person.
    pub subject: SubjectId,
    /// The hospital whose data they see and decide about.
    pub hospital: ContributorId,
}

impl Participant {
    /// That `named` is the participant's own hospital, or none is named.
    ///
    /// # Errors
    /// [`AccessError::Denied`].
    pub fn only(&self, named: Option<&ContributorId>) -> Result<&ContributorId, AccessError> {
        match named {
            Some(other) if *other != self.hospital => Err(AccessError::Denied(
                "your token is for the hospital that invited you; ask the other for an invitation of its own"
                    .into(),
            )),
            _ => Ok(&self.hospital),
        }
    }
}

/// One thing that a person said.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Choice {
    /// The entry.
    pub seq: u64,
    /// Its time.
    pub time: Timestamp,
    /// Through which hospital.
    pub contributor: ContributorId,
    /// Whether it governs, or a later version of the same document does.
    pub governs: bool,
    /// What was said.
    pub directive: Directive,
}

/// A withdrawal, and whether it stands.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Withdrawal {
    /// The withdrawal.
    #[serde(flatten)]
    pub state: WithdrawalState,
    /// Whether it stands, or a later act that names it lifted it.
    pub stands: bool,
}

/// Everything that a person said.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Choices {
    /// Consents and refusals, the last first.
    pub choices: Vec<Choice>,
    /// Withdrawals, the last first.
    pub withdrawals: Vec<Withdrawal>,
    /// The hospital that this is about, by id, with its name.
    pub hospitals: BTreeMap<ContributorId, String>,
}

/// What a person said to this hospital, and what they withdrew from all, for their own page.
///
/// # Errors
/// If the store fails.
pub fn choices(ctx: &AccessContext<'_>, who: &Participant) -> Result<Choices, AccessError> {
    let (subject, hospital) = (who.subject, &who.hospital);
    let said = said_by(ctx, subject)?;
    let governing: Vec<u64> = said.governing().map(|d| d.seq).collect();
    let kinds = vec!["consent.recorded".to_owned()];
    let mut entries = Vec::new();
    for id in ctx.same_people()?.of(subject) {
        let filter = EntryFilter { kinds: kinds.clone(), topic: Some(topic::subject(id)) };
        entries.extend(ctx.store.entries(0, 10_000, &filter)?);
    }
    entries.sort_by_key(|entry| entry.seq);
    let mut choices = Vec::new();
    for entry in entries {
        let Some(value) = entry.payload.value() else { continue };
        let Ok(event) = serde_json::from_value::<ConsentRecorded>(value.clone()) else { continue };
        let Ok(directive) = serde_json::from_value(event.directive) else { continue };
        if event.contributor != *hospital {
            continue;
        }
        choices.push(Choice {
            seq: entry.seq,
            time: entry.leaf.time,
            contributor: event.contributor,
            governs: governing.contains(&entry.seq),
            directive,
        });
    }
    choices.reverse();
    let mut withdrawals: Vec<Withdrawal> = said
        .withdrawals
        .iter()
        .filter(|w| w.contributor.as_ref().is_none_or(|c| c == hospital))
        .map(|w| Withdrawal { state: w.clone(), stands: !said.lifted_at(w).contains(hospital) })
        .collect();
    withdrawals.reverse();
    let known = read::contributor(&ctx.state(), hospital)?;
    let hospitals = known.into_iter().map(|c| (c.body.contributor, c.body.name)).collect();
    Ok(Choices { choices, withdrawals, hospitals })
}

/// A project that counted while this person's directive let it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct CountedBy {
    /// The project.
    pub project: ProjectId,
    /// Its title.
    pub title: String,
    /// How many counts.
    pub counts: u64,
    /// The last one.
    pub last: Timestamp,
}

/// The projects whose counts of this hospital's data may have counted this person: those that their directives permitted at
/// that moment. Whether they met a cohort's criteria is not kept.
///
/// # Errors
/// If the store fails.
pub fn counted_by(ctx: &AccessContext<'_>, who: &Participant) -> Result<Vec<CountedBy>, AccessError> {
    let said = said_by(ctx, who.subject)?;
    let mut out: BTreeMap<ProjectId, CountedBy> = BTreeMap::new();
    let counts: Vec<Count> = read::all(&ctx.state(), "count")?;
    for Logged { body, origin } in counts {
        let Some(project) = read::project(&ctx.state(), &body.project)? else { continue };
        let wanted = Use {
            purpose: Purpose::of(body.purpose, body.modifiers.iter().copied()),
            recipient: project.body.recipient,
            project: body.project.clone(),
            required: body.required,
            delivered: CategorySet::EMPTY,
            at: origin.time,
        };
        let before = said.before(body.as_of);
        let mut permitted = false;
        for dataset in body.datasets.keys() {
            let Some(dataset) = read::dataset(&ctx.state(), dataset)? else { continue };
            if dataset.contributor != who.hospital {
                continue;
            }
            permitted |= consent::evaluate(&before, &dataset.contributor, &wanted).permit;
        }
        if permitted {
            let title = project.body.title;
            let row = out.entry(body.project.clone()).or_insert_with(|| CountedBy {
                project: body.project,
                title,
                counts: 0,
                last: origin.time,
            });
            row.counts += 1;
            row.last = row.last.max(origin.time);
        }
    }
    Ok(out.into_values().collect())
}

/// A release that holds this person's data of the hospital.
#[derive(Clone, PartialEq, Debug)]
pub struct UsedIn {
    /// The release.
    pub release: Release,
    /// What it was asked for.
    pub request: RequestSubmitted,
    /// The entries of what was said to the hospital that permitted it.
    pub directives: Vec<u64>,
    /// The entry from which on the person is not in it any more, because another hospital erased them.
    pub left: Option<Seq>,
}

/// The releases that this person's data of the hospital is in, or was in.
///
/// # Errors
/// If the store fails.
pub fn releases_with(ctx: &AccessContext<'_>, who: &Participant) -> Result<Vec<UsedIn>, AccessError> {
    let mut found = Vec::new();
    // A release knows a person by one of the ids that turned out to be theirs.
    for id in ctx.same_people()?.of(who.subject) {
        let prefix = format!("{}/", subject_key(id));
        found.extend(ctx.store.scan_primary(MEMBER_KIND, &prefix, None, 10_000)?);
    }
    let mut out = Vec::new();
    for (_, value) in found {
        let id: Option<ReleaseId> = value["release"].as_str().and_then(|id| id.parse().ok());
        let Some(release) = id.map(|id| read::release(&ctx.state(), &id)).transpose()?.flatten() else {
            continue;
        };
        if !touches(ctx, &release, &who.hospital)? {
            continue;
        }
        let Some(request) = read::request(&ctx.state(), &release.body.request)? else { continue };
        let by: Vec<u64> = serde_json::from_value(value["directives"].clone()).unwrap_or_default();
        let said = Sayings::new(*ctx, release.body.as_of)?.of(who.subject)?;
        let through =
            |seq: &u64| said.directives.iter().any(|d| d.seq == *seq && d.contributor == who.hospital);
        let directives: Vec<u64> = by.into_iter().filter(through).collect();
        // Permitted through other hospitals only, the release holds theirs only.
        if !directives.is_empty() {
            let left = match value["left"].as_str() {
                None => None,
                Some(erasure) => Some(left_at(ctx, &release.body.release, erasure)?),
            };
            out.push(UsedIn { release, request: request.submitted.body, directives, left });
        }
    }
    Ok(out)
}

/// The entry by which a release was written anew for an erasure. Until it stands, nobody downloads the release.
fn left_at(ctx: &AccessContext<'_>, release: &ReleaseId, erasure: &str) -> Result<Seq, AccessError> {
    let times = read::release_rewrites(&ctx.state(), release)?.unwrap_or_default().times;
    Ok(times.iter().find(|time| time.body.erasure == erasure).map_or(Seq::MAX, |time| time.origin.seq))
}

/// Whether a release was drawn from data of a hospital.
pub(super) fn touches(
    ctx: &AccessContext<'_>,
    release: &Release,
    hospital: &ContributorId,
) -> Result<bool, AccessError> {
    for dataset in release.body.datasets.keys() {
        if read::dataset(&ctx.state(), dataset)?.is_some_and(|d| d.contributor == *hospital) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The modes that a person can choose from, with what each does.
pub fn modes() -> Vec<(WithdrawalMode, &'static str)> {
    [
        WithdrawalMode::NoContact,
        WithdrawalMode::NoFurtherAccess,
        WithdrawalMode::NoFurtherUse,
        WithdrawalMode::Recall,
    ]
    .into_iter()
    .map(|mode| (mode, super::withdraw::meaning(mode)))
    .collect()
}
