//! `GET /ledger/checkpoint`

use actix_web::{HttpResponse, get, web};

use crate::app::App;
use crate::flows::checkpoint::published;
use crate::web::answer::blocking;
use crate::web::error::Problem;

/// The last signed checkpoint, a C2SP signed note.
#[utoipa::path(
    tag = "ledger",
    operation_id = "read_checkpoint",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
#[get("/ledger/checkpoint")]
pub async fn checkpoint(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    super::answer(blocking(&app, |app| published(&*app.store, "checkpoint")).await?)
}
