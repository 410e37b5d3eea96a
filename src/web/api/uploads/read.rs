//! `GET /v1/uploads/{id}`

use actix_web::{get, web};

use super::{Upload, find, view};
use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::PushExports;
use crate::web::error::Problem;
use crate::web::schema::OpaqueId;

/// How far an upload is.
#[utoipa::path(
    tag = "uploads",
    operation_id = "read_upload",
    security(("token" = ["push_exports"])),
    params(("id" = OpaqueId, Path, description = "The upload")),
    responses((status = 200, body = Upload))
)]
#[get("/v1/uploads/{id}")]
pub async fn read(
    caller: Caller<PushExports>,
    app: web::Data<App>,
    id: web::Path<String>,
) -> Result<web::Json<Upload>, Problem> {
    let principal = caller.clone();
    let upload = blocking(&app, move |app| view(app, &find(app, &principal, &id)?)).await?;
    Ok(web::Json(upload))
}
