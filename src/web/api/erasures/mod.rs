//! Erasures: what is kept of a patient is destroyed. Whom one concerned is in no answer.

use serde::Serialize;
use utoipa::ToSchema;

use crate::flows::erase;
use crate::web::schema::{Instant, Slug};

pub mod list;
pub mod request;

/// An erasure. Whom it concerned is not known any more.
#[derive(Debug, Serialize, ToSchema)]
pub struct Erasure {
    /// Its id.
    #[schema(value_type = Slug)]
    pub id: String,
    /// The hospital that asked for its own patient; none where the operator erased everything.
    #[schema(value_type = Option<Slug>)]
    pub contributor: Option<String>,
    /// Its entry in the ledger.
    pub seq: u64,
    /// When.
    #[schema(value_type = Instant)]
    pub time: String,
    /// Whether everything is destroyed; else the server goes on with it, as soon as the disk takes it.
    pub finished: bool,
}

impl From<erase::Erasure> for Erasure {
    fn from(e: erase::Erasure) -> Self {
        Self {
            id: e.erasure,
            contributor: e.contributor.map(|c| c.to_string()),
            seq: e.seq,
            time: e.time.to_string(),
            finished: e.finished,
        }
    }
}
