//! `GET /ledger/vkey`

use actix_web::{HttpResponse, get, web};

use crate::app::App;

/// The key that verifies checkpoints, a C2SP signed-note verifier key. Compare it with one you got another way.
#[utoipa::path(
    tag = "ledger",
    operation_id = "read_vkey",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
#[get("/ledger/vkey")]
pub async fn vkey(app: web::Data<App>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(format!("{}\n", app.store.vkey()))
}
