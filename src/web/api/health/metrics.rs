//! `GET /metrics`

use actix_web::{HttpResponse, get, web};

use crate::app::App;
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadMetrics;
use crate::web::error::Problem;
use crate::web::metrics::Metrics;

/// Measurements in the Prometheus text format: routes, statuses, durations, sizes. No value from data, no id.
#[utoipa::path(
    tag = "health",
    operation_id = "read_metrics",
    security(("token" = ["read_metrics"])),
    responses((status = 200, body = String, content_type = "text/plain"))
)]
#[get("/metrics")]
pub async fn metrics(
    _caller: Caller<ReadMetrics>,
    app: web::Data<App>,
    metrics: web::Data<Metrics>,
) -> Result<HttpResponse, Problem> {
    metrics.jobs_unfinished.set(app.jobs.unfinished() as i64);
    metrics.ledger_entries.set(app.store.size() as i64);
    // A run that writes to the registry may have it for a while.
    let registry = app.clone();
    let subjects = web::block(move || registry.registry.subjects()).await?;
    metrics.subjects.set(subjects.map_err(Problem::fault)? as i64);
    if let Some(cosigner) = app.cosigner() {
        metrics.witnesses.set(&cosigner.status(), app.clock.now());
    }
    let text = metrics.text().map_err(Problem::fault)?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}
