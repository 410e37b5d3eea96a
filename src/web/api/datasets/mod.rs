//! Datasets, as the catalogue shows them, and the reports that their contributor sees.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::catalog::Listing;
use crate::web::error::Problem;
use crate::web::schema::{Instant, Slug};

pub mod list;
pub mod read;
pub mod reports;
pub mod versions;

/// A dataset in its latest version.
#[derive(Debug, Serialize, ToSchema)]
pub struct Dataset {
    /// Its id.
    #[schema(value_type = Slug)]
    pub id: String,
    /// Whose data.
    #[schema(value_type = Slug)]
    pub contributor: String,
    /// The latest version.
    pub version: u32,
    /// When it was made.
    #[schema(value_type = Instant)]
    pub created: String,
    /// The de-identification profile.
    pub profile: String,
    /// The version that the numbers are of: so long as fewer than 11 people joined, left or have other numbers of rows, the
    /// one that was shown before, so that nobody is seen to change. Whoever speaks for the contributor sees the latest.
    pub counted_version: u32,
    /// People; null where fewer than 11.
    pub persons: Option<u64>,
    /// First and last year of any event.
    pub years: Option<Vec<i32>>,
    /// Rows by table; null where fewer than 11 people have any.
    #[schema(value_type = Object)]
    pub tables: Value,
    /// What the data says of itself: precision and shift of dates, top-coding of ages, digits of postal codes.
    #[schema(value_type = Object)]
    pub declares: Value,
    /// What recipients must agree to.
    pub terms_of_use: String,
}

impl Dataset {
    fn of(l: &Listing) -> Result<Self, Problem> {
        Ok(Self {
            id: l.dataset.to_string(),
            contributor: l.contributor.to_string(),
            version: l.version,
            created: l.created.to_string(),
            profile: l.profile.clone(),
            counted_version: l.counted_version,
            persons: l.persons,
            years: l.years.map(|(first, last)| vec![first, last]),
            tables: serde_json::to_value(&l.tables).map_err(Problem::fault)?,
            declares: serde_json::to_value(l.declares).map_err(Problem::fault)?,
            terms_of_use: l.terms_of_use.clone(),
        })
    }
}
