//! `GET /v1/ledger/entries/{seq}/proof`

use actix_web::{HttpResponse, get, web};

use crate::app::App;
use crate::flows::checkpoint::PublishError;
use crate::flows::cosign::receipt;
use crate::web::answer::blocking;
use crate::web::error::Problem;

/// The proof (C2SP tlog-proof) that an entry is in the ledger, under the last checkpoint that has its quorum of witnesses if
/// the entry is under it, else under the present one.
#[utoipa::path(
    tag = "ledger",
    operation_id = "read_proof",
    params(("seq" = u64, Path, description = "The entry")),
    responses((
        status = 200, body = String, content_type = "text/plain",
        headers(("almoner-quorum" = String, description =
            "Whether the checkpoint in it has its quorum of witnesses: `reached` or `missing`; absent where none is asked"))
    ))
)]
#[get("/v1/ledger/entries/{seq}/proof")]
pub async fn proof(app: web::Data<App>, seq: web::Path<u64>) -> Result<HttpResponse, Problem> {
    let made = blocking(&app, move |app| {
        let bytes = receipt(&*app.store, *seq)?;
        let reached = app.cosigner().map(|cosigner| cosigner.reached_in(&bytes));
        Ok::<_, PublishError>((bytes, reached))
    });
    let (bytes, reached) = made.await?;
    let mut answer = HttpResponse::Ok();
    answer.content_type("text/plain; charset=utf-8").insert_header(("Cache-Control", "no-cache"));
    if let Some(reached) = reached {
        answer.insert_header(("almoner-quorum", if reached { "reached" } else { "missing" }));
    }
    Ok(answer.body(bytes))
}
