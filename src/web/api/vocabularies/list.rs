//! `GET /v1/vocabularies`

use actix_web::{get, web};

use super::Vocabulary;
use crate::state::{read, records};

use crate::app::App;
use crate::web::answer::{Page, Paging, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadVocabularies;
use crate::web::error::Problem;

/// Lists the vocabularies that were loaded.
#[utoipa::path(
    tag = "vocabularies",
    operation_id = "list_vocabularies",
    security(("token" = ["read_vocabularies"])),
    params(Paging),
    responses((status = 200, body = Page<Vocabulary>))
)]
#[get("/v1/vocabularies")]
pub async fn list(
    _caller: Caller<ReadVocabularies>,
    app: web::Data<App>,
    paging: web::Query<Paging>,
) -> Result<web::Json<Page<Vocabulary>>, Problem> {
    let (after, limit) = (paging.after()?, paging.limit()?);
    let rows = blocking(&app, move |app| {
        read::page::<records::Vocabulary>(&app.access().state(), "vocabulary", after.as_deref(), limit + 1)
    });
    Ok(web::Json(paging.page(rows.await?, Vocabulary::from)))
}
