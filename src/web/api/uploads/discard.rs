//! `DELETE /v1/uploads/{id}`

use actix_web::{HttpResponse, delete, web};

use super::find;
use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::PushExports;
use crate::web::error::Problem;
use crate::web::schema::OpaqueId;

/// Forgets an upload and its bytes. One that is being taken in is a conflict: cancel its job first.
#[utoipa::path(
    tag = "uploads",
    operation_id = "discard_upload",
    security(("token" = ["push_exports"])),
    params(("id" = OpaqueId, Path, description = "The upload")),
    responses((status = 204))
)]
#[delete("/v1/uploads/{id}")]
pub async fn discard(
    caller: Caller<PushExports>,
    app: web::Data<App>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let principal = caller.clone();
    blocking(&app, move |app| {
        let record = find(app, &principal, &id)?;
        if record.job.is_some_and(|job| app.unfinished(&job)) {
            return Err(Problem::conflict("The upload is being taken in; cancel its job first."));
        }
        Ok(app.uploads().discard(&id)?)
    })
    .await?;
    Ok(HttpResponse::NoContent().finish())
}
