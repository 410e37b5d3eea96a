//! The participant: invited by a hospital, sees what they said and what came of it.
//!
//! An invitation is a token that only its holder has; the ledger has its digest, and ties it to the person. It works until
//! it expires, and for that person only.

use std::collections::BTreeMap;

use almoner_model::{ContributorId, Digest, ProjectId, SourcePatientId, SubjectId, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use zeroize::Zeroizing;

use super::Act;
use super::access::{AccessContext, AccessError};
use super::consent::said_by;
use crate::consent::{self, Category, CategorySet, Directive, Purpose, Use, WithdrawalMode, WithdrawalState};
use crate::events::{ConsentRecorded, Event, InvitationIssued};
use crate::state::records::{Contributor, Count, Logged};
use crate::state::{read, topic};
use crate::store::EntryFilter;

/// What an invitation's token begins with.
const PREFIX: &str = "alp_";
/// The longest an invitation works, in days.
const DAYS_MAX: u32 = 366;

/// An invitation that was just made.
pub struct Invited {
    /// What is handed to the person. It is known only now.
    pub token: Zeroizing<String>,
    /// When it stops working.
    pub expires: Timestamp,
}

/// Who holds an invitation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Participant {
    /// The person.
    pub subject: SubjectId,
    /// The hospital that invited them.
    pub contributor: ContributorId,
    /// Digest of the token: how the actor is named.
    pub token: Digest,
}

/// A hospital invites one of its patients.
///
/// # Errors
/// [`AccessError::Denied`] if the person asked not to be contacted, [`AccessError::Unknown`] if the hospital has no such
/// patient.
pub fn invite(
    ctx: &AccessContext<'_>,
    act: &Act,
    contributor: &ContributorId,
    record_number: &SourcePatientId,
    days: u32,
) -> Result<Invited, AccessError> {
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(AccessError::invalid("/days", "1 to 366"));
    }
    read::contributor(&ctx.state(), contributor)?.ok_or(AccessError::Unknown("contributor"))?;
    let subject =
        ctx.people.find_record(contributor, record_number)?.ok_or(AccessError::Unknown("patient"))?;
    if said_by(ctx, subject)?.standing().any(|w| w.mode != WithdrawalMode::NoFurtherAccess) {
        return Err(AccessError::Denied("this person asked not to be contacted again".into()));
    }
    let secret = Zeroizing::new(ctx.entropy.bytes32());
    let expires = Timestamp::from_millis(ctx.now()?.millis() + i64::from(days) * 86_400_000);
    let event = Event::InvitationIssued(InvitationIssued {
        contributor: contributor.clone(),
        token: Digest::of(*secret),
        expires,
    });
    ctx.append(&event, act, Some(subject), vec![], &[])?;
    Ok(Invited { token: Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(*secret))), expires })
}

/// The person whose token somebody shows, if it works now.
///
/// # Errors
/// If the store fails.
pub fn find(ctx: &AccessContext<'_>, shown: &str) -> Result<Option<Participant>, AccessError> {
    let Some(encoded) = shown.strip_prefix(PREFIX).filter(|t| t.len() == 43) else { return Ok(None) };
    let Ok(secret) = URL_SAFE_NO_PAD.decode(encoded).map(Zeroizing::new) else { return Ok(None) };
    let token = Digest::of(secret.as_slice());
    let found = read::invitation(&ctx.state(), &token)?;
    let now = ctx.now()?;
    Ok(found.filter(|i| now < i.issued.body.expires).map(|i| Participant {
        subject: i.subject,
        contributor: i.issued.body.contributor,
        token,
    }))
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
    /// The hospitals here, by id, with their names.
    pub hospitals: BTreeMap<ContributorId, String>,
}

/// What a person said, for their own page.
///
/// # Errors
/// If the store fails.
pub fn choices(ctx: &AccessContext<'_>, subject: SubjectId) -> Result<Choices, AccessError> {
    let said = said_by(ctx, subject)?;
    let governing: Vec<u64> = said.governing().map(|d| d.seq).collect();
    let kinds = vec!["consent.recorded".to_owned()];
    let filter = EntryFilter { kinds, topic: Some(topic::subject(subject)) };
    let mut choices = Vec::new();
    for entry in ctx.store.entries(0, 10_000, &filter)? {
        let Some(value) = entry.payload.value() else { continue };
        let Ok(event) = serde_json::from_value::<ConsentRecorded>(value.clone()) else { continue };
        let Ok(directive) = serde_json::from_value(event.directive) else { continue };
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
        .map(|w| Withdrawal { state: w.clone(), stands: !said.is_lifted(w) })
        .collect();
    withdrawals.reverse();
    let hospitals: Vec<Contributor> = super::contributor::list(ctx)?;
    let hospitals = hospitals.into_iter().map(|c| (c.body.contributor, c.body.name)).collect();
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

/// The projects whose counts may have counted this person: those that their directives permitted at that moment. Whether
/// they met a cohort's criteria is not kept.
///
/// # Errors
/// If the store fails.
pub fn counted_by(ctx: &AccessContext<'_>, subject: SubjectId) -> Result<Vec<CountedBy>, AccessError> {
    let said = said_by(ctx, subject)?;
    let mut out: BTreeMap<ProjectId, CountedBy> = BTreeMap::new();
    let counts: Vec<Count> = read::all(&ctx.state(), "count")?;
    for Logged { body, origin } in counts {
        let Some(project) = read::project(&ctx.state(), &body.project)? else { continue };
        let wanted = Use {
            purpose: Purpose::of(body.purpose, []),
            recipient: project.body.recipient,
            project: body.project.clone(),
            required: CategorySet::EMPTY.with(Category::Demographics),
            delivered: CategorySet::EMPTY,
            at: origin.time,
        };
        let before = said.before(body.as_of);
        let mut permitted = false;
        for dataset in body.datasets.keys() {
            let Some(dataset) = read::dataset(&ctx.state(), dataset)? else { continue };
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
