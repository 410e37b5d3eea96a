//! Projects and requests: created, submitted, listed, shown.

use almoner_model::{Digest, ProjectId, RequestId, Tables};

use super::Act;
use super::access::{AccessContext, AccessError};
use crate::events::{Event, ProjectCreated, RequestSubmitted};
use crate::request::{self, Flaw};
use crate::state::records::{Project, Request};
use crate::state::{read, topic};
use crate::store::{Appended, Precondition};

/// Creates a project.
///
/// # Errors
/// [`AccessError::Conflict`] through the store if it exists.
pub fn create_project(
    ctx: &AccessContext<'_>,
    act: &Act,
    project: ProjectCreated,
) -> Result<Appended, AccessError> {
    if project.title.trim().is_empty() {
        return Err(AccessError::invalid("/title", "give the project a title"));
    }
    let topics = vec![topic::project(&project.project)];
    ctx.append(&Event::ProjectCreated(project), act, None, topics, &[])
}

/// A project.
///
/// # Errors
/// [`AccessError::Unknown`].
pub fn project(ctx: &AccessContext<'_>, id: &ProjectId) -> Result<Project, AccessError> {
    read::project(&ctx.state(), id)?.ok_or(AccessError::Unknown("project"))
}

/// All projects, by id.
///
/// # Errors
/// If the store fails.
pub fn projects(ctx: &AccessContext<'_>) -> Result<Vec<Project>, AccessError> {
    Ok(read::all(&ctx.state(), "project")?)
}

/// Submits a request for a release. `definition` is the cohort's exact text; it is kept as a document and named in the
/// request by its digest, whatever `request.cohort` says.
///
/// # Errors
/// [`AccessError::Invalid`] for the first flaw (see [`flaws`] for all), a conflict if the id is taken or the project,
/// recipient or datasets do not fit.
pub fn submit(
    ctx: &AccessContext<'_>,
    act: &Act,
    tables: &Tables,
    mut request: RequestSubmitted,
    definition: &[u8],
) -> Result<Appended, AccessError> {
    request.cohort = Digest::of(definition);
    let as_of = ctx.store.size();
    if ctx.repeated(act)?.is_none()
        && let Some(flaw) = flaws(ctx, tables, &request)?.into_iter().next()
    {
        return Err(AccessError::Invalid { pointer: flaw.pointer, reason: flaw.reason });
    }
    ctx.documents.put(definition).map_err(AccessError::Failed)?;
    let topics = vec![topic::request(&request.request), topic::project(&request.project)];
    let new = Precondition { topic: topic::request(&request.request), as_of };
    let preconditions = if ctx.repeated(act)?.is_none() { vec![new] } else { Vec::new() };
    ctx.append(&Event::RequestSubmitted(request), act, None, topics, &preconditions)
}

/// Everything that is wrong with a request before it is submitted.
///
/// # Errors
/// If the store fails.
pub fn flaws(
    ctx: &AccessContext<'_>,
    tables: &Tables,
    request: &RequestSubmitted,
) -> Result<Vec<Flaw>, AccessError> {
    let today = ctx.now()?.date();
    let mut flaws = request::submit(request, tables, today).err().unwrap_or_default();
    let mut say = |pointer: String, reason: &str| flaws.push(Flaw { pointer, reason: reason.to_owned() });
    match read::project(&ctx.state(), &request.project)? {
        None => say("/project".into(), "there is no such project"),
        Some(project) if project.body.recipient != request.recipient => {
            say("/recipient".into(), "not the project's recipient");
        }
        Some(_) => {}
    }
    for (n, dataset) in request.datasets.iter().enumerate() {
        if read::dataset(&ctx.state(), dataset)?.is_none() {
            say(format!("/datasets/{n}"), "there is no such dataset");
        }
    }
    Ok(flaws)
}

/// A request with everything that was said about it.
///
/// # Errors
/// [`AccessError::Unknown`].
pub fn show(ctx: &AccessContext<'_>, id: &RequestId) -> Result<Request, AccessError> {
    read::request(&ctx.state(), id)?.ok_or(AccessError::Unknown("request"))
}

/// Requests by id, after `after`, at most `limit`.
///
/// # Errors
/// If the store fails.
pub fn list(ctx: &AccessContext<'_>, after: Option<&str>, limit: usize) -> Result<Vec<Request>, AccessError> {
    let rows = read::page(&ctx.state(), "request", after, limit)?;
    Ok(rows.into_iter().map(|(_, request)| request).collect())
}
