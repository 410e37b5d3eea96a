//! `GET /readyz`

use actix_web::{get, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::flows::erase;
use crate::store::StoreError;
use crate::web::answer::blocking;
use crate::web::error::Problem;

/// The server can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready`
    #[schema(examples("ready"))]
    pub status: &'static str,
    /// Entries of the ledger.
    pub ledger_size: u64,
    /// What is to be looked at though the server does its work: witnesses that do not cosign, a quorum that is missing, by the
    /// names of the policy; erasures that are not finished.
    pub notes: Vec<String>,
}

/// Whether the server can do its work: the store answers and takes entries, and the server is not stopping.
#[utoipa::path(tag = "health", operation_id = "read_readiness", responses((status = 200, body = Readiness)))]
#[get("/readyz")]
pub async fn ready(app: web::Data<App>) -> Result<web::Json<Readiness>, Problem> {
    if app.jobs.stopping() {
        return Err(Problem::fault("stopping").with_status(503));
    }
    let looked = blocking(&app, |app| {
        app.store.accepting()?;
        Ok::<_, StoreError>((app.store.size(), erase::open(&*app.store)?))
    });
    let (ledger_size, erasing) = looked.await.map_err(|problem| problem.with_status(503))?;
    let mut notes = app.cosigner().map(|cosigner| cosigner.status().alarms).unwrap_or_default();
    if erasing > 0 {
        notes.push(format!("{erasing} erasures are not finished; the server goes on with them"));
    }
    Ok(web::Json(Readiness { status: "ready", ledger_size, notes }))
}
