//! A witness over HTTP (C2SP tlog-witness § HTTP Interface): `POST /add-checkpoint`, and what may be read of it. It serves
//! nothing else: no data folder, no tokens, no documents.
//!
//! | call | answers |
//! |---|---|
//! | `POST /add-checkpoint` | [`almoner_ledger::witness`] |
//! | `GET /<SHA-256 of the origin, hexadecimal>/checkpoint` | the checkpoint cosigned last |
//! | `GET /vkey` | the witness's verifier key |
//! | `GET /status` | what was cosigned last of each log, and how much evidence is kept |
//! | `GET /healthz` | 200, or 503 where a record could not be written |

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use almoner_ledger::witness::REQUEST_BYTES_MAX;

use super::ServeError;
use super::small::{self, SmallServing};
use crate::config::Http;
use crate::flows::witness::{Answer, Witness};

/// Serves `witness` where `http` says, until it is dropped, or a signal comes where `signals`.
///
/// # Errors
/// [`ServeError`] if it cannot start.
pub fn serve(witness: Arc<Witness>, http: &Http, signals: bool) -> Result<SmallServing, ServeError> {
    let witness = web::Data::from(witness);
    let within = web::Data::new(Within(Duration::from_secs(http.request_timeout_seconds)));
    let routes = move |config: &mut web::ServiceConfig| {
        config
            .app_data(witness.clone())
            .app_data(within.clone())
            .route("/add-checkpoint", web::post().to(add_checkpoint))
            .route("/vkey", web::get().to(vkey))
            .route("/status", web::get().to(status))
            .route("/healthz", web::get().to(health))
            .route("/{origin}/checkpoint", web::get().to(cosigned));
    };
    small::serve(routes, http, signals)
}

fn response(answer: Answer) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(status).content_type(answer.media_type).body(answer.body)
}

/// How long a request may take to arrive: whoever sends slowly must not keep connections from the logs.
struct Within(Duration);

async fn add_checkpoint(
    witness: web::Data<Witness>,
    within: web::Data<Within>,
    body: web::Payload,
) -> actix_web::Result<HttpResponse> {
    let refused = |status: u16, why: &str| {
        Ok(response(Answer { status, media_type: TEXT, body: format!("{why}\n") }).map_into_boxed_body())
    };
    let body = match tokio::time::timeout(within.0, body.to_bytes_limited(REQUEST_BYTES_MAX)).await {
        Err(_) => return refused(408, "the request came too slowly"),
        Ok(Err(_)) => return refused(413, "the request is too long"),
        Ok(Ok(body)) => body?,
    };
    // It waits for the disk.
    Ok(response(web::block(move || witness.add_checkpoint(&body)).await?))
}

async fn cosigned(witness: web::Data<Witness>, origin: web::Path<String>) -> HttpResponse {
    match witness.cosigned(&origin) {
        Some(note) => text().insert_header(("Cache-Control", "no-cache")).body(note),
        None => HttpResponse::NotFound().content_type(TEXT).body("nothing was cosigned of such a log\n"),
    }
}

async fn vkey(witness: web::Data<Witness>) -> HttpResponse {
    text().body(format!("{}\n", witness.vkey()))
}

async fn status(witness: web::Data<Witness>) -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"vkey": witness.vkey(), "logs": witness.status()}))
}

async fn health(witness: web::Data<Witness>) -> HttpResponse {
    if witness.healthy() {
        text().body("ok\n")
    } else {
        HttpResponse::ServiceUnavailable().content_type(TEXT).body("a record could not be written\n")
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

fn text() -> actix_web::HttpResponseBuilder {
    let mut builder = HttpResponse::Ok();
    builder.content_type(TEXT);
    builder
}
