//! What a caller may see of an entry as it comes in: for the live stream, one rule for each kind.
//!
//! The leaf is public, so every entry is shown to everybody with its position, time and kind. What was said is shown as far
//! as the lists of the interface show it to the same caller, and never more: nothing of entries about one person, no number
//! of people that is small or over hospitals that are not all the caller's, no secret or digest of one.

use almoner_model::{ProjectId, ReleaseId, RequestId};
use serde_json::{Value, json};

use super::{AccessContext, AccessError, Viewer, contributors_of, release_of};
use crate::events::Event;
use crate::state::read;
use crate::store::{Entry, StoreError};

/// What may be seen of an entry.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Seen {
    /// What it is about: a release, request, project, dataset or contributor, by its id. Never a person.
    pub about: Option<String>,
    /// What was said, as far as the viewer may see it.
    pub data: Option<Value>,
    /// Whether what was said was erased.
    pub erased: bool,
}

/// What `viewer` may see of `entry`. `operator` says whether it also is one who manages tokens.
///
/// # Errors
/// If the store cannot be read, or the payload is none of its kind.
pub fn of(
    ctx: &AccessContext<'_>,
    viewer: &Viewer,
    operator: bool,
    entry: &Entry,
) -> Result<Seen, AccessError> {
    let Some(value) = entry.payload.value() else { return Ok(Seen { erased: true, ..Seen::default() }) };
    if entry.subject.is_some() || entry.leaf.subject.is_some() {
        return Ok(Seen::default());
    }
    let event = Event::read(&entry.leaf.kind, value.clone()).map_err(|_| {
        StoreError::NotIntact(format!("entry {}: the payload is none of its kind", entry.seq))
    })?;
    let shown = match &event {
        Event::TokenIssued(e) if operator => Some((e.token.clone(), value.clone())),
        Event::TokenRevoked(e) if operator => Some((e.token.clone(), value.clone())),
        _ => of_data(ctx, viewer, &event, value)?,
    };
    Ok(shown.map_or_else(Seen::default, |(about, data)| Seen {
        about: Some(about),
        data: Some(data),
        erased: false,
    }))
}

/// Hospitals and what is theirs: everybody who is let in knows who contributes and which datasets there are.
fn of_data(
    ctx: &AccessContext<'_>,
    viewer: &Viewer,
    event: &Event,
    value: &Value,
) -> Result<Option<(String, Value)>, AccessError> {
    Ok(match event {
        Event::ContributorRegistered(e) => Some((e.contributor.to_string(), without(value, &[]))),
        Event::ContributorChanged(e) => Some((e.contributor.to_string(), without(value, &[]))),
        Event::ContractPublished(e) => Some((e.contributor.to_string(), without(value, &[]))),
        // The list of datasets rounds how many people there are, for whom it tells at all.
        Event::DatasetPublished(e) => Some((e.dataset.to_string(), without(value, &["persons", "tables"]))),
        // Public: the hand-overs lie beside the checkpoint.
        Event::KeyRotated(e) => Some((e.epoch.to_string(), without(value, &[]))),
        Event::VocabularyLoaded(e) => Some((e.vocabulary.to_string(), without(value, &[]))),
        Event::LegalBasisRecorded(e) => {
            viewer.covers(&e.contributor).then(|| (e.id.clone(), without(value, &[])))
        }
        Event::LegalBasisEnded(e) => {
            let basis = read::legal_basis(&ctx.state(), &e.id)?;
            let theirs = basis.is_some_and(|b| viewer.covers(&b.body.contributor));
            theirs.then(|| (e.id.clone(), without(value, &[])))
        }
        _ => of_research(ctx, viewer, event, value)?,
    })
}

fn of_research(
    ctx: &AccessContext<'_>,
    viewer: &Viewer,
    event: &Event,
    value: &Value,
) -> Result<Option<(String, Value)>, AccessError> {
    Ok(match event {
        Event::ProjectCreated(e) => {
            let theirs = match viewer {
                Viewer::Projects(own) => own.contains(&e.project),
                Viewer::Everything | Viewer::Contributors(_) => true,
            };
            theirs.then(|| (e.project.to_string(), without(value, &[])))
        }
        Event::RequestSubmitted(e) => of_request(ctx, viewer, &e.request, value, &[])?,
        Event::RequestDecided(e) => of_request(ctx, viewer, &e.request, value, &[])?,
        Event::TermsSigned(e) => of_request(ctx, viewer, &e.request, value, &["signatory", "document"])?,
        Event::PermitDecided(e) => of_request(ctx, viewer, &e.request, value, &[])?,
        Event::ReleaseRefused(e) => of_request(ctx, viewer, &e.request, value, &["measured"])?,
        Event::CountAnswered(e) => {
            let theirs = sees_project(ctx, viewer, &e.project, e.datasets.keys())?;
            theirs.then(|| (e.project.to_string(), without(value, &[])))
        }
        Event::ReleaseBuilt(e) => of_release(ctx, viewer, &e.release)?.map(|all| {
            let mut data = without(value, if all { &[] } else { &["persons", "tables", "k"] });
            if all && e.persons < super::SMALLEST_CELL {
                data = without(&data, &["persons", "tables"]);
            }
            (e.release.to_string(), data)
        }),
        Event::DownloadOpened(e) => of_release(ctx, viewer, &e.release)?
            .map(|_| (e.release.to_string(), without(value, &["download"]))),
        Event::DownloadClosed(e) => of_release(ctx, viewer, &e.release)?
            .map(|_| (e.release.to_string(), without(value, &["download"]))),
        Event::ReleaseRewritten(e) => of_release(ctx, viewer, &e.release)?
            .map(|_| (e.release.to_string(), without(value, &["persons", "tables", "members"]))),
        _ => of_erasure(viewer, event, value),
    })
}

