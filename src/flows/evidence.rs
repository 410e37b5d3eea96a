//! Evidence packs: what a board needs to check on its own machine that everyone in a release had permitted it.
//!
//! A pack opens subjects and consents of a release's members and the subject of every withdrawal in the log, so it is for
//! boards only and never public. It is read from the ledger alone; `almoner-verify evidence` checks it with the same rules.

use std::collections::{BTreeMap, BTreeSet};

use almoner_ledger::commitment::Field;
use almoner_ledger::evidence::{
    FORMAT, MemberEvidence, OpenedSubject, Pack, Proof, ProvenEntry, WithdrawalRef,
};
use almoner_ledger::package::OpenedEntry;
use almoner_ledger::receipt::Receipt;
use almoner_model::{Digest, ReleaseId, Seq, SubjectId};

use super::access::AccessError;
use super::checkpoint::receipt;
use super::question::{DataContext, DataError};
use super::release::{members, package_folder};
use crate::cohort::SimpleCohort;
use crate::consent::{Category, CategorySet, Use};
use crate::release::ReleaseError;
use crate::release::manifest::Manifest;
use crate::state::{read, records, topic};
use crate::store::{Entry, EntryFilter, Payload, Store};

/// Entries read at a time.
const PAGE: usize = 1000;
/// How often a pack is begun again because the log grew meanwhile.
const ATTEMPTS: usize = 5;

/// The evidence for `release`.
///
/// # Errors
/// An unknown release; [`DataError`] if a member's consents were erased or store or folder fail.
pub fn evidence(ctx: &DataContext<'_>, release: &ReleaseId) -> Result<Pack, DataError> {
    let done = read::release(&ctx.access.state(), release)?.ok_or(AccessError::Unknown("release"))?;
    for _ in 0..ATTEMPTS {
        let note = ctx.access.store.checkpoint().note;
        let pack = collect(ctx, &done, note.clone())?;
        if ctx.access.store.checkpoint().note == note {
            return Ok(pack);
        }
    }
    Err(AccessError::Conflict("the ledger keeps growing; try again".into()).into())
}

fn collect(ctx: &DataContext<'_>, done: &records::Release, note: Vec<u8>) -> Result<Pack, DataError> {
    let store = ctx.access.store;
    let as_of = done.body.as_of;
    let list = members(ctx, &done.body.release)?;
    let groups = same_people(ctx)?;
    let mut people = Vec::with_capacity(list.members.len());
    let mut said = Vec::new();
    for member in list.members {
        let own = subject(&member.subject)?;
        let subjects = groups.get(&own).cloned().unwrap_or_else(|| BTreeSet::from([own]));
        for id in &subjects {
            let kinds = ["consent.recorded", "consent.withdrawn"];
            for entry in entries(store, &kinds, Some(topic::subject(*id)), as_of)? {
                said.push(proven(store, &entry)?);
            }
        }
        people.push(MemberEvidence { member, subjects: subjects.iter().map(|s| s.get()).collect() });
    }
    let mut withdrawals = Vec::new();
    for entry in entries(store, &["consent.withdrawn"], None, as_of)? {
        withdrawals
            .push(WithdrawalRef { seq: entry.seq, subject: opened_subject(&entry)?.ok_or_else(erased)? });
    }
    let own =
        store.entry(done.origin.seq)?.ok_or_else(|| DataError::failed("the release's entry is missing"))?;
    let mut holders = BTreeSet::new();
    for dataset in done.body.datasets.keys() {
        let record = read::dataset(&ctx.access.state(), dataset)?.ok_or(AccessError::Unknown("dataset"))?;
        holders.insert(record.contributor);
    }
    Ok(Pack {
        format: FORMAT.into(),
        checkpoint: String::from_utf8(note).map_err(|_| DataError::failed("a checkpoint is not text"))?,
        release: proven(store, &own)?,
        wanted: wanted(ctx, done)?,
        holders,
        members: people,
        said,
        withdrawals,
    })
}

