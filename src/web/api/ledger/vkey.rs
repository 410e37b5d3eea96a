//! `GET /ledger/vkey`

use actix_web::{HttpResponse, get, web};

use crate::app::App;
use crate::flows::checkpoint::published;
use crate::web::answer::blocking;
use crate::web::error::Problem;

/// The key that verifies checkpoints, a C2SP signed-note verifier key. Compare it with one you got another way.
#[utoipa::path(
    tag = "ledger",
    operation_id = "read_vkey",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
#[get("/ledger/vkey")]
pub async fn vkey(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    super::answer(blocking(&app, |app| published(&*app.store, "vkey")).await?)
}