/// Erasures, and all of which nobody sees more than that it was. A new kind does not compile before it is said what is seen
/// of it.
fn of_erasure(viewer: &Viewer, event: &Event, value: &Value) -> Option<(String, Value)> {
    match event {
        // Which entries were erased tells which were one person's.
        Event::SubjectErased(e) => {
            let theirs = match &e.contributor {
                Some(contributor) => viewer.covers(contributor),
                None => matches!(viewer, Viewer::Everything),
            };
            theirs.then(|| (e.erasure.clone(), without(value, &["entries"])))
        }
        Event::DatasetRewritten(e) => Some((e.dataset.to_string(), without(value, &["persons", "tables"]))),
        // Of one person.
        Event::ConsentRecorded(_)
        | Event::ConsentWithdrawn(_)
        | Event::InvitationIssued(_)
        | Event::InvitationRedeemed(_)
        | Event::InvitationRevoked(_) => None,
        // Who manages tokens was shown them before.
        Event::TokenIssued(_) | Event::TokenRevoked(_) => None,
        // These were shown before, or not to this viewer.
        Event::ContributorRegistered(_)
        | Event::ContributorChanged(_)
        | Event::ContractPublished(_)
        | Event::DatasetPublished(_)
        | Event::KeyRotated(_)
        | Event::VocabularyLoaded(_)
        | Event::LegalBasisRecorded(_)
        | Event::LegalBasisEnded(_)
        | Event::ProjectCreated(_)
        | Event::RequestSubmitted(_)
        | Event::RequestDecided(_)
        | Event::TermsSigned(_)
        | Event::PermitDecided(_)
        | Event::ReleaseRefused(_)
        | Event::CountAnswered(_)
        | Event::ReleaseBuilt(_)
        | Event::DownloadOpened(_)
        | Event::DownloadClosed(_)
        | Event::ReleaseRewritten(_) => None,
    }
}

fn of_request(
    ctx: &AccessContext<'_>,
    viewer: &Viewer,
    id: &RequestId,
    value: &Value,
    hidden: &[&str],
) -> Result<Option<(String, Value)>, AccessError> {
    let request = read::request(&ctx.state(), id)?;
    let theirs = request.is_some_and(|r| viewer.sees(&r.submitted.body.project, &r.contributors));
    Ok(theirs.then(|| (id.to_string(), without(value, hidden))))
}

/// Whether the viewer may see this release, and if so whether numbers over all its hospitals.
fn of_release(ctx: &AccessContext<'_>, viewer: &Viewer, id: &ReleaseId) -> Result<Option<bool>, AccessError> {
    let Some((release, request)) = release_of(ctx, id)? else { return Ok(None) };
    let theirs = viewer.sees(&release.body.project, &request.contributors);
    Ok(theirs.then(|| viewer.counts_over(&request.contributors)))
}

fn sees_project<'a>(
    ctx: &AccessContext<'_>,
    viewer: &Viewer,
    project: &ProjectId,
    datasets: impl IntoIterator<Item = &'a almoner_model::DatasetId>,
) -> Result<bool, AccessError> {
    Ok(viewer.sees(project, &contributors_of(ctx, datasets)?))
}

fn without(value: &Value, hidden: &[&str]) -> Value {
    let mut value = value.clone();
    if let Some(members) = value.as_object_mut() {
        members.retain(|name, _| !hidden.contains(&name.as_str()));
    }
    value
}

/// An entry as an event of CloudEvents 1.0 (JSON format). `origin` names the ledger.
///
/// `id` is the UUID of the act, so that the event that comes twice is known again; `sequence` is the position in the ledger,
/// of twenty digits so that its order as text is its order; `erased` is there where what was said is gone.
pub fn cloud_event(origin: &str, entry: &Entry, seen: Seen) -> Value {
    let mut event = json!({
        "specversion": "1.0",
        "id": entry.leaf.event_id,
        "source": format!("https://{origin}"),
        "type": entry.leaf.kind,
        "time": entry.leaf.time,
        "sequence": format!("{:020}", entry.seq),
    });
    if let Some(about) = seen.about {
        event["subject"] = Value::String(about);
    }
    if let Some(data) = seen.data {
        event["datacontenttype"] = json!("application/json");
        event["data"] = data;
    }
    if seen.erased {
        event["erased"] = Value::Bool(true);
    }
    event
}
