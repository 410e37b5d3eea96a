//! `GET /v1/counts`

use std::collections::BTreeMap;

use actix_web::{get, web};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::flows::count::{self, Shown};
use crate::state::{read, records};
use crate::web::answer::{Page, Paging, blocking};
use crate::web::auth::roles::ReadCounts;
use crate::web::auth::{Caller, Principal, Role};
use crate::web::error::Problem;
use crate::web::schema::{DuoTerm, Instant, Sha256Hex, Slug};

/// A count that was answered.
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
    /// What the recipient bound itself to: DUO modifiers.
    #[schema(value_type = Vec<DuoTerm>)]
    pub modifiers: Vec<String>,
    /// SHA-256 of the cohort definition.
    #[schema(value_type = Sha256Hex)]
    pub cohort: String,
    /// The cohort definition itself: who was counted.
    #[schema(value_type = Option<Object>)]
    pub cohort_definition: Option<Value>,
    /// The answer: about this many people. Null if it was otherwise, and for contributors and for boards of
    /// only some of the hospitals, who see that their data was counted and not what was found at others.
    pub about: Option<u64>,
    /// The answer: fewer than this many.
    pub fewer_than: Option<u64>,
    /// Dataset versions that were read.
    pub datasets: BTreeMap<String, u32>,
    /// Keyed digest of the protected answer, as the ledger has it.
    #[schema(value_type = Sha256Hex)]
    pub answer: String,
    /// Ledger size at which consent was evaluated.
    pub as_of: u64,
}

fn view(app: &App, caller: &Principal, r: records::Count) -> Result<AnsweredCount, Problem> {
    let ctx = app.access();
    let definition = ctx.documents.get(&r.body.cohort).map_err(Problem::fault)?;
    let project = read::project(&ctx.state(), &r.body.project)?.ok_or_else(Problem::not_found)?;
    let answer = match caller.role {
        Role::Contributor => None,
        Role::Board if !covers_all(app, caller, &r)? => None,
        _ => count::answered(&ctx, &project.body.recipient, r.origin.seq)?,
    };
    let (about, fewer_than) = match answer {
        Some(Shown::About(n)) => (Some(n), None),
        Some(Shown::FewerThan(n)) => (None, Some(n)),
        None => (None, None),
    };
    Ok(AnsweredCount {
        seq: r.origin.seq,
        answered: r.origin.time.to_string(),
        project: r.body.project.to_string(),
        purpose: r.body.purpose.to_string(),
        modifiers: r.body.modifiers.iter().map(ToString::to_string).collect(),
        cohort: r.body.cohort.to_string(),
        cohort_definition: definition.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
        about,
        fewer_than,
        datasets: r.body.datasets.iter().map(|(d, v)| (d.to_string(), *v)).collect(),
        answer: r.body.answer.to_string(),
        as_of: r.body.as_of,
    })
}

/// Lists counts in the order of the ledger, with what was asked and, but for contributors, answered: researchers see their
/// projects', contributors and boards those of their data.
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
                    rows.push((key, view(app, &principal, count)?));
                }
            }
        }
        Ok::<_, Problem>(rows)
    });
    Ok(web::Json(paging.page(rows.await?, |count| count)))
}

/// Whether the caller speaks for everybody whose data was counted.
fn covers_all(app: &App, caller: &Principal, count: &records::Count) -> Result<bool, Problem> {
    for id in count.body.datasets.keys() {
        let dataset = read::dataset(&app.access().state(), id)?;
        if !dataset.is_some_and(|d| caller.covers_contributor(&d.contributor)) {
            return Ok(false);
        }
    }
    Ok(true)
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
