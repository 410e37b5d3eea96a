//! `GET /v1/jobs`

use actix_web::{get, web};

use super::{Job, may_see};
use crate::app::App;
use crate::web::answer::{Page, Paging, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::FollowJobs;
use crate::web::error::Problem;

/// Lists the jobs that the caller may know of, newest first.
#[utoipa::path(
    tag = "jobs",
    operation_id = "list_jobs",
    security(("token" = ["follow_jobs"])),
    params(Paging),
    responses((status = 200, body = Page<Job>))
)]
#[get("/v1/jobs")]
pub async fn list(
    caller: Caller<FollowJobs>,
    app: web::Data<App>,
    paging: web::Query<Paging>,
) -> Result<web::Json<Page<Job>>, Problem> {
    let (after, limit) = (paging.after()?, paging.limit()?);
    let principal = caller.clone();
    let rows = blocking(&app, move |app| {
        app.jobs.newest(|job| may_see(&principal, job), after.as_deref(), limit + 1)
    });
    Ok(web::Json(paging.page(rows.await?, Job::from)))
}
