//! `GET /v1/me/choices`

use actix_web::{get, web};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::flows::participant;

use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::DecideForOneself;
use crate::web::error::Problem;

/// What you said.
#[derive(Debug, Serialize, ToSchema)]
pub struct Choices {
    /// `choices`, `withdrawals`, and the names of the `hospitals`.
    #[schema(value_type = Object)]
    pub said: Value,
}

/// Everything that you said to the hospital that invited you: consents and refusals, withdrawals and whether they stand, the last first.
#[utoipa::path(
    tag = "me",
    operation_id = "read_choices",
    security(("token" = ["decide_for_oneself"])),
    responses((status = 200, body = Choices))
)]
#[get("/v1/me/choices")]
pub async fn choices(
    caller: Caller<DecideForOneself>,
    app: web::Data<App>,
) -> Result<web::Json<Choices>, Problem> {
    let who = caller.person()?;
    let choices = blocking(&app, move |app| participant::choices(&app.access(), &who)).await?;
    Ok(web::Json(Choices { said: serde_json::to_value(choices).map_err(Problem::fault)? }))
}
