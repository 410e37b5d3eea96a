//! `GET /v1/me/uses`

use actix_web::{get, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::flows::participant;
use crate::flows::release::MEMBER_KIND;
use crate::state::read;
use crate::state::records::subject_key;
use crate::web::schema::{DuoTerm, Instant, Slug};

use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::DecideForOneself;
use crate::web::error::Problem;

/// What your data was used for.
#[derive(Debug, Serialize, ToSchema)]
pub struct Uses {
    /// Releases that your data is in.
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

/// What came of it: releases that your data is in, each with its purpose, and the projects whose counts you let include you.
#[utoipa::path(
    tag = "me",
    operation_id = "read_uses",
    security(("token" = ["decide_for_oneself"])),
    responses((status = 200, body = Uses))
)]
#[get("/v1/me/uses")]
pub async fn uses(caller: Caller<DecideForOneself>, app: web::Data<App>) -> Result<web::Json<Uses>, Problem> {
    let subject = caller.person()?;
    let uses = blocking(&app, move |app| {
        let ctx = app.access();
        let mut releases = Vec::new();
        let mut found = Vec::new();
        // A release knows a person by one of the ids that turned out to be theirs.
        for id in ctx.same_people()?.of(subject) {
            let prefix = format!("{}/", subject_key(id));
            found.extend(app.store.scan_primary(MEMBER_KIND, &prefix, None, 10_000)?);
        }
        for (_, value) in found {
            let id = value["release"].as_str().and_then(|id| id.parse().ok());
            let Some(release) = id.map(|id| read::release(&ctx.state(), &id)).transpose()?.flatten() else {
                continue;
            };
            let Some(request) = read::request(&ctx.state(), &release.body.request)? else { continue };
            let submitted = request.submitted.body;
            releases.push(UseView {
                release: release.body.release.to_string(),
                project: submitted.project.to_string(),
                recipient: submitted.recipient.to_string(),
                purpose: submitted.purpose.to_string(),
                lay_summary: submitted.lay_summary,
                built: release.origin.time.to_string(),
                seq: release.origin.seq,
                directives: serde_json::from_value(value["directives"].clone()).unwrap_or_default(),
            });
        }
        let counts = participant::counted_by(&ctx, subject)?;
        let counts = counts.into_iter().map(|c| CountsView {
            project: c.project.to_string(),
            title: c.title,
            counts: c.counts,
            last: c.last.to_string(),
        });
        Ok::<_, Problem>(Uses { releases, counts: counts.collect() })
    });
    Ok(web::Json(uses.await?))
}
