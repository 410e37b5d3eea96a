//! `GET /v1/uploads`

use actix_web::{get, web};

use super::{Upload, view};
use crate::app::App;
use crate::web::answer::{Page, Paging, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::PushExports;
use crate::web::error::Problem;

/// Lists the uploads of the caller's contributors.
#[utoipa::path(
    tag = "uploads",
    operation_id = "list_uploads",
    security(("token" = ["push_exports"])),
    params(Paging),
    responses((status = 200, body = Page<Upload>))
)]
#[get("/v1/uploads")]
pub async fn list(
    caller: Caller<PushExports>,
    app: web::Data<App>,
    paging: web::Query<Paging>,
) -> Result<web::Json<Page<Upload>>, Problem> {
    let (mut after, limit) = (paging.after()?, paging.limit()?);
    let principal = caller.clone();
    let rows = blocking(&app, move |app| {
        let mut rows = Vec::new();
        while rows.len() <= limit {
            let records = app.uploads().list(after.as_deref(), limit + 1)?;
            let Some(last) = records.last() else { break };
            after = Some(last.id.clone());
            for record in records.iter().filter(|r| principal.covers_contributor(&r.contributor)) {
                rows.push((record.id.clone(), view(app, record)?));
            }
        }
        Ok::<_, Problem>(rows)
    });
    Ok(web::Json(paging.page(rows.await?, |upload| upload)))
}
