//! Judging: what the rules are asked of a request or a count, taken from the folded state. `flows` judges from the store and
//! logs what comes of it; [`crate::replay`] judges again from the entries before `as_of`.
//!
//! Pure: the state, the documents and the day are given.

use std::collections::BTreeMap;

use almoner_model::consent::{Category, CategorySet, DateRanges, Purpose, Use, Verdict};
use almoner_model::{ContributorId, Date, Digest, Duo, ProjectId, RecipientId, Seq, Timestamp};

use crate::events::{LegalBasisRecorded, RequestSubmitted};
use crate::policy::{BasisFacts, Decision, Facts, ReleaseFacts, Rules, basis_fits};
use crate::state::records::{LegalBasis, Request};
use crate::state::{Read, ReadError, read};

/// The smallest class size of a release to the public.
const K_PUBLIC: u32 = 11;
/// The smallest class size of a release under signed terms.
const K_CONTROLLED: u32 = 5;

/// Why nothing could be judged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JudgeError {
    /// The state.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A thing that is named does not exist.
    #[error("there is no such {0}")]
    Unknown(&'static str),
    /// A document cannot be had.
    #[error("{0}")]
    Document(String),
}

/// Documents by digest: the bytes, `None` for one that is not kept, or a sentence where that cannot be said.
pub type Documents<'a> = dyn Fn(&Digest) -> Result<Option<Vec<u8>>, String> + 'a;

/// What is judged from.
pub struct Basis<'a, R> {
    /// The state before entry `as_of`.
    pub state: &'a R,
    /// The contracts' texts.
    pub documents: &'a Documents<'a>,
    /// The day, in ledger time.
    pub today: Date,
    /// Ledger size.
    pub as_of: Seq,
}

/// What the rules say of a request.
#[derive(Clone, PartialEq, Debug)]
pub struct Judged {
    /// The decision.
    pub decision: Decision,
    /// The legal basis of each contributor's data, by id.
    pub legal_bases: BTreeMap<ContributorId, String>,
    /// The smallest class that the tier and every contributor accept.
    pub k_min: u32,
}

/// What the rules say of a request for a release.
///
/// # Errors
/// [`JudgeError`]; what speaks against the request is in the decision.
pub fn request<R: Read>(
    rules: &mut Rules,
    basis: &Basis<'_, R>,
    request: &Request,
) -> Result<Judged, JudgeError> {
    let mut asked = Vec::new();
    let mut legal_bases = BTreeMap::new();
    let mut k_min = if request.submitted.body.tier == "public" { K_PUBLIC } else { K_CONTROLLED };
    for contributor in &request.contributors {
        let legal = basis_for(basis.state, contributor, request, basis.today)?;
        let registered =
            read::contributor(basis.state, contributor)?.ok_or(JudgeError::Unknown("contributor"))?;
        k_min = k_min.max(registered.body.k_min.unwrap_or(0));
        asked.push((
            release_facts(request, contributor, legal.as_ref(), basis.today),
            contract_text(basis, contributor)?,
        ));
        if let Some(legal) = legal {
            legal_bases.insert(contributor.clone(), legal.body.id);
        }
    }
    Ok(Judged { decision: rules.decide(&asked, basis.as_of), legal_bases, k_min })
}

/// What is counted, as the rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Counting<'a> {
    /// For which project.
    pub project: &'a ProjectId,
    /// Who is told.
    pub recipient: &'a RecipientId,
    /// What for.
    pub purpose: Duo,
    /// What the recipient binds itself to.
    pub modifiers: &'a [Duo],
    /// Whose data.
    pub contributors: &'a [ContributorId],
}

/// What the rules say of a count.
///
/// # Errors
/// [`JudgeError`]; what speaks against it is in the decision.
pub fn count<R: Read>(
    rules: &mut Rules,
    basis: &Basis<'_, R>,
    count: Counting<'_>,
) -> Result<Decision, JudgeError> {
    let mut asked = Vec::new();
    for contributor in count.contributors {
        let facts = Facts {
            contributor: contributor.clone(),
            recipient: count.recipient.clone(),
            project: count.project.clone(),
            purpose: count.purpose,
            modifiers: count.modifiers.to_vec(),
            today: basis.today,
            release: None,
        };
        asked.push((facts, contract_text(basis, contributor)?));
    }
    Ok(rules.decide(&asked, basis.as_of))
}

