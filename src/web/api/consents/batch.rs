//! `POST /v1/consents/batch`

use actix_web::{post, web};
use almoner_model::ContributorId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ConsentBody, Recorded};
use crate::flows::consent;
use crate::web::schema::Slug;

use crate::app::App;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::RecordConsents;
use crate::web::error::Problem;
use crate::web::extract::Body;

/// Consents to record.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConsentsBody {
    /// Through which hospital. May be left out where the token is for one.
    #[schema(value_type = Option<Slug>)]
    pub contributor: Option<ContributorId>,
    /// What was signed.
    #[schema(min_items = 1, max_items = 1000)]
    pub consents: Vec<ConsentBody>,
}

/// Where they stand in the ledger, in order.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecordedAll {
    /// One each.
    pub recorded: Vec<Recorded>,
}

/// Records several consents, all or none.
#[utoipa::path(
    tag = "consents",
    operation_id = "record_consents",
    security(("token" = ["record_consents"])),
    params(IdempotencyHeader),
    request_body = NewConsentsBody,
    responses((status = 201, body = RecordedAll))
)]
#[post("/v1/consents/batch")]
pub async fn batch(
    caller: Caller<RecordConsents>,
    app: web::Data<App>,
    body: Body<NewConsentsBody>,
) -> Result<Created<RecordedAll>, Problem> {
    let body = body.into_inner();
    let contributor = caller.contributor(body.contributor)?;
    if !(1..=1000).contains(&body.consents.len()) {
        return Err(Problem::unacceptable("1 to 1000 consents at a time.").at("/consents"));
    }
    let consents = body
        .consents
        .into_iter()
        .enumerate()
        .map(|(n, c)| c.consent().map_err(|p| p.within(&format!("/consents/{n}"))));
    let consents = consents.collect::<Result<Vec<_>, _>>()?;
    let act = caller.act(&app);
    let entries =
        blocking(&app, move |app| consent::record_batch(&app.access(), &act, &contributor, consents));
    let entries = entries.await.map_err(|p| p.within("/consents"))?;
    let recorded = entries.into_iter().map(Recorded::at).collect();
    Ok(Created(RecordedAll { recorded }))
}
