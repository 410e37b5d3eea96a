//! `PATCH /v1/uploads/{id}/files/{ordinal}`

use actix_web::http::header;
use actix_web::{HttpRequest, patch, web};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

use super::{KeyHeader, find, key};
use crate::app::App;
use crate::flows::uploads::{UploadError, Writing};
use crate::spool::CHUNK;
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::PushExports;
use crate::web::error::Problem;
use crate::web::metrics::Metrics;
use crate::web::schema::OpaqueId;

/// Where the bytes belong.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct At {
    /// Bytes of the file that are here already.
    #[param(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    pub offset: u64,
}

/// How much is here now.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Received {
    /// Bytes that are here and durable: where to go on.
    pub received: u64,
}

/// Goes on with a file at `offset`. Whole chunks of 1 MiB count; of a body that ends inside one, the rest is dropped and
/// `received` says where to go on. At another offset than the server's it is a conflict that says the right one.
#[utoipa::path(
    tag = "uploads",
    operation_id = "write_upload",
    security(("token" = ["push_exports"])),
    params(
        ("id" = OpaqueId, Path, description = "The upload"),
        ("ordinal" = u32, Path, description = "The file"),
        At,
        KeyHeader
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Received))
)]
#[patch("/v1/uploads/{id}/files/{ordinal}")]
pub async fn write(
    caller: Caller<PushExports>,
    request: HttpRequest,
    app: web::Data<App>,
    metrics: web::Data<Metrics>,
    path: web::Path<(String, u32)>,
    at: web::Query<At>,
    mut body: web::Payload,
) -> Result<web::Json<Received>, Problem> {
    let key = key(&request)?;
    if request.headers().get(header::CONTENT_TYPE).is_none_or(|t| t != "application/octet-stream") {
        return Err(Problem::invalid("The body is `application/octet-stream`.").with_status(415));
    }
    let (id, ordinal) = path.into_inner();
    let principal = caller.clone();
    let begun = blocking(&app, move |app| {
        find(app, &principal, &id)?;
        Ok::<_, Problem>(app.uploads().write(&id, ordinal, at.offset, &key)?)
    });
    let mut writing = begun.await?;
    let mut pending = Zeroizing::new(Vec::with_capacity(CHUNK as usize));
    while let Some(piece) = body.next().await {
        // A broken connection: what came in whole chunks stays.
        let Ok(piece) = piece else { break };
        metrics.upload_bytes.inc_by(piece.len() as u64);
        pending.extend_from_slice(&piece);
        if pending.len() as u64 >= CHUNK {
            let full = std::mem::replace(&mut pending, Zeroizing::new(Vec::with_capacity(CHUNK as usize)));
            writing = push(&app, writing, full).await?;
        }
    }
    let writing = push(&app, writing, pending).await?;
    let received = blocking(&app, move |_| writing.finish()).await?;
    Ok(web::Json(Received { received }))
}

async fn push(
    app: &web::Data<App>,
    mut writing: Writing,
    bytes: Zeroizing<Vec<u8>>,
) -> Result<Writing, Problem> {
    blocking(app, move |app| {
        writing.push(&bytes, &*app.entropy)?;
        Ok::<_, UploadError>(writing)
    })
    .await
}
