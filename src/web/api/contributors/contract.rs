//! `PUT /v1/contributors/{id}/contract`

use actix_web::{put, web};
use almoner_model::{ContributorId, Digest};
use serde::Deserialize;
use utoipa::ToSchema;

use super::Contributor;
use crate::flows::contributor;

use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::PublishContract;
use crate::web::error::Problem;
use crate::web::extract::Body;
use crate::web::schema::{Sha256Hex, Slug};

/// A contract.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewContract {
    /// The policy's text, in Cedar over `schemas/policy/almoner.cedarschema`.
    #[schema(min_length = 1, max_length = 100000)]
    pub policy: String,
    /// The contract that it takes the place of, as far as the caller knows: with another in force nothing is changed (409).
    #[schema(value_type = Option<Sha256Hex>)]
    pub replaces: Option<Digest>,
}

/// Puts a contributor's contract in force: a Cedar policy that is asked beside the house rules for every count and release of
/// its data. Permits nothing that the house rules deny.
#[utoipa::path(
    tag = "contributors",
    operation_id = "publish_contract",
    security(("token" = ["publish_contract"])),
    params(("id" = Slug, Path, description = "The contributor")),
    request_body = NewContract,
    responses((status = 200, body = Contributor))
)]
#[put("/v1/contributors/{id}/contract")]
pub async fn contract(
    caller: Caller<PublishContract>,
    app: web::Data<App>,
    id: web::Path<ContributorId>,
    body: Body<NewContract>,
) -> Result<web::Json<Contributor>, Problem> {
    let (id, body) = (id.into_inner(), body.into_inner());
    caller.contributor(Some(id.clone()))?;
    let act = caller.act(&app);
    let found = blocking(&app, move |app| {
        contributor::publish_contract(&app.access(), &act, &id, &body.policy, body.replaces)?;
        Contributor::read(app, &id)
    });
    Ok(web::Json(found.await?))
}
