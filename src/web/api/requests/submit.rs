//! `POST /v1/requests`

use actix_web::{post, web};
use almoner_model::{DatasetId, Date, Digest, Duo, ProjectId, RequestId};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Request, view};
use crate::cohort::SimpleCohort;
use crate::events::{EthicsDetermination, RequestSubmitted};
use crate::flows::request;
use crate::web::schema::{CalendarDate, DuoTerm, Slug};

use crate::app::App;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::SubmitRequests;
use crate::web::error::Problem;
use crate::web::extract::Body;

/// The determination of an ethics board.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EthicsBody {
    /// Protocol number.
    #[schema(min_length = 1, max_length = 200)]
    pub protocol: String,
    /// The board.
    #[schema(min_length = 1, max_length = 200)]
    pub board: String,
    /// Last day in force.
    #[schema(value_type = CalendarDate)]
    pub expires: Date,
}

/// A request to submit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRequest {
    /// Its id.
    #[schema(value_type = Slug)]
    pub id: RequestId,
    /// For which project.
    #[schema(value_type = Slug)]
    pub project: ProjectId,
    /// What for: a DUO purpose.
    #[schema(value_type = DuoTerm)]
    pub purpose: Duo,
    /// What the recipient binds itself to: DUO modifiers.
    #[serde(default)]
    #[schema(value_type = Vec<DuoTerm>)]
    pub modifiers: Vec<Duo>,
    /// Codes of the diseases studied, for disease-specific research.
    #[serde(default)]
    pub diseases: Vec<String>,
    /// Whether methods are developed.
    #[serde(default)]
    pub methods: bool,
    /// What only a board can weigh.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub statements: Vec<crate::consent::Statement>,
    /// The cohort definition: see docs/cohort.md. Its exact text is kept.
    #[schema(value_type = Object)]
    pub cohort: Box<RawValue>,
    /// From which datasets, in order of precedence.
    #[schema(value_type = Vec<Slug>, min_items = 1)]
    pub datasets: Vec<DatasetId>,
    /// Which canonical tables.
    #[schema(min_items = 1)]
    pub tables: Vec<String>,
    /// `public` (no terms, k at least 11) or `controlled` (signed terms, k at least 5).
    pub tier: String,
    /// `safe-harbor`, `date-shifted` or `limited`; at least as strict as the datasets' own.
    pub profile: String,
    /// 40 to 4000 characters that a participant understands.
    #[schema(min_length = 40, max_length = 4000)]
    pub lay_summary: String,
    /// The ethics board's determination.
    pub ethics: EthicsBody,
}

/// Asks for data. Each contributor whose data it touches decides; an ethics determination must be in force, and terms signed
/// before a release.
#[utoipa::path(
    tag = "requests",
    operation_id = "submit_request",
    security(("token" = ["submit_requests"])),
    params(IdempotencyHeader),
    request_body = NewRequest,
    responses((status = 201, body = Request))
)]
#[post("/v1/requests")]
pub async fn submit(
    caller: Caller<SubmitRequests>,
    app: web::Data<App>,
    body: Body<NewRequest>,
) -> Result<Created<Request>, Problem> {
    let body = body.into_inner();
    caller.for_project(&body.project)?;
    let act = caller.act(&app);
    let made = blocking(&app, move |app| {
        let project = request::project(&app.access(), &body.project)?;
        let id = body.id.clone();
        let definition = body.cohort.get().as_bytes();
        let new = RequestSubmitted {
            request: body.id,
            project: body.project,
            recipient: project.body.recipient,
            purpose: body.purpose,
            modifiers: body.modifiers,
            diseases: body.diseases,
            methods: body.methods,
            statements: body.statements,
            cohort: Digest::of(definition),
            datasets: body.datasets,
            tables: body.tables,
            tier: body.tier,
            profile: body.profile,
            lay_summary: body.lay_summary,
            ethics: EthicsDetermination {
                protocol: body.ethics.protocol,
                board: body.ethics.board,
                expires: body.ethics.expires,
            },
        };
        SimpleCohort::parse(definition)
            .map_err(|e| Problem::unacceptable(&e).at(format!("/cohort{}", e.pointer)))?;
        request::submit(&app.access(), &act, &app.tables, new, definition)?;
        let record = request::show(&app.access(), &id)?;
        view(app, &record)
    });
    Ok(Created(made.await?))
}
