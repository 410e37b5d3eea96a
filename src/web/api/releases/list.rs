//! `GET /v1/releases`

use actix_web::{get, web};

use super::{Release, may_see};
use crate::state::{read, records};

use crate::app::App;
use crate::web::answer::{Page, Paging, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadReleases;
use crate::web::error::Problem;

/// Lists the releases that the caller may see.
#[utoipa::path(
    tag = "releases",
    operation_id = "list_releases",
    security(("token" = ["read_releases"])),
    params(Paging),
    responses((status = 200, body = Page<Release>))
)]
#[get("/v1/releases")]
pub async fn list(
    caller: Caller<ReadReleases>,
    app: web::Data<App>,
    paging: web::Query<Paging>,
) -> Result<web::Json<Page<Release>>, Problem> {
    let (mut after, limit) = (paging.after()?, paging.limit()?);
    let principal = caller.clone();
    let rows = blocking(&app, move |app| {
        let mut rows = Vec::new();
        while rows.len() <= limit {
            let page: Vec<(String, records::Release)> =
                read::page(&app.access().state(), "release", after.as_deref(), limit + 1)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (id, release) in page {
                if may_see(app, &principal, &release)? {
                    rows.push((id, Release::of(app, release)?));
                }
            }
        }
        Ok::<_, Problem>(rows)
    });
    Ok(web::Json(paging.page(rows.await?, |release| release)))
}
