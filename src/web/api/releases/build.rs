//! `POST /v1/releases`

use actix_web::{post, web};
use almoner_model::RequestId;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::flows::{release, request};
use crate::jobs::{NewJob, Progress, Unit};
use crate::web::api::jobs::Job;
use crate::web::api::requests::may_see;
use crate::web::schema::Slug;

use crate::app::App;
use crate::web::answer::{Accepted, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::BuildReleases;
use crate::web::error::Problem;
use crate::web::extract::Body;

/// What to release.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRelease {
    /// The approved request.
    #[schema(value_type = Slug)]
    pub request: RequestId,
}

/// Builds a release of an approved request: a job. It is refused with its reasons where a committee has not approved, terms or
/// legal basis are missing, nobody permits it, or the privacy gate cannot be passed.
#[utoipa::path(
    tag = "releases",
    operation_id = "build_release",
    security(("token" = ["build_releases"])),
    params(IdempotencyHeader),
    request_body = NewRelease,
    responses((status = 202, body = Job, headers(("location" = String, description = "The job"))))
)]
#[post("/v1/releases")]
pub async fn build(
    caller: Caller<BuildReleases>,
    app: web::Data<App>,
    body: Body<NewRelease>,
) -> Result<Accepted<Job>, Problem> {
    let id = body.into_inner().request;
    let (principal, act, own) = (caller.clone(), caller.act(&app), app.clone());
    let job = blocking(&app, move |app| {
        let request = request::show(&app.access(), &id)?;
        if !may_see(&principal, &request) {
            return Err(Problem::not_found());
        }
        let new = NewJob {
            id: format!("job_{}", act.event_id.replace('-', "")),
            kind: "release",
            owner: principal.id.clone(),
            contributor: None,
            project: Some(request.submitted.body.project),
        };
        let work = move |progress: &dyn Progress| {
            progress.stage("release", None, Unit::Steps);
            let built = own.with_data(|ctx| release::release(ctx, &act, &id));
            let summary = built.map_err(|e| Problem::from(e).into_failure())?;
            serde_json::to_value(summary).map_err(|e| Problem::fault(e).into_failure())
        };
        app.jobs.submit(new, Box::new(work)).map_err(Problem::from)
    });
    Ok(Accepted::job(job.await?.into()))
}
