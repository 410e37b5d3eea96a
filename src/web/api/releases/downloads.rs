//! `GET /v1/releases/{id}/downloads`

use actix_web::{get, web};
use almoner_model::ReleaseId;
use serde::Serialize;
use utoipa::ToSchema;

use super::find;
use crate::app::App;
use crate::state::{read, records};
use crate::web::answer::{Page, Paging, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadReleases;
use crate::web::error::Problem;
use crate::web::schema::{Instant, Slug};

/// A download of a release by its recipient.
#[derive(Debug, Serialize, ToSchema)]
pub struct DownloadOf {
    /// The entry that it was opened by.
    pub seq: u64,
    /// When it was opened.
    #[schema(value_type = Instant)]
    pub opened: String,
    /// When it was closed; null while it is open.
    #[schema(value_type = Option<Instant>)]
    pub closed: Option<String>,
    /// How many bytes were sent; null while it is open.
    pub bytes_sent: Option<u64>,
}

impl From<records::Download> for DownloadOf {
    fn from(r: records::Download) -> Self {
        Self {
            seq: r.opened.origin.seq,
            opened: r.opened.origin.time.to_string(),
            closed: r.closed.map(|(at, _)| at.time.to_string()),
            bytes_sent: r.closed.map(|(_, bytes)| bytes),
        }
    }
}

/// Lists the downloads of a release: when its recipient opened and closed them, and how much was sent.
#[utoipa::path(
    tag = "releases",
    operation_id = "list_downloads",
    security(("token" = ["read_releases"])),
    params(("id" = Slug, Path, description = "The release"), Paging),
    responses((status = 200, body = Page<DownloadOf>))
)]
#[get("/v1/releases/{id}/downloads")]
pub async fn downloads(
    caller: Caller<ReadReleases>,
    app: web::Data<App>,
    id: web::Path<ReleaseId>,
    paging: web::Query<Paging>,
) -> Result<web::Json<Page<DownloadOf>>, Problem> {
    let (mut after, limit) = (paging.after()?, paging.limit()?);
    let principal = caller.clone();
    let rows = blocking(&app, move |app| {
        find(app, &principal, &id)?;
        let mut rows = Vec::new();
        while rows.len() <= limit {
            let page: Vec<(String, records::Download)> =
                read::page(&app.access().state(), "download", after.as_deref(), limit + 1)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            rows.extend(page.into_iter().filter(|(_, d)| d.opened.body.release == *id));
        }
        Ok::<_, Problem>(rows)
    });
    Ok(web::Json(paging.page(rows.await?, DownloadOf::from)))
}
