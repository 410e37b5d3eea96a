//! `GET /v1/requests/{id}`

use actix_web::{get, web};
use almoner_model::RequestId;

use super::{Request, find, view};

use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadRequests;
use crate::web::error::Problem;
use crate::web::schema::Slug;

/// A request with everything that was said about it.
#[utoipa::path(
    tag = "requests",
    operation_id = "read_request",
    security(("token" = ["read_requests"])),
    params(("id" = Slug, Path, description = "The request")),
    responses((status = 200, body = Request))
)]
#[get("/v1/requests/{id}")]
pub async fn read(
    caller: Caller<ReadRequests>,
    app: web::Data<App>,
    id: web::Path<RequestId>,
) -> Result<web::Json<Request>, Problem> {
    let principal = caller.clone();
    let request = blocking(&app, move |app| view(app, &find(app, &principal, &id)?)).await?;
    Ok(web::Json(request))
}
