//! `GET /v1/downloads/{capability}/files/{path}`

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, get, web};
use async_stream::stream;

use crate::app::App;
use crate::flows::download::{self, OpenFile};
use crate::web::answer::blocking;
use crate::web::error::Problem;
use crate::web::metrics::Metrics;

/// Bytes that are read and sent at a time.
const PIECE: u64 = 1 << 20;

/// A file of a release, whole or one range of it. The capability is what permits it. Bytes are counted before they are
/// sent, and their total stands in the ledger when the download ends.
#[utoipa::path(
    tag = "releases",
    operation_id = "fetch_file",
    path = "/v1/downloads/{capability}/files/{path}",
    params(
        ("capability" = String, Path, description = "From opening the download"),
        ("path" = String, Path, description = "Relative path, e.g. `tables/person.parquet`"),
        ("Range" = Option<String>, Header, description = "One range of bytes (RFC 9110): `bytes=0-1023`"),
        ("If-None-Match" = Option<String>, Header, description = "An `ETag` that is here already"),
        ("If-Range" = Option<String>, Header, description = "The `ETag` that the range continues")
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, body = Vec<u8>, content_type = "application/octet-stream", description = "The range"),
        (status = 304, description = "It is what is here already"),
        (status = 416, body = Problem, content_type = "application/problem+json", description = "No such range")
    )
)]
#[get("/v1/downloads/{capability}/files/{path:.*}")]
pub async fn fetch(
    request: HttpRequest,
    app: web::Data<App>,
    metrics: web::Data<Metrics>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (capability, path) = path.into_inner();
    let shown = capability.clone();
    let file = blocking(&app, move |app| app.with_data(|ctx| download::file(ctx, &shown, &path))).await?;
    let etag = format!("\"{}\"", file.sha256);
    let text = |name| request.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    if text(header::IF_NONE_MATCH)
        .is_some_and(|given| given == "*" || given.split(',').any(|e| e.trim() == etag))
    {
        return Ok(HttpResponse::NotModified().insert_header((header::ETAG, etag)).finish());
    }
    let current = text(header::IF_RANGE).is_none_or(|given| given == etag);
    let range = text(header::RANGE).filter(|_| current).and_then(|given| one_range(given, file.bytes));
    let (status, start, length) = match range {
        None => (StatusCode::OK, 0, file.bytes),
        Some(Some((start, length))) => (StatusCode::PARTIAL_CONTENT, start, length),
        Some(None) => return Ok(unsatisfiable(file.bytes)),
    };
    metrics.download_bytes.inc_by(length);
    blocking(&app, move |app| app.with_data(|ctx| download::sent(ctx, &capability, length))).await?;
    let mut response = HttpResponse::build(status);
    response
        .content_type("application/octet-stream")
        .insert_header((header::ETAG, etag))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::CACHE_CONTROL, "private, no-store"));
    if status == StatusCode::PARTIAL_CONTENT {
        let end = start + length - 1;
        response.insert_header((header::CONTENT_RANGE, format!("bytes {start}-{end}/{}", file.bytes)));
    }
    Ok(response.no_chunking(length).streaming(Box::pin(pieces(file, start, length))))
}

/// What was asked for: `None` if this is not a range that is honoured, `Some(None)` if the file has no such bytes.
fn one_range(given: &str, bytes: u64) -> Option<Option<(u64, u64)>> {
    let (first, last) = given.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (first.trim(), last.trim()) {
        ("", last) => {
            let n = number(last)?.min(bytes);
            Some((n > 0).then(|| (bytes - n, n)))
        }
        (first, last) => {
            let first = number(first)?;
            let last = if last.is_empty() { u64::MAX } else { number(last)? };
            if last < first {
                return None;
            }
            Some((first < bytes).then(|| (first, last.min(bytes - 1) - first + 1)))
        }
    }
}

fn unsatisfiable(bytes: u64) -> HttpResponse {
    let mut response = Problem::invalid("The file has no such bytes.").with_status(416).response();
    if let Ok(value) = HeaderValue::from_str(&format!("bytes */{bytes}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}

fn pieces(
    mut file: OpenFile,
    start: u64,
    length: u64,
) -> impl futures::Stream<Item = Result<web::Bytes, std::io::Error>> {
    stream! {
        let (mut at, end) = (start, start + length);
        while at < end {
            let n = PIECE.min(end - at);
            let read = web::block(move || file.range(at, n).map(|bytes| (file, bytes))).await;
            let Ok(Ok((back, bytes))) = read else {
                yield Err(std::io::Error::other("the file could not be read on"));
                return;
            };
            file = back;
            at += n;
            yield Ok(web::Bytes::from(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::one_range;

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        assert_eq!(one_range("bytes=0-9", 100), Some(Some((0, 10))));
        assert_eq!(one_range("bytes=90-", 100), Some(Some((90, 10))));
        assert_eq!(one_range("bytes=90-1000", 100), Some(Some((90, 10))));
        assert_eq!(one_range("bytes=-5", 100), Some(Some((95, 5))));
        assert_eq!(one_range("bytes=-500", 100), Some(Some((0, 100))));
        assert_eq!(one_range("bytes=100-", 100), Some(None));
        assert_eq!(one_range("bytes=-0", 100), Some(None));
        for other in ["bytes=0-1,3-4", "lines=0-1", "bytes=b-1", "bytes=5-4"] {
            assert_eq!(one_range(other, 100), None, "{other} is answered with the whole file");
        }
    }
}
