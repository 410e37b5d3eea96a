//! `GET /v1/jobs/{id}/events`

use std::time::Duration;

use actix_web::{HttpResponse, get, web};
use async_stream::stream;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Job, find};
use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::FollowJobs;
use crate::web::error::Problem;
use crate::web::schema::OpaqueId;

/// How often a job is looked at while somebody follows it.
const PACE: Duration = Duration::from_millis(200);
/// How many looks without news until a comment keeps the connection open.
const QUIET_MAX: u32 = 75;

/// A server-sent event.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobEvent {
    /// Always `job`.
    #[schema(pattern = "^job$")]
    pub event: String,
    /// The job, as JSON text.
    pub data: String,
}

/// Follows a job as server-sent events: an event `job` whenever something changed, the last one when it has ended.
#[utoipa::path(
    tag = "jobs",
    operation_id = "follow_job",
    security(("token" = ["follow_jobs"])),
    params(("id" = OpaqueId, Path, description = "The job")),
    responses((status = 200, body = JobEvent, content_type = "text/event-stream"))
)]
#[get("/v1/jobs/{id}/events")]
pub async fn events(
    caller: Caller<FollowJobs>,
    app: web::Data<App>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (principal, id) = (caller.clone(), id.into_inner());
    let first = {
        let id = id.clone();
        blocking(&app, move |app| find(app, &principal, &id)).await?
    };
    let body = stream! {
        let mut last: Option<Job> = None;
        let mut record = Some(first);
        let mut quiet = 0;
        while let Some(now) = record.take() {
            let ended = now.state.is_final();
            let job = Job::from(now);
            if last.as_ref() != Some(&job) {
                quiet = 0;
                let data = serde_json::to_string(&job).expect("a job is plain text");
                yield Ok::<_, std::convert::Infallible>(web::Bytes::from(format!("event: job\ndata: {data}\n\n")));
                last = Some(job);
            } else if quiet >= QUIET_MAX {
                quiet = 0;
                yield Ok(web::Bytes::from_static(b": still here\n\n"));
            }
            if ended || app.jobs.stopping() {
                break;
            }
            quiet += 1;
            tokio::time::sleep(PACE).await;
            let id = id.clone();
            record = blocking(&app, move |app| app.jobs.get(&id)).await.ok().flatten();
        }
    };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("Cache-Control", "no-store"))
        .streaming(Box::pin(body)))
}
