//! `POST /v1/legal-bases/{id}/end`

use actix_web::{post, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::LegalBasis;
use crate::flows::decide;
use crate::state::read;

use crate::app::App;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::RecordLegalBases;
use crate::web::error::Problem;
use crate::web::extract::Body;
use crate::web::schema::OpaqueId;

/// The end of a legal basis.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LegalBasisEnding {
    /// Why.
    #[schema(min_length = 1, max_length = 5000)]
    pub reason: String,
}

/// Ends a legal basis: no permit, release or download rests on it from now on. Ending it again changes nothing.
#[utoipa::path(
    tag = "legal-bases",
    operation_id = "end_legal_basis",
    security(("token" = ["record_legal_bases"])),
    params(IdempotencyHeader, ("id" = OpaqueId, Path, description = "The legal basis")),
    request_body = LegalBasisEnding,
    responses((status = 201, body = LegalBasis))
)]
#[post("/v1/legal-bases/{id}/end")]
pub async fn end(
    caller: Caller<RecordLegalBases>,
    app: web::Data<App>,
    id: web::Path<String>,
    body: Body<LegalBasisEnding>,
) -> Result<Created<LegalBasis>, Problem> {
    let (principal, act) = (caller.clone(), caller.act(&app));
    let ended = blocking(&app, move |app| {
        let ctx = app.access();
        let basis = read::legal_basis(&ctx.state(), &id)?;
        let basis = basis.filter(|b| principal.speaks_for(&b.body.contributor));
        let basis = basis.ok_or_else(Problem::not_found)?;
        decide::end_legal_basis(&ctx, &act, &id, &body.into_inner().reason)?;
        Ok::<_, Problem>(LegalBasis::of(basis, read::legal_basis_end(&ctx.state(), &id)?))
    });
    Ok(Created(ended.await?))
}
