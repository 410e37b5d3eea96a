//! `GET /v1/contributors/{id}`

use actix_web::{get, web};
use almoner_model::ContributorId;

use super::Contributor;

use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadContributors;
use crate::web::error::Problem;
use crate::web::schema::Slug;

/// A contributor.
#[utoipa::path(
    tag = "contributors",
    operation_id = "read_contributor",
    security(("token" = ["read_contributors"])),
    params(("id" = Slug, Path, description = "The contributor")),
    responses((status = 200, body = Contributor))
)]
#[get("/v1/contributors/{id}")]
pub async fn read(
    _caller: Caller<ReadContributors>,
    app: web::Data<App>,
    id: web::Path<ContributorId>,
) -> Result<web::Json<Contributor>, Problem> {
    let found = blocking(&app, move |app| Contributor::read(app, &id)).await?;
    Ok(web::Json(found))
}
