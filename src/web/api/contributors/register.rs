//! `POST /v1/contributors`

use actix_web::{post, web};
use almoner_model::ContributorId;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Contributor;
use crate::events::ContributorRegistered;
use crate::flows::contributor;
use crate::web::schema::Slug;

use crate::app::App;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::RegisterContributors;
use crate::web::error::Problem;
use crate::web::extract::Body;

/// A contributor to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewContributor {
    /// Its id.
    #[schema(value_type = Slug)]
    pub id: ContributorId,
    /// Its name.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// Link its patients with those of others that also opted in.
    #[serde(default)]
    pub linkage: bool,
    /// Smallest class size its data may be released in, above what the tier asks for.
    #[schema(minimum = 2, maximum = 1000)]
    pub k_min: Option<u32>,
}

/// Registers a contributor.
#[utoipa::path(
    tag = "contributors",
    operation_id = "register_contributor",
    security(("token" = ["register_contributors"])),
    params(IdempotencyHeader),
    request_body = NewContributor,
    responses((status = 201, body = Contributor))
)]
#[post("/v1/contributors")]
pub async fn register(
    caller: Caller<RegisterContributors>,
    app: web::Data<App>,
    body: Body<NewContributor>,
) -> Result<Created<Contributor>, Problem> {
    let body = body.into_inner();
    let act = caller.act(&app);
    let made = blocking(&app, move |app| {
        let id = body.id.clone();
        let new = ContributorRegistered {
            contributor: body.id,
            name: body.name,
            linkage: body.linkage,
            k_min: body.k_min,
        };
        contributor::register(&app.access(), &act, new)?;
        Contributor::read(app, &id)
    });
    Ok(Created(made.await?))
}
