//! `POST /v1/requests/{id}/terms`

use actix_web::{post, web};
use almoner_model::{Digest, RequestId};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Request, find, view};
use crate::events::TermsSigned;
use crate::flows::decide;

use crate::app::App;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::SignTerms;
use crate::web::error::Problem;
use crate::web::extract::Body;
use crate::web::schema::Slug;

/// Signed terms.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTerms {
    /// Who signs for the recipient.
    #[schema(min_length = 1, max_length = 500)]
    pub signatory: String,
    /// The signed terms, as text or base64.
    #[schema(min_length = 1)]
    pub document: String,
}

/// The recipient signs the terms of a request, no re-identification among them. What was signed is kept by its SHA-256.
#[utoipa::path(
    tag = "requests",
    operation_id = "sign_terms",
    security(("token" = ["sign_terms"])),
    params(IdempotencyHeader, ("id" = Slug, Path, description = "The request")),
    request_body = NewTerms,
    responses((status = 201, body = Request))
)]
#[post("/v1/requests/{id}/terms")]
pub async fn terms(
    caller: Caller<SignTerms>,
    app: web::Data<App>,
    id: web::Path<RequestId>,
    body: Body<NewTerms>,
) -> Result<Created<Request>, Problem> {
    let (id, body) = (id.into_inner(), body.into_inner());
    let (principal, act) = (caller.clone(), caller.act(&app));
    let signed = blocking(&app, move |app| {
        let record = find(app, &principal, &id)?;
        let terms = TermsSigned {
            request: id.clone(),
            recipient: record.submitted.body.recipient,
            signatory: body.signatory,
            document: Digest::of(&body.document),
        };
        decide::sign_terms(&app.access(), &act, terms, body.document.as_bytes())?;
        view(app, &find(app, &principal, &id)?)
    });
    Ok(Created(signed.await?))
}
