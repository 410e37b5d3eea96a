//! `POST /v1/withdrawals`

use actix_web::{post, web};
use almoner_model::{ContributorId, Digest, SourcePatientId};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Mode, ReceiptView};
use crate::flows::withdraw;
use crate::web::schema::{Sha256Hex, Slug};

use crate::app::App;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::RecordConsents;
use crate::web::error::Problem;
use crate::web::extract::Body;

/// A withdrawal to record.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWithdrawal {
    /// Through which hospital. May be left out where the token is for one.
    #[schema(value_type = Option<Slug>)]
    pub contributor: Option<ContributorId>,
    /// The patient's record number at the hospital, or `Patient/<id>`.
    #[schema(value_type = String, min_length = 1, max_length = 200)]
    pub record_number: SourcePatientId,
    /// How far it goes.
    pub mode: Mode,
    /// SHA-256 of the paper.
    #[schema(value_type = Option<Sha256Hex>)]
    pub evidence: Option<Digest>,
}

/// Records a patient's withdrawal from this hospital's data, before or after the data. Answers with a receipt for the patient.
#[utoipa::path(
    tag = "withdrawals",
    operation_id = "record_withdrawal",
    security(("token" = ["record_consents"])),
    params(IdempotencyHeader),
    request_body = NewWithdrawal,
    responses((status = 201, body = ReceiptView))
)]
#[post("/v1/withdrawals")]
pub async fn record(
    caller: Caller<RecordConsents>,
    app: web::Data<App>,
    body: Body<NewWithdrawal>,
) -> Result<Created<ReceiptView>, Problem> {
    let body = body.into_inner();
    let contributor = caller.contributor(body.contributor)?;
    let act = caller.act(&app);
    let receipt = blocking(&app, move |app| {
        let mode = body.mode.into();
        let (access, number) = (app.access(), &body.record_number);
        let done = withdraw::withdraw_on_paper(&access, &act, &contributor, number, mode, body.evidence)?;
        Ok::<_, Problem>(ReceiptView::of(app, done))
    });
    Ok(Created(receipt.await?))
}
