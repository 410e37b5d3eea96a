//! `GET /v1/releases/{id}/recalls`

use actix_web::{get, web};
use almoner_model::ReleaseId;
use serde::Serialize;
use utoipa::ToSchema;

use super::find;
use crate::app::App;
use crate::flows::recall;
use crate::web::answer::Turns;
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadRecalls;
use crate::web::error::Problem;
use crate::web::schema::Slug;

/// Rows of a release that are to be destroyed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Recalls {
    /// Of which release.
    #[schema(value_type = Slug)]
    pub release: String,
    /// `person_id` in its tables.
    pub persons: Vec<String>,
    /// Ledger size that this is as of.
    pub as_of: u64,
}

/// Whose rows the recipient of a release has been asked to destroy: people who recalled their data after it was built, by
/// their `person_id` in it. Who has downloaded a release looks here, as its terms say; boards see the same list.
#[utoipa::path(
    tag = "releases",
    operation_id = "read_recalls",
    security(("token" = ["read_recalls"])),
    params(("id" = Slug, Path, description = "The release")),
    responses((status = 200, body = Recalls))
)]
#[get("/v1/releases/{id}/recalls")]
pub async fn recalls(
    caller: Caller<ReadRecalls>,
    app: web::Data<App>,
    turns: web::Data<Turns>,
    id: web::Path<ReleaseId>,
) -> Result<web::Json<Recalls>, Problem> {
    let principal = caller.clone();
    let recall::Recalls { release, persons, as_of } = turns
        .take(&app, move |app| {
            find(app, &principal, &id)?;
            app.with_data(|ctx| recall::recalls(ctx, &id)).map_err(Problem::from)
        })
        .await?;
    Ok(web::Json(Recalls { release: release.to_string(), persons, as_of }))
}
