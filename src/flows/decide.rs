//! Decisions: a committee's word on a request, the recipient's terms, the legal basis, and the permit.
//!
//! [`permit`] is the only way to a [`Permit`]. It reads the state at one ledger size, decides, and logs the decision under
//! the precondition that nothing was said meanwhile about the request or about any contributor concerned, and that the day
//! is still the same; otherwise it decides again. A permit is good for work begun at its `as_of`: what is appended at the end of that work takes the same
//! preconditions, and that nobody concerned permits less since (`topic::request`, `topic::CONSENT`).

use almoner_control::judge::{self, Basis, Counting, Judged};
use almoner_model::{ContributorId, Digest, RequestId, Seq, Timestamp};

use super::Act;
use super::access::{AccessContext, AccessError, entry};
use super::meanwhile::{ATTEMPTS, changing};
use crate::consent::{Category, CategorySet};
use crate::events::{Event, LegalBasisEnded, LegalBasisRecorded, PermitDecided, RequestDecided, TermsSigned};
use crate::policy::{self, Decision, Effect, Grant, HOUSE, Permit, Refusal, Rules};
use crate::state::records::{LegalBasis, Request};
use crate::state::{read, topic};
use crate::store::{Appended, Precondition, StoreError};

/// A committee decides (`approved`, `refused`), delegates, or revokes its approval.
///
/// # Errors
/// A conflict if the request does not exist, does not touch the committee's data, or was decided by it before.
pub fn decide(ctx: &AccessContext<'_>, act: &Act, decision: RequestDecided) -> Result<Appended, AccessError> {
    if decision.reason.trim().is_empty() {
        return Err(AccessError::invalid("/reason", "say why: the requester and participants read it"));
    }
    let as_of = ctx.store.size();
    read::request(&ctx.state(), &decision.request)?.ok_or(AccessError::Unknown("request"))?;
    let topics = vec![topic::request(&decision.request)];
    let word = decision.decision.clone();
    let event = Event::RequestDecided(decision);
    let mut new = entry(&event, act.event_id(0), act, None, topics)?;
    new.decision = Some(word);
    new.as_of = Some(as_of);
    if let Some(seq) = ctx.repeated(act)? {
        // The same act again: the entry states the ledger size that it was made at.
        new.as_of = ctx.store.entry(seq)?.and_then(|e| e.leaf.as_of);
    }
    one(ctx.store.append(vec![new], &[])?)
}

/// The recipient signs the terms of a request. `document` is what was signed.
///
/// # Errors
/// A conflict if the request is not the recipient's or the terms were signed before.
pub fn sign_terms(
    ctx: &AccessContext<'_>,
    act: &Act,
    mut terms: TermsSigned,
    document: &[u8],
) -> Result<Appended, AccessError> {
    if terms.signatory.trim().is_empty() {
        return Err(AccessError::invalid("/signatory", "name who signs"));
    }
    if document.is_empty() {
        return Err(AccessError::invalid("/document", "the signed terms are empty"));
    }
    read::request(&ctx.state(), &terms.request)?.ok_or(AccessError::Unknown("request"))?;
    terms.document = ctx.documents.put(document).map_err(AccessError::Failed)?;
    let topics = vec![topic::request(&terms.request)];
    ctx.append(&Event::TermsSigned(terms), act, None, topics, &[])
}

