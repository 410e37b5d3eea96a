//! `POST /v1/datasets/{id}/remap`

use actix_web::{post, web};
use almoner_model::DatasetId;

use crate::flows::vocabulary;
use crate::jobs::{NewJob, Progress};
use crate::web::api::jobs::Job;

use crate::app::App;
use crate::web::answer::{Accepted, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::PushExports;
use crate::web::error::Problem;
use crate::web::schema::Slug;

/// Maps a dataset anew with the loaded vocabulary, into a new version without a new upload: a job.
#[utoipa::path(
    tag = "datasets",
    operation_id = "remap_dataset",
    security(("token" = ["push_exports"])),
    params(IdempotencyHeader, ("id" = Slug, Path, description = "The dataset")),
    responses((status = 202, body = Job, headers(("location" = String, description = "The job"))))
)]
#[post("/v1/datasets/{id}/remap")]
pub async fn remap(
    caller: Caller<PushExports>,
    app: web::Data<App>,
    id: web::Path<DatasetId>,
) -> Result<Accepted<Job>, Problem> {
    let id = id.into_inner();
    let record = app.catalog.record(&id)?.ok_or_else(Problem::not_found)?;
    if !caller.covers_contributor(&record.contributor) {
        return Err(Problem::not_found());
    }
    let (owner, act, own) = (caller.id.clone(), caller.act(&app), app.clone());
    let job = blocking(&app, move |app| {
        let new = NewJob {
            id: format!("job_{}", act.event_id.replace('-', "")),
            kind: "remap",
            owner,
            contributor: Some(record.contributor),
            project: None,
        };
        let work = move |progress: &dyn Progress| {
            let done = own.with_ingest(|ctx| vocabulary::remap(ctx, &id, act, progress));
            let remapped = done.map_err(|e| Problem::new(e.kind(), e).into_failure())?;
            serde_json::to_value(remapped).map_err(|e| Problem::fault(e).into_failure())
        };
        app.jobs.submit(new, Box::new(work))
    });
    Ok(Accepted::job(job.await?.into()))
}
