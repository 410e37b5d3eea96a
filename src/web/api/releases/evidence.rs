//! `GET /v1/releases/{id}/evidence`

use actix_web::{get, web};
use almoner_ledger::evidence::Pack;
use almoner_model::ReleaseId;

use super::{covers_all, find};
use crate::app::App;
use crate::flows::evidence;
use crate::web::answer::Turns;
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadEvidence;
use crate::web::error::Problem;
use crate::web::schema::Slug;

/// The evidence pack of a release, for boards: with `almoner-verify evidence` it shows offline that everyone in the release
/// had permitted it. It opens the consents of all members, so only a board of every contributor concerned gets it.
#[utoipa::path(
    tag = "releases",
    operation_id = "read_evidence",
    security(("token" = ["read_evidence"])),
    params(("id" = Slug, Path, description = "The release")),
    responses((status = 200, body = Object))
)]
#[get("/v1/releases/{id}/evidence")]
pub async fn evidence_pack(
    caller: Caller<ReadEvidence>,
    app: web::Data<App>,
    turns: web::Data<Turns>,
    id: web::Path<ReleaseId>,
) -> Result<web::Json<Pack>, Problem> {
    let principal = caller.clone();
    let pack = turns.take(&app, move |app| {
        let release = find(app, &principal, &id)?;
        covers_all(app, &principal, &release)?;
        Ok::<_, Problem>(app.with_data(|ctx| evidence::evidence(ctx, &id))?)
    });
    Ok(web::Json(pack.await?))
}
