//! `POST /v1/tokens`

use actix_web::{post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Token;
use crate::app::App;
use crate::flows::tokens::NewToken;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::ManageTokens;
use crate::web::error::Problem;
use crate::web::extract::Body;
use crate::web::schema::Slug;

/// Roles that tokens are made for.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenRole {
    /// Runs the server.
    Operator,
    /// A hospital's data manager.
    Contributor,
    /// A board or committee.
    Board,
    /// Asks for data.
    Researcher,
}

/// What a new token is for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTokenBody {
    /// The role it acts in.
    pub role: TokenRole,
    /// The contributors (contributor, board) or projects (researcher) it is limited to. Needed for contributors and
    /// researchers; a board without any sees all.
    #[serde(default)]
    #[schema(value_type = Vec<Slug>, max_items = 100)]
    pub scope: Vec<String>,
    /// A name for people.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub label: String,
    /// Days until it stops working.
    #[schema(minimum = 1, maximum = 3650)]
    pub days: Option<u32>,
}

/// A token with its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct IssuedToken {
    /// What to show: `Authorization: Bearer <token>`. It is not kept and cannot be shown again.
    pub token: String,
    /// The rest of it.
    pub info: Token,
}

/// Makes a token. Its secret is in this answer only.
#[utoipa::path(
    tag = "tokens",
    operation_id = "create_token",
    security(("token" = ["manage_tokens"])),
    params(IdempotencyHeader),
    request_body = NewTokenBody,
    responses((status = 201, body = IssuedToken))
)]
#[post("/v1/tokens")]
pub async fn create(
    caller: Caller<ManageTokens>,
    app: web::Data<App>,
    body: Body<NewTokenBody>,
) -> Result<Created<IssuedToken>, Problem> {
    let body = body.into_inner();
    if body.label.chars().count() > 200 || body.scope.len() > 100 {
        return Err(Problem::unacceptable("A label has at most 200 characters and a scope at most 100 ids."));
    }
    let role = format!("{:?}", body.role).to_lowercase();
    let new = NewToken { role, scope: body.scope, label: body.label, days: body.days };
    let act = caller.act(&app);
    let issued = blocking(&app, move |app| app.tokens().issue(new, act)).await?;
    Ok(Created(IssuedToken { token: issued.token.to_string(), info: issued.record.into() }))
}
