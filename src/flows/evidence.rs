//! Evidence packs: what a board needs to check on its own machine that everyone in a release had permitted it.
//!
//! A pack opens subjects and consents of a release's members and the subject of everything else that anybody said, so it is
//! for boards only and never public. It is read from the ledger alone; `almoner-verify evidence` checks it with the same rules.

use std::collections::BTreeSet;

use almoner_ledger::commitment::Field;
use almoner_ledger::evidence::{FORMAT, OfSomebodyElse, OpenedSubject, Pack, Proof, ProvenEntry};
use almoner_ledger::package::OpenedEntry;
use almoner_model::{Digest, ReleaseId, Seq, SubjectId};

use super::access::AccessError;
use super::checkpoint::inclusion;
use super::cosign::covering;
use super::question::{DataContext, DataError};
use super::release::{manifest_of, members};
use crate::cohort::SimpleCohort;
use crate::consent::{Category, CategorySet, Use};
use crate::state::{read, records, topic};
use crate::store::{Entry, EntryFilter, Payload, Store};

/// Entries read at a time.
const PAGE: usize = 1000;
/// What is consent, and so opened.
const SAID: [&str; 2] = ["consent.recorded", "consent.withdrawn"];

/// The evidence for `release`.
///
/// # Errors
/// An unknown release; [`DataError`] if store or folder fail.
pub fn evidence(ctx: &DataContext<'_>, release: &ReleaseId) -> Result<Pack, DataError> {
    let _still = ctx.catalog.still();
    super::erase::not_of_the_erased(ctx, release)?;
    let state = ctx.access.state();
    let store = ctx.access.store;
    let done = read::release(&state, release)?.ok_or(AccessError::Unknown("release"))?;
    let rewrites = read::release_rewrites(&state, release)?.unwrap_or_default().times;
    let erasure = read::last_erasure(&state, "last")?.map(|last| last.seq);
    let last = rewrites.last().map(|time| time.origin.seq).max(erasure).max(Some(done.origin.seq));
    // One checkpoint for all proofs: the log may grow meanwhile. Best one that has its quorum of witnesses.
    let signed = covering(store, last.unwrap_or_default())?;
    let size = signed.checkpoint.size;
    let as_of = done.body.as_of;
    let members = members(ctx, release)?.members;
    let mut people = BTreeSet::new();
    for member in &members {
        for id in member.also.iter().chain([&member.subject]) {
            people.insert(subject(id)?);
        }
    }
    let (mut said, mut others, mut erased_by) = (Vec::new(), Vec::new(), BTreeSet::new());
    for entry in consents(store, done.origin.seq)? {
        if let Payload::Erased(by) = entry.payload {
            erased_by.extend(by);
            continue;
        }
        let about = opened_subject(&entry)?.ok_or_else(erased)?;
        if entry.seq < as_of && entry.subject.is_some_and(|id| people.contains(&id)) {
            said.push(proven(store, &entry, size)?);
        } else {
            others.push(OfSomebodyElse { seq: entry.seq, subject: about });
        }
    }
    let at = |seq: Seq| -> Result<ProvenEntry, DataError> {
        let entry = store.entry(seq)?.ok_or_else(|| DataError::failed("an entry is missing"))?;
        proven(store, &entry, size)
    };
    let request = read::request(&state, &done.body.request)?.ok_or(AccessError::Unknown("request"))?;
    let permit = manifest_of(ctx, release)?.ledger.permit;
    let mut datasets = Vec::new();
    for (dataset, version) in &done.body.datasets {
        let record = read::dataset(&state, dataset)?.ok_or(AccessError::Unknown("dataset"))?;
        let published = record.versions.iter().find(|v| v.body.version == *version);
        let published = published.ok_or(AccessError::Unknown("dataset version"))?;
        datasets.push(at(published.origin.seq)?);
    }
    Ok(Pack {
        format: FORMAT.into(),
        checkpoint: String::from_utf8(signed.note)
            .map_err(|_| DataError::failed("a checkpoint is not text"))?,
        release: at(done.origin.seq)?,
        request: at(request.submitted.origin.seq)?,
        permit: at(permit)?,
        datasets,
        wanted: wanted(ctx, &request, permit)?,
        members,
        said,
        others,
        erasures: erased_by.into_iter().map(at).collect::<Result<_, _>>()?,
        rewritten: rewrites.iter().map(|time| at(time.origin.seq)).collect::<Result<_, _>>()?,
        handovers: super::handover::all(store).map_err(|e| DataError::failed(e.to_string()))?,
    })
}

