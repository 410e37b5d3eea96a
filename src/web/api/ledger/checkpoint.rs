//! `GET /ledger/checkpoint`

use actix_web::{HttpResponse, get, web};

use crate::app::App;

/// The last signed checkpoint, a C2SP signed note.
#[utoipa::path(
    tag = "ledger",
    operation_id = "read_checkpoint",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
#[get("/ledger/checkpoint")]
pub async fn checkpoint(app: web::Data<App>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header(("Cache-Control", "no-cache"))
        .body(app.store.checkpoint().note)
}
