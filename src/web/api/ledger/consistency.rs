//! `GET /v1/ledger/consistency`

use actix_web::{get, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::flows::checkpoint::consistency as prove;
use crate::web::answer::blocking;
use crate::web::error::Problem;
use crate::web::schema::Sha256Hex;

/// From which size.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Since {
    /// The size that was seen before.
    #[param(minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    pub old: u64,
}

/// A consistency proof (RFC 6962 §2.1.2).
#[derive(Debug, Serialize, ToSchema)]
pub struct Consistency {
    /// The size that was seen before.
    pub old: u64,
    /// The present size.
    pub size: u64,
    /// The proof, in order.
    #[schema(value_type = Vec<Sha256Hex>)]
    pub hashes: Vec<String>,
}

/// Proves that the ledger of a size that was seen before is the beginning of the present one: nothing was rewritten.
#[utoipa::path(
    tag = "ledger",
    operation_id = "prove_consistency",
    params(Since),
    responses((status = 200, body = Consistency))
)]
#[get("/v1/ledger/consistency")]
pub async fn consistency(
    app: web::Data<App>,
    since: web::Query<Since>,
) -> Result<web::Json<Consistency>, Problem> {
    let old = since.old;
    let (hashes, size) = blocking(&app, move |app| prove(&*app.store, old)).await?;
    Ok(web::Json(Consistency { old, size, hashes: hashes.iter().map(hex::encode).collect() }))
}
