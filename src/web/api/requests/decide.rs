//! `POST /v1/requests/{id}/decisions`

use actix_web::{post, web};
use almoner_model::{ContributorId, RequestId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Request, find, view};
use crate::events::RequestDecided;
use crate::flows::decide as flow;

use crate::app::App;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::DecideRequests;
use crate::web::error::Problem;
use crate::web::extract::Body;
use crate::web::schema::Slug;

/// What a committee can say.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// Yes.
    Approved,
    /// No.
    Refused,
    /// Another committee's word is ours.
    Delegated,
    /// No longer.
    Revoked,
}

impl Word {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Refused => "refused",
            Self::Delegated => "delegated",
            Self::Revoked => "revoked",
        }
    }
}

/// A decision.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDecision {
    /// For whose data. May be left out where the token is for one contributor.
    #[schema(value_type = Option<Slug>)]
    pub contributor: Option<ContributorId>,
    /// What the committee says.
    pub decision: Word,
    /// To whom, when delegated.
    #[schema(value_type = Option<Slug>)]
    pub delegate: Option<ContributorId>,
    /// Why.
    #[schema(min_length = 1, max_length = 5000)]
    pub reason: String,
}

/// A committee decides on a request for its contributor's data, delegates, or revokes its approval. The reason is read by the
/// requester and by participants.
#[utoipa::path(
    tag = "requests",
    operation_id = "decide_request",
    security(("token" = ["decide_requests"])),
    params(IdempotencyHeader, ("id" = Slug, Path, description = "The request")),
    request_body = NewDecision,
    responses((status = 201, body = Request))
)]
#[post("/v1/requests/{id}/decisions")]
pub async fn decide(
    caller: Caller<DecideRequests>,
    app: web::Data<App>,
    id: web::Path<RequestId>,
    body: Body<NewDecision>,
) -> Result<Created<Request>, Problem> {
    let (id, body) = (id.into_inner(), body.into_inner());
    let contributor = caller.contributor(body.contributor)?;
    let (principal, act) = (caller.clone(), caller.act(&app));
    let decided = blocking(&app, move |app| {
        find(app, &principal, &id)?;
        let decision = RequestDecided {
            request: id.clone(),
            contributor,
            decision: body.decision.as_str().into(),
            delegate: body.delegate,
            reason: body.reason,
        };
        flow::decide(&app.access(), &act, decision)?;
        view(app, &find(app, &principal, &id)?)
    });
    Ok(Created(decided.await?))
}
