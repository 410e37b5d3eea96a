//! `PATCH /v1/contributors/{id}`

use actix_web::{patch, web};
use almoner_model::ContributorId;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Contributor;
use crate::events::ContributorChanged;
use crate::flows::contributor;

use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::ChangeContributors;
use crate::web::error::Problem;
use crate::web::extract::Body;
use crate::web::schema::Slug;

/// What a contributor is from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContributorPatch {
    /// `seq` of the contributor that the caller read: if it was changed since, nothing is changed (409).
    pub seq: u64,
    /// Its name.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// Link its patients with those of others that also opted in.
    pub linkage: bool,
    /// Smallest class size its data may be released in, above what the tier asks for.
    #[schema(minimum = 2, maximum = 1000)]
    pub k_min: Option<u32>,
}

/// Changes name, linkage and smallest class size of a contributor, which its first export may have registered. People who are
/// linked stay so.
#[utoipa::path(
    tag = "contributors",
    operation_id = "change_contributor",
    security(("token" = ["change_contributors"])),
    params(("id" = Slug, Path, description = "The contributor")),
    request_body = ContributorPatch,
    responses((status = 200, body = Contributor))
)]
#[patch("/v1/contributors/{id}")]
pub async fn change(
    caller: Caller<ChangeContributors>,
    app: web::Data<App>,
    id: web::Path<ContributorId>,
    body: Body<ContributorPatch>,
) -> Result<web::Json<Contributor>, Problem> {
    let (id, body) = (id.into_inner(), body.into_inner());
    caller.contributor(Some(id.clone()))?;
    let act = caller.act(&app);
    let changed = blocking(&app, move |app| {
        let change = ContributorChanged {
            contributor: id.clone(),
            name: body.name,
            linkage: body.linkage,
            k_min: body.k_min,
            after: body.seq,
        };
        contributor::change(&app.access(), &act, change)?;
        Contributor::read(app, &id)
    });
    Ok(web::Json(changed.await?))
}
