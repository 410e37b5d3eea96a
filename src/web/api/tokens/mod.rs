//! API tokens.

use serde::Serialize;
use utoipa::ToSchema;

use crate::flows::tokens::TokenRecord;
use crate::web::schema::Instant;

pub mod create;
pub mod list;
pub mod revoke;

/// A token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct Token {
    /// Its public id.
    #[schema(examples("5f1b7c3a9d20"))]
    pub id: String,
    /// The role it acts in.
    pub role: String,
    /// The contributors or projects it is limited to.
    pub scope: Vec<String>,
    /// A name for people.
    pub label: String,
    /// When it was made.
    #[schema(value_type = Instant)]
    pub created: String,
    /// When it stops working.
    #[schema(value_type = Option<Instant>)]
    pub expires: Option<String>,
    /// When it was ended.
    #[schema(value_type = Option<Instant>)]
    pub revoked: Option<String>,
}

impl From<TokenRecord> for Token {
    fn from(r: TokenRecord) -> Self {
        Self {
            id: r.id,
            role: r.role,
            scope: r.scope,
            label: r.label,
            created: r.created.to_string(),
            expires: r.expires.map(|t| t.to_string()),
            revoked: r.revoked.map(|t| t.to_string()),
        }
    }
}
