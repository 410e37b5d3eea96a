//! `GET /healthz`

use actix_web::{get, web};
use serde::Serialize;
use utoipa::ToSchema;

/// The process answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`
    #[schema(examples("ok"))]
    pub status: &'static str,
    /// Version of the program.
    pub version: &'static str,
}

/// Whether the process answers. Says nothing about its data; see `/readyz`.
#[utoipa::path(tag = "health", operation_id = "read_health", responses((status = 200, body = Health)))]
#[get("/healthz")]
pub async fn health() -> web::Json<Health> {
    web::Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}
