//! Consents: recorded one by one, in batches, from a list of paper forms, or from FHIR Consent resources.
//!
//! The event id of what is imported is a keyed digest of what it says, so importing the same file or export again records
//! nothing twice. A row that fails is told by its line and a rule; the rest goes on. Every consent goes through one door,
//! which refuses a signature in the future.

use std::collections::{BTreeMap, BTreeSet};

use almoner_model::{ContributorId, Digest, RecipientId, Seq, SourcePatientId, SubjectId, Timestamp};
use hmac::{Hmac, Mac};
use serde::Serialize;
use serde_json::Value;
use sha2::Sha256;

use super::Act;
use super::access::{AccessContext, AccessError, PeopleError, entry};
use super::permitted::Sayings;
use crate::consent::fhir::{self, Reading};
use crate::consent::form::{self, FormError, Forms, ListError, RowError};
use crate::consent::{Directive, Effect, Signed, Source, Status, SubjectState};
use crate::events::{Actor, ConsentRecorded, Event};
use crate::state::records::{DirectiveRecord, SubjectRecord};
use crate::state::{read, topic};
use crate::store::NewEntry;

/// Entries in one append of an import.
const CHUNK: usize = 500;
/// Rows that are told one by one; beyond, only how many broke which rule.
pub const ERRORS_MAX: usize = 1_000;

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
    /// Rows of a list whose record number names no patient yet: they hold for the data when it comes.
    pub waiting: u64,
}

