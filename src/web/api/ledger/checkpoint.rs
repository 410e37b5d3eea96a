//! `GET /ledger/checkpoint`

use actix_web::{HttpResponse, get, web};

use crate::app::App;
use crate::flows::checkpoint::{PublishError, Published, published};
use crate::flows::cosign::Cosigner;
use crate::web::answer::blocking;
use crate::web::error::Problem;

/// The last signed checkpoint, a C2SP signed note. Where witnesses cosign the ledger it is the last one with their quorum, as
/// long as that has every entry that is older than a second; else the last of all, with what cosignatures it has.
#[utoipa::path(
    tag = "ledger",
    operation_id = "read_checkpoint",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
#[get("/ledger/checkpoint")]
pub async fn checkpoint(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let file = blocking(&app, |app| {
        let file = published(&*app.store, "checkpoint")?;
        let shown = app.cosigner().map(Cosigner::shown);
        Ok::<_, PublishError>(file.map(|file| match shown {
            Some(signed) => Published { bytes: signed.note, ..file },
            None => file,
        }))
    });
    super::answer(file.await?)
}
