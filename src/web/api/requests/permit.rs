//! `POST /v1/requests/{id}/permits`

use actix_web::{post, web};
use almoner_model::RequestId;
use serde::Serialize;
use utoipa::ToSchema;

use super::find;
use crate::app::App;
use crate::flows::release;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::BuildReleases;
use crate::web::error::Problem;
use crate::web::schema::Slug;

/// Whether a request could be released now.
#[derive(Debug, Serialize, ToSchema)]
pub struct PermitDecision {
    /// `permit` or `deny`.
    pub effect: &'static str,
    /// Everything that stands against it, each a sentence.
    pub reasons: Vec<String>,
}

/// Decides whether a request could be released now: by committees, ethics determination, terms, legal bases, contracts,
/// profile, and whether anybody permits it. The decision is logged as every one is; a release decides anew.
#[utoipa::path(
    tag = "requests",
    operation_id = "decide_permit",
    security(("token" = ["build_releases"])),
    params(IdempotencyHeader, ("id" = Slug, Path, description = "The request")),
    responses((status = 201, body = PermitDecision))
)]
#[post("/v1/requests/{id}/permits")]
pub async fn permit(
    caller: Caller<BuildReleases>,
    app: web::Data<App>,
    id: web::Path<RequestId>,
) -> Result<Created<PermitDecision>, Problem> {
    let (principal, act) = (caller.clone(), caller.act(&app));
    let decided = blocking(&app, move |app| {
        find(app, &principal, &id)?;
        Ok::<_, Problem>(app.with_data(|ctx| release::explain(ctx, &act, &id))?)
    });
    let release::Explanation { permitted, reasons } = decided.await?;
    Ok(Created(PermitDecision { effect: if permitted { "permit" } else { "deny" }, reasons }))
}
