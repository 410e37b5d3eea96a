//! `Idempotency-Key`: a creating call that is repeated with the same key and body gets the first answer again.
//!
//! The key counts per caller and operation. A repetition with another body, or while the first call is still being
//! answered, is a conflict. Answers are kept 24 hours, sealed under a key that is derived from the caller's token, which
//! the server does not keep: an answer may hold a secret that is shown once. Answers of status 500 and above are not kept,
//! nor are those to callers without a token, so that strangers cannot fill the store.
//! If the server dies between acting and keeping the answer, the repetition acts again under the same event id, which the
//! ledger knows (`flows::Act`). Counts and downloads are answered from the state of now, so theirs is a new answer with its
//! own entry.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::body::{BoxBody, MessageBody, to_bytes};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpResponse, ResponseError as _, web};
use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use almoner_model::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::auth::{Role, recognise};
use super::error::Problem;
use crate::app::App;
use crate::store::Write;

const KIND: &str = "idempotency";
const KEEP_MILLIS: i64 = 24 * 3_600_000;
/// Larger answers are not kept; no creating call has one.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Calls that their flow knows again without a kept answer: the declaration of an upload may be large, and the upload itself
/// is what it made.
const KNOWN_BY_THEMSELVES: &[&str] = &["/v1/uploads"];

/// Calls that are being answered now.
#[derive(Clone, Default)]
pub struct InProgress(Arc<Mutex<HashSet<String>>>);

impl InProgress {
    fn enter(&self, key: &str) -> Option<Guard> {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        set.insert(key.to_owned()).then(|| Guard { all: self.clone(), key: key.to_owned() })
    }
}

struct Guard {
    all: InProgress,
    key: String,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    /// SHA-256 of the body, under the sealing key.
    body: String,
    nonce: String,
    sealed: String,
    until: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    status: u16,
    content_type: String,
    location: Option<String>,
    body: String,
}

