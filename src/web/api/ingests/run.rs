//! `POST /v1/ingests`

use std::path::PathBuf;

use actix_web::{post, web};
use almoner_model::{ContributorId, DatasetId};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::dataset::Mode;
use crate::flows::ingest::{self, IngestRequest, Source, Told};
use crate::jobs::{NewJob, Progress};
use crate::web::answer::{Accepted, IdempotencyHeader, blocking};
use crate::web::api::jobs::Job;
use crate::web::auth::Caller;
use crate::web::auth::roles::IngestLocally;
use crate::web::error::Problem;
use crate::web::extract::Body;
use crate::web::schema::Slug;

/// A folder to take in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewIngest {
    /// Absolute path on the server's machine.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// Whose data it is; registered where unknown.
    #[schema(value_type = Slug)]
    pub contributor: ContributorId,
    /// The dataset; the contributor's id where left out.
    #[schema(value_type = Option<Slug>)]
    pub dataset: Option<DatasetId>,
    /// De-identification profile; the server's where left out.
    pub profile: Option<String>,
    /// Changes since the version before, instead of everything.
    #[serde(default)]
    pub incremental: bool,
    /// When the contributor is new: link its patients with those of others that also opted in.
    #[serde(default)]
    pub linkage: bool,
    /// Equal `Patient.id`s (FHIR) and `person_id`s (OMOP) of the contributor are the same person. To be said when the second
    /// form of its data first comes.
    #[serde(default)]
    pub same_person_ids: bool,
    /// An export of everything counts as everything although a file of it could not be read to its end.
    #[serde(default)]
    pub accept_incomplete: bool,
    /// An export of everything replaces a version of which it has less than half of the people.
    #[serde(default)]
    pub replace_all: bool,
}

/// Takes in a folder of the server's own machine: a job. Only over the data folder's Unix socket, because a path says
/// what the server's account may read.
#[utoipa::path(
    tag = "uploads",
    operation_id = "run_ingest",
    security(("token" = ["ingest_locally"])),
    params(IdempotencyHeader),
    request_body = NewIngest,
    responses((status = 202, body = Job, headers(("location" = String, description = "The job"))))
)]
#[post("/v1/ingests")]
pub async fn run(
    caller: Caller<IngestLocally>,
    app: web::Data<App>,
    body: Body<NewIngest>,
) -> Result<Accepted<Job>, Problem> {
    caller.at_the_machine()?;
    let (owner, act, own, body) = (caller.id.clone(), caller.act(&app), app.clone(), body.into_inner());
    let job = blocking(&app, move |app| {
        let new = NewJob {
            id: format!("job_{}", act.event_id.replace('-', "")),
            kind: "ingest",
            owner,
            contributor: Some(body.contributor.clone()),
            project: None,
        };
        let work = move |progress: &dyn Progress| {
            let request = IngestRequest {
                source: Source::Path(body.path),
                contributor: body.contributor,
                dataset: body.dataset,
                profile: body.profile.unwrap_or_else(|| own.config.ingest.profile.clone()),
                mode: if body.incremental { Mode::Incremental } else { Mode::Full },
                linkage: body.linkage,
                told: Told {
                    same_person_ids: body.same_person_ids,
                    accept_incomplete: body.accept_incomplete,
                    replace_all: body.replace_all,
                },
                act,
            };
            let done = own.with_ingest(|ctx| ingest::run(ctx, request, progress));
            let summary = done.map_err(|e| Problem::new(e.kind(), e).into_failure())?;
            serde_json::to_value(summary).map_err(|e| Problem::fault(e).into_failure())
        };
        app.jobs.submit(new, Box::new(work))
    });
    Ok(Accepted::job(job.await?.into()))
}
