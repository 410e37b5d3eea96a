//! `GET /v1/projects/{id}`

use actix_web::{get, web};
use almoner_model::ProjectId;

use super::{Project, may_see};
use crate::flows::{AccessError, request};

use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadProjects;
use crate::web::error::Problem;
use crate::web::schema::Slug;

/// A project.
#[utoipa::path(
    tag = "projects",
    operation_id = "read_project",
    security(("token" = ["read_projects"])),
    params(("id" = Slug, Path, description = "The project")),
    responses((status = 200, body = Project))
)]
#[get("/v1/projects/{id}")]
pub async fn read(
    caller: Caller<ReadProjects>,
    app: web::Data<App>,
    id: web::Path<ProjectId>,
) -> Result<web::Json<Project>, Problem> {
    let principal = caller.clone();
    let project = blocking(&app, move |app| {
        let project = request::project(&app.access(), &id)?;
        if may_see(&principal, &project) { Ok(project) } else { Err(AccessError::Unknown("project")) }
    });
    Ok(web::Json(project.await?.into()))
}