impl ConsentSummary {
    /// Adds what became of others.
    pub fn add(&mut self, other: Self) {
        self.read += other.read;
        self.recorded += other.recorded;
        self.already += other.already;
        self.withdrawn += other.withdrawn;
        self.not_understood += other.not_understood;
        self.waiting += other.waiting;
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
/// [`AccessError::Denied`] for a person who was erased, [`AccessError::Invalid`] for a signature in the future, a conflict if
/// it names a withdrawal that it cannot lift.
pub fn record(
    ctx: &AccessContext<'_>,
    act: &Act,
    contributor: &ContributorId,
    consent: NewConsent,
) -> Result<Seq, AccessError> {
    let mut appended = record_batch(ctx, act, contributor, vec![consent]).map_err(|e| match e {
        AccessError::Invalid { pointer, reason } => {
            AccessError::invalid(pointer.strip_prefix("/0").unwrap_or(&pointer), reason)
        }
        e => e,
    })?;
    appended.pop().ok_or_else(|| AccessError::Failed("the store acknowledged nothing".into()))
}

/// Records several consents, all or none, and gives their entries in order. What was said last of the same document in the
/// same words is not said again: it has its entry, unless something else is said of the document before it in the batch.
///
/// # Errors
/// As [`record`], and a pointer begins with the place of the one that is not right; nothing is recorded then.
pub fn record_batch(
    ctx: &AccessContext<'_>,
    act: &Act,
    contributor: &ContributorId,
    consents: Vec<NewConsent>,
) -> Result<Vec<Seq>, AccessError> {
    read::contributor(&ctx.state(), contributor)?.ok_or(AccessError::Unknown("contributor"))?;
    let (mut entries, mut places) = (Vec::new(), Vec::with_capacity(consents.len()));
    let mut changed: BTreeSet<(SubjectId, String)> = BTreeSet::new();
    let (people, now) = (whose(ctx, contributor, &consents)?, ctx.now()?);
    for (n, (consent, subject)) in consents.into_iter().zip(people).enumerate() {
        let subject = who_withdrew(ctx, subject, consent.lifts)?;
        let (mut directive, event_id) = (consent.directive, act.event_id(n));
        let document = (subject, directive.lineage.clone());
        if let Some(seq) = ctx.store.find_event(&event_id)? {
            signed_as_before(ctx, seq, &mut directive)?;
        } else if !changed.contains(&document)
            && let Some(seq) = said_last(ctx, contributor, subject, &directive, consent.lifts)?
        {
            places.push(Some(seq));
            continue;
        }
        changed.insert(document);
        let entry = consent_entry(now, act, event_id, contributor, subject, &directive, consent.lifts);
        entries.push(entry.map_err(|e| e.of(n))?);
        places.push(None);
    }
    let mut fresh = ctx.store.append(entries, &[])?.into_iter().map(|a| a.seq);
    places
        .into_iter()
        .map(|known| known.or_else(|| fresh.next()))
        .collect::<Option<_>>()
        .ok_or_else(|| AccessError::Failed("the store acknowledged too little".into()))
}

/// Whom each is of. One that is nobody's is told by its place among them.
fn whose(
    ctx: &AccessContext<'_>,
    contributor: &ContributorId,
    consents: &[NewConsent],
) -> Result<Vec<SubjectId>, AccessError> {
    let number =
        |c: &NewConsent| if let Whose::Record(number) = &c.whose { Some(number.clone()) } else { None };
    let numbers: Vec<_> = consents.iter().filter_map(number).collect();
    let mut named = ctx.people.subjects_of_records(contributor, &numbers, ctx.entropy)?.into_iter();
    let one = |(n, consent): (usize, &NewConsent)| match &consent.whose {
        Whose::Subject(subject) => Ok(*subject),
        Whose::Record(_) => match named.next() {
            Some(said) => said.map_err(|why| AccessError::from(why).of(n)),
            None => Err(AccessError::Failed("the registry said too little".into())),
        },
    };
    consents.iter().enumerate().map(one).collect()
}

/// Of the ids of a person the one under which the withdrawal was said that an act names: there it is lifted.
fn who_withdrew(
    ctx: &AccessContext<'_>,
    subject: SubjectId,
    lifts: Option<Seq>,
) -> Result<SubjectId, AccessError> {
    let Some(named) = lifts else { return Ok(subject) };
    for id in ctx.same_people()?.of(subject) {
        let said = read::subject(&ctx.state(), id)?.unwrap_or_default();
        if said.withdrawals.iter().any(|w| w.seq == named) {
            return Ok(id);
        }
    }
    Ok(subject)
}

/// A participant's own act is signed when it is heard; the same act again was signed when it was heard first.
fn signed_as_before(ctx: &AccessContext<'_>, seq: Seq, directive: &mut Directive) -> Result<(), AccessError> {
    if directive.source != Source::Participant {
        return Ok(());
    }
    if let Some((before, _)) = said_at(ctx, seq)? {
        directive.signed = before.signed;
    }
    Ok(())
}

/// What an entry says, if it is a consent that was not erased.
fn said_at(ctx: &AccessContext<'_>, seq: Seq) -> Result<Option<(Directive, Option<Seq>)>, AccessError> {
    let Some(entry) = ctx.store.entry(seq)? else { return Ok(None) };
    let said = entry.payload.value().and_then(|v| serde_json::from_value::<ConsentRecorded>(v.clone()).ok());
    Ok(said.and_then(|e| Some((serde_json::from_value(e.directive).ok()?, e.lifts))))
}

/// The last that was recorded of a document.
fn last_of<'r>(
    said: &'r SubjectRecord,
    contributor: &ContributorId,
    lineage: &str,
) -> Option<&'r DirectiveRecord> {
    said.directives.iter().rev().find(|d| d.contributor == *contributor && d.lineage == lineage)
}

/// The entry that says exactly this, if nothing else was recorded of the document since.
fn said_last(
    ctx: &AccessContext<'_>,
    contributor: &ContributorId,
    subject: SubjectId,
    directive: &Directive,
    lifts: Option<Seq>,
) -> Result<Option<Seq>, AccessError> {
    let Some(said) = read::subject(&ctx.state(), subject)? else { return Ok(None) };
    let Some(last) = last_of(&said, contributor, &directive.lineage) else { return Ok(None) };
    if last.lifts != lifts || last.shape != directive.shape() {
        return Ok(None);
    }
    let same = said_at(ctx, last.seq)?.is_some_and(|(mut before, _)| {
        if directive.source == Source::Participant {
            before.signed = directive.signed;
        }
        before == *directive
    });
    Ok(same.then_some(last.seq))
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
    for rows in list.rows.chunks(CHUNK) {
        let numbers: Vec<_> = rows.iter().map(|row| row.record_number.clone()).collect();
        let unknown = |number| matches!(ctx.people.find_record(contributor, number), Ok(None));
        summary.waiting += numbers.iter().filter(|number| unknown(number)).count() as u64;
        let said = ctx.people.subjects_of_records(contributor, &numbers, ctx.entropy);
        for (row, said) in rows.iter().zip(said.map_err(AccessError::from)?) {
            match said {
                Ok(subject) => people.push((row.line, subject, row.directive.clone())),
                Err(PeopleError::Suppressed) => summary.reject(row.line, "erased-person"),
                Err(PeopleError::Ambiguous) => summary.reject(row.line, "ambiguous-record-number"),
                Err(PeopleError::NotOne) => summary.reject(row.line, "no-record-number"),
                Err(e @ PeopleError::Failed(_)) => return Err(AccessError::from(e).into()),
            }
        }
    }
    append_new(ctx, actor, contributor, people, &mut summary)?;
    Ok(summary)
}