/// Records the ground on which a contributor's data may be released. `document` is the determination, attestation or
/// agreement itself.
///
/// # Errors
/// [`AccessError::Invalid`] if a part is missing, a conflict if the id is taken.
pub fn record_legal_basis(
    ctx: &AccessContext<'_>,
    act: &Act,
    mut basis: LegalBasisRecorded,
    document: &[u8],
) -> Result<Appended, AccessError> {
    for (pointer, text) in
        [("/id", &basis.id), ("/by", &basis.by), ("/method", &basis.method), ("/scope", &basis.scope)]
    {
        if text.trim().is_empty() {
            return Err(AccessError::invalid(pointer, "this is needed to rely on a legal basis"));
        }
    }
    if document.is_empty() {
        return Err(AccessError::invalid("/document", "the document is empty"));
    }
    if !policy::basis_fits(&basis.kind, &basis.profile) {
        return Err(AccessError::invalid(
            "/kind",
            "an attestation carries safe-harbor, an expert determination date-shifted, a data use agreement limited or \
             date-shifted",
        ));
    }
    if basis.kind == "data_use_agreement" && basis.recipient.is_none() {
        return Err(AccessError::invalid("/recipient", "an agreement names the recipient who signed it"));
    }
    if let Some(id) = &basis.project {
        let project = read::project(&ctx.state(), id)?.ok_or(AccessError::Unknown("project"))?;
        if basis.recipient.as_ref().is_some_and(|r| *r != project.body.recipient) {
            return Err(AccessError::invalid("/recipient", "the project has another recipient"));
        }
    }
    if basis.kind != "safe_harbor_attestation" && basis.expires.is_none() {
        return Err(AccessError::invalid("/expires", "a determination or agreement ends on a day"));
    }
    read::contributor(&ctx.state(), &basis.contributor)?.ok_or(AccessError::Unknown("contributor"))?;
    basis.document = ctx.documents.put(document).map_err(AccessError::Failed)?;
    let topics = vec![topic::contributor(&basis.contributor)];
    ctx.append(&Event::LegalBasisRecorded(basis), act, None, topics, &[])
}

/// Ends a legal basis: from its entry on no release or download rests on it. Ending it again changes nothing.
///
/// # Errors
/// [`AccessError::Unknown`], [`AccessError::Invalid`] without a reason.
pub fn end_legal_basis(
    ctx: &AccessContext<'_>,
    act: &Act,
    id: &str,
    reason: &str,
) -> Result<(), AccessError> {
    if reason.trim().is_empty() {
        return Err(AccessError::invalid("/reason", "say why"));
    }
    let basis = read::legal_basis(&ctx.state(), id)?.ok_or(AccessError::Unknown("legal basis"))?;
    if read::legal_basis_end(&ctx.state(), id)?.is_some() {
        return Ok(());
    }
    let event = Event::LegalBasisEnded(LegalBasisEnded { id: id.to_owned(), reason: reason.to_owned() });
    ctx.append(&event, act, None, vec![topic::contributor(&basis.body.contributor)], &[])?;
    Ok(())
}

/// The legal bases of a contributor, or of all.
///
/// # Errors
/// If the store fails.
pub fn legal_bases(
    ctx: &AccessContext<'_>,
    of: Option<&ContributorId>,
) -> Result<Vec<LegalBasis>, AccessError> {
    let mut all: Vec<LegalBasis> = read::all(&ctx.state(), "legal-basis")?;
    all.retain(|b| of.is_none_or(|c| b.body.contributor == *c));
    Ok(all)
}

/// Decides whether `request` may be released now, logs it, and gives the permit. `criteria` are the categories of data that
/// the cohort's criteria look at.
///
/// # Errors
/// [`AccessError::Refused`] with every reason; the refusal is in the ledger too.
pub fn permit(
    ctx: &AccessContext<'_>,
    act: &Act,
    id: &RequestId,
    criteria: CategorySet,
) -> Result<Permit, AccessError> {
    let mut last = String::new();
    for attempt in 0..ATTEMPTS {
        match try_permit(ctx, act, attempt, id, criteria) {
            Err(AccessError::Store(StoreError::Precondition { topic, .. })) => last = topic,
            other => return other,
        }
    }
    Err(changing(&last))
}

