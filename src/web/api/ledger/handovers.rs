//! `GET /ledger/handovers`

use actix_web::{HttpResponse, get, web};

use crate::app::App;
use crate::flows::checkpoint::published;
use crate::web::answer::blocking;
use crate::web::error::Problem;

/// How the log's keys followed each other: a JSON array, empty where it has had one key only. Each element is the entry of the
/// change, opened (`leaf`, `opening`, `payload`), and its proof under a checkpoint that the old and the new key signed. Whoever
/// knows one key of the log learns the others from it: `almoner-verify` does so by itself.
#[utoipa::path(
    tag = "ledger",
    operation_id = "read_handovers",
    responses((status = 200, body = Vec<serde_json::Value>, content_type = "application/json"))
)]
#[get("/ledger/handovers")]
pub async fn handovers(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    super::answer(blocking(&app, |app| published(&*app.store, "handovers")).await?)
}