/// Records the FHIR Consent resources of an export, each with its line and the person it is about. One that was somebody
/// else's before, as their hospital then said, permits nothing of theirs any more.
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
    let mut summary = ConsentSummary::default();
    let recipients: Vec<RecipientId> =
        super::request::projects(ctx)?.into_iter().map(|p| p.body.recipient).collect();
    let known = |reference: &str| {
        let id = reference.strip_prefix("Organization/")?;
        recipients.iter().find(|r| r.as_str() == id).cloned()
    };
    let (today, same) = (ctx.now()?.date(), ctx.same_people()?);
    let (mut people, mut no_longer) = (Vec::new(), Vec::new());
    for (line, subject, consent) in consents {
        summary.read += 1;
        let lineage = lineage(lineage_key, contributor, consent);
        let others = read::subjects_of_lineage(&ctx.state(), contributor, &lineage)?;
        for other in others.into_iter().filter(|other| !same.of(subject).contains(other)) {
            no_longer.push((line, other, fhir::deleted(lineage.clone(), today)));
        }
        match fhir::read(consent, lineage, &known, today) {
            Reading::Directive(directive) => people.push((line, subject, *directive)),
            Reading::Nothing(rule) => summary.reject(line, rule),
        }
    }
    append_new(ctx, actor, contributor, people, &mut summary)?;
    // The export's lines are those of the people it names now.
    append_new(ctx, actor, contributor, no_longer, &mut ConsentSummary::default())?;
    Ok(summary)
}

/// Ends what FHIR Consents permitted that were deleted at their source, by their ids; what they denied stays denied
/// ([`fhir::deleted`]).
///
/// # Errors
/// As [`record_fhir`].
pub fn end_deleted<'v>(
    ctx: &AccessContext<'_>,
    actor: &Actor,
    contributor: &ContributorId,
    lineage_key: &[u8; 32],
    ids: impl IntoIterator<Item = &'v str>,
) -> Result<ConsentSummary, AccessError> {
    let today = ctx.now()?.date();
    let mut summary = ConsentSummary::default();
    let mut people = Vec::new();
    for id in ids {
        let lineage = lineage_of(lineage_key, contributor, id);
        for subject in read::subjects_of_lineage(&ctx.state(), contributor, &lineage)? {
            summary.read += 1;
            people.push((0, subject, fhir::deleted(lineage.clone(), today)));
        }
    }
    append_new(ctx, actor, contributor, people, &mut summary)?;
    Ok(summary)
}

/// Names the document that a resource is a version of, without giving its id away.
fn lineage(key: &[u8; 32], contributor: &ContributorId, consent: &Value) -> String {
    match consent["id"].as_str() {
        Some(id) => lineage_of(key, contributor, id),
        None => lineage_of(key, contributor, &consent.to_string()),
    }
}

fn lineage_of(key: &[u8; 32], contributor: &ContributorId, id: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(contributor.as_str().as_bytes());
    mac.update(&[0]);
    mac.update(id.as_bytes());
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
    let mut import = Import { ctx, actor, contributor, heard: BTreeSet::new(), last: BTreeMap::new() };
    let now = ctx.now()?;
    for (line, subject, directive) in people {
        if directive.signed.is_after(now) {
            summary.reject(line, "date-in-future");
            continue;
        }
        let said: SubjectRecord = read::subject(&ctx.state(), subject)?.unwrap_or_default();
        let Some(act) = import.act(subject, &said, &directive)? else {
            summary.already += 1;
            continue;
        };
        summary.recorded += 1;
        summary.not_understood += u64::from(is_unclear(&directive.rules));
        summary.withdrawn += u64::from(has_standing_withdrawal(&said));
        entries.push(consent_entry(now, &act, act.event_id(0), contributor, subject, &directive, None)?);
        if entries.len() == CHUNK {
            ctx.store.append(std::mem::take(&mut entries), &[])?;
        }
    }
    if !entries.is_empty() {
        ctx.store.append(entries, &[])?;
    }
    Ok(())
}

