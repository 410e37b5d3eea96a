//! `GET /v1/tokens`

use actix_web::{get, web};

use super::Token;
use crate::app::App;
use crate::web::answer::{Page, Paging, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::ManageTokens;
use crate::web::error::Problem;

/// Lists tokens, without their secrets.
#[utoipa::path(
    tag = "tokens",
    operation_id = "list_tokens",
    security(("token" = ["manage_tokens"])),
    params(Paging),
    responses((status = 200, body = Page<Token>))
)]
#[get("/v1/tokens")]
pub async fn list(
    _caller: Caller<ManageTokens>,
    app: web::Data<App>,
    paging: web::Query<Paging>,
) -> Result<web::Json<Page<Token>>, Problem> {
    let (after, limit) = (paging.after()?, paging.limit()?);
    let records = blocking(&app, move |app| app.tokens().list(after.as_deref(), limit + 1)).await?;
    let rows = records.into_iter().map(|r| (r.id.clone(), r)).collect();
    Ok(web::Json(paging.page(rows, Token::from)))
}
