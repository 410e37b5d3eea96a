//! `POST /v1/releases/{id}/downloads`

use actix_web::{post, web};
use almoner_model::ReleaseId;
use serde::Serialize;
use utoipa::ToSchema;

use super::find;
use crate::flows::download as flow;
use crate::web::schema::{Instant, Sha256Hex};

use crate::app::App;
use crate::web::answer::{Created, IdempotencyHeader, Turns};
use crate::web::auth::Caller;
use crate::web::auth::roles::DownloadReleases;
use crate::web::error::Problem;
use crate::web::schema::Slug;

/// An open download.
#[derive(Debug, Serialize, ToSchema)]
pub struct Download {
    /// Its id.
    pub id: String,
    /// Whoever has this can fetch the files until it expires.
    pub capability: String,
    /// When it stops working.
    #[schema(value_type = Instant)]
    pub expires: String,
    /// Of which release.
    #[schema(value_type = Slug)]
    pub release: String,
    /// Its entry in the ledger.
    pub seq: u64,
    /// What can be fetched.
    pub files: Vec<File>,
}

/// A file of a release.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReleaseFile)]
pub struct File {
    /// Relative path.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes, also its `ETag`.
    #[schema(value_type = Sha256Hex)]
    pub sha256: String,
}

/// Opens a download: withdrawals are checked again, and the ledger has `download.opened` before this answers. Files are then
/// fetched, with ranges, at `/v1/downloads/{capability}/files/{path}` until it expires.
#[utoipa::path(
    tag = "releases",
    operation_id = "open_download",
    security(("token" = ["download_releases"])),
    params(IdempotencyHeader, ("id" = Slug, Path, description = "The release")),
    responses((status = 201, body = Download))
)]
#[post("/v1/releases/{id}/downloads")]
pub async fn download(
    caller: Caller<DownloadReleases>,
    app: web::Data<App>,
    turns: web::Data<Turns>,
    id: web::Path<ReleaseId>,
) -> Result<Created<Download>, Problem> {
    let (principal, act) = (caller.clone(), caller.act(&app));
    let opened = turns.take(&app, move |app| {
        find(app, &principal, &id)?;
        Ok::<_, Problem>(app.with_data(|ctx| flow::open(ctx, &act, &id))?)
    });
    let opened = opened.await?;
    Ok(Created(Download {
        id: opened.download,
        capability: opened.capability,
        expires: opened.expires.to_string(),
        release: opened.release.to_string(),
        seq: opened.seq,
        files: opened
            .files
            .into_iter()
            .map(|f| File { path: f.path, bytes: f.bytes, sha256: f.sha256.to_string() })
            .collect(),
    }))
}
