//! `GET /v1/datasets/{id}/versions/{version}/reports`

use actix_web::{get, web};
use almoner_model::DatasetId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadReports;
use crate::web::error::Problem;
use crate::web::schema::Slug;

/// The reports of a version.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reports {
    /// The dataset.
    #[schema(value_type = Slug)]
    pub dataset: String,
    /// Its version.
    pub version: u32,
    /// By stage: `intake`, `gather`, `derive`, `deid`, `risk`, `quality`.
    #[schema(value_type = Object)]
    pub reports: Value,
}

/// The reports of a version for its contributor: what intake counted, what de-identification did, the risk that was measured,
/// the quality that was found. Counts, never values.
#[utoipa::path(
    tag = "datasets",
    operation_id = "read_reports",
    security(("token" = ["read_reports"])),
    params(("id" = Slug, Path, description = "The dataset"), ("version" = u32, Path, description = "The version")),
    responses((status = 200, body = Reports))
)]
#[get("/v1/datasets/{id}/versions/{version}/reports")]
pub async fn reports(
    caller: Caller<ReadReports>,
    app: web::Data<App>,
    path: web::Path<(DatasetId, u32)>,
) -> Result<web::Json<Reports>, Problem> {
    let (id, version) = path.into_inner();
    let principal = caller.clone();
    let reports = blocking(&app, move |app| {
        let found = app.catalog.version(&id, version)?;
        if !principal.covers_contributor(&found.manifest.contributor) {
            return Err(Problem::not_found());
        }
        let reports = serde_json::to_value(&found.manifest.reports).map_err(Problem::fault)?;
        Ok(Reports { dataset: id.to_string(), version, reports })
    });
    Ok(web::Json(reports.await?))
}
