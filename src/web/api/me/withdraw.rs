//! `POST /v1/me/withdrawals`

use actix_web::{post, web};
use almoner_model::ContributorId;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::flows::withdraw as flow;
use crate::web::api::withdrawals::{Mode, ReceiptView};
use crate::web::schema::Slug;

use crate::app::App;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::DecideForOneself;
use crate::web::error::Problem;

/// A withdrawal of one's own.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnWithdrawal {
    /// Only for this hospital's data; for all of them where left out.
    #[schema(value_type = Option<Slug>)]
    pub contributor: Option<ContributorId>,
    /// How far it goes.
    pub mode: Mode,
}

/// Withdraws, for one hospital or for all. Answers with a signed receipt to keep.
#[utoipa::path(
    tag = "me",
    operation_id = "withdraw_consent",
    security(("token" = ["decide_for_oneself"])),
    params(IdempotencyHeader),
    request_body = OwnWithdrawal,
    responses((status = 201, body = ReceiptView))
)]
#[post("/v1/me/withdrawals")]
pub async fn withdraw(
    caller: Caller<DecideForOneself>,
    app: web::Data<App>,
    body: web::Json<OwnWithdrawal>,
) -> Result<Created<ReceiptView>, Problem> {
    let subject = caller.person()?;
    let body = body.into_inner();
    let act = caller.act(&app);
    let receipt = blocking(&app, move |app| {
        flow::withdraw(&app.access(), &act, subject, body.contributor.as_ref(), body.mode.into(), None)
    });
    Ok(Created(receipt.await?.into()))
}
