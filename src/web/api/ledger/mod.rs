//! The ledger as anybody may read it: C2SP tlog-tiles, and proofs for people. Everything here is public by construction,
//! because leaves hold commitments only; but for `payloads`, which opens them to boards.

use almoner_model::Seq;

use crate::flows::checkpoint::{PublishError, Published};
use crate::web::error::Problem;

pub mod checkpoint;
pub mod consistency;
pub mod entries;
pub mod entry;
pub mod events;
pub mod handovers;
pub mod payloads;
pub mod proof;
pub mod receipt;
pub mod rotate;
pub mod tile;
pub mod vkey;
pub mod witnesses;

impl From<PublishError> for Problem {
    fn from(e: PublishError) -> Self {
        match e {
            PublishError::NoEntry { .. } => Self::invalid(e).with_status(404),
            e => Self::new(e.kind(), e),
        }
    }
}

/// Where the proof of an entry is read: what everybody who acts is given with the entry's number.
pub(in crate::web::api) fn proof_of(seq: Seq) -> String {
    format!("/v1/ledger/entries/{seq}/proof")
}

fn answer(file: Option<Published>) -> Result<actix_web::HttpResponse, Problem> {
    let file = file.ok_or_else(Problem::not_found)?;
    let cache = if file.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    Ok(actix_web::HttpResponse::Ok()
        .content_type(file.media_type)
        .insert_header(("Cache-Control", cache))
        .body(file.bytes))
}
