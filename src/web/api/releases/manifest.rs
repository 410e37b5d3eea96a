//! `GET /v1/releases/{id}/manifest`

use actix_web::{get, web};
use almoner_model::ReleaseId;
use serde_json::Value;

use super::find;
use crate::app::App;
use crate::flows::release;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadReleases;
use crate::web::error::Problem;
use crate::web::schema::Slug;

/// What a release says about itself: what was read on which legal basis, profile and declarations, files with digests, and
/// the risk report: class size required and reached, people left out, prosecutor, journalist and marketer risk.
#[utoipa::path(
    tag = "releases",
    operation_id = "read_manifest",
    security(("token" = ["read_releases"])),
    params(("id" = Slug, Path, description = "The release")),
    responses((status = 200, body = Object))
)]
#[get("/v1/releases/{id}/manifest")]
pub async fn manifest(
    caller: Caller<ReadReleases>,
    app: web::Data<App>,
    id: web::Path<ReleaseId>,
) -> Result<web::Json<Value>, Problem> {
    let principal = caller.clone();
    let manifest = blocking(&app, move |app| {
        find(app, &principal, &id)?;
        let manifest = app.with_data(|ctx| release::manifest_of(ctx, &id))?;
        serde_json::to_value(manifest).map_err(Problem::fault)
    });
    Ok(web::Json(manifest.await?))
}
