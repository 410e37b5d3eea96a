//! `POST /v1/projects`

use actix_web::{post, web};
use almoner_model::{ProjectId, RecipientId};
use serde::Deserialize;
use utoipa::ToSchema;

use super::Project;
use crate::events::ProjectCreated;
use crate::flows::request;
use crate::web::schema::Slug;

use crate::app::App;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::CreateProjects;
use crate::web::error::Problem;
use crate::web::extract::Body;

/// A project to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProject {
    /// Its id.
    #[schema(value_type = Slug)]
    pub id: ProjectId,
    /// Its title, for people.
    #[schema(min_length = 1, max_length = 500)]
    pub title: String,
    /// The institution that receives.
    #[schema(value_type = Slug)]
    pub recipient: RecipientId,
}

/// Creates a project. A researcher's token is then made for it.
#[utoipa::path(
    tag = "projects",
    operation_id = "create_project",
    security(("token" = ["create_projects"])),
    params(IdempotencyHeader),
    request_body = NewProject,
    responses((status = 201, body = Project))
)]
#[post("/v1/projects")]
pub async fn create(
    caller: Caller<CreateProjects>,
    app: web::Data<App>,
    body: Body<NewProject>,
) -> Result<Created<Project>, Problem> {
    let body = body.into_inner();
    let act = caller.act(&app);
    let made = blocking(&app, move |app| {
        let id = body.id.clone();
        let new = ProjectCreated { project: body.id, title: body.title, recipient: body.recipient };
        request::create_project(&app.access(), &act, new)?;
        request::project(&app.access(), &id)
    });
    Ok(Created(made.await?.into()))
}
