//! `GET /v1/contributors`

use actix_web::{get, web};

use super::Contributor;
use crate::flows::AccessError;
use crate::state::{read, records};

use crate::app::App;
use crate::web::answer::{Page, Paging, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadContributors;
use crate::web::error::Problem;

/// Lists contributors.
#[utoipa::path(
    tag = "contributors",
    operation_id = "list_contributors",
    security(("token" = ["read_contributors"])),
    params(Paging),
    responses((status = 200, body = Page<Contributor>))
)]
#[get("/v1/contributors")]
pub async fn list(
    _caller: Caller<ReadContributors>,
    app: web::Data<App>,
    paging: web::Query<Paging>,
) -> Result<web::Json<Page<Contributor>>, Problem> {
    let (after, limit) = (paging.after()?, paging.limit()?);
    let rows = blocking(&app, move |app| {
        let ctx = app.access();
        let page: Vec<(String, records::Contributor)> =
            read::page(&ctx.state(), "contributor", after.as_deref(), limit + 1)?;
        page.into_iter()
            .map(|(key, record)| Ok((key, Contributor::read(app, &record.body.contributor)?)))
            .collect::<Result<Vec<_>, AccessError>>()
    });
    Ok(web::Json(paging.page(rows.await?, |contributor| contributor)))
}
