//! `GET /v1/me`

use actix_web::{get, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::web::auth::roles::ReadSelf;
use crate::web::auth::{Caller, Role};

/// Who the caller is to this server.
#[derive(Debug, Serialize, ToSchema)]
pub struct Identity {
    /// In which capacity.
    pub role: Role,
    /// Public id of the token; `local` over the Unix socket.
    pub id: String,
    /// The contributors or projects the token is limited to.
    pub scope: Vec<String>,
}

/// Who one is: role and limits of the token.
#[utoipa::path(
    tag = "me",
    operation_id = "read_identity",
    security(("token" = ["read_self"])),
    responses((status = 200, body = Identity))
)]
#[get("/v1/me")]
pub async fn identity(caller: Caller<ReadSelf>) -> web::Json<Identity> {
    web::Json(Identity { role: caller.role, id: caller.id.clone(), scope: caller.scope.clone() })
}
