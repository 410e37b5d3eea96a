//! `GET /v1/legal-bases`

use actix_web::{get, web};

use super::LegalBasis;
use crate::flows::{AccessError, decide};
use crate::state::read;

use crate::app::App;
use crate::web::answer::{Page, Paging, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadLegalBases;
use crate::web::error::Problem;

/// Lists legal bases of the contributors that the caller may look into.
#[utoipa::path(
    tag = "legal-bases",
    operation_id = "list_legal_bases",
    security(("token" = ["read_legal_bases"])),
    params(Paging),
    responses((status = 200, body = Page<LegalBasis>))
)]
#[get("/v1/legal-bases")]
pub async fn list(
    caller: Caller<ReadLegalBases>,
    app: web::Data<App>,
    paging: web::Query<Paging>,
) -> Result<web::Json<Page<LegalBasis>>, Problem> {
    let (after, limit) = (paging.after()?, paging.limit()?);
    let principal = caller.clone();
    let rows = blocking(&app, move |app| {
        let all = decide::legal_bases(&app.access(), None)?.into_iter();
        let seen = all.filter(|b| principal.covers_contributor(&b.body.contributor));
        let mut rows: Vec<_> = seen.map(|b| (b.body.id.clone(), b)).collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows.retain(|(id, _)| after.as_deref().is_none_or(|a| id.as_str() > a));
        rows.truncate(limit + 1);
        let state = app.access().state();
        let with_end = |(id, basis): (String, _)| {
            let end = read::legal_basis_end(&state, &id)?;
            Ok::<_, AccessError>((id, LegalBasis::of(basis, end)))
        };
        rows.into_iter().map(with_end).collect::<Result<Vec<_>, _>>()
    });
    Ok(web::Json(paging.page(rows.await?, |basis| basis)))
}
