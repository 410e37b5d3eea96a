//! `GET /v1/ledger/entries/{seq}/proof`

use actix_web::{HttpResponse, get, web};

use crate::app::App;
use crate::flows::checkpoint::{Published, receipt};
use crate::web::answer::blocking;
use crate::web::error::Problem;

/// The proof (C2SP tlog-proof) that an entry is in the ledger, under the present checkpoint.
#[utoipa::path(
    tag = "ledger",
    operation_id = "read_proof",
    params(("seq" = u64, Path, description = "The entry")),
    responses((status = 200, body = String, content_type = "text/plain"))
)]
#[get("/v1/ledger/entries/{seq}/proof")]
pub async fn proof(app: web::Data<App>, seq: web::Path<u64>) -> Result<HttpResponse, Problem> {
    let bytes = blocking(&app, move |app| receipt(&*app.store, *seq)).await?;
    let file = Published { bytes, media_type: "text/plain; charset=utf-8", immutable: false };
    super::answer(Some(file))
}
