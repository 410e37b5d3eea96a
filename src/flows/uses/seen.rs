//! What a caller may see of an entry as it comes in: for the live stream, one rule for each kind.
//!
//! The leaf is public, so every entry is shown to everybody with its position, time and kind. What was said is shown as far
//! as the lists of the interface show it to the same caller, and never more: nothing of entries about one person, no number
//! of people that is small or over hospitals that are not all the caller's, no secret or digest of one.

use std::collections::BTreeMap;

use almoner_model::{ContributorId, DatasetId, ProjectId, ReleaseId, RequestId};
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
    /// Whether what was said was erased; of entries about one person only to whoever sees everything.
    pub erased: bool,
}

/// Who may see what was said in an entry, and what it is about.
enum Shown<'a> {
    /// Nobody: it is of one person, or nothing of the interface shows it.
    Nobody,
    /// Operators, who manage tokens.
    Token(&'a str),
    /// Everybody who is let in.
    Everybody(String),
    /// Who may look into what is this hospital's alone.
    Hospital(&'a ContributorId, &'a str),
    /// The same, of the hospital whose legal basis this is.
    Basis(&'a str),
    /// Everybody but researchers of other projects.
    Project(&'a ProjectId),
    /// Who sees the request.
    Request(&'a RequestId),
    /// Who sees what was done for the project with these datasets.
    Count(&'a ProjectId, &'a BTreeMap<DatasetId, u32>),
    /// Who sees the release.
    Release(&'a ReleaseId),
    /// The same; numbers only if they are not few, and to whoever may see them over all hospitals of the release.
    Built(&'a ReleaseId, u64),
}

/// For each kind who may see it, and which members of what was said. Every kind and every member stands here by name, so that
/// a new one is shown to nobody before it was thought about.
fn rule(event: &Event) -> (Shown<'_>, &'static [&'static str]) {
    match event {
        // Everybody who is let in knows who contributes and which datasets there are.
        Event::ContributorRegistered(e) => {
            (Shown::Everybody(e.contributor.to_string()), &["contributor", "name", "linkage", "k_min"])
        }
        Event::ContributorChanged(e) => (
            Shown::Everybody(e.contributor.to_string()),
            &["contributor", "name", "linkage", "k_min", "after"],
        ),
        Event::ContractPublished(e) => {
            (Shown::Everybody(e.contributor.to_string()), &["contributor", "policy"])
        }
        // How many people there are the list of datasets rounds, for whom it tells at all.
        Event::DatasetPublished(e) => (Shown::Everybody(e.dataset.to_string()), DATASET),
        // Public: the hand-overs lie beside the checkpoint.
        Event::KeyRotated(e) => (Shown::Everybody(e.epoch.to_string()), &["epoch", "old", "new", "until"]),
        Event::VocabularyLoaded(e) => {
            (Shown::Everybody(e.vocabulary.to_string()), &["vocabulary", "concepts"])
        }
        Event::LegalBasisRecorded(e) => (Shown::Hospital(&e.contributor, &e.id), LEGAL_BASIS),
        Event::LegalBasisEnded(e) => (Shown::Basis(&e.id), &["id", "reason"]),
        Event::ProjectCreated(e) => (Shown::Project(&e.project), &["project", "title", "recipient"]),
        Event::RequestSubmitted(e) => (Shown::Request(&e.request), REQUEST),
        Event::RequestDecided(e) => {
            (Shown::Request(&e.request), &["request", "contributor", "decision", "delegate", "reason"])
        }
        // Not who signed, and not what.
        Event::TermsSigned(e) => (Shown::Request(&e.request), &["request", "recipient"]),
        Event::PermitDecided(e) => (Shown::Request(&e.request), PERMIT),
        // Not what was measured.
        Event::ReleaseRefused(e) => (Shown::Request(&e.request), &["request", "gate", "as_of"]),
        Event::CountAnswered(e) => (Shown::Count(&e.project, &e.datasets), COUNT),
        Event::ReleaseBuilt(e) => (Shown::Built(&e.release, e.persons), RELEASE),
        // Not the download's id.
        Event::DownloadOpened(e) => (Shown::Release(&e.release), &["release", "as_of"]),
        Event::DownloadClosed(e) => (Shown::Release(&e.release), &["release", "bytes_sent"]),
        // That it was written anew stands in the release's answer too; how many people are left does not.
        Event::ReleaseRewritten(e) => (Shown::Release(&e.release), &["release", "from", "to"]),
        Event::TokenIssued(e) => (Shown::Token(&e.token), &["token", "role", "scope"]),
        Event::TokenRevoked(e) => (Shown::Token(&e.token), &["token"]),
        // What one person said or was told, and what was erased of one.
        Event::ConsentRecorded(_)
        | Event::ConsentWithdrawn(_)
        | Event::InvitationIssued(_)
        | Event::InvitationRedeemed(_)
        | Event::InvitationRevoked(_)
        | Event::SubjectErased(_)
        | Event::DatasetRewritten(_) => (Shown::Nobody, &[]),
    }
}

const DATASET: &[&str] = &["dataset", "version", "contributor", "manifest", "profile", "mode"];
const LEGAL_BASIS: &[&str] = &[
    "id",
    "contributor",
    "kind",
    "profile",
    "recipient",
    "project",
    "by",
    "method",
    "scope",
    "document",
    "expires",
    "no_actual_knowledge",
];
const REQUEST: &[&str] = &[
    "request",
    "project",
    "recipient",
    "purpose",
    "modifiers",
    "diseases",
    "methods",
    "statements",
    "cohort",
    "datasets",
    "tables",
    "tier",
    "profile",
    "lay_summary",
    "ethics",
];
const PERMIT: &[&str] = &["request", "effect", "reasons", "policies", "required", "as_of"];
const COUNT: &[&str] =
    &["project", "purpose", "modifiers", "required", "cohort", "datasets", "answer", "as_of"];
const RELEASE: &[&str] = &[
    "release",
    "request",
    "project",
    "recipient",
    "datasets",
    "manifest",
    "members_root",
    "persons",
    "tables",
    "k",
    "as_of",
];

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
    let value = entry.payload.value();
    if entry.subject.is_some() || entry.leaf.subject.is_some() {
        // Which entries were erased together tells that they are one person's, and which of them stayed, that others know
        // the person too.
        let erased = value.is_none() && *viewer == Viewer::Everything;
        return Ok(Seen { erased, ..Seen::default() });
    }
    let Some(value) = value else { return Ok(Seen { erased: true, ..Seen::default() }) };
    let event = Event::read(&entry.leaf.kind, value.clone()).map_err(|_| {
        StoreError::NotIntact(format!("entry {}: the payload is none of its kind", entry.seq))
    })?;
    let (shown, members) = rule(&event);
    let Some((about, hidden)) = about(ctx, viewer, operator, shown)? else { return Ok(Seen::default()) };
    let mut data = value.clone();
    if let Some(said) = data.as_object_mut() {
        said.retain(|name, _| members.contains(&name.as_str()) && !hidden.contains(&name.as_str()));
    }
    Ok(Seen { about: Some(about), data: Some(data), erased: false })
}

/// What it is about, and which members this viewer does not see; `None` where it sees nothing.
fn about(
    ctx: &AccessContext<'_>,
    viewer: &Viewer,
    operator: bool,
    shown: Shown<'_>,
) -> Result<Option<(String, &'static [&'static str])>, AccessError> {
    let (theirs, about): (bool, String) = match shown {
        Shown::Nobody => return Ok(None),
        Shown::Token(token) => (operator, token.to_owned()),
        Shown::Everybody(about) => (true, about),
        Shown::Hospital(contributor, id) => (viewer.covers(contributor), id.to_owned()),
        Shown::Basis(id) => {
            let basis = read::legal_basis(&ctx.state(), id)?;
            (basis.is_some_and(|b| viewer.covers(&b.body.contributor)), id.to_owned())
        }
        Shown::Project(project) => {
            let theirs = match viewer {
                Viewer::Projects(own) => own.contains(project),
                Viewer::Everything | Viewer::Contributors(_) => true,
            };
            (theirs, project.to_string())
        }
        Shown::Request(id) => {
            let request = read::request(&ctx.state(), id)?;
            let theirs = request.is_some_and(|r| viewer.sees(&r.submitted.body.project, &r.contributors));
            (theirs, id.to_string())
        }
        Shown::Count(project, datasets) => {
            (viewer.sees(project, &contributors_of(ctx, datasets.keys())?), project.to_string())
        }
        Shown::Release(id) => (of_release(ctx, viewer, id)?.is_some(), id.to_string()),
        Shown::Built(id, persons) => {
            let hidden: &[&str] = match of_release(ctx, viewer, id)? {
                None => return Ok(None),
                Some(false) => &["persons", "tables", "k"],
                Some(true) if persons < super::SMALLEST_CELL => &["persons", "tables"],
                Some(true) => &[],
            };
            return Ok(Some((id.to_string(), hidden)));
        }
    };
    Ok(theirs.then_some((about, &[])))
}

/// Whether the viewer may see this release, and if so whether numbers over all its hospitals.
fn of_release(ctx: &AccessContext<'_>, viewer: &Viewer, id: &ReleaseId) -> Result<Option<bool>, AccessError> {
    let Some((release, request)) = release_of(ctx, id)? else { return Ok(None) };
    let theirs = viewer.sees(&release.body.project, &request.contributors);
    Ok(theirs.then(|| viewer.counts_over(&request.contributors)))
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
