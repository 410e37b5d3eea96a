//! A mirror over HTTP: the files of the copy, as C2SP tlog-tiles lays them out, and whether it is up to date.

use std::sync::{Arc, Mutex, PoisonError};

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::ServeError;
use super::small::{self, SmallServing};
use crate::config::Http;
use crate::flows::mirror::Mirror;

/// A copy, and what the last look at the log came to.
pub struct Served {
    /// The copy.
    pub mirror: Mirror,
    /// Of the last look: the result, or `{"problem": …}`.
    pub last: Mutex<Value>,
}

/// Serves the copy where `http` says, until it is dropped, or a signal comes where `signals`.
///
/// # Errors
/// [`ServeError`] if it cannot start.
pub fn serve(served: Arc<Served>, http: &Http, signals: bool) -> Result<SmallServing, ServeError> {
    let served = web::Data::from(served);
    let routes = move |config: &mut web::ServiceConfig| {
        config
            .app_data(served.clone())
            .route("/healthz", web::get().to(health))
            .route("/{path:.*}", web::get().to(file));
    };
    small::serve(routes, http, signals)
}

/// 200 where the last look found the log well, else 503 with why.
async fn health(served: web::Data<Served>) -> HttpResponse {
    let last = served.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if last.get("problem").is_some() {
        HttpResponse::ServiceUnavailable().json(last)
    } else {
        HttpResponse::Ok().json(last)
    }
}

async fn file(served: web::Data<Served>, path: web::Path<String>) -> actix_web::Result<HttpResponse> {
    let found = web::block(move || served.mirror.published(&path)).await?;
    Ok(match found {
        Ok(Some(file)) => {
            let cache = if file.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
            let mut answer = HttpResponse::Ok();
            answer.content_type(file.media_type).insert_header(("Cache-Control", cache)).body(file.bytes)
        }
        Ok(None) => HttpResponse::NotFound().json(json!({"problem": "the copy has no such file"})),
        Err(error) => {
            tracing::error!(%error, "a file of the copy cannot be read");
            HttpResponse::InternalServerError().json(json!({"problem": "the copy cannot be read"}))
        }
    })
}
