//! Every request gets an id, is measured, and leaves one log line: method, route pattern, status, role, duration.
//!
//! The path itself is never logged, because it may name people or things; the pattern and the id are enough to find a
//! request. Headers that keep browsers from guessing are added here too.

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, web};
use std::sync::Arc;

use super::auth::Principal;
use super::error::REQUEST_ID;
use super::metrics::Metrics;
use crate::app::App;

/// A method that this server knows; a stranger's own inventions must not become series of metrics.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The middleware.
///
/// # Errors
/// What the handler fails with.
pub async fn request(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    #[expect(clippy::disallowed_methods, reason = "a duration is measured; nothing depends on it")]
    let begun = Instant::now();
    let id = request_id(&request);
    let metrics = request.app_data::<web::Data<Metrics>>().cloned();
    let method = known(request.method());
    let result = REQUEST_ID.scope(id.clone(), next.call(request)).await;
    let mut response = result?;
    let status = response.status().as_u16();
    let route = response.request().match_pattern().unwrap_or_else(|| "none".into());
    let role = response.request().extensions().get::<Arc<Principal>>().map_or("public", |p| p.role.as_str());
    let took = begun.elapsed();
    if let Some(metrics) = metrics {
        metrics.answered(method, &route, status, took);
    }
    let milliseconds = took.as_micros() as f64 / 1000.0;
    tracing::info!(request_id = %id, method, %route, status, role, milliseconds, "answered");
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    if route.starts_with("/v1/") && !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

fn request_id(request: &ServiceRequest) -> String {
    match request.app_data::<web::Data<App>>() {
        Some(app) => format!("req_{}", hex::encode(&app.entropy.bytes32()[..8])),
        None => "req_none".into(),
    }
}
