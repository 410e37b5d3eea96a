//! Consents: recorded one by one, in batches, from a list of paper forms, or from FHIR Consent resources.
//!
//! The event id of what is imported is a digest of what it says, so importing the same file or export again records
//! nothing twice. A row that fails is told by its line and a rule; the rest goes on.

use std::collections::BTreeMap;

use almoner_model::{ContributorId, Digest, RecipientId, SourcePatientId, SubjectId};
use hmac::{Hmac, Mac};
use serde::Serialize;
use serde_json::Value;
use sha2::Sha256;

use super::Act;
use super::access::{AccessContext, AccessError, PeopleError, entry};
use crate::consent::fhir::{self, Reading};
use crate::consent::form::{self, FormError, Forms, ListError, RowError};
use crate::consent::{Directive, SubjectState};
use crate::events::{Actor, ConsentRecorded, Event};
use crate::state::records::SubjectRecord;
use crate::state::{read, topic};
use crate::store::{Appended, NewEntry};

/// Entries in one append of an import.
const CHUNK: usize = 500;
/// Rows that are told one by one; beyond, only how many broke which rule.
const ERRORS_MAX: usize = 1_000;

/// Whose consent.
#[derive(Clone, Debug)]
pub enum Whose {
    /// By record number at the hospital.
    Record(SourcePatientId),
    /// By the exchange's id: participants themselves, and what is read from an export.
    Subject(SubjectId),
}

/// One consent to record.
#[derive(Clone, Debug)]
pub struct NewConsent {
    /// Whose.
    pub whose: Whose,
    /// What they said.
    pub directive: Directive,
    /// The withdrawal that this act lifts by naming it.
    pub lifts: Option<u64>,
}

/// What became of an import.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct ConsentSummary {
    /// Rows or resources read.
    pub read: u64,
    /// Recorded now.
    pub recorded: u64,
    /// Recorded by an earlier import.
    pub already: u64,
    /// Not recorded, by rule.
    pub rejected: BTreeMap<String, u64>,
    /// Not recorded, line by line (the first thousand).
    pub errors: Vec<RowError>,
    /// Recorded of people whose withdrawal stands: a consent lifts a withdrawal only by naming it.
    pub withdrawn: u64,
    /// Recorded with parts that are not understood, which therefore permit nothing.
    pub not_understood: u64,
}

impl ConsentSummary {
    /// Adds what became of others.
    pub fn add(&mut self, other: Self) {
        self.read += other.read;
        self.recorded += other.recorded;
        self.already += other.already;
        self.withdrawn += other.withdrawn;
        self.not_understood += other.not_understood;
        for (rule, n) in other.rejected {
            *self.rejected.entry(rule).or_default() += n;
        }
        self.errors.extend(other.errors);
        self.errors.truncate(ERRORS_MAX);
    }

    fn reject(&mut self, line: u64, rule: &str) {
        *self.rejected.entry(rule.to_owned()).or_insert(0) += 1;
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(RowError { line, rule: rule.to_owned() });
        }
    }
}

/// Records one consent.
///
/// # Errors
/// [`AccessError::Denied`] for a person who was erased, a conflict if it names a withdrawal that it cannot lift.
pub fn record(
    ctx: &AccessContext<'_>,
    act: &Act,
    contributor: &ContributorId,
    consent: NewConsent,
) -> Result<Appended, AccessError> {
    let mut appended = record_batch(ctx, act, contributor, vec![consent])?;
    appended.pop().ok_or_else(|| AccessError::Failed("the store acknowledged nothing".into()))
}

/// Records several consents, all or none.
///
/// # Errors
/// As [`record`]; nothing is recorded then.
pub fn record_batch(
    ctx: &AccessContext<'_>,
    act: &Act,
    contributor: &ContributorId,
    consents: Vec<NewConsent>,
) -> Result<Vec<Appended>, AccessError> {
    read::contributor(&ctx.state(), contributor)?.ok_or(AccessError::Unknown("contributor"))?;
    let mut entries = Vec::with_capacity(consents.len());
    for (n, consent) in consents.into_iter().enumerate() {
        let subject = match consent.whose {
            Whose::Subject(subject) => subject,
            Whose::Record(number) => ctx.people.subject_of_record(contributor, &number, ctx.entropy)?,
        };
        entries.push(consent_entry(
            act,
            act.event_id(n),
            contributor,
            subject,
            &consent.directive,
            consent.lifts,
        )?);
    }
    Ok(ctx.store.append(entries, &[])?)
}