fn erased() -> DataError {
    AccessError::Conflict("consents of a member were erased; their evidence is gone with them".into()).into()
}

fn subject(text: &str) -> Result<SubjectId, DataError> {
    let id = text.parse().ok().and_then(|n| SubjectId::new(n).ok());
    id.ok_or_else(|| DataError::failed("a list of members is not intact"))
}

/// The ids of everyone who has more than one.
fn same_people(ctx: &DataContext<'_>) -> Result<BTreeMap<SubjectId, BTreeSet<SubjectId>>, DataError> {
    let mut groups: BTreeMap<SubjectId, BTreeSet<SubjectId>> = BTreeMap::new();
    for (a, b) in ctx.access.people.aliases().map_err(AccessError::from)? {
        let mut all = BTreeSet::from([a, b]);
        for id in [a, b] {
            all.extend(groups.get(&id).into_iter().flatten().copied());
        }
        for id in &all {
            groups.insert(*id, all.clone());
        }
    }
    Ok(groups)
}

/// All entries of `kinds` before `as_of`.
fn entries(
    store: &dyn Store,
    kinds: &[&str],
    topic: Option<String>,
    as_of: Seq,
) -> Result<Vec<Entry>, DataError> {
    let filter = EntryFilter { kinds: kinds.iter().map(|k| (*k).to_owned()).collect(), topic };
    let (mut out, mut from) = (Vec::new(), 0);
    loop {
        let page = store.entries(from, PAGE, &filter)?;
        let full = page.len() == PAGE;
        from = page.last().map_or(from, |e| e.seq + 1);
        out.extend(page.into_iter().filter(|e| e.seq < as_of));
        if !full || from >= as_of {
            return Ok(out);
        }
    }
}

fn opened_subject(entry: &Entry) -> Result<Option<OpenedSubject>, DataError> {
    let Some(subject) = entry.subject else { return Ok(None) };
    let opening = entry.payload.opening(Field::Subject).ok_or_else(erased)?;
    Ok(Some(OpenedSubject { subject: subject.get(), opening: Digest(opening) }))
}

fn proven(store: &dyn Store, entry: &Entry) -> Result<ProvenEntry, DataError> {
    let receipt = receipt(store, entry.seq).map_err(|e| DataError::failed(e.to_string()))?;
    let receipt = Receipt::parse(&receipt).map_err(|e| DataError::failed(e.to_string()))?;
    Ok(ProvenEntry {
        entry: opened(entry)?,
        proof: Proof::of(&receipt.hashes),
        subject: opened_subject(entry)?,
    })
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
fn wanted(ctx: &DataContext<'_>, done: &records::Release) -> Result<Use, DataError> {
    let request =
        read::request(&ctx.access.state(), &done.body.request)?.ok_or(AccessError::Unknown("request"))?;
    let body = &request.submitted.body;
    let definition = ctx.access.documents.get(&body.cohort).map_err(DataError::failed)?;
    let definition =
        definition.ok_or_else(|| DataError::failed("the cohort definition is not in the store"))?;
    let cohort = SimpleCohort::parse(&definition)?;
    let tables = cohort.criteria().map(|c| c.domain.table());
    let criteria =
        CategorySet::of_tables(tables).map_err(|_| DataError::failed("a criterion's table is unknown"))?;
    let bytes = std::fs::read(package_folder(ctx.releases, &done.body.release).join("release.json"));
    let manifest: Manifest =
        serde_json::from_slice(&bytes.map_err(ReleaseError::from)?).map_err(|_| ReleaseError::Tables)?;
    let permit = ctx.access.store.entry(manifest.ledger.permit)?;
    let at = permit.ok_or_else(|| DataError::failed("the permit's entry is missing"))?.leaf.time;
    Ok(crate::request::wanted(body, criteria.with(Category::Demographics), true, at))
}
