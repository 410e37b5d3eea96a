//! `GET /v1/ledger/entries/{seq}`

use actix_web::{HttpResponse, get, web};

use crate::app::App;
use crate::flows::checkpoint::{Published, leaf};
use crate::web::answer::blocking;
use crate::web::error::Problem;

/// An entry's leaf, exactly as it stands in the ledger: what its proof and its receipt are checked against.
#[utoipa::path(
    tag = "ledger",
    operation_id = "read_entry",
    params(("seq" = u64, Path, description = "The entry")),
    responses((status = 200, body = Object, content_type = "application/json"))
)]
#[get("/v1/ledger/entries/{seq}")]
pub async fn entry(app: web::Data<App>, seq: web::Path<u64>) -> Result<HttpResponse, Problem> {
    let bytes = blocking(&app, move |app| leaf(&*app.store, *seq)).await?;
    super::answer(Some(Published { bytes, media_type: "application/json", immutable: true }))
}
