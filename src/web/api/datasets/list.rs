//! `GET /v1/datasets`

use actix_web::{get, web};

use super::Dataset;

use crate::app::App;
use crate::web::answer::{Page, Paging, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadDatasets;
use crate::web::error::Problem;

/// Lists datasets in their latest versions.
#[utoipa::path(
    tag = "datasets",
    operation_id = "list_datasets",
    security(("token" = ["read_datasets"])),
    params(Paging),
    responses((status = 200, body = Page<Dataset>))
)]
#[get("/v1/datasets")]
pub async fn list(
    caller: Caller<ReadDatasets>,
    app: web::Data<App>,
    paging: web::Query<Paging>,
) -> Result<web::Json<Page<Dataset>>, Problem> {
    let (after, limit) = (paging.after()?, paging.limit()?);
    let principal = caller.clone();
    let rows = blocking(&app, move |app| {
        let all = app.catalog.list(&|contributor| principal.speaks_for(contributor))?.into_iter();
        let rest = all.filter(|l| after.as_deref().is_none_or(|a| l.dataset.as_str() > a)).take(limit + 1);
        rest.map(|l| Ok((l.dataset.to_string(), Dataset::of(&l)?))).collect::<Result<Vec<_>, Problem>>()
    });
    Ok(web::Json(paging.page(rows.await?, |dataset| dataset)))
}
