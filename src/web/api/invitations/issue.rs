//! `POST /v1/invitations`

use actix_web::{post, web};
use almoner_model::{ContributorId, SourcePatientId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::flows::invitation;
use crate::web::schema::{Instant, Slug};

use crate::app::App;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::InvitePatients;
use crate::web::error::Problem;
use crate::web::extract::Body;

/// Whom to invite.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewInvitation {
    /// By which hospital. May be left out where the token is for one.
    #[schema(value_type = Option<Slug>)]
    pub contributor: Option<ContributorId>,
    /// The patient's record number at the hospital, or `Patient/<id>`.
    #[schema(value_type = String, min_length = 1, max_length = 200)]
    pub record_number: SourcePatientId,
    /// Days within which it is redeemed.
    #[schema(minimum = 1, maximum = 14)]
    pub days: u32,
}

/// An invitation.
#[derive(Debug, Serialize, ToSchema)]
pub struct IssuedInvitation {
    /// Its id, by which it is ended.
    pub id: String,
    /// What the patient is handed, and redeems once.
    pub code: String,
    /// Until when.
    #[schema(value_type = Instant)]
    pub expires: String,
}

/// Invites a patient: a code that becomes the token with which they see what they said to this hospital and what came of it,
/// and withdraw from it. The code is in this answer only.
#[utoipa::path(
    tag = "invitations",
    operation_id = "issue_invitation",
    security(("token" = ["invite_patients"])),
    params(IdempotencyHeader),
    request_body = NewInvitation,
    responses((status = 201, body = IssuedInvitation))
)]
#[post("/v1/invitations")]
pub async fn issue(
    caller: Caller<InvitePatients>,
    app: web::Data<App>,
    body: Body<NewInvitation>,
) -> Result<Created<IssuedInvitation>, Problem> {
    let body = body.into_inner();
    let contributor = caller.contributor(body.contributor)?;
    let act = caller.act(&app);
    let invited = blocking(&app, move |app| {
        invitation::invite(&app.access(), &act, &contributor, &body.record_number, body.days)
    });
    let invited = invited.await?;
    let (code, expires) = (invited.secret.to_string(), invited.expires.to_string());
    Ok(Created(IssuedInvitation { id: invited.id, code, expires }))
}
