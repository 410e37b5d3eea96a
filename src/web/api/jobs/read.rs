//! `GET /v1/jobs/{id}`

use actix_web::{get, web};

use super::{Job, find};
use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::FollowJobs;
use crate::web::error::Problem;
use crate::web::schema::OpaqueId;

/// How far a job is, and what came of it.
#[utoipa::path(
    tag = "jobs",
    operation_id = "read_job",
    security(("token" = ["follow_jobs"])),
    params(("id" = OpaqueId, Path, description = "The job")),
    responses((status = 200, body = Job))
)]
#[get("/v1/jobs/{id}")]
pub async fn read(
    caller: Caller<FollowJobs>,
    app: web::Data<App>,
    id: web::Path<String>,
) -> Result<web::Json<Job>, Problem> {
    let principal = caller.clone();
    let job = blocking(&app, move |app| find(app, &principal, &id)).await?;
    Ok(web::Json(job.into()))
}
