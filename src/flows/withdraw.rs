//! Withdrawal: by the person, or by a hospital on paper, with a receipt.
//!
//! What a withdrawal stops, it stops from its entry on: every answer about who permits a use is made at a ledger size, and
//! what is counted, released or downloaded is appended under the precondition that nobody concerned permits less since
//! (`topic::CONSENT`).

use almoner_model::{ContributorId, Digest, SourcePatientId, SubjectId, Timestamp};
use serde::Serialize;

use super::Act;
use super::access::{AccessContext, AccessError, PeopleError};
use super::cosign::receipt;
use crate::consent::WithdrawalMode;
use crate::events::{ConsentWithdrawn, Event};
use crate::state::{read, topic};

/// What a person keeps. The entry can be checked against the signed checkpoint offline, whatever the server says later.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Receipt {
    /// How far it goes.
    pub mode: WithdrawalMode,
    /// The hospitals whose data it covers.
    pub hospitals: Vec<Hospital>,
    /// The entry in the ledger. Also the number by which a later consent names this withdrawal to lift it.
    pub seq: u64,
    /// The day of the entry.
    pub time: Timestamp,
    /// The entry's leaf, exactly as it stands in the ledger.
    pub entry: String,
    /// Its proof (C2SP tlog-proof): inclusion under a signed checkpoint. `almoner-verify receipt` checks both.
    pub proof: String,
    /// The key that it is checked with (C2SP verifier key).
    pub vkey: String,
    /// What it does, in words.
    pub meaning: &'static str,
}

/// A hospital on a receipt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Hospital {
    /// Its id.
    pub contributor: ContributorId,
    /// Its name.
    pub name: String,
}

/// What each mode does, in words that a participant reads.
pub const fn meaning(mode: WithdrawalMode) -> &'static str {
    match mode {
        WithdrawalMode::NoContact => {
            "You will not be contacted again. Your data is used as you permitted before."
        }
        WithdrawalMode::NoFurtherAccess => {
            "What happens from the day of your withdrawal on is not used. What was recorded before may be used as you \
             permitted."
        }
        WithdrawalMode::NoFurtherUse => {
            "Your data is not used in any new count or release. What was handed over before stays with its recipients."
        }
        WithdrawalMode::Recall => {
            "Your data is not used in any new count or release, and recipients of earlier releases are told to destroy it."
        }
    }
}

/// A person withdraws. `contributor` limits it to one hospital's data; none is for all of them. `evidence` is the digest of
/// the paper, where there was one.
///
/// # Errors
/// If the store fails, or the contributor does not exist.
pub fn withdraw(
    ctx: &AccessContext<'_>,
    act: &Act,
    subject: SubjectId,
    contributor: Option<&ContributorId>,
    mode: WithdrawalMode,
    evidence: Option<Digest>,
) -> Result<Receipt, AccessError> {
    if let Some(id) = contributor {
        read::contributor(&ctx.state(), id)?.ok_or(AccessError::Unknown("contributor"))?;
    }
    let event = Event::ConsentWithdrawn(ConsentWithdrawn {
        contributor: contributor.cloned(),
        mode: mode.as_str().to_owned(),
        evidence,
    });
    let topics = vec![topic::CONSENT.to_owned()];
    let appended = ctx.append(&event, act, Some(subject), topics, &[])?;
    let entry = ctx.store.entry(appended.seq)?.map(|e| e.bytes).unwrap_or_default();
    let proof = receipt(ctx.store, appended.seq).map_err(|e| AccessError::Failed(e.to_string()))?;
    Ok(Receipt {
        mode,
        hospitals: covered(ctx, contributor)?,
        seq: appended.seq,
        time: appended.time,
        entry: String::from_utf8_lossy(&entry).into_owned(),
        proof: String::from_utf8_lossy(&proof).into_owned(),
        vkey: ctx.store.vkey(),
        meaning: meaning(mode),
    })
}

/// A hospital records a withdrawal on paper, for its own data.
///
/// # Errors
/// [`AccessError::Denied`] for a person who was erased; as [`withdraw`].
pub fn withdraw_on_paper(
    ctx: &AccessContext<'_>,
    act: &Act,
    contributor: &ContributorId,
    record_number: &SourcePatientId,
    mode: WithdrawalMode,
    evidence: Option<Digest>,
) -> Result<Receipt, AccessError> {
    read::contributor(&ctx.state(), contributor)?.ok_or(AccessError::Unknown("contributor"))?;
    // A withdrawal may come before any data, and must then hold for what comes.
    let subject = ctx
        .people
        .subject_of_record(contributor, record_number, ctx.entropy)
        .map_err(|e: PeopleError| AccessError::from(e))?;
    withdraw(ctx, act, subject, Some(contributor), mode, evidence)
}

/// The hospitals that a withdrawal covers: the one that it is limited to, or every one that is registered, since also one
/// that has no data of this person yet may come to have.
fn covered(
    ctx: &AccessContext<'_>,
    contributor: Option<&ContributorId>,
) -> Result<Vec<Hospital>, AccessError> {
    let all = super::contributor::list(ctx)?;
    let wanted = all.into_iter().filter(|c| contributor.is_none_or(|id| c.body.contributor == *id));
    Ok(wanted.map(|c| Hospital { contributor: c.body.contributor, name: c.body.name }).collect())
}
