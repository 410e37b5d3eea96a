//! Invitations: a hospital hands one of its patients a code, which becomes the participant's token, once.
//!
//! Whoever works at the hospital may hold the code, so it opens that hospital's part only (`flows::participant`), and a
//! person whose code was redeemed by somebody else finds it redeemed. Issuing, redeeming and ending each are an entry in
//! the ledger, which holds digests only. Code and token follow from the act under a key of their own, so that a call whose
//! answer was lost gives the same one again.
//!
//! A code reads `ali_<id>_<secret>`, a token `alp_<id>_<secret>`; the id is the invitation's.

use almoner_model::{ContributorId, Digest, SourcePatientId, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Act;
use super::access::{AccessContext, AccessError};
use super::consent::said_by;
use super::participant::Participant;
use crate::consent::WithdrawalMode;
use crate::events::{Actor, Event, InvitationIssued, InvitationRedeemed, InvitationRevoked};
use crate::keys::label;
use crate::state::read;
use crate::state::records::Invitation;

/// The longest that a code can be redeemed, in days.
pub const DAYS_MAX: u32 = 14;
/// How long a participant's token works, in days.
pub const TOKEN_DAYS: u32 = 90;

const CODE: &str = "ali_";
const TOKEN: &str = "alp_";

/// A code or token that was just made.
pub struct Issued {
    /// The invitation.
    pub id: String,
    /// What is handed to the person. It is known only now.
    pub secret: Zeroizing<String>,
    /// When it stops working.
    pub expires: Timestamp,
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
) -> Result<Issued, AccessError> {
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(AccessError::invalid("/days", "1 to 14"));
    }
    read::contributor(&ctx.state(), contributor)?.ok_or(AccessError::Unknown("contributor"))?;
    let subject =
        ctx.people.find_record(contributor, record_number)?.ok_or(AccessError::Unknown("patient"))?;
    if said_by(ctx, subject)?.standing_for(contributor).any(|w| w.mode != WithdrawalMode::NoFurtherAccess) {
        return Err(AccessError::Denied("this person asked not to be contacted again".into()));
    }
    let id = hex::encode(&Digest::of(act.event_id.as_bytes()).as_bytes()[..6]);
    let secret = secret(ctx, &act.event_id);
    let known = read::invitation(&ctx.state(), &id)?.filter(|_| ctx.repeated(act).is_ok_and(|s| s.is_some()));
    let expires = known.map_or(after(ctx.now()?, days), |known| known.issued.body.expires);
    let event = Event::InvitationIssued(InvitationIssued {
        invitation: id.clone(),
        contributor: contributor.clone(),
        code: Digest::of(*secret),
        expires,
    });
    ctx.append(&event, act, Some(subject), vec![], &[])?;
    Ok(Issued { secret: written(CODE, &id, &secret), id, expires })
}

/// Redeems a code, once, for the token that acts as the participant. `act` tells a repetition of the same call from
/// another one.
///
/// # Errors
/// [`AccessError::Denied`] for a code that is not one, or no longer; a conflict if it was redeemed.
pub fn redeem(ctx: &AccessContext<'_>, act: &Act, code: &str) -> Result<Issued, AccessError> {
    let unusable = || AccessError::Denied("the code is unknown, has expired or was ended".into());
    let (id, shown) = parse(CODE, code).ok_or_else(unusable)?;
    let found = read::invitation(&ctx.state(), &id)?.filter(|i| is(&i.issued.body.code, &shown));
    let found = found.filter(|i| i.revoked.is_none()).ok_or_else(unusable)?;
    let actor = Actor { role: "participant".into(), id: format!("inv_{id}") };
    let act = Act::repeated(ctx.keys, actor, format!("redeem {}", act.event_id).as_bytes());
    let secret = secret(ctx, &act.event_id);
    let (now, token) = (ctx.now()?, Digest::of(*secret));
    let expires = match &found.redeemed {
        Some(redeemed) if redeemed.body.token == token => redeemed.body.expires,
        Some(_) => {
            return Err(AccessError::Conflict(
                "the code was redeemed; if not by you, tell the hospital to end the invitation".into(),
            ));
        }
        None if now >= found.issued.body.expires => return Err(unusable()),
        None => after(now, TOKEN_DAYS),
    };
    let event = Event::InvitationRedeemed(InvitationRedeemed { invitation: id.clone(), token, expires });
    ctx.append(&event, &act, Some(found.subject), vec![], &[])?;
    Ok(Issued { secret: written(TOKEN, &id, &secret), id, expires })
}

/// Ends an invitation and the token that it became. Ending it again changes nothing.
///
/// # Errors
/// [`AccessError::Unknown`].
pub fn revoke(ctx: &AccessContext<'_>, act: &Act, id: &str) -> Result<Invitation, AccessError> {
    let found = show(ctx, id)?;
    if found.revoked.is_some() {
        return Ok(found);
    }
    let event = Event::InvitationRevoked(InvitationRevoked { invitation: id.to_owned() });
    ctx.append(&event, act, Some(found.subject), vec![], &[])?;
    show(ctx, id)
}

/// An invitation.
///
/// # Errors
/// [`AccessError::Unknown`].
pub fn show(ctx: &AccessContext<'_>, id: &str) -> Result<Invitation, AccessError> {
    read::invitation(&ctx.state(), id)?.ok_or(AccessError::Unknown("invitation"))
}

/// All invitations, by id.
///
/// # Errors
/// If the store fails.
pub fn list(ctx: &AccessContext<'_>) -> Result<Vec<Invitation>, AccessError> {
    Ok(read::all(&ctx.state(), "invitation")?)
}

/// Whose token somebody shows, if it works now, with the invitation that it comes from.
///
/// # Errors
/// If the store fails.
pub fn find(ctx: &AccessContext<'_>, shown: &str) -> Result<Option<(String, Participant)>, AccessError> {
    let Some((id, secret)) = parse(TOKEN, shown) else { return Ok(None) };
    let Some(found) = read::invitation(&ctx.state(), &id)?.filter(|i| i.revoked.is_none()) else {
        return Ok(None);
    };
    let now = ctx.now()?;
    let works = found.redeemed.is_some_and(|r| is(&r.body.token, &secret) && now < r.body.expires);
    let who = Participant { subject: found.subject, hospital: found.issued.body.contributor };
    Ok(works.then_some((id, who)))
}

fn after(now: Timestamp, days: u32) -> Timestamp {
    Timestamp::from_millis(now.millis() + i64::from(days) * 86_400_000)
}

/// The secret of an act, under a key that only this exchange has.
fn secret(ctx: &AccessContext<'_>, event_id: &str) -> Zeroizing<[u8; 32]> {
    let key = ctx.keys.key(label::INVITATION);
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length");
    mac.update(event_id.as_bytes());
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn written(kind: &str, id: &str, secret: &Zeroizing<[u8; 32]>) -> Zeroizing<String> {
    Zeroizing::new(format!("{kind}{id}_{}", URL_SAFE_NO_PAD.encode(secret.as_slice())))
}

fn parse(kind: &str, shown: &str) -> Option<(String, Zeroizing<Vec<u8>>)> {
    let (id, secret) = shown.strip_prefix(kind)?.split_once('_')?;
    if id.len() != 12 || secret.len() != 43 {
        return None;
    }
    Some((id.to_owned(), URL_SAFE_NO_PAD.decode(secret).map(Zeroizing::new).ok()?))
}

fn is(digest: &Digest, secret: &[u8]) -> bool {
    digest.as_bytes().ct_eq(Digest::of(secret).as_bytes()).into()
}
