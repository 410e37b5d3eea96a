//! `GET /v1/releases/{id}`

use actix_web::{get, web};
use almoner_model::ReleaseId;

use super::{Release, find};

use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadReleases;
use crate::web::error::Problem;
use crate::web::schema::Slug;

/// A release.
#[utoipa::path(
    tag = "releases",
    operation_id = "read_release",
    security(("token" = ["read_releases"])),
    params(("id" = Slug, Path, description = "The release")),
    responses((status = 200, body = Release))
)]
#[get("/v1/releases/{id}")]
pub async fn read(
    caller: Caller<ReadReleases>,
    app: web::Data<App>,
    id: web::Path<ReleaseId>,
) -> Result<web::Json<Release>, Problem> {
    let principal = caller.clone();
    let release = blocking(&app, move |app| Release::of(app, find(app, &principal, &id)?)).await?;
    Ok(web::Json(release))
}
