//! Legal bases: the ground on which releases rest.

use serde::Serialize;
use utoipa::ToSchema;

use crate::state::records;
use crate::web::schema::{CalendarDate, Instant, Sha256Hex, Slug};

pub mod end;
pub mod list;
pub mod record;

/// A legal basis.
#[derive(Debug, Serialize, ToSchema)]
pub struct LegalBasis {
    /// Its id.
    pub id: String,
    /// Whose data it covers.
    #[schema(value_type = Slug)]
    pub contributor: String,
    /// `safe_harbor_attestation`, `expert_determination` or `data_use_agreement`.
    pub kind: String,
    /// The profile it covers.
    pub profile: String,
    /// The only recipient it covers.
    #[schema(value_type = Option<Slug>)]
    pub recipient: Option<String>,
    /// The only project it covers.
    #[schema(value_type = Option<Slug>)]
    pub project: Option<String>,
    /// Who determined or attested.
    pub by: String,
    /// How.
    pub method: String,
    /// What it covers.
    pub scope: String,
    /// SHA-256 of the document.
    #[schema(value_type = Sha256Hex)]
    pub document: String,
    /// Last day in force.
    #[schema(value_type = Option<CalendarDate>)]
    pub expires: Option<String>,
    /// When it was recorded.
    #[schema(value_type = Instant)]
    pub recorded: String,
    /// Its entry in the ledger.
    pub seq: u64,
    /// When it was ended.
    #[schema(value_type = Option<Instant>)]
    pub ended: Option<String>,
}

impl LegalBasis {
    fn of(r: records::LegalBasis, end: Option<records::LegalBasisEnd>) -> Self {
        Self {
            id: r.body.id,
            contributor: r.body.contributor.to_string(),
            kind: r.body.kind,
            profile: r.body.profile,
            recipient: r.body.recipient.map(|r| r.to_string()),
            project: r.body.project.map(|p| p.to_string()),
            by: r.body.by,
            method: r.body.method,
            scope: r.body.scope,
            document: r.body.document.to_string(),
            expires: r.body.expires.map(|d| d.to_string()),
            recorded: r.origin.time.to_string(),
            seq: r.origin.seq,
            ended: end.map(|e| e.origin.time.to_string()),
        }
    }
}
