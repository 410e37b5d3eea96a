//! `GET /ledger/tile/{path}`

use actix_web::{HttpResponse, get, web};

use crate::app::App;
use crate::flows::checkpoint::published;
use crate::web::answer::blocking;
use crate::web::error::Problem;

/// A tile of hashes (`<level>/<index>[.p/<width>]`) or a bundle of entries (`entries/<index>[.p/<width>]`), as in C2SP
/// tlog-tiles. What was once served stays the same for ever.
#[utoipa::path(
    tag = "ledger",
    operation_id = "read_tile",
    path = "/ledger/tile/{path}",
    params(("path" = String, Path, description = "Level and index, or `entries` and index")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"))
)]
#[get("/ledger/tile/{path:.*}")]
pub async fn tile(app: web::Data<App>, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    super::answer(blocking(&app, move |app| published(&*app.store, &format!("tile/{path}"))).await?)
}
