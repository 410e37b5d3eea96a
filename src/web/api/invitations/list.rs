//! `GET /v1/invitations`

use actix_web::{get, web};

use super::Invitation;
use crate::flows::{AccessError, invitation};

use crate::app::App;
use crate::web::answer::{Page, Paging, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::InvitePatients;
use crate::web::error::Problem;

/// Lists the invitations of the hospitals that the caller is for, without their codes.
#[utoipa::path(
    tag = "invitations",
    operation_id = "list_invitations",
    security(("token" = ["invite_patients"])),
    params(Paging),
    responses((status = 200, body = Page<Invitation>))
)]
#[get("/v1/invitations")]
pub async fn list(
    caller: Caller<InvitePatients>,
    app: web::Data<App>,
    paging: web::Query<Paging>,
) -> Result<web::Json<Page<Invitation>>, Problem> {
    let (after, limit) = (paging.after()?, paging.limit()?);
    let principal = caller.clone();
    let rows = blocking(&app, move |app| {
        let all = invitation::list(&app.access())?.into_iter();
        let seen = all.filter(|i| principal.covers_contributor(&i.issued.body.contributor));
        let mut rows: Vec<_> = seen.map(|i| (i.issued.body.invitation.clone(), i)).collect();
        rows.retain(|(id, _)| after.as_deref().is_none_or(|a| id.as_str() > a));
        rows.truncate(limit + 1);
        Ok::<_, AccessError>(rows)
    });
    Ok(web::Json(paging.page(rows.await?, Invitation::from)))
}
