//! `GET /v1/datasets/{id}/versions`

use actix_web::{get, web};
use almoner_model::DatasetId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::web::schema::{Instant, Sha256Hex};

use crate::app::App;
use crate::web::answer::{Page, Paging, blocking};
use crate::web::api::ledger::proof_of;
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadDatasets;
use crate::web::error::Problem;
use crate::web::schema::Slug;

/// A version of a dataset.
#[derive(Debug, Serialize, ToSchema)]
pub struct Version {
    /// From 1.
    pub version: u32,
    /// `full`, `incremental` or `remap`.
    pub mode: String,
    /// The de-identification profile.
    pub profile: String,
    /// When.
    #[schema(value_type = Instant)]
    pub published: String,
    /// Where the ledger says so.
    pub ledger_seq: u64,
    /// Where its receipt is read: the proof (C2SP tlog-proof) that the entry is in the ledger.
    pub receipt: String,
    /// SHA-256 of its manifest.
    #[schema(value_type = Sha256Hex)]
    pub manifest: String,
}

/// Lists the versions of a dataset, as the ledger has them.
#[utoipa::path(
    tag = "datasets",
    operation_id = "list_versions",
    security(("token" = ["read_datasets"])),
    params(("id" = Slug, Path, description = "The dataset"), Paging),
    responses((status = 200, body = Page<Version>))
)]
#[get("/v1/datasets/{id}/versions")]
pub async fn versions(
    _caller: Caller<ReadDatasets>,
    app: web::Data<App>,
    id: web::Path<DatasetId>,
    paging: web::Query<Paging>,
) -> Result<web::Json<Page<Version>>, Problem> {
    let limit = paging.limit()?;
    let after = paging.after()?.and_then(|a| a.parse::<u32>().ok()).unwrap_or(0);
    let record = blocking(&app, move |app| app.catalog.record(&id)).await?.ok_or_else(Problem::not_found)?;
    let manifests = record.clone();
    let rest = record.versions.into_iter().filter(|v| v.body.version > after).take(limit + 1);
    let rows = rest.map(|v| (v.body.version.to_string(), v)).collect();
    Ok(web::Json(paging.page(rows, |v| Version {
        version: v.body.version,
        mode: v.body.mode,
        profile: v.body.profile,
        published: v.origin.time.to_string(),
        ledger_seq: v.origin.seq,
        receipt: proof_of(v.origin.seq),
        manifest: manifests.manifest(v.body.version).unwrap_or(v.body.manifest).to_string(),
    })))
}
