//! `GET /v1/counts`

use std::collections::BTreeMap;

use actix_web::{get, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::state::{read, records};
use crate::web::answer::{Page, Paging, blocking};
use crate::web::auth::roles::ReadCounts;
use crate::web::auth::{Caller, Principal, Role};
use crate::web::error::Problem;
use crate::web::schema::{DuoTerm, Instant, Sha256Hex, Slug};

/// A count that was answered. The answer itself is not kept, only its digest.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnsweredCount {
    /// Its entry in the ledger.
    pub seq: u64,
    /// When it was answered.
    #[schema(value_type = Instant)]
    pub answered: String,
    /// For which project.
    #[schema(value_type = Slug)]
    pub project: String,
    /// What for.
    #[schema(value_type = DuoTerm)]
    pub purpose: String,
    /// SHA-256 of the cohort definition.
    #[schema(value_type = Sha256Hex)]
    pub cohort: String,
    /// Dataset versions that were read.
    pub datasets: BTreeMap<String, u32>,
    /// SHA-256 of the protected answer.
    #[schema(value_type = Sha256Hex)]
    pub answer: String,
    /// Ledger size at which consent was evaluated.
    pub as_of: u64,
}

impl From<records::Count> for AnsweredCount {
    fn from(r: records::Count) -> Self {
        Self {
            seq: r.origin.seq,
            answered: r.origin.time.to_string(),
            project: r.body.project.to_string(),
            purpose: r.body.purpose.to_string(),
            cohort: r.body.cohort.to_string(),
            datasets: r.body.datasets.iter().map(|(d, v)| (d.to_string(), *v)).collect(),
            answer: r.body.answer.to_string(),
            as_of: r.body.as_of,
        }
    }
}

/// Lists counts in the order of the ledger: researchers see their projects', contributors and boards those of their data.
#[utoipa::path(
    tag = "counts",
    operation_id = "list_counts",
    security(("token" = ["read_counts"])),
    params(Paging),
    responses((status = 200, body = Page<AnsweredCount>))
)]
#[get("/v1/counts")]
pub async fn list(
    caller: Caller<ReadCounts>,
    app: web::Data<App>,
    paging: web::Query<Paging>,
) -> Result<web::Json<Page<AnsweredCount>>, Problem> {
    let (mut after, limit) = (paging.after()?, paging.limit()?);
    let principal = caller.clone();
    let rows = blocking(&app, move |app| {
        let mut rows = Vec::new();
        while rows.len() <= limit {
            let page: Vec<(String, records::Count)> =
                read::page(&app.access().state(), "count", after.as_deref(), limit + 1)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, count) in page {
                if may_see(app, &principal, &count)? {
                    rows.push((key, count));
                }
            }
        }
        Ok::<_, Problem>(rows)
    });
    Ok(web::Json(paging.page(rows.await?, AnsweredCount::from)))
}

fn may_see(app: &App, caller: &Principal, count: &records::Count) -> Result<bool, Problem> {
    if matches!(caller.role, Role::Operator | Role::Researcher) {
        return Ok(caller.covers_project(&count.body.project));
    }
    for id in count.body.datasets.keys() {
        let dataset = read::dataset(&app.access().state(), id)?;
        if dataset.is_some_and(|d| caller.covers_contributor(&d.contributor)) {
            return Ok(true);
        }
    }
    Ok(false)
}
