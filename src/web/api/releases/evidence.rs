//! `GET /v1/releases/{id}/evidence`

use actix_web::{get, web};
use almoner_ledger::evidence::Pack;
use almoner_model::ReleaseId;

use super::find;
use crate::app::App;
use crate::flows::{evidence, request};
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
        let request = request::show(&app.access(), &release.body.request)?;
        if !request.contributors.iter().all(|c| principal.covers_contributor(c)) {
            return Err(Problem::denied(
                "The pack opens consents of contributors that your token is not for.",
            ));
        }
        Ok(app.with_data(|ctx| evidence::evidence(ctx, &id))?)
    });
    Ok(web::Json(pack.await?))
}
