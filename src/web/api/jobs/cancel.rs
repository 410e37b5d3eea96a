//! `DELETE /v1/jobs/{id}`

use actix_web::{delete, web};

use super::{Job, find, may_stop};
use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::FollowJobs;
use crate::web::error::Problem;
use crate::web::schema::OpaqueId;

/// Asks a job to stop at its next safe place. A job that has ended stays as it is.
#[utoipa::path(
    tag = "jobs",
    operation_id = "cancel_job",
    security(("token" = ["follow_jobs"])),
    params(("id" = OpaqueId, Path, description = "The job")),
    responses((status = 200, body = Job))
)]
#[delete("/v1/jobs/{id}")]
pub async fn cancel(
    caller: Caller<FollowJobs>,
    app: web::Data<App>,
    id: web::Path<String>,
) -> Result<web::Json<Job>, Problem> {
    let principal = caller.clone();
    let job = blocking(&app, move |app| {
        if !may_stop(&principal, &find(app, &principal, &id)?) {
            return Err(Problem::denied(
                "Only who asked for this job, or acts for whom it is done, may stop it.",
            ));
        }
        app.jobs.cancel(&id)?.ok_or_else(Problem::not_found)
    });
    Ok(web::Json(job.await?.into()))
}
