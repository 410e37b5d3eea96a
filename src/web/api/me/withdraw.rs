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
use crate::web::extract::Body;

/// A withdrawal of one's own.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnWithdrawal {
    /// The hospital that invited you; may be left out. From another hospital one withdraws through an invitation of its own.
    #[schema(value_type = Option<Slug>)]
    pub contributor: Option<ContributorId>,
    /// How far it goes.
    pub mode: Mode,
}

/// Withdraws from the hospital that invited you. Answers with a signed receipt to keep.
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
    body: Body<OwnWithdrawal>,
) -> Result<Created<ReceiptView>, Problem> {
    let who = caller.person()?;
    let body = body.into_inner();
    let act = caller.act(&app);
    let receipt = blocking(&app, move |app| {
        let hospital = who.only(body.contributor.as_ref())?;
        let done = flow::withdraw(&app.access(), &act, who.subject, Some(hospital), body.mode.into(), None)?;
        Ok::<_, Problem>(ReceiptView::of(app, done))
    });
    Ok(Created(receipt.await?))
}
