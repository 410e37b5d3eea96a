//! What the ledger and the state hold of a person: the entries about them, and the records that only those made.
//!
//! Where a hospital's part is erased and others know the person too, what they refused through it stays: a refusal holds for
//! everybody's data, and would be lifted if it were forgotten. All versions of such a document stay, since a later one may have
//! taken the refusal back. So what the person permits of others' data is the same before and after, as of any ledger size.

use std::collections::BTreeSet;

use almoner_model::{ContributorId, ReleaseId, Seq, SubjectId};
use serde_json::Value;

use super::{EraseContext, Unfinished};
use crate::consent::{Directive, Effect, Source};
use crate::events::{ConsentWithdrawn, Event, InvitationIssued};
use crate::flows::access::AccessError;
use crate::flows::participant::touches;
use crate::flows::question::DataError;
use crate::flows::release::MEMBER_KIND;
use crate::state::records::{SubjectRecord, lineage_key, seq_key, subject_key};
use crate::state::{read, topic};
use crate::store::{Destroy, Entry, EntryFilter, Shared, Write};

/// Entries and records read at a time.
const PAGE: usize = 1_000;

/// What is to be destroyed.
#[derive(Default)]
pub(super) struct Said {
    pub destroy: Destroy,
    /// Releases that have the person.
    pub releases: BTreeSet<ReleaseId>,
}

/// What is held of the person who is being erased; of a hospital's part only, where one is named.
pub(super) fn by(ctx: &EraseContext<'_>, unfinished: &Unfinished) -> Result<Said, DataError> {
    let (ids, part) = (&unfinished.ids, unfinished.part.as_ref());
    let mut said = Said::default();
    let all = ids.iter().map(|id| Ok((*id, entries(ctx, *id)?))).collect::<Result<Vec<_>, DataError>>()?;
    let refused = refusing(all.iter().flat_map(|(_, entries)| entries))?;
    for (id, entries) in &all {
        let mut gone = BTreeSet::new();
        for entry in entries {
            if of_part(ctx, entry, part, &refused)? {
                gone.insert(entry.seq);
                records(&mut said.destroy, *id, entry)?;
            }
        }
        said.destroy.folded.extend(what_is_left(ctx, *id, &gone)?);
        said.destroy.entries.extend(gone);
    }
    said.destroy.entries.sort_unstable();
    for id in ids {
        member_of(ctx, *id, unfinished, &mut said)?;
    }
    said.destroy.shared.sort();
    said.destroy.shared.dedup();
    if part.is_none() {
        said.destroy.subjects = ids.iter().copied().collect();
    }
    Ok(said)
}

/// All entries about a person's id.
fn entries(ctx: &EraseContext<'_>, id: SubjectId) -> Result<Vec<Entry>, DataError> {
    let filter = EntryFilter { kinds: Vec::new(), topic: Some(topic::subject(id)) };
    let (mut out, mut from) = (Vec::new(), 0);
    loop {
        let page = ctx.data.access.store.entries(from, PAGE, &filter)?;
        let full = page.len() == PAGE;
        from = page.last().map_or(from, |e| e.seq + 1);
        out.extend(page);
        if !full {
            return Ok(out);
        }
    }
}

fn event(entry: &Entry) -> Result<Event, DataError> {
    let value = entry.payload.value().cloned().unwrap_or(Value::Null);
    Event::read(&entry.leaf.kind, value).map_err(|_| DataError::failed("an entry is not one of its kind"))
}

/// The documents of each hospital of which any version refuses something.
fn refusing<'a>(
    entries: impl Iterator<Item = &'a Entry>,
) -> Result<BTreeSet<(ContributorId, String)>, DataError> {
    let mut out = BTreeSet::new();
    for entry in entries {
        if let Event::ConsentRecorded(e) = event(entry)? {
            let directive = directive(e.directive)?;
            if directive.rules.has(Effect::Deny) {
                out.insert((e.contributor, directive.lineage));
            }
        }
    }
    Ok(out)
}

fn directive(value: Value) -> Result<Directive, DataError> {
    serde_json::from_value(value).map_err(|_| DataError::failed("a directive is not one"))
}

/// Whether an entry goes; of consents those to documents of which no version is among the `refused`.
fn of_part(
    ctx: &EraseContext<'_>,
    entry: &Entry,
    part: Option<&ContributorId>,
    refused: &BTreeSet<(ContributorId, String)>,
) -> Result<bool, DataError> {
    let Some(part) = part else { return Ok(true) };
    let issued = |id: &str| -> Result<bool, DataError> {
        let found = read::invitation(&ctx.data.access.state(), id).map_err(AccessError::from)?;
        Ok(found.is_some_and(|i| i.issued.body.contributor == *part))
    };
    Ok(match event(entry)? {
        Event::ConsentRecorded(e) => {
            e.contributor == *part && !refused.contains(&(e.contributor, directive(e.directive)?.lineage))
        }
        Event::ConsentWithdrawn(ConsentWithdrawn { contributor, .. }) => contributor.as_ref() == Some(part),
        Event::InvitationIssued(InvitationIssued { contributor, .. }) => contributor == *part,
        Event::InvitationRedeemed(e) => issued(&e.invitation)?,
        Event::InvitationRevoked(e) => issued(&e.invitation)?,
        _ => false,
    })
}