fn erased() -> DataError {
    AccessError::Conflict("what this entry said was erased".into()).into()
}

fn subject(text: &str) -> Result<SubjectId, DataError> {
    let id = text.parse().ok().and_then(|n| SubjectId::new(n).ok());
    id.ok_or_else(|| DataError::failed("a list of members is not intact"))
}

/// Everything that anybody said before the entry `until`.
fn consents(store: &dyn Store, until: Seq) -> Result<Vec<Entry>, DataError> {
    let kinds = SAID.map(str::to_owned).to_vec();
    let filter = EntryFilter { kinds, topic: Some(topic::CONSENT.to_owned()) };
    let (mut out, mut from) = (Vec::new(), 0);
    loop {
        let page = store.entries(from, PAGE, &filter)?;
        let full = page.len() == PAGE;
        from = page.last().map_or(from, |e| e.seq + 1);
        out.extend(page.into_iter().filter(|e| e.seq < until));
        if !full || from >= until {
            return Ok(out);
        }
    }
}

pub(super) fn opened_subject(entry: &Entry) -> Result<Option<OpenedSubject>, DataError> {
    let Some(subject) = entry.subject else { return Ok(None) };
    let opening = entry.payload.opening(Field::Subject).ok_or_else(erased)?;
    Ok(Some(OpenedSubject { subject: subject.get(), opening: Digest(opening) }))
}

/// An entry with its proof in the tree of `size` entries.
pub(super) fn proven(store: &dyn Store, entry: &Entry, size: u64) -> Result<ProvenEntry, DataError> {
    let hashes = inclusion(store, entry.seq, size).map_err(|e| DataError::failed(e.to_string()))?;
    Ok(ProvenEntry { entry: opened(entry)?, proof: Proof::of(&hashes), subject: opened_subject(entry)? })
}

/// An entry's leaf with its payload and what opens it.
///
/// # Errors
/// A conflict if the payload was erased.
pub fn opened(entry: &Entry) -> Result<OpenedEntry, DataError> {
    let opening = entry.payload.opening(Field::Payload);
    let (Payload::Present { value, .. }, Some(opening)) = (&entry.payload, opening) else {
        return Err(erased());
    };
    let leaf = String::from_utf8(entry.bytes.clone()).map_err(|_| DataError::failed("a leaf is not text"))?;
    Ok(OpenedEntry { leaf, opening: Digest(opening), payload: value.clone() })
}

/// The use that the release's permit asked consent for.
///
/// # Errors
/// [`DataError`] if cohort definition or permit cannot be read.
pub fn wanted(ctx: &DataContext<'_>, request: &records::Request, permit: Seq) -> Result<Use, DataError> {
    let body = &request.submitted.body;
    let definition = ctx.access.documents.get(&body.cohort).map_err(DataError::failed)?;
    let definition =
        definition.ok_or_else(|| DataError::failed("the cohort definition is not in the store"))?;
    let cohort = SimpleCohort::parse(&definition)?;
    let tables = cohort.criteria().map(|c| c.domain.table());
    let criteria =
        CategorySet::of_tables(tables).map_err(|_| DataError::failed("a criterion's table is unknown"))?;
    let permit = ctx.access.store.entry(permit)?;
    let at = permit.ok_or_else(|| DataError::failed("the permit's entry is missing"))?.leaf.time;
    Ok(crate::request::wanted(body, criteria.with(Category::Demographics), true, at))
}
