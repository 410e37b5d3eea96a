//! `DELETE /v1/downloads/{capability}`

use actix_web::{delete, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::flows::download;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadPublic;
use crate::web::error::Problem;

/// A download that ended.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct ClosedDownload {
    /// Bytes that were sent in all its requests, as the ledger has them.
    pub bytes_sent: u64,
}

/// Ends a download and logs how much was sent. The capability is what permits it; closing it again changes nothing.
#[utoipa::path(
    tag = "releases",
    operation_id = "close_download",
    params(("capability" = String, Path, description = "From opening the download")),
    responses((status = 200, body = ClosedDownload))
)]
#[delete("/v1/downloads/{capability}")]
pub async fn close(
    caller: Caller<ReadPublic>,
    app: web::Data<App>,
    capability: web::Path<String>,
) -> Result<web::Json<ClosedDownload>, Problem> {
    let act = caller.act(&app);
    let sent =
        blocking(&app, move |app| app.with_data(|ctx| download::close(ctx, &act, &capability))).await?;
    Ok(web::Json(ClosedDownload { bytes_sent: sent }))
}
