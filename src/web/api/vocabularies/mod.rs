//! OMOP vocabularies: loaded from a folder of the server's own machine, and applied to datasets.

use serde::Serialize;
use utoipa::ToSchema;

use crate::state::records;
use crate::web::schema::{Instant, Sha256Hex};

pub mod list;
pub mod load;
pub mod remap;

/// A vocabulary that was loaded.
#[derive(Debug, Serialize, ToSchema)]
pub struct Vocabulary {
    /// Its SHA-256.
    #[schema(value_type = Sha256Hex)]
    pub id: String,
    /// Concepts in it.
    pub concepts: u64,
    /// When it was loaded.
    #[schema(value_type = Instant)]
    pub loaded: String,
    /// Where the ledger says so.
    pub seq: u64,
}

impl From<records::Vocabulary> for Vocabulary {
    fn from(r: records::Vocabulary) -> Self {
        Self {
            id: r.body.vocabulary.to_string(),
            concepts: r.body.concepts,
            loaded: r.origin.time.to_string(),
            seq: r.origin.seq,
        }
    }
}
