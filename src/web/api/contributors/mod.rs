//! Contributors: who gives data, and the rules each has for its own.

use almoner_model::ContributorId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::flows::{AccessError, contributor};
use crate::state::records;
use crate::web::schema::{Instant, Sha256Hex, Slug};

pub mod change;
pub mod contract;
pub mod list;
pub mod read;
pub mod register;

/// A contributor.
#[derive(Debug, Serialize, ToSchema)]
pub struct Contributor {
    /// Its id.
    #[schema(value_type = Slug)]
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether its patients are linked with those of others that also opted in.
    pub linkage: bool,
    /// Smallest class size its data may be released in, above what the tier asks for.
    pub k_min: Option<u32>,
    /// When it was registered.
    #[schema(value_type = Instant)]
    pub registered: String,
    /// The entry that said this last, which a change names.
    pub seq: u64,
    /// SHA-256 of the contract in force; the house rules alone hold where there is none.
    #[schema(value_type = Option<Sha256Hex>)]
    pub contract: Option<String>,
}

impl Contributor {
    fn read(app: &App, id: &ContributorId) -> Result<Self, AccessError> {
        let (record, contract) = contributor::show(&app.access(), id)?;
        let seq = contributor::said_at(&app.access(), &record)?;
        Ok(Self::of(record, contract, seq))
    }

    fn of(record: records::Contributor, contract: Option<records::Contract>, seq: u64) -> Self {
        Self {
            id: record.body.contributor.to_string(),
            name: record.body.name,
            linkage: record.body.linkage,
            k_min: record.body.k_min,
            registered: record.origin.time.to_string(),
            seq,
            contract: contract.map(|c| c.body.policy.to_string()),
        }
    }
}
