//! Invitations of patients to see and change their own choices.

use serde::Serialize;
use utoipa::ToSchema;

use crate::state::records;
use crate::web::schema::{Instant, Slug};

pub mod issue;
pub mod list;
pub mod redeem;
pub mod revoke;

/// An invitation, without its code and without whom it invites.
#[derive(Debug, Serialize, ToSchema)]
pub struct Invitation {
    /// Its id.
    #[schema(examples("5f1b7c3a9d20"))]
    pub id: String,
    /// By which hospital.
    #[schema(value_type = Slug)]
    pub contributor: String,
    /// When it was issued.
    #[schema(value_type = Instant)]
    pub issued: String,
    /// Until when it can be redeemed.
    #[schema(value_type = Instant)]
    pub expires: String,
    /// The day on which it was redeemed.
    #[schema(value_type = Option<Instant>)]
    pub redeemed: Option<String>,
    /// When it was ended, with the token that it became.
    #[schema(value_type = Option<Instant>)]
    pub revoked: Option<String>,
}

impl From<records::Invitation> for Invitation {
    fn from(r: records::Invitation) -> Self {
        Self {
            id: r.issued.body.invitation,
            contributor: r.issued.body.contributor.to_string(),
            issued: r.issued.origin.time.to_string(),
            expires: r.issued.body.expires.to_string(),
            redeemed: r.redeemed.map(|e| e.origin.time.to_string()),
            revoked: r.revoked.map(|o| o.time.to_string()),
        }
    }
}
