//! `POST /v1/consents`

use actix_web::{post, web};
use almoner_model::ContributorId;
use serde::Deserialize;
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

/// A consent to record.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConsentBody {
    /// Through which hospital. May be left out where the token is for one.
    #[schema(value_type = Option<Slug>)]
    pub contributor: Option<ContributorId>,
    /// What was signed.
    pub consent: ConsentBody,
}

/// Records a consent that was given on paper, before or after the data. A consent signed at or before a withdrawal never lifts
/// it; only one that names the withdrawal does.
#[utoipa::path(
    tag = "consents",
    operation_id = "record_consent",
    security(("token" = ["record_consents"])),
    params(IdempotencyHeader),
    request_body = NewConsentBody,
    responses((status = 201, body = Recorded))
)]
#[post("/v1/consents")]
pub async fn record(
    caller: Caller<RecordConsents>,
    app: web::Data<App>,
    body: Body<NewConsentBody>,
) -> Result<Created<Recorded>, Problem> {
    let body = body.into_inner();
    let contributor = caller.contributor(body.contributor)?;
    let consent = body.consent.consent().map_err(|p| p.within("/consent"))?;
    let act = caller.act(&app);
    let seq = blocking(&app, move |app| consent::record(&app.access(), &act, &contributor, consent));
    Ok(Created(Recorded::at(seq.await.map_err(|p| p.within("/consent"))?)))
}
