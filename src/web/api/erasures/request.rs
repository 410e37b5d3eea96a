//! `POST /v1/erasures`

use actix_web::{post, web};
use almoner_model::{ContributorId, SourcePatientId};
use serde::Deserialize;
use utoipa::ToSchema;

use super::Erasure;
use crate::flows::erase::{self, Whom};
use crate::jobs::{NewJob, Progress, Unit};
use crate::web::api::jobs::Job;
use crate::web::schema::Slug;

use crate::app::App;
use crate::web::answer::{Accepted, IdempotencyHeader, blocking};
use crate::web::auth::roles::ErasePatients;
use crate::web::auth::{Caller, Role};
use crate::web::error::Problem;
use crate::web::extract::Body;

/// Whom to erase.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewErasure {
    /// Whose patient. May be left out where the token is for one.
    #[schema(value_type = Option<Slug>)]
    pub contributor: Option<ContributorId>,
    /// The patient's record number at the hospital, or `Patient/<id>`.
    #[schema(value_type = String, min_length = 1, max_length = 200)]
    pub record_number: SourcePatientId,
    /// At every hospital, and not only at this one: for the operator.
    #[serde(default)]
    pub everywhere: bool,
}

/// Erases a patient: a job. What the hospital gave of them is destroyed, in every retained dataset version and release, in the
/// ledger's payloads and in the registry, and they are not taken in again. It cannot be undone. What was proved stays proved.
#[utoipa::path(
    tag = "erasures",
    operation_id = "erase_patient",
    security(("token" = ["erase_patients"])),
    params(IdempotencyHeader),
    request_body = NewErasure,
    responses((status = 202, body = Job, headers(("location" = String, description = "The job"))))
)]
#[post("/v1/erasures")]
pub async fn request(
    caller: Caller<ErasePatients>,
    app: web::Data<App>,
    body: Body<NewErasure>,
) -> Result<Accepted<Job>, Problem> {
    let body = body.into_inner();
    let contributor = caller.contributor(body.contributor)?;
    if body.everywhere && caller.role != Role::Operator {
        return Err(Problem::denied("Only the operator erases a person at every hospital.").at("/everywhere"));
    }
    let whom = Whom { contributor, record_number: body.record_number, everywhere: body.everywhere };
    let (principal, act, own) = (caller.clone(), caller.act(&app), app.clone());
    let job = blocking(&app, move |app| {
        let new = NewJob {
            id: format!("job_{}", act.event_id.replace('-', "")),
            kind: "erasure",
            owner: principal.id.clone(),
            contributor: Some(whom.contributor.clone()),
            project: None,
        };
        let work = move |progress: &dyn Progress| {
            progress.stage("erase", None, Unit::Steps);
            let done = own.with_erase(|ctx| erase::erase(ctx, &act, &whom));
            let done = done.map_err(|e| Problem::from(e).into_failure())?;
            serde_json::to_value(Erasure::from(done)).map_err(|e| Problem::fault(e).into_failure())
        };
        app.jobs.submit(new, Box::new(work)).map_err(Problem::from)
    });
    Ok(Accepted::job(job.await?.into()))
}
