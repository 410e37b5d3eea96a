//! `GET /v1/datasets/{id}`

use actix_web::{get, web};
use almoner_model::DatasetId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Dataset;
use crate::web::schema::Sha256Hex;

use crate::app::App;
use crate::catalog::SMALLEST_CELL;
use crate::web::answer::blocking;
use crate::web::api::ledger::proof_of;
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
    /// Findings about the quality of the data. In full for whoever speaks for the contributor; for others the counts of rows
    /// rounded to a multiple of 5, null below 11, without what mapping found.
    #[schema(value_type = Option<Object>)]
    pub quality: Value,
    /// Where the ledger says that this version was published.
    pub ledger_seq: u64,
    /// Where its receipt is read: the proof (C2SP tlog-proof) that the entry is in the ledger.
    pub receipt: String,
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
    caller: Caller<ReadDatasets>,
    app: web::Data<App>,
    id: web::Path<DatasetId>,
) -> Result<web::Json<DatasetInFull>, Problem> {
    let principal = caller.clone();
    let full = blocking(&app, move |app| {
        let d = app.catalog.describe(&id, &|contributor| principal.speaks_for(contributor))?;
        let own = principal.speaks_for(&d.listing.contributor);
        Ok::<_, Problem>(DatasetInFull {
            dataset: Dataset::of(&d.listing)?,
            contents: serde_json::to_value(&d.contents).map_err(Problem::fault)?,
            quality: if own { d.quality } else { coarse(d.quality) },
            ledger_seq: d.ledger_seq,
            receipt: proof_of(d.ledger_seq),
            manifest: d.manifest.to_string(),
        })
    });
    Ok(web::Json(full.await?))
}

/// Findings as everybody may see them: few rows may be one person's.
fn coarse(finding: Value) -> Value {
    match finding {
        Value::Object(members) => {
            let shown = members.into_iter().filter(|(name, _)| name != "mapping");
            Value::Object(shown.map(|(name, value)| (name, coarse(value))).collect())
        }
        Value::Number(n) => match n.as_u64() {
            Some(0) => 0.into(),
            Some(n) if n >= SMALLEST_CELL => ((n + 2) / 5 * 5).into(),
            _ => Value::Null,
        },
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn few_rows_are_not_told_and_what_mapping_found_is_the_contributors() {
        let found = json!({"rows_with_code": 1203, "visit_links_missing": {"measurement": 10, "observation": 0},
            "ends_before_start": 11, "mapping": {"fhir": {"local_code_systems": {"00": 7}}}, "text": "x"});
        let shown = json!({"rows_with_code": 1205, "visit_links_missing": {"measurement": null, "observation": 0},
            "ends_before_start": 10, "text": null});
        assert_eq!(coarse(found), shown);
    }
}
