//! `POST /v1/consents/import`

use actix_web::{post, web};
use almoner_model::{ContributorId, Sensitive};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::report;
use crate::flows::consent;
use crate::web::schema::Slug;

use crate::app::App;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::RecordConsents;
use crate::web::error::Problem;
use crate::web::extract::Body;

/// A list of signed forms.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportBody {
    /// Through which hospital. May be left out where the token is for one.
    #[schema(value_type = Option<Slug>)]
    pub contributor: Option<ContributorId>,
    /// CSV with a header: record number, form version, date, digest of the evidence.
    #[schema(value_type = String)]
    pub list: Sensitive<String>,
    /// TOML that says what each version of a form means: see docs/consent.md.
    pub forms: String,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Imported {
    /// Rows read, recorded, known already and rejected, the last by rule and line.
    #[schema(value_type = Object)]
    pub summary: Value,
}

/// Imports a list of signed paper forms, before or after the data. Rows that are not right are told by line and rule; the rest is
/// recorded. Importing the same list again records nothing twice.
#[utoipa::path(
    tag = "consents",
    operation_id = "import_consents",
    security(("token" = ["record_consents"])),
    params(IdempotencyHeader),
    request_body = ImportBody,
    responses((status = 201, body = Imported))
)]
#[post("/v1/consents/import")]
pub async fn import(
    caller: Caller<RecordConsents>,
    app: web::Data<App>,
    body: Body<ImportBody>,
) -> Result<Created<Imported>, Problem> {
    let body = body.into_inner();
    let contributor = caller.contributor(body.contributor)?;
    let actor = caller.actor();
    let summary = blocking(&app, move |app| {
        consent::import(&app.access(), &actor, &contributor, body.list.expose().as_bytes(), &body.forms)
    });
    Ok(Created(Imported { summary: report(&summary.await?)? }))
}
