//! `DELETE /v1/tokens/{id}`

use actix_web::{delete, web};

use super::Token;
use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::ManageTokens;
use crate::web::error::Problem;
use crate::web::schema::OpaqueId;

/// Ends a token. Ending it again changes nothing.
#[utoipa::path(
    tag = "tokens",
    operation_id = "revoke_token",
    security(("token" = ["manage_tokens"])),
    params(("id" = OpaqueId, Path, description = "Public id of the token")),
    responses((status = 200, body = Token))
)]
#[delete("/v1/tokens/{id}")]
pub async fn revoke(
    caller: Caller<ManageTokens>,
    app: web::Data<App>,
    id: web::Path<String>,
) -> Result<web::Json<Token>, Problem> {
    let act = caller.act(&app);
    let record = blocking(&app, move |app| app.tokens().revoke(&id, act)).await?;
    Ok(web::Json(record.into()))
}