/// The records that an entry made.
fn records(destroy: &mut Destroy, id: SubjectId, entry: &Entry) -> Result<(), DataError> {
    let mut gone = |kind: &str, key: String| {
        destroy.folded.push(Write { kind: kind.to_owned(), key, value: None });
    };
    match event(entry)? {
        Event::ConsentRecorded(e) => {
            let directive = directive(e.directive)?;
            gone("consent-change", seq_key(entry.seq));
            if directive.source == Source::Fhir {
                gone("consent-lineage", lineage_key(&e.contributor, &directive.lineage, id));
            }
            destroy.shared.push(Shared {
                kind: "shape".to_owned(),
                key: directive.shape().to_string(),
                named_by: "subject-directives".to_owned(),
            });
        }
        Event::ConsentWithdrawn(_) => gone("consent-change", seq_key(entry.seq)),
        Event::InvitationIssued(e) => gone("invitation", e.invitation),
        _ => {}
    }
    Ok(())
}

/// The record of what a person said, without what goes; with the documents that stay known.
fn what_is_left(
    ctx: &EraseContext<'_>,
    id: SubjectId,
    gone: &BTreeSet<Seq>,
) -> Result<Vec<Write>, DataError> {
    let state = ctx.data.access.state();
    let Some(mut record) = read::subject(&state, id).map_err(AccessError::from)? else {
        return Ok(Vec::new());
    };
    record.directives.retain(|d| !gone.contains(&d.seq));
    record.withdrawals.retain(|w| !gone.contains(&w.seq));
    let mut writes = Vec::new();
    for left in record.directives.iter().filter(|d| d.source == Source::Fhir) {
        let value = serde_json::to_value(id).map_err(|_| DataError::failed("an id is not JSON"))?;
        let key = lineage_key(&left.contributor, &left.lineage, id);
        writes.push(Write { kind: "consent-lineage".to_owned(), key, value: Some(value) });
    }
    let value = serde_json::to_value(&record).map_err(|_| DataError::failed("a record is not JSON"))?;
    let value = (record != SubjectRecord::default()).then_some(value);
    writes.push(Write { kind: "subject-directives".to_owned(), key: subject_key(id), value });
    Ok(writes)
}

/// What stays of an index of a release: by what the person said elsewhere, if it permitted the release too.
fn left(mut value: Value, gone: &[Seq], erasure: &str) -> Option<Value> {
    let by: Vec<Seq> = serde_json::from_value(value["directives"].take()).ok()?;
    let by: Vec<Seq> = by.into_iter().filter(|seq| !gone.contains(seq)).collect();
    value["directives"] = by.clone().into();
    if value["left"].is_null() {
        value["left"] = erasure.into();
    }
    (!by.is_empty()).then_some(value)
}

/// The releases that have the person, and the index of them. What other hospitals' data of the person was in stays in it, as
/// what the person left by this erasure: those hospitals owe an account of what was disclosed until then.
fn member_of(
    ctx: &EraseContext<'_>,
    id: SubjectId,
    unfinished: &Unfinished,
    said: &mut Said,
) -> Result<(), DataError> {
    let (access, part) = (&ctx.data.access, unfinished.part.as_ref());
    let (prefix, mut after) = (format!("{}/", subject_key(id)), None::<String>);
    loop {
        let page = access.store.scan_primary(MEMBER_KIND, &prefix, after.as_deref(), PAGE)?;
        after = page.last().map(|(key, _)| key.clone());
        let full = page.len() == PAGE;
        for (key, value) in page {
            let release: Option<ReleaseId> = value["release"].as_str().and_then(|id| id.parse().ok());
            let release = release.ok_or_else(|| DataError::failed("an index of releases is not intact"))?;
            let record = read::release(&access.state(), &release).map_err(AccessError::from)?;
            let concerned = match (part, record) {
                (Some(part), Some(record)) => touches(access, &record, part)?,
                _ => true,
            };
            if concerned {
                let value = part.and_then(|_| left(value, &said.destroy.entries, &unfinished.erasure));
                said.releases.insert(release);
                said.destroy.primary.push(Write { kind: MEMBER_KIND.to_owned(), key, value });
            }
        }
        if !full {
            return Ok(());
        }
    }
}
