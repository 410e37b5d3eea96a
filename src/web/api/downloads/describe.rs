//! `HEAD /v1/downloads/{capability}/files/{path}`

use actix_web::body::SizedStream;
use actix_web::http::header;
use actix_web::{HttpResponse, head, web};
use futures::stream;

use crate::app::App;
use crate::flows::download;
use crate::web::answer::blocking;
use crate::web::error::Problem;

/// Length and digest of a file of a release, for programs that read by ranges. Nothing is counted as sent.
#[utoipa::path(
    tag = "releases",
    operation_id = "describe_file",
    path = "/v1/downloads/{capability}/files/{path}",
    params(
        ("capability" = String, Path, description = "From opening the download"),
        ("path" = String, Path, description = "Relative path, e.g. `tables/person.parquet`")
    ),
    responses((status = 200, description = "`Content-Length` and `ETag` as `GET` would say"))
)]
#[head("/v1/downloads/{capability}/files/{path:.*}")]
pub async fn describe(
    app: web::Data<App>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (capability, path) = path.into_inner();
    let file =
        blocking(&app, move |app| app.with_data(|ctx| download::file(ctx, &capability, &path))).await?;
    let nothing = stream::empty::<Result<web::Bytes, std::io::Error>>();
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .insert_header((header::ETAG, format!("\"{}\"", file.sha256)))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::CACHE_CONTROL, "private, no-store"))
        .body(SizedStream::new(file.bytes, nothing)))
}
