//! `POST /v1/invitations/redemptions`

use actix_web::{post, web};
use almoner_model::Sensitive;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::flows::invitation;
use crate::web::schema::Instant;

use crate::app::App;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadPublic;
use crate::web::error::Problem;
use crate::web::extract::Body;

/// A code to redeem.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Redemption {
    /// The code of an invitation.
    #[schema(value_type = String, min_length = 1, max_length = 100)]
    pub code: Sensitive<String>,
}

/// What the code became.
#[derive(Debug, Serialize, ToSchema)]
pub struct ParticipantToken {
    /// What you show: `Authorization: Bearer <token>`. It cannot be shown again.
    pub token: String,
    /// When it stops working.
    #[schema(value_type = Instant)]
    pub expires: String,
}

/// Redeems the code of an invitation, once, for a token of one's own. A repetition with the same `Idempotency-Key` gives the
/// same token; any other finds the code redeemed.
#[utoipa::path(
    tag = "invitations",
    operation_id = "redeem_invitation",
    params(IdempotencyHeader),
    request_body = Redemption,
    responses((status = 201, body = ParticipantToken))
)]
#[post("/v1/invitations/redemptions")]
pub async fn redeem(
    caller: Caller<ReadPublic>,
    app: web::Data<App>,
    body: Body<Redemption>,
) -> Result<Created<ParticipantToken>, Problem> {
    let act = caller.act(&app);
    let token =
        blocking(&app, move |app| invitation::redeem(&app.access(), &act, body.into_inner().code.expose()));
    let token = token.await?;
    Ok(Created(ParticipantToken { token: token.secret.to_string(), expires: token.expires.to_string() }))
}
