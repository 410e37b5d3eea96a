//! `GET /v1/datasets/{id}`

use actix_web::{get, web};
use almoner_model::DatasetId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Dataset;
use crate::web::schema::Sha256Hex;

use crate::app::App;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadDatasets;
use crate::web::error::Problem;
use crate::web::schema::Slug;

/// A dataset in full.
#[derive(Debug, Serialize, ToSchema)]
pub struct DatasetInFull {
    /// As it is listed.
    pub dataset: Dataset,
    /// Code frequencies and findings by table.
    #[schema(value_type = Object)]
    pub contents: Value,
    /// Findings about the quality of the data.
    #[schema(value_type = Option<Object>)]
    pub quality: Value,
    /// Where the ledger says that this version was published.
    pub ledger_seq: u64,
    /// SHA-256 of its manifest.
    #[schema(value_type = Sha256Hex)]
    pub manifest: String,
}

/// A dataset: code frequencies and data quality by table, small cells hidden.
#[utoipa::path(
    tag = "datasets",
    operation_id = "read_dataset",
    security(("token" = ["read_datasets"])),
    params(("id" = Slug, Path, description = "The dataset")),
    responses((status = 200, body = DatasetInFull))
)]
#[get("/v1/datasets/{id}")]
pub async fn read(
    _caller: Caller<ReadDatasets>,
    app: web::Data<App>,
    id: web::Path<DatasetId>,
) -> Result<web::Json<DatasetInFull>, Problem> {
    let full = blocking(&app, move |app| {
        let d = app.catalog.describe(&id)?;
        Ok::<_, Problem>(DatasetInFull {
            dataset: Dataset::of(&d.listing)?,
            contents: serde_json::to_value(&d.contents).map_err(Problem::fault)?,
            quality: d.quality,
            ledger_seq: d.ledger_seq,
            manifest: d.manifest.to_string(),
        })
    });
    Ok(web::Json(full.await?))
}
