//! `GET /v1/releases/{id}/gate`

use std::collections::BTreeMap;

use actix_web::{get, web};
use almoner_model::ReleaseId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{covers_all, find};
use crate::app::App;
use crate::flows::release;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadEvidence;
use crate::web::error::Problem;
use crate::web::schema::Slug;

/// What the gate measured and did.
#[derive(Debug, Serialize, ToSchema)]
pub struct GateView {
    /// Risk before and after, the recoding, how many people were left out, and what other class sizes would have cost.
    #[schema(value_type = Object)]
    pub report: Value,
    /// By table, the rows of people who were left out.
    pub rows_left_out: BTreeMap<String, u64>,
}

/// What the gate measured and did in full, for boards: how many people were left out, and their rows, however few they are.
/// A recipient is told so only of none or of 11 and more, since whoever is left out is rare.
#[utoipa::path(
    tag = "releases",
    operation_id = "read_gate",
    security(("token" = ["read_evidence"])),
    params(("id" = Slug, Path, description = "The release")),
    responses((status = 200, body = GateView))
)]
#[get("/v1/releases/{id}/gate")]
pub async fn gate(
    caller: Caller<ReadEvidence>,
    app: web::Data<App>,
    id: web::Path<ReleaseId>,
) -> Result<web::Json<GateView>, Problem> {
    let principal = caller.clone();
    let read = blocking(&app, move |app| {
        let release = find(app, &principal, &id)?;
        covers_all(app, &principal, &release)?;
        let gate = app.with_data(|ctx| release::members(ctx, &id))?.gate;
        let report = serde_json::to_value(gate.report).map_err(Problem::fault)?;
        Ok::<_, Problem>(GateView { report, rows_left_out: gate.rows_left_out })
    });
    Ok(web::Json(read.await?))
}
