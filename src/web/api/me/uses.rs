//! `GET /v1/me/uses`

use actix_web::{get, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::flows::participant;
use crate::web::schema::{DuoTerm, Instant, Slug};

use crate::app::App;
use crate::web::answer::blocking;
use crate::web::api::ledger::proof_of;
use crate::web::auth::Caller;
use crate::web::auth::roles::DecideForOneself;
use crate::web::error::Problem;

/// What your data was used for.
#[derive(Debug, Serialize, ToSchema)]
pub struct Uses {
    /// Releases that your data is in, or was in until they were written anew without it.
    pub releases: Vec<UseView>,
    /// Projects whose counts may have counted you.
    pub counts: Vec<CountsView>,
}

/// A release that your data is in.
#[derive(Debug, Serialize, ToSchema)]
pub struct UseView {
    /// The release.
    #[schema(value_type = Slug)]
    pub release: String,
    /// The project.
    #[schema(value_type = Slug)]
    pub project: String,
    /// Who received it.
    #[schema(value_type = Slug)]
    pub recipient: String,
    /// What for.
    #[schema(value_type = DuoTerm)]
    pub purpose: String,
    /// The same in words.
    pub lay_summary: String,
    /// When.
    #[schema(value_type = Instant)]
    pub built: String,
    /// Its entry in the ledger.
    pub seq: u64,
    /// Where that entry's receipt is read (C2SP tlog-proof).
    pub receipt: String,
    /// The entries of what you said that permitted it.
    pub directives: Vec<u64>,
}

/// A project whose counts may have counted you: your choices permitted it. Whether you met its criteria is not kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct CountsView {
    /// The project.
    #[schema(value_type = Slug)]
    pub project: String,
    /// Its title.
    pub title: String,
    /// How many counts.
    pub counts: u64,
    /// The last one.
    #[schema(value_type = Instant)]
    pub last: String,
}

/// What came of what the hospital that invited you holds: releases that your data is in, each with its purpose, and the projects whose counts you let include you.
#[utoipa::path(
    tag = "me",
    operation_id = "read_uses",
    security(("token" = ["decide_for_oneself"])),
    responses((status = 200, body = Uses))
)]
#[get("/v1/me/uses")]
pub async fn uses(caller: Caller<DecideForOneself>, app: web::Data<App>) -> Result<web::Json<Uses>, Problem> {
    let who = caller.person()?;
    let uses = blocking(&app, move |app| {
        let ctx = app.access();
        let releases = participant::releases_with(&ctx, &who)?.into_iter().map(|used| UseView {
            release: used.release.body.release.to_string(),
            project: used.request.project.to_string(),
            recipient: used.request.recipient.to_string(),
            purpose: used.request.purpose.to_string(),
            lay_summary: used.request.lay_summary,
            built: used.release.origin.time.to_string(),
            seq: used.release.origin.seq,
            receipt: proof_of(used.release.origin.seq),
            directives: used.directives,
        });
        let counts = participant::counted_by(&ctx, &who)?;
        let counts = counts.into_iter().map(|c| CountsView {
            project: c.project.to_string(),
            title: c.title,
            counts: c.counts,
            last: c.last.to_string(),
        });
        Ok::<_, Problem>(Uses { releases: releases.collect(), counts: counts.collect() })
    });
    Ok(web::Json(uses.await?))
}
