//! `GET /v1/erasures`

use actix_web::{get, web};

use super::Erasure;
use crate::flows::erase;
use crate::state::records::seq_key;

use crate::app::App;
use crate::web::answer::{Page, Paging, blocking};
use crate::web::auth::roles::ErasePatients;
use crate::web::auth::{Caller, Role};
use crate::web::error::Problem;

/// Lists erasures: those that the caller's hospitals asked for, or all for the operator.
#[utoipa::path(
    tag = "erasures",
    operation_id = "list_erasures",
    security(("token" = ["erase_patients"])),
    params(Paging),
    responses((status = 200, body = Page<Erasure>))
)]
#[get("/v1/erasures")]
pub async fn list(
    caller: Caller<ErasePatients>,
    app: web::Data<App>,
    paging: web::Query<Paging>,
) -> Result<web::Json<Page<Erasure>>, Problem> {
    let (after, limit) = (paging.after()?, paging.limit()?);
    let principal = caller.clone();
    let rows = blocking(&app, move |app| {
        let all = app.with_data(erase::list)?.into_iter();
        let seen = all.filter(|e| {
            let own = e.contributor.as_ref().is_some_and(|c| principal.covers_contributor(c));
            principal.role == Role::Operator || own
        });
        let mut rows: Vec<_> = seen.map(|e| (seq_key(e.seq), e)).collect();
        rows.retain(|(key, _)| after.as_deref().is_none_or(|a| key.as_str() > a));
        rows.truncate(limit + 1);
        Ok::<_, Problem>(rows)
    });
    Ok(web::Json(paging.page(rows.await?, Erasure::from)))
}
