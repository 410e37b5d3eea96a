//! `POST /v1/uploads/{id}/commit`

use actix_web::{HttpRequest, post, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{KeyHeader, find, key};
use crate::app::App;
use crate::dataset::Mode;
use crate::flows::Act;
use crate::flows::ingest::{self, IngestRequest, Source, Told};
use crate::flows::uploads::UploadRecord;
use crate::jobs::{Failure, NewJob, Progress};
use crate::spool::UploadKey;
use crate::web::answer::{Accepted, blocking};
use crate::web::api::jobs::Job;
use crate::web::auth::Caller;
use crate::web::auth::roles::PushExports;
use crate::web::error::Problem;
use crate::web::schema::OpaqueId;

/// What is said of the export that it cannot say itself.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Assurances {
    /// Equal `Patient.id`s (FHIR) and `person_id`s (OMOP) of the contributor are the same person. To be said when the second
    /// form of its data first comes.
    pub same_person_ids: bool,
    /// An export of everything counts as everything although a file of it could not be read to its end.
    pub accept_incomplete: bool,
    /// An export of everything replaces a version of which it has less than half of the people.
    pub replace_all: bool,
}

impl From<Assurances> for Told {
    fn from(said: Assurances) -> Self {
        let Assurances { same_person_ids, accept_incomplete, replace_all } = said;
        Self { same_person_ids, accept_incomplete, replace_all }
    }
}

/// Takes a complete upload in: a job that verifies it, and publishes a dataset version. Repeating the call while the job
/// runs finds it; after it failed or was interrupted it begins again, with what the call says then.
#[utoipa::path(
    tag = "uploads",
    operation_id = "commit_upload",
    security(("token" = ["push_exports"])),
    params(("id" = OpaqueId, Path, description = "The upload"), Assurances, KeyHeader),
    responses((status = 202, body = Job, headers(("location" = String, description = "The job"))))
)]
#[post("/v1/uploads/{id}/commit")]
pub async fn commit(
    caller: Caller<PushExports>,
    request: HttpRequest,
    app: web::Data<App>,
    id: web::Path<String>,
    said: web::Query<Assurances>,
) -> Result<Accepted<Job>, Problem> {
    let told = Told::from(said.into_inner());
    let key = key(&request)?;
    let (principal, act, own) = (caller.clone(), caller.act(&app), app.clone());
    let job = blocking(&app, move |app| {
        find(app, &principal, &id)?;
        let record = app.uploads().commit(&id, &key, |job| app.unfinished(job))?;
        let new = NewJob {
            id: record.job.clone().unwrap_or_default(),
            kind: "ingest",
            owner: principal.id.clone(),
            contributor: Some(record.contributor.clone()),
            project: None,
        };
        let work = move |progress: &dyn Progress| publish(&own, &record, &key, told, act, progress);
        app.jobs.submit(new, Box::new(work)).map_err(Problem::from)
    });
    Ok(Accepted::job(job.await?.into()))
}

/// The job: verify, ingest, forget the bytes.
fn publish(
    app: &App,
    record: &UploadRecord,
    key: &UploadKey,
    told: Told,
    act: Act,
    progress: &dyn Progress,
) -> Result<serde_json::Value, Failure> {
    let failed = |e: crate::flows::uploads::UploadError| Failure::new(e.kind(), e);
    let entries = app.uploads().entries(record, key, progress).map_err(failed)?;
    let request = IngestRequest {
        source: Source::Uploads(entries),
        contributor: record.contributor.clone(),
        dataset: record.dataset.clone(),
        profile: record.profile.clone().unwrap_or_else(|| app.config.ingest.profile.clone()),
        mode: if record.incremental { Mode::Incremental } else { Mode::Full },
        linkage: false,
        told,
        act,
    };
    let done = app.with_ingest(|ctx| ingest::run(ctx, request, progress));
    let summary = done.map_err(|e| Failure::new(e.kind(), e))?;
    let result =
        serde_json::to_value(summary).map_err(|e| Failure::new(crate::error::ErrorKind::Fault, e))?;
    app.uploads().published(&record.id, result.clone()).map_err(failed)?;
    Ok(result)
}
