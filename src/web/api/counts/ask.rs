//! `POST /v1/counts`

use actix_web::{post, web};
use almoner_model::{DatasetId, Duo, ProjectId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::flows::count::{self, CountRequest, Shown};
use crate::web::schema::{DuoTerm, Sha256Hex, Slug};

use crate::app::App;
use crate::web::answer::{Created, IdempotencyHeader, Turns};
use crate::web::auth::Caller;
use crate::web::auth::roles::CountCohorts;
use crate::web::error::Problem;
use crate::web::extract::Body;

/// What to count.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCount {
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
    /// The cohort definition: see docs/cohort.md.
    #[schema(value_type = Object)]
    pub cohort: Box<RawValue>,
    /// In which datasets, in order of precedence; in all where left out.
    #[schema(value_type = Option<Vec<Slug>>)]
    pub datasets: Option<Vec<DatasetId>>,
}

/// A protected count.
#[derive(Debug, Serialize, ToSchema)]
pub struct CountView {
    /// About this many people; null where there are few or none.
    pub about: Option<u64>,
    /// Fewer than this many, possibly none.
    pub fewer_than: Option<u64>,
    /// Numbers below this are never told apart.
    pub smallest_cell: u64,
    /// The greatest difference from the true number.
    pub error_max: u64,
    /// How it was protected, in words.
    pub protection: String,
    /// Which dataset versions were read.
    #[schema(value_type = Object)]
    pub datasets: Value,
    /// SHA-256 of the definition.
    #[schema(value_type = Sha256Hex)]
    pub cohort: String,
    /// Where nobody or not everybody is permitted: why.
    pub reasons: Vec<String>,
    /// What the datasets answer only nearly: ages, codes that rows have in another form.
    pub notes: Vec<String>,
    /// Ledger size at which consent was evaluated.
    pub as_of: u64,
    /// The answer's own entry in the ledger.
    pub seq: u64,
}

/// Counts the people of a cohort who permit the purpose. The answer is protected: small numbers are not told apart, and the same
/// people always give the same answer. It is in the ledger before it is here.
#[utoipa::path(
    tag = "counts",
    operation_id = "count_cohort",
    security(("token" = ["count_cohorts"])),
    params(IdempotencyHeader),
    request_body = NewCount,
    responses((status = 201, body = CountView))
)]
#[post("/v1/counts")]
pub async fn ask(
    caller: Caller<CountCohorts>,
    app: web::Data<App>,
    turns: web::Data<Turns>,
    body: Body<NewCount>,
) -> Result<Created<CountView>, Problem> {
    let body = body.into_inner();
    caller.for_project(&body.project)?;
    let act = caller.act(&app);
    let answer = turns.take(&app, move |app| {
        let request = CountRequest {
            project: body.project,
            purpose: body.purpose,
            modifiers: body.modifiers,
            definition: body.cohort.get().as_bytes().to_vec(),
            datasets: body.datasets.map_or_else(
                || app.catalog.records().map(|all| all.into_iter().map(|r| r.dataset).collect()),
                Ok,
            )?,
        };
        Ok::<_, Problem>(app.with_data(|ctx| count::count(ctx, &act, &request))?)
    });
    let answer = answer.await.map_err(|p| match p.pointer.clone() {
        Some(pointer) => p.at(format!("/cohort{pointer}")),
        None => p,
    })?;
    let (about, fewer_than) = match answer.count {
        Shown::About(n) => (Some(n), None),
        Shown::FewerThan(n) => (None, Some(n)),
    };
    Ok(Created(CountView {
        about,
        fewer_than,
        smallest_cell: answer.protection.smallest_cell,
        error_max: answer.protection.error_max,
        protection: answer.protection.how.into(),
        datasets: serde_json::to_value(&answer.datasets).map_err(Problem::fault)?,
        cohort: answer.cohort.to_string(),
        reasons: answer.reasons,
        notes: answer.notes,
        as_of: answer.as_of,
        seq: answer.seq,
    }))
}
