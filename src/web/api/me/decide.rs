//! `POST /v1/me/consents`

use actix_web::{post, web};
use almoner_model::ContributorId;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::consent::{Coverage, Directive, Provision, Signed, Source, Status};
use crate::flows::consent::{self, NewConsent, Whose};
use crate::web::api::consents::{Covers, Recorded, only_its_own};
use crate::web::schema::Slug;

use crate::app::App;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::DecideForOneself;
use crate::web::error::Problem;
use crate::web::extract::Body;

/// What you say.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewChoice {
    /// The hospital that invited you.
    #[schema(value_type = Slug)]
    pub contributor: ContributorId,
    /// `contributor` (this hospital's data). Of another hospital's data you decide through an invitation of its own.
    #[serde(default)]
    #[schema(value_type = Option<Covers>)]
    pub covers: Coverage,
    /// What it permits and denies: see docs/consent.md.
    #[schema(value_type = Object)]
    pub rules: Provision,
    /// The withdrawal that this act lifts by naming its ledger entry.
    pub lifts: Option<u64>,
}

/// Says what may be done with your data from now on. It takes the place of what you said here before for the same hospital; what
/// you signed on paper stands beside it.
#[utoipa::path(
    tag = "me",
    operation_id = "record_choice",
    security(("token" = ["decide_for_oneself"])),
    params(IdempotencyHeader),
    request_body = NewChoice,
    responses((status = 201, body = Recorded))
)]
#[post("/v1/me/consents")]
pub async fn decide(
    caller: Caller<DecideForOneself>,
    app: web::Data<App>,
    body: Body<NewChoice>,
) -> Result<Created<Recorded>, Problem> {
    let who = caller.person()?;
    let body = body.into_inner();
    who.only(Some(&body.contributor))?;
    only_its_own(body.covers)?;
    let act = caller.act(&app);
    let seq = blocking(&app, move |app| {
        let directive = Directive {
            source: Source::Participant,
            lineage: "participant".into(),
            signed: Signed::at(app.access().now()?),
            status: Status::Active,
            covers: body.covers,
            form: None,
            evidence: None,
            rules: body.rules,
        };
        let consent = NewConsent { whose: Whose::Subject(who.subject), directive, lifts: body.lifts };
        consent::record(&app.access(), &act, &body.contributor, consent)
    });
    Ok(Created(Recorded::at(seq.await?)))
}
