//! `GET /v1/requests`

use actix_web::{get, web};

use super::{Request, may_see, view};
use crate::flows::request;

use crate::app::App;
use crate::web::answer::{Page, Paging, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadRequests;
use crate::web::error::Problem;

/// Lists the requests that the caller may see.
#[utoipa::path(
    tag = "requests",
    operation_id = "list_requests",
    security(("token" = ["read_requests"])),
    params(Paging),
    responses((status = 200, body = Page<Request>))
)]
#[get("/v1/requests")]
pub async fn list(
    caller: Caller<ReadRequests>,
    app: web::Data<App>,
    paging: web::Query<Paging>,
) -> Result<web::Json<Page<Request>>, Problem> {
    let (mut after, limit) = (paging.after()?, paging.limit()?);
    let principal = caller.clone();
    let rows = blocking(&app, move |app| {
        let mut rows = Vec::new();
        while rows.len() <= limit {
            let records = request::list(&app.access(), after.as_deref(), limit + 1)?;
            let Some(last) = records.last() else { break };
            after = Some(last.submitted.body.request.to_string());
            for record in records.iter().filter(|r| may_see(&principal, r)) {
                rows.push((record.submitted.body.request.to_string(), view(app, record)?));
            }
        }
        Ok::<_, Problem>(rows)
    });
    Ok(web::Json(paging.page(rows.await?, |request| request)))
}
