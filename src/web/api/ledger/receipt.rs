//! `GET /v1/ledger/entries/{seq}/receipt`

use actix_web::{HttpResponse, get, web};
use almoner_ledger::cose::MEDIA_TYPE;

use crate::app::App;
use crate::flows::checkpoint::{Published, cose_receipt};
use crate::web::answer::blocking;
use crate::web::error::Problem;

/// The COSE receipt (RFC 9942) of an entry, under the present checkpoint: a COSE_Sign1 by the log's key over the root, with the
/// proof of inclusion.
#[utoipa::path(
    tag = "ledger",
    operation_id = "read_receipt",
    params(("seq" = u64, Path, description = "The entry")),
    responses((status = 200, body = Vec<u8>, content_type = "application/cose"))
)]
#[get("/v1/ledger/entries/{seq}/receipt")]
pub async fn receipt(app: web::Data<App>, seq: web::Path<u64>) -> Result<HttpResponse, Problem> {
    let bytes = blocking(&app, move |app| cose_receipt(&*app.store, *seq)).await?;
    super::answer(Some(Published { bytes, media_type: MEDIA_TYPE, immutable: false }))
}