/// The middleware: passes on everything but `POST` with a key.
///
/// # Errors
/// What the handler fails with.
pub async fn replay(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let given = request.headers().get("idempotency-key").cloned();
    let known_by_itself = KNOWN_BY_THEMSELVES.contains(&request.path());
    let Some(given) = given.filter(|_| request.method() == Method::POST && !known_by_itself) else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let (Some(app), Some(in_progress)) =
        (request.app_data::<web::Data<App>>().cloned(), request.app_data::<web::Data<InProgress>>().cloned())
    else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    // Nobody may create anything without a token, so there is nothing to remember, and nothing to be filled with.
    if recognise(request.request()).is_ok_and(|principal| principal.role == Role::Public) {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let call = match Call::read(&mut request, &given, &app).await {
        Ok(call) => call,
        Err(problem) => return Ok(answer_with(request, &problem)),
    };
    let Some(_guard) = in_progress.enter(&call.id) else {
        let problem = Problem::conflict("The same call is being answered now; wait and repeat it.");
        return Ok(answer_with(request, &problem));
    };
    match call.kept(&app) {
        Ok(Some(response)) => return Ok(request.into_response(response)),
        Ok(None) => {}
        Err(problem) => return Ok(answer_with(request, &problem)),
    }
    let response = next.call(request).await?.map_into_boxed_body();
    call.keep(&app, response).await
}

fn answer_with(request: ServiceRequest, problem: &Problem) -> ServiceResponse<BoxBody> {
    request.into_response(problem.error_response())
}

/// One call, as it is known again.
struct Call {
    id: String,
    seal: [u8; 32],
    body: String,
}

impl Call {
    async fn read(request: &mut ServiceRequest, given: &HeaderValue, app: &App) -> Result<Self, Problem> {
        let key = given
            .to_str()
            .ok()
            .filter(|k| (1..=128).contains(&k.len()) && k.bytes().all(|b| b.is_ascii_graphic()));
        let key =
            key.ok_or_else(|| Problem::invalid("`Idempotency-Key` is 1 to 128 visible ASCII characters."))?;
        let principal = recognise(request.request())?;
        let bytes = read_body(request, app.config.http.body_bytes_max).await?;
        let secret = match request.headers().get(header::AUTHORIZATION) {
            Some(token) => Sha256::digest(token.as_bytes()).into(),
            None => *app.keys.key("idempotency/v1"),
        };
        let place = format!("{} {}", request.method(), request.path());
        let mix = |label: &str| -> [u8; 32] {
            let parts = [label, &principal.id, &place, key];
            let hash = parts.iter().fold(Sha256::new().chain_update(secret), |h, part| {
                h.chain_update((part.len() as u64).to_be_bytes()).chain_update(part)
            });
            hash.finalize().into()
        };
        let seal = mix("seal");
        let body = hex::encode(Sha256::new().chain_update(seal).chain_update(&bytes).finalize());
        request.set_payload(Payload::from(bytes));
        Ok(Self { id: hex::encode(&mix("id")[..16]), seal, body })
    }

    fn kept(&self, app: &App) -> Result<Option<HttpResponse>, Problem> {
        let Some(value) = app.store.get_primary(KIND, &self.id).map_err(Problem::from)? else {
            return Ok(None);
        };
        let kept: Kept = serde_json::from_value(value).map_err(Problem::fault)?;
        if kept.until < app.clock.now() {
            return Ok(None);
        }
        if kept.body != self.body {
            return Err(Problem::conflict("This `Idempotency-Key` was used for another body."));
        }
        let nonce = STANDARD.decode(&kept.nonce).map_err(Problem::fault)?;
        let sealed = STANDARD.decode(&kept.sealed).map_err(Problem::fault)?;
        let open = Aes256Gcm::new((&self.seal).into()).decrypt(Nonce::from_slice(&nonce), sealed.as_slice());
        let open = open.map_err(|_| Problem::fault("a kept answer does not open"))?;
        let answer: Answer = serde_json::from_slice(&open).map_err(Problem::fault)?;
        let status = StatusCode::from_u16(answer.status).map_err(Problem::fault)?;
        let mut response = HttpResponse::build(status);
        response.insert_header((header::CONTENT_TYPE, answer.content_type));
        response.insert_header(("Idempotent-Replay", "true"));
        if let Some(location) = answer.location {
            response.insert_header((header::LOCATION, location));
        }
        Ok(Some(response.body(answer.body)))
    }

    async fn keep(
        &self,
        app: &App,
        response: ServiceResponse<BoxBody>,
    ) -> Result<ServiceResponse<BoxBody>, Error> {
        let refused_caller = matches!(response.status().as_u16(), 401 | 403);
        let nowhere = matches!(response.status().as_u16(), 404 | 405);
        if response.status().is_server_error() || refused_caller || nowhere {
            return Ok(response);
        }
        let (request, response) = response.into_parts();
        let (head, body) = response.into_parts();
        let bytes = to_bytes(body).await.map_err(Problem::fault)?;
        let text = |name| {
            head.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok()).map(ToOwned::to_owned)
        };
        let answer = Answer {
            status: head.status().as_u16(),
            content_type: text(header::CONTENT_TYPE).unwrap_or_default(),
            location: text(header::LOCATION),
            body: String::from_utf8_lossy(&bytes).into_owned(),
        };
        if bytes.len() <= ANSWER_BYTES_MAX {
            self.save(app, &answer)?;
        }
        Ok(ServiceResponse::new(request, head.set_body(BoxBody::new(bytes))))
    }

    fn save(&self, app: &App, answer: &Answer) -> Result<(), Problem> {
        let mut nonce = [0; 12];
        app.entropy.fill(&mut nonce);
        let clear = serde_json::to_vec(answer).map_err(Problem::fault)?;
        let sealed = Aes256Gcm::new((&self.seal).into())
            .encrypt(Nonce::from_slice(&nonce), clear.as_slice())
            .map_err(|_| Problem::fault("an answer cannot be sealed"))?;
        let until = Timestamp::from_millis(app.clock.now().millis() + KEEP_MILLIS);
        let kept = Kept {
            body: self.body.clone(),
            nonce: STANDARD.encode(nonce),
            sealed: STANDARD.encode(sealed),
            until,
        };
        let value = serde_json::to_value(kept).map_err(Problem::fault)?;
        let write = Write { kind: KIND.into(), key: self.id.clone(), value: Some(value) };
        app.store.put_primary(vec![write]).map_err(Problem::from)
    }
}

async fn read_body(request: &mut ServiceRequest, limit: usize) -> Result<web::Bytes, Problem> {
    let payload = request.take_payload();
    let body = actix_web::body::to_bytes_limited(actix_web::body::BodyStream::new(payload), limit).await;
    match body {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Problem::invalid("The body could not be read.")),
        Err(_) => Err(Problem::invalid(format!("The body has more than {limit} bytes.")).with_status(413)),
    }
}

/// Forgets answers whose time is over.
///
/// # Errors
/// If the store fails.
pub fn tidy(app: &App) -> Result<(), crate::store::StoreError> {
    let now = app.clock.now();
    let mut after: Option<String> = None;
    loop {
        let page = app.store.scan_primary(KIND, "", after.as_deref(), 500)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        let old = page.into_iter().filter(|(_, value)| {
            serde_json::from_value::<Kept>(value.clone()).map_or(true, |kept| kept.until < now)
        });
        let writes = old.map(|(key, _)| Write { kind: KIND.into(), key, value: None }).collect();
        app.store.put_primary(writes)?;
    }
}