/// The basis in force that carries this request: of its profile, of a kind that fits it, for its recipient and project.
/// Of several the one that was made most for it, then the one that lasts longest.
fn basis_for(
    state: &impl Read,
    contributor: &ContributorId,
    request: &Request,
    today: Date,
) -> Result<Option<LegalBasis>, JudgeError> {
    let asked = &request.submitted.body;
    let carries = |b: &LegalBasisRecorded| {
        b.contributor == *contributor
            && b.profile == asked.profile
            && basis_fits(&b.kind, &b.profile)
            && b.recipient.as_ref().is_none_or(|r| *r == asked.recipient)
            && b.project.as_ref().is_none_or(|p| *p == asked.project)
            && b.expires.is_none_or(|last| today <= last)
    };
    let mut best: Option<LegalBasis> = None;
    let rank = |b: &LegalBasis| {
        let last = b.body.expires.unwrap_or(Date::from_days(i32::MAX));
        (b.body.project.is_some(), b.body.recipient.is_some(), last, b.origin.seq)
    };
    let all: Vec<LegalBasis> = read::all(state, "legal-basis")?;
    for basis in all.into_iter().filter(|b| carries(&b.body)) {
        if read::legal_basis_end(state, &basis.body.id)?.is_none()
            && best.as_ref().is_none_or(|b| rank(b) < rank(&basis))
        {
            best = Some(basis);
        }
    }
    Ok(best)
}

/// The text of a contributor's contract; none if it has none.
fn contract_text<R: Read>(
    basis: &Basis<'_, R>,
    contributor: &ContributorId,
) -> Result<Option<String>, JudgeError> {
    let Some(contract) = read::contract(basis.state, contributor)? else { return Ok(None) };
    let bytes = (basis.documents)(&contract.body.policy).map_err(JudgeError::Document)?;
    let bytes = bytes.filter(|b| Digest::of(b) == contract.body.policy);
    let text = bytes.and_then(|b| String::from_utf8(b).ok());
    // A contract that is in force and cannot be read refuses everything: it compiles to nothing.
    Ok(Some(text.unwrap_or_default()))
}

fn release_facts(
    request: &Request,
    contributor: &ContributorId,
    basis: Option<&LegalBasis>,
    today: Date,
) -> Facts {
    let body = &request.submitted.body;
    let decision = request.decision_for(contributor).map_or("pending", |d| d.body.decision.as_str());
    Facts {
        contributor: contributor.clone(),
        recipient: body.recipient.clone(),
        project: body.project.clone(),
        purpose: body.purpose,
        modifiers: body.modifiers.clone(),
        today,
        release: Some(ReleaseFacts {
            diseases: body.diseases.clone(),
            methods: body.methods,
            tables: body.tables.clone(),
            tier: body.tier.clone(),
            profile: body.profile.clone(),
            ethics: body.ethics.clone(),
            decision: decision.to_owned(),
            terms_signed: request.terms.is_some(),
            legal_basis: basis.map(|b| BasisFacts {
                kind: b.body.kind.clone(),
                profile: b.body.profile.clone(),
                expires: b.body.expires,
            }),
        }),
    }
}

/// The purpose that people's consent is asked for. Every request rests on an ethics board's determination, so whoever
/// asks is bound to it; `board_approved` says whether the committees concerned have approved.
pub fn purpose(request: &RequestSubmitted, board_approved: bool) -> Purpose {
    Purpose::requested(
        request.purpose,
        request.modifiers.iter().copied(),
        request.diseases.iter().cloned(),
        request.methods,
        request.statements.iter().copied(),
        board_approved,
    )
}

/// What people's consent is asked for by a request: the categories that the cohort's criteria look at are required, those
/// of the tables asked for are delivered where permitted. The person row is always required.
pub fn wanted(request: &RequestSubmitted, criteria: CategorySet, board_approved: bool, at: Timestamp) -> Use {
    let tables = CategorySet::of_tables(request.tables.iter().map(String::as_str)).unwrap_or_default();
    let required = criteria.with(Category::Demographics);
    Use {
        purpose: purpose(request, board_approved),
        recipient: request.recipient.clone(),
        project: request.project.clone(),
        required,
        delivered: tables,
        at,
    }
}

/// Whether `now` leaves out anything that `then` did not, of what a release built on `built` can hold: data up to that day.
pub fn permits_less(then: &Verdict, now: &Verdict, built: Date) -> bool {
    if !then.permit || !now.permit {
        return then.permit;
    }
    let until_built = DateRanges::between(None, Some(built));
    let lost = then.limits.days.minus(&now.limits.days).intersection(&until_built);
    !lost.is_none() || now.limits.withheld.iter().any(|c| !then.limits.withheld.contains(c))
}
