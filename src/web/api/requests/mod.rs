//! Requests for data: submitted, decided by committees, bound by signed terms.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::flows::request;
use crate::state::{read, records};
use crate::web::auth::{Principal, Role};
use crate::web::error::Problem;
use crate::web::schema::{DuoTerm, Instant, Sha256Hex, Slug};

pub mod decide;
pub mod list;
pub mod permit;
#[path = "read.rs"]
pub mod show;
pub mod submit;
pub mod terms;

/// A request with everything that was said about it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Request {
    /// Its id.
    #[schema(value_type = Slug)]
    pub id: String,
    /// `pending`, `approved`, `refused` or `revoked`.
    pub status: String,
    /// For which project.
    #[schema(value_type = Slug)]
    pub project: String,
    /// The institution that receives.
    #[schema(value_type = Slug)]
    pub recipient: String,
    /// What for.
    #[schema(value_type = DuoTerm)]
    pub purpose: String,
    /// What the recipient binds itself to: DUO modifiers.
    pub modifiers: Vec<String>,
    /// Codes of the diseases studied.
    pub diseases: Vec<String>,
    /// Whether methods are developed.
    pub methods: bool,
    /// What only a board can weigh.
    #[schema(value_type = Vec<String>)]
    pub statements: Value,
    /// The ethics board's determination: protocol, board, and last day in force.
    #[schema(value_type = Object)]
    pub ethics: Value,
    /// In words that a participant understands.
    pub lay_summary: String,
    /// From which datasets, in order of precedence.
    #[schema(value_type = Vec<Slug>)]
    pub datasets: Vec<String>,
    /// Which tables.
    pub tables: Vec<String>,
    /// `public` or `controlled`.
    pub tier: String,
    /// The profile of the release.
    pub profile: String,
    /// SHA-256 of the cohort definition.
    #[schema(value_type = Sha256Hex)]
    pub cohort: String,
    /// The cohort definition itself: who is asked for.
    #[schema(value_type = Option<Object>)]
    pub cohort_definition: Option<Value>,
    /// The contributors whose data it asks for; each one's committee decides.
    #[schema(value_type = Vec<Slug>)]
    pub contributors: Vec<String>,
    /// What committees said, by contributor, the last word last.
    #[schema(value_type = Object)]
    pub decisions: Value,
    /// Whether the recipient signed the terms.
    pub terms_signed: bool,
    /// The last decision on a permit, with its reasons; null if none was made since something was last said about the
    /// request.
    #[schema(value_type = Option<Object>)]
    pub permit: Option<Value>,
    /// When it was submitted.
    #[schema(value_type = Instant)]
    pub submitted: String,
}

fn view(app: &App, record: &records::Request) -> Result<Request, Problem> {
    let body = &record.submitted.body;
    let permit = read::permit(&app.access().state(), &body.request)?;
    let words = record.decisions.values().flatten().map(|d| d.origin.seq);
    let last_word = words.chain(record.terms.as_ref().map(|t| t.origin.seq)).max();
    let permit = permit.filter(|p| last_word.is_none_or(|last| p.origin.seq > last));
    let definition = app.access().documents.get(&body.cohort).map_err(Problem::fault)?;
    let texts = |ids: &[almoner_model::ContributorId]| ids.iter().map(ToString::to_string).collect();
    Ok(Request {
        id: body.request.to_string(),
        status: record.status().into(),
        project: body.project.to_string(),
        recipient: body.recipient.to_string(),
        purpose: body.purpose.to_string(),
        modifiers: body.modifiers.iter().map(ToString::to_string).collect(),
        diseases: body.diseases.clone(),
        methods: body.methods,
        statements: serde_json::to_value(&body.statements).map_err(Problem::fault)?,
        ethics: serde_json::to_value(&body.ethics).map_err(Problem::fault)?,
        lay_summary: body.lay_summary.clone(),
        datasets: body.datasets.iter().map(ToString::to_string).collect(),
        tables: body.tables.clone(),
        tier: body.tier.clone(),
        profile: body.profile.clone(),
        cohort: body.cohort.to_string(),
        cohort_definition: definition.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
        contributors: texts(&record.contributors),
        decisions: serde_json::to_value(&record.decisions).map_err(Problem::fault)?,
        terms_signed: record.terms.is_some(),
        permit: permit.map(serde_json::to_value).transpose().map_err(Problem::fault)?,
        submitted: record.submitted.origin.time.to_string(),
    })
}

/// Researchers see their projects' requests; contributors and boards those that touch their data.
pub(super) fn may_see(caller: &Principal, request: &records::Request) -> bool {
    match caller.role {
        Role::Researcher => caller.covers_project(&request.submitted.body.project),
        _ => {
            caller.role == Role::Operator
                || (caller.role == Role::Board && caller.scope.is_empty())
                || request.contributors.iter().any(|c| caller.covers_contributor(c))
        }
    }
}

/// The request, if the caller may see it.
fn find(app: &App, caller: &Principal, id: &almoner_model::RequestId) -> Result<records::Request, Problem> {
    let record = request::show(&app.access(), id)?;
    if may_see(caller, &record) { Ok(record) } else { Err(Problem::not_found()) }
}