/// Why a list was not imported at all.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ImportError {
    /// The form definitions.
    #[error(transparent)]
    Forms(#[from] FormError),
    /// The list.
    #[error(transparent)]
    List(#[from] ListError),
    /// Anything else.
    #[error(transparent)]
    Access(#[from] AccessError),
}

impl ImportError {
    /// Which of the five kinds.
    pub const fn kind(&self) -> crate::error::ErrorKind {
        match self {
            Self::Forms(_) | Self::List(_) => crate::error::ErrorKind::Invalid,
            Self::Access(e) => e.kind(),
        }
    }
}

/// Imports a list of signed paper forms (CSV), before or after the data. `forms` is the TOML that says what each version
/// of a form means.
///
/// # Errors
/// [`ImportError`] if definitions or header are not right, or the store fails; what was recorded until then stays, and the
/// import can be repeated.
pub fn import(
    ctx: &AccessContext<'_>,
    actor: &Actor,
    contributor: &ContributorId,
    list: &[u8],
    forms: &str,
) -> Result<ConsentSummary, ImportError> {
    let known = read::contributor(&ctx.state(), contributor).map_err(AccessError::from)?;
    known.ok_or(AccessError::Unknown("contributor"))?;
    let forms = Forms::load(forms)?;
    let list = form::read_list(list, &forms, ctx.now()?.date())?;
    let mut summary =
        ConsentSummary { read: (list.rows.len() + list.errors.len()) as u64, ..ConsentSummary::default() };
    for error in &list.errors {
        summary.reject(error.line, &error.rule);
    }
    let mut people = Vec::with_capacity(list.rows.len());
    for row in list.rows {
        match ctx.people.subject_of_record(contributor, &row.record_number, ctx.entropy) {
            Ok(subject) => people.push((row.line, subject, row.directive)),
            Err(PeopleError::Suppressed) => summary.reject(row.line, "erased-person"),
            Err(PeopleError::Ambiguous) => summary.reject(row.line, "ambiguous-record-number"),
            Err(e) => return Err(AccessError::from(e).into()),
        }
    }
    append_new(ctx, actor, contributor, people, &mut summary)?;
    Ok(summary)
}

/// Records the FHIR Consent resources of an export, each with its line and the person it is about.
///
/// # Errors
/// If the store fails; what was recorded until then stays, and the same export records it once.
pub fn record_fhir<'v>(
    ctx: &AccessContext<'_>,
    actor: &Actor,
    contributor: &ContributorId,
    lineage_key: &[u8; 32],
    consents: impl IntoIterator<Item = (u64, SubjectId, &'v Value)>,
) -> Result<ConsentSummary, AccessError> {
    let recipients: Vec<RecipientId> =
        super::request::projects(ctx)?.into_iter().map(|p| p.body.recipient).collect();
    let known = |reference: &str| {
        let id = reference.strip_prefix("Organization/")?;
        recipients.iter().find(|r| r.as_str() == id).cloned()
    };
    let today = ctx.now()?.date();
    let mut summary = ConsentSummary::default();
    let mut people = Vec::new();
    for (line, subject, consent) in consents {
        summary.read += 1;
        let lineage = lineage(lineage_key, contributor, consent);
        match fhir::read(consent, lineage, &known, today) {
            Reading::Directive(directive) => people.push((line, subject, *directive)),
            Reading::Nothing(rule) => summary.reject(line, rule),
        }
    }
    append_new(ctx, actor, contributor, people, &mut summary)?;
    Ok(summary)
}

/// Names the document that a resource is a version of, without giving its id away.
fn lineage(key: &[u8; 32], contributor: &ContributorId, consent: &Value) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(contributor.as_str().as_bytes());
    mac.update(&[0]);
    match consent["id"].as_str() {
        Some(id) => mac.update(id.as_bytes()),
        None => mac.update(consent.to_string().as_bytes()),
    }
    format!("fhir:{}", hex::encode(&mac.finalize().into_bytes()[..16]))
}

fn append_new(
    ctx: &AccessContext<'_>,
    actor: &Actor,
    contributor: &ContributorId,
    people: Vec<(u64, SubjectId, Directive)>,
    summary: &mut ConsentSummary,
) -> Result<(), AccessError> {
    let mut entries: Vec<NewEntry> = Vec::with_capacity(CHUNK);
    let mut seen = std::collections::BTreeSet::new();
    let tomorrow = ctx.now()?.date().plus_days(1);
    for (line, subject, directive) in people {
        if directive.signed.date > tomorrow {
            summary.reject(line, "date-in-future");
            continue;
        }
        let act = imported(actor, contributor, subject, &directive);
        if !seen.insert(act.event_id.clone()) || ctx.repeated(&act)?.is_some() {
            summary.already += 1;
            continue;
        }
        summary.recorded += 1;
        summary.not_understood += u64::from(is_unclear(&directive.rules));
        let said: SubjectRecord = read::subject(&ctx.state(), subject)?.unwrap_or_default();
        summary.withdrawn += u64::from(has_standing_withdrawal(&said));
        entries.push(consent_entry(&act, act.event_id(0), contributor, subject, &directive, None)?);
        if entries.len() == CHUNK {
            ctx.store.append(std::mem::take(&mut entries), &[])?;
        }
    }
    if !entries.is_empty() {
        ctx.store.append(entries, &[])?;
    }
    Ok(())
}

/// The act of importing exactly this: the same whoever imports it and however often.
fn imported(actor: &Actor, contributor: &ContributorId, subject: SubjectId, directive: &Directive) -> Act {
    let body = serde_json::to_vec(directive).unwrap_or_default();
    let key = Digest::of([format!("{contributor}/{subject}/").as_bytes(), &body].concat());
    let importer = Actor { role: "import".into(), id: contributor.to_string() };
    let event_id = Act::repeated(importer, key.as_bytes()).event_id;
    Act { actor: actor.clone(), event_id }
}

fn is_unclear(node: &crate::consent::Provision) -> bool {
    !node.not_understood.is_empty() || node.provisions.iter().any(is_unclear)
}

/// Whether a withdrawal of `said` stands. The fold admits only acts that lift what they name.
pub(super) fn has_standing_withdrawal(said: &SubjectRecord) -> bool {
    said.withdrawals.iter().any(|w| !said.directives.iter().any(|d| d.lifts == Some(w.seq)))
}

fn consent_entry(
    act: &Act,
    event_id: String,
    contributor: &ContributorId,
    subject: SubjectId,
    directive: &Directive,
    lifts: Option<u64>,
) -> Result<NewEntry, AccessError> {
    let directive =
        serde_json::to_value(directive).map_err(|_| AccessError::Failed("a directive is not JSON".into()))?;
    let event =
        Event::ConsentRecorded(ConsentRecorded { contributor: contributor.clone(), directive, lifts });
    entry(&event, event_id, act, Some(subject), vec![topic::CONSENT.to_owned()])
}

/// Everything one person said, for their own page and for the evidence of a release.
///
/// # Errors
/// If the store fails.
pub fn said_by(ctx: &AccessContext<'_>, subject: SubjectId) -> Result<SubjectState, AccessError> {
    let record = read::subject(&ctx.state(), subject)?.unwrap_or_default();
    let mut shapes = std::collections::HashMap::new();
    for row in &record.directives {
        if let Some(shape) = read::shape(&ctx.state(), &row.shape)? {
            shapes.insert(row.shape, std::sync::Arc::new(shape));
        }
    }
    let state = record.state(&|digest| shapes.get(digest).cloned());
    state.ok_or(AccessError::Read(crate::state::ReadError::Malformed("shape")))
}
