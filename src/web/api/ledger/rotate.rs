//! `POST /v1/ledger/keys`

use actix_web::{post, web};
use almoner_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::proof_of;
use crate::app::App;
use crate::flows::handover::{self, OVERLAP_DAYS};
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::ChangeLogKey;
use crate::web::error::Problem;
use crate::web::extract::Body;
use crate::web::schema::Instant;

/// How the key is to be changed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLogKey {
    /// For how many days the old key signs too; 30 where nothing is said.
    #[schema(maximum = 366)]
    pub overlap_days: Option<u32>,
}

/// The change.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogKeyChanged {
    /// Its entry.
    pub seq: u64,
    /// Where its receipt is read.
    pub receipt: String,
    /// Which key signs now, counted from 0 for the first.
    pub epoch: u32,
    /// The verifier key line of the key before it.
    pub old: String,
    /// Its own.
    pub new: String,
    /// Until when the old key signs too.
    #[schema(value_type = Instant)]
    pub until: Timestamp,
}

/// Lets a new key sign the ledger, and the old one beside it for a while. Checkpoints carry both signatures until then, so
/// that readers, mirrors and witnesses have time to take up the new key (`/ledger/handovers` proves it).
#[utoipa::path(
    tag = "ledger",
    operation_id = "rotate_log_key",
    security(("token" = ["change_log_key"])),
    params(IdempotencyHeader),
    request_body = NewLogKey,
    responses((status = 201, body = LogKeyChanged))
)]
#[post("/v1/ledger/keys")]
pub async fn rotate(
    caller: Caller<ChangeLogKey>,
    app: web::Data<App>,
    body: Body<NewLogKey>,
) -> Result<Created<LogKeyChanged>, Problem> {
    let (days, act) = (body.into_inner().overlap_days.unwrap_or(OVERLAP_DAYS), caller.act(&app));
    let done = blocking(&app, move |app| handover::rotate(&app.access(), &act, &app.signing_keys()?, days));
    let handover::Rotated { seq, change } = done.await?;
    Ok(Created(LogKeyChanged {
        seq,
        receipt: proof_of(seq),
        epoch: change.epoch,
        old: change.old,
        new: change.new,
        until: change.until,
    }))
}
