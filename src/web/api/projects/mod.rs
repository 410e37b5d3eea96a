//! Projects: for whom requests are made.

use serde::Serialize;
use utoipa::ToSchema;

use crate::state::records;
use crate::web::auth::{Principal, Role};
use crate::web::schema::{Instant, Slug};

pub mod create;
pub mod list;
pub mod read;

/// A project.
#[derive(Debug, Serialize, ToSchema)]
pub struct Project {
    /// Its id.
    #[schema(value_type = Slug)]
    pub id: String,
    /// Its title.
    pub title: String,
    /// The institution that receives.
    #[schema(value_type = Slug)]
    pub recipient: String,
    /// When it was created.
    #[schema(value_type = Instant)]
    pub created: String,
}

impl From<records::Project> for Project {
    fn from(r: records::Project) -> Self {
        Self {
            id: r.body.project.to_string(),
            title: r.body.title,
            recipient: r.body.recipient.to_string(),
            created: r.origin.time.to_string(),
        }
    }
}

/// Researchers see their own projects; those who decide see all.
fn may_see(caller: &Principal, project: &records::Project) -> bool {
    caller.role != Role::Researcher || caller.covers_project(&project.body.project)
}
