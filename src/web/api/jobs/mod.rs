//! Long work: asked about, followed, ended.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::jobs::{JobRecord, JobState};
use crate::web::auth::{Principal, Role};
use crate::web::error::{Kind, Problem};
use crate::web::schema::{Instant, OpaqueId, Slug};

pub mod cancel;
pub mod events;
pub mod list;
pub mod read;

/// A piece of long work.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct Job {
    /// Its id.
    #[schema(value_type = OpaqueId)]
    pub id: String,
    /// What it does.
    #[schema(examples("ingest"))]
    pub kind: String,
    /// Whose data it works on.
    #[schema(value_type = Option<Slug>)]
    pub contributor: Option<String>,
    /// For which project.
    #[schema(value_type = Option<Slug>)]
    pub project: Option<String>,
    /// `queued`, `running`, `done`, `failed`, `cancelled`, or `interrupted` by a restart of the server (ask again).
    pub state: State,
    /// When it was asked for.
    #[schema(value_type = Instant)]
    pub created: String,
    /// When it began.
    #[schema(value_type = Option<Instant>)]
    pub started: Option<String>,
    /// When it ended.
    #[schema(value_type = Option<Instant>)]
    pub finished: Option<String>,
    /// How far it is.
    pub progress: Option<JobProgress>,
    /// What came of it.
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    /// Why nothing came of it.
    pub failure: Option<JobFailure>,
}

/// Where a job is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = JobState)]
pub enum State {
    /// Waits for its turn.
    Queued,
    /// Is being done.
    Running,
    /// Ended well.
    Done,
    /// Was refused or failed.
    Failed,
    /// Was ended on request.
    Cancelled,
    /// The server stopped before it ended.
    Interrupted,
}

/// How far a job is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct JobProgress {
    /// Name of the present stage.
    pub stage: String,
    /// Units done in it.
    pub done: u64,
    /// Units in all, where known.
    pub total: Option<u64>,
    /// `bytes`, `rows`, `files`, `persons` or `steps`.
    pub unit: String,
}

/// Why a job did not end well.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct JobFailure {
    /// One of the five kinds.
    pub kind: Kind,
    /// What is wrong and what to do.
    pub detail: String,
    /// Why, one reason each.
    pub reasons: Vec<String>,
    /// What was measured against what is required.
    #[schema(value_type = Option<Object>)]
    pub measured: Option<Value>,
}

impl From<JobRecord> for Job {
    fn from(r: JobRecord) -> Self {
        let time = |t: Option<almoner_model::Timestamp>| t.map(|t| t.to_string());
        Self {
            id: r.id,
            kind: r.kind,
            contributor: r.contributor.map(|c| c.to_string()),
            project: r.project.map(|p| p.to_string()),
            state: match r.state {
                JobState::Queued => State::Queued,
                JobState::Running => State::Running,
                JobState::Done => State::Done,
                JobState::Failed => State::Failed,
                JobState::Cancelled => State::Cancelled,
                JobState::Interrupted => State::Interrupted,
            },
            created: r.created.to_string(),
            started: time(r.started),
            finished: time(r.finished),
            progress: r.progress.map(|p| JobProgress {
                stage: p.stage,
                done: p.done,
                total: p.total,
                unit: format!("{:?}", p.unit).to_lowercase(),
            }),
            result: r.result,
            failure: r.failure.map(|f| JobFailure {
                kind: f.kind.into(),
                detail: f.detail,
                reasons: f.reasons,
                measured: f.measured,
            }),
        }
    }
}

/// Whether `caller` may know of the job: it asked for it, or acts for the contributor or project that it is about. A
/// board does not: the result of an ingest has exact numbers that the catalogue hides.
fn may_see(caller: &Principal, job: &JobRecord) -> bool {
    caller.role == Role::Operator
        || job.owner == caller.id
        || caller.role == Role::Contributor
            && job.contributor.as_ref().is_some_and(|c| caller.covers_contributor(c))
        || job.project.as_ref().is_some_and(|p| caller.covers_project(p))
}

/// Whether `caller` may stop the job: it asked for it, or acts for the contributor whose data it is about.
fn may_stop(caller: &Principal, job: &JobRecord) -> bool {
    let acts = caller.role == Role::Contributor;
    caller.role == Role::Operator
        || job.owner == caller.id
        || acts && job.contributor.as_ref().is_some_and(|c| caller.covers_contributor(c))
}

/// The job, if the caller may know of it.
///
/// # Errors
/// 404 otherwise.
fn find(app: &App, caller: &Principal, id: &str) -> Result<JobRecord, Problem> {
    let job = app.jobs.get(id).map_err(Problem::from)?;
    job.filter(|job| may_see(caller, job)).ok_or_else(Problem::not_found)
}