fn try_permit(
    ctx: &AccessContext<'_>,
    act: &Act,
    attempt: usize,
    id: &RequestId,
    criteria: CategorySet,
) -> Result<Permit, AccessError> {
    let (as_of, now) = (ctx.store.size(), ctx.now()?);
    let request = read::request(&ctx.state(), id)?.ok_or(AccessError::Unknown("request"))?;
    let Judged { decision, legal_bases, k_min } = judge(ctx, &request, as_of, now)?;
    let event = Event::PermitDecided(PermitDecided {
        request: id.clone(),
        effect: if decision.effect() == Effect::Permit { "permit" } else { "deny" }.to_owned(),
        reasons: decision.reasons().to_vec(),
        policies: decision.policies().clone(),
        required: criteria.with(Category::Demographics),
        as_of,
    });
    let topics = vec![topic::done(id)];
    // A permit is decided anew each time it is asked for, so each decision is an act of its own.
    let own = Act::new(act.actor.clone(), ctx.entropy);
    let mut new = entry(&event, own.event_id(attempt), act, None, topics)?;
    new.decision = Some(if decision.effect() == Effect::Permit { "permit" } else { "deny" }.to_owned());
    new.as_of = Some(as_of);
    new.until = Some(last_of_day(now));
    new.policy = decision.policies().get("house").copied();
    let mut unchanged = vec![Precondition { topic: topic::request(id), as_of }];
    unchanged
        .extend(request.contributors.iter().map(|c| Precondition { topic: topic::contributor(c), as_of }));
    let logged = one(ctx.store.append(vec![new], &unchanged)?)?;
    let body = &request.submitted.body;
    let Some(terms) = &request.terms else {
        return Err(Refusal { reasons: decision.reasons().to_vec(), as_of }.into());
    };
    let grant = Grant {
        request: id.clone(),
        datasets: body.datasets.clone(),
        tables: body.tables.clone(),
        cohort: body.cohort,
        tier: body.tier.clone(),
        profile: body.profile.clone(),
        k_min,
        legal_bases,
        terms: terms.body.document,
        wanted: crate::request::wanted(body, criteria, request.status() == "approved", logged.time),
    };
    Ok(Permit::of(grant, decision, logged.seq, logged.time)?)
}

fn judge(
    ctx: &AccessContext<'_>,
    request: &Request,
    as_of: Seq,
    now: Timestamp,
) -> Result<Judged, AccessError> {
    let documents = |digest: &Digest| ctx.documents.get(digest);
    let basis = Basis { state: &ctx.state(), documents: &documents, today: now.date(), as_of };
    Ok(judge::request(&mut rules(ctx)?, &basis, request)?)
}

/// The house rules, kept as a document too: whoever decides again under a later version needs those of then.
fn rules(ctx: &AccessContext<'_>) -> Result<Rules, AccessError> {
    ctx.documents.put(HOUSE.as_bytes()).map_err(AccessError::Failed)?;
    Rules::new(HOUSE).map_err(|e| AccessError::Failed(format!("house rules: {e}")))
}

/// The last instant of the day of `now`. Rules know days, so what they say on a day holds until then.
pub(super) fn last_of_day(now: Timestamp) -> Timestamp {
    Timestamp::from_millis(Timestamp::from_date(now.date().plus_days(1)).millis() - 1)
}

/// Whether a request would be permitted at `now`: nobody revoked, and determination, legal bases, terms and contracts are in
/// force. Decides nothing and logs nothing.
///
/// # Errors
/// [`AccessError::Refused`] with every reason.
pub fn still_permitted(
    ctx: &AccessContext<'_>,
    request: &Request,
    (as_of, now): (Seq, Timestamp),
) -> Result<Decision, AccessError> {
    let decision = judge(ctx, request, as_of, now)?.decision;
    match decision.effect() {
        Effect::Permit => Ok(decision),
        Effect::Deny => Err(Refusal { reasons: decision.reasons().to_vec(), as_of }.into()),
    }
}

fn one(mut appended: Vec<Appended>) -> Result<Appended, AccessError> {
    appended.pop().ok_or_else(|| AccessError::Failed("the store acknowledged nothing".into()))
}

/// Whether the contributors concerned let `project` count for this purpose, by the house rules and their contracts.
/// Nothing is logged: the count's own entry names the policies, on the day of `now`.
///
/// # Errors
/// [`AccessError::Refused`] with the reasons.
pub fn may_count(
    ctx: &AccessContext<'_>,
    count: Counting<'_>,
    now: Timestamp,
) -> Result<Decision, AccessError> {
    let (as_of, today) = (ctx.store.size(), now.date());
    let documents = |digest: &Digest| ctx.documents.get(digest);
    let basis = Basis { state: &ctx.state(), documents: &documents, today, as_of };
    let decision = judge::count(&mut rules(ctx)?, &basis, count)?;
    match decision.effect() {
        Effect::Permit => Ok(decision),
        Effect::Deny => Err(Refusal { reasons: decision.reasons().to_vec(), as_of }.into()),
    }
}
