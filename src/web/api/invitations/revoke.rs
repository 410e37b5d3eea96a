//! `DELETE /v1/invitations/{id}`

use actix_web::{delete, web};

use super::Invitation;
use crate::flows::invitation;

use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::InvitePatients;
use crate::web::error::Problem;
use crate::web::schema::OpaqueId;

/// Ends an invitation, and the token that it became. Ending it again changes nothing.
#[utoipa::path(
    tag = "invitations",
    operation_id = "revoke_invitation",
    security(("token" = ["invite_patients"])),
    params(("id" = OpaqueId, Path, description = "The invitation")),
    responses((status = 200, body = Invitation))
)]
#[delete("/v1/invitations/{id}")]
pub async fn revoke(
    caller: Caller<InvitePatients>,
    app: web::Data<App>,
    id: web::Path<String>,
) -> Result<web::Json<Invitation>, Problem> {
    let act = caller.act(&app);
    let principal = caller.clone();
    let ended = blocking(&app, move |app| {
        let ctx = app.access();
        let found = invitation::show(&ctx, &id)?;
        if !principal.speaks_for(&found.issued.body.contributor) {
            return Err(Problem::not_found());
        }
        invitation::revoke(&ctx, &act, &id).map_err(Problem::from)
    });
    Ok(web::Json(ended.await?.into()))
}
