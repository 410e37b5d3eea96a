//! `POST /v1/vocabularies`

use actix_web::{post, web};
use std::path::PathBuf;

use serde::Deserialize;
use utoipa::ToSchema;

use crate::flows::vocabulary;
use crate::jobs::{NewJob, Progress};
use crate::web::api::jobs::Job;

use crate::app::App;
use crate::web::answer::{Accepted, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::LoadVocabularies;
use crate::web::error::Problem;
use crate::web::extract::Body;

/// A vocabulary to load.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVocabulary {
    /// Absolute path on the server's machine.
    #[schema(value_type = String)]
    pub path: PathBuf,
}

/// Loads a folder of Athena CSVs on the server's own machine: a job. Only over the data folder's Unix socket, because a path says
/// what the server's account may read.
#[utoipa::path(
    tag = "vocabularies",
    operation_id = "load_vocabulary",
    security(("token" = ["load_vocabularies"])),
    params(IdempotencyHeader),
    request_body = NewVocabulary,
    responses((status = 202, body = Job, headers(("location" = String, description = "The job"))))
)]
#[post("/v1/vocabularies")]
pub async fn load(
    caller: Caller<LoadVocabularies>,
    app: web::Data<App>,
    body: Body<NewVocabulary>,
) -> Result<Accepted<Job>, Problem> {
    caller.at_the_machine()?;
    let (owner, act, own, path) = (caller.id.clone(), caller.act(&app), app.clone(), body.into_inner().path);
    let job = blocking(&app, move |app| {
        let new = NewJob {
            id: format!("job_{}", act.event_id.replace('-', "")),
            kind: "vocabulary",
            owner,
            contributor: None,
            project: None,
        };
        let work = move |progress: &dyn Progress| {
            let folder = own.folder.vocabulary();
            let done = own.with_ingest(|ctx| vocabulary::load(&ctx, &path, &folder, &act, progress));
            let loaded = done.map_err(|e| Problem::new(e.kind(), e).into_failure())?;
            serde_json::to_value(loaded).map_err(|e| Problem::fault(e).into_failure())
        };
        app.jobs.submit(new, Box::new(work))
    });
    Ok(Accepted::job(job.await?.into()))
}
