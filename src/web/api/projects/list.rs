//! `GET /v1/projects`

use actix_web::{get, web};

use super::{Project, may_see};
use crate::flows::{AccessError, request};

use crate::app::App;
use crate::web::answer::{Page, Paging, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadProjects;
use crate::web::error::Problem;

/// Lists projects.
#[utoipa::path(
    tag = "projects",
    operation_id = "list_projects",
    security(("token" = ["read_projects"])),
    params(Paging),
    responses((status = 200, body = Page<Project>))
)]
#[get("/v1/projects")]
pub async fn list(
    caller: Caller<ReadProjects>,
    app: web::Data<App>,
    paging: web::Query<Paging>,
) -> Result<web::Json<Page<Project>>, Problem> {
    let (after, limit) = (paging.after()?, paging.limit()?);
    let principal = caller.clone();
    let rows = blocking(&app, move |app| {
        let all = request::projects(&app.access())?.into_iter();
        let seen = all.filter(|p| may_see(&principal, p)).map(|p| (p.body.project.to_string(), p));
        let rest = seen.filter(|(id, _)| after.as_deref().is_none_or(|a| id.as_str() > a)).take(limit + 1);
        Ok::<_, AccessError>(rest.collect())
    });
    Ok(web::Json(paging.page(rows.await?, Project::from)))
}
