//! `GET /v1/ledger/entries`

use actix_web::{get, web};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::store::StoreError;
use crate::web::answer::{Page, Paging, blocking};
use crate::web::error::Problem;

/// An entry as anybody may see it: what was done and when. Who, about whom and what was said are commitments.
#[derive(Debug, Serialize, ToSchema)]
pub struct LedgerEntry {
    /// Its position, from 0.
    pub seq: u64,
    /// The leaf: its type, time, decision and commitments.
    #[schema(value_type = Object)]
    pub leaf: Value,
}

/// Lists the entries of the ledger in order.
#[utoipa::path(
    tag = "ledger",
    operation_id = "list_entries",
    params(Paging),
    responses((status = 200, body = Page<LedgerEntry>))
)]
#[get("/v1/ledger/entries")]
pub async fn entries(
    app: web::Data<App>,
    paging: web::Query<Paging>,
) -> Result<web::Json<Page<LedgerEntry>>, Problem> {
    let limit = paging.limit()? as u64;
    let after = paging.after()?;
    let from = match after {
        None => 0,
        Some(text) => text.parse::<u64>().ok().and_then(|n| n.checked_add(1)).ok_or_else(bad_cursor)?,
    };
    let rows = blocking(&app, move |app| {
        let from = from.min(app.store.size());
        let to = from.saturating_add(limit + 1).min(app.store.size());
        let leaves = app.store.leaves(from..to)?;
        (from..)
            .zip(leaves)
            .map(|(seq, bytes)| {
                let leaf = serde_json::from_slice(&bytes)
                    .map_err(|_| StoreError::NotIntact(format!("entry {seq}")))?;
                Ok((seq.to_string(), LedgerEntry { seq, leaf }))
            })
            .collect::<Result<Vec<_>, StoreError>>()
    });
    Ok(web::Json(paging.page(rows.await?, |entry| entry)))
}

fn bad_cursor() -> Problem {
    Problem::invalid("The cursor is not one that this list gave.")
}