/// An import on its way: what it said so far.
struct Import<'i> {
    ctx: &'i AccessContext<'i>,
    actor: &'i Actor,
    contributor: &'i ContributorId,
    /// Event ids.
    heard: BTreeSet<String>,
    /// What was said last of a person's document.
    last: BTreeMap<(SubjectId, String), Digest>,
}

impl Import<'_> {
    /// The act of importing exactly this: the same whoever imports it and however often. `None` if it was heard.
    ///
    /// An end or a refusal is heard again where something else was said of the document since that was not signed later: it
    /// may have been ended again.
    fn act(
        &mut self,
        subject: SubjectId,
        said: &SubjectRecord,
        directive: &Directive,
    ) -> Result<Option<Act>, AccessError> {
        let recorded = last_of(said, self.contributor, &directive.lineage);
        let document = (subject, directive.lineage.clone());
        let last = self.last.get(&document).copied().or(recorded.map(|d| d.shape));
        let shape = directive.shape();
        let mut act = self.imported(subject, directive, None);
        if self.heard.contains(&act.event_id) || self.ctx.repeated(&act)?.is_some() {
            let permits = directive.status == Status::Active && directive.rules.has(Effect::Permit);
            let superseded = recorded.is_some_and(|r| r.signed.first_day() > directive.signed.date);
            if last == Some(shape) || permits || superseded {
                return Ok(None);
            }
            act = self.imported(subject, directive, Some((recorded.map(|d| d.seq), last)));
            if self.heard.contains(&act.event_id) || self.ctx.repeated(&act)?.is_some() {
                return Ok(None);
            }
        }
        self.heard.insert(act.event_id.clone());
        self.last.insert(document, shape);
        Ok(Some(act))
    }

    fn imported(
        &self,
        subject: SubjectId,
        directive: &Directive,
        after: Option<(Option<Seq>, Option<Digest>)>,
    ) -> Act {
        // Where the day is not known, it depends on when it is heard; the evidence says what was said.
        let signed = if directive.signed.since.is_some() {
            Signed::on(directive.signed.first_day())
        } else {
            directive.signed
        };
        let body =
            serde_json::to_vec(&(&Directive { signed, ..directive.clone() }, after)).unwrap_or_default();
        let key = Digest::of([format!("{}/{subject}/", self.contributor).as_bytes(), &body].concat());
        let importer = Actor { role: "import".into(), id: self.contributor.to_string() };
        let event_id = Act::repeated(self.ctx.keys, importer, key.as_bytes()).event_id;
        Act { actor: self.actor.clone(), event_id }
    }
}

fn is_unclear(node: &crate::consent::Provision) -> bool {
    !node.not_understood.is_empty() || node.provisions.iter().any(is_unclear)
}

/// Whether a withdrawal of `said` stands. The fold admits only acts that lift what they name.
pub(super) fn has_standing_withdrawal(said: &SubjectRecord) -> bool {
    said.withdrawals.iter().any(|w| !said.directives.iter().any(|d| d.lifts == Some(w.seq)))
}

/// The door: every consent that is recorded passes here.
fn consent_entry(
    now: Timestamp,
    act: &Act,
    event_id: String,
    contributor: &ContributorId,
    subject: SubjectId,
    directive: &Directive,
    lifts: Option<u64>,
) -> Result<NewEntry, AccessError> {
    if directive.signed.is_after(now) {
        return Err(AccessError::invalid("/signed", "the day of the signature lies in the future"));
    }
    directive.rules.check().map_err(|f| AccessError::invalid(&format!("/rules{}", f.pointer), f.reason))?;
    let directive =
        serde_json::to_value(directive).map_err(|_| AccessError::Failed("a directive is not JSON".into()))?;
    let event =
        Event::ConsentRecorded(ConsentRecorded { contributor: contributor.clone(), directive, lifts });
    entry(&event, event_id, act, Some(subject), vec![topic::CONSENT.to_owned()])
}

/// Everything one person said, under whichever of their ids, for their own page and for whoever wants to write to them.
///
/// # Errors
/// If the store or the registry fails.
pub fn said_by(ctx: &AccessContext<'_>, subject: SubjectId) -> Result<SubjectState, AccessError> {
    Sayings::new(*ctx, ctx.store.size())?.of(subject)
}
