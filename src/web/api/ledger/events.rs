//! `GET /v1/ledger/events`

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, get, web};
use almoner_ledger::Leaf;
use almoner_model::Seq;
use async_stream::stream;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::App;
use crate::events::Event;
use crate::flows::AccessError;
use crate::flows::uses::{Viewer, seen};
use crate::store::StoreError;
use crate::web::answer::blocking;
use crate::web::auth::roles::FollowLedger;
use crate::web::auth::{Caller, Role, still_recognised};
use crate::web::error::Problem;

/// How often the ledger is looked at while it is followed.
const PACE: Duration = Duration::from_millis(200);
/// After how many looks the token is looked at again: a token that was ended ends the stream.
const RECOGNISED_EVERY: u32 = 25;
/// How many looks without news until a comment keeps the connection open.
const QUIET_MAX: u32 = 75;
/// Entries that are read at a time.
const BATCH: u64 = 64;

/// From where, and which.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Following {
    /// The first entry. Where none is named, what comes in from now on. The header `Last-Event-ID` goes before it: the stream
    /// then goes on after that entry.
    #[param(minimum = 0)]
    pub from: Option<u64>,
    /// Only these types, with commas between.
    #[param(example = "count.answered,release.built,download.opened", max_length = 1024)]
    pub types: Option<String>,
}

impl Following {
    fn kinds(&self) -> Result<Vec<&'static str>, Problem> {
        let named = self.types.as_deref().unwrap_or_default().split(',').filter(|t| !t.is_empty());
        let known = |t: &str| Event::KINDS.iter().find(|k| **k == t).copied();
        let unknown = || Problem::invalid("`types` names a type that no entry has.");
        named.map(|t| known(t).ok_or_else(unknown)).collect()
    }

    fn start(&self, request: &HttpRequest, size: Seq) -> Result<Seq, Problem> {
        let last = request.headers().get("last-event-id").map(|v| {
            let seq = v.to_str().ok().and_then(|t| t.trim().parse::<Seq>().ok());
            seq.and_then(|seq| seq.checked_add(1))
                .ok_or_else(|| Problem::invalid("`Last-Event-ID` is no entry."))
        });
        let start = last.transpose()?.or(self.from).unwrap_or(size);
        if start <= size {
            return Ok(start);
        }
        Err(Problem::invalid(format!("The ledger has {size} entries; there is none to follow from there.")))
    }
}

/// Follows the ledger as server-sent events: from the entry that is named, then live, without a gap and each entry once.
///
/// The `id` is the position in the ledger, by which a client that was cut off goes on (`Last-Event-ID`), `event` its type, and
/// `data` an event of CloudEvents 1.0 in JSON: `specversion`, `id` (the UUID of the act), `source`, `type`, `time`, `sequence` (the
/// position), and, as far as the caller's role may see it, `subject` (what it is about, never a person) and `data`. Entries
/// about one person have neither. `erased` is true where what was said is gone; of entries about one person it is told only to
/// operators and to boards of all hospitals. Comments keep a quiet connection open; the
/// stream ends when the server stops or the token does.
#[utoipa::path(
    tag = "ledger",
    operation_id = "follow_ledger",
    security(("token" = ["follow_ledger"])),
    params(Following, ("Last-Event-ID" = Option<u64>, Header, description = "The last entry that was received")),
    responses((status = 200, body = String, content_type = "text/event-stream"))
)]
#[get("/v1/ledger/events")]
pub async fn events(
    caller: Caller<FollowLedger>,
    app: web::Data<App>,
    request: HttpRequest,
    following: web::Query<Following>,
) -> Result<HttpResponse, Problem> {
    let kinds = following.kinds()?;
    let start = following.start(&request, app.store.size())?;
    let principal = caller.clone();
    let (viewer, operator) = (caller.viewer(), caller.role == Role::Operator);
    let body = stream! {
        let (mut at, mut looks, mut quiet) = (start, 0_u32, 0_u32);
        // The head of the answer is sent with the first bytes.
        yield Ok::<_, std::convert::Infallible>(web::Bytes::from_static(b"retry: 2000\n\n"));
        while !app.jobs.stopping() {
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(RECOGNISED_EVERY) && !still_recognised(&request, &principal) {
                break;
            }
            if at < app.store.size() {
                let (viewer, kinds) = (viewer.clone(), kinds.clone());
                let read = blocking(&app, move |app| batch(app, &viewer, operator, &kinds, at)).await;
                let Ok((messages, next)) = read else { break };
                at = next;
                for message in messages {
                    quiet = 0;
                    yield Ok(web::Bytes::from(message));
                }
                continue;
            }
            quiet += 1;
            if quiet >= QUIET_MAX {
                quiet = 0;
                yield Ok(web::Bytes::from_static(b": still here\n\n"));
            }
            tokio::time::sleep(PACE).await;
        }
    };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("Cache-Control", "no-store"))
        .streaming(Box::pin(body)))
}

/// The messages of some entries from `at` on, and the entry to go on from.
fn batch(
    app: &App,
    viewer: &Viewer,
    operator: bool,
    kinds: &[&str],
    at: Seq,
) -> Result<(Vec<String>, Seq), AccessError> {
    let ctx = app.access();
    let to = at.saturating_add(BATCH).min(ctx.store.size());
    let origin = ctx.store.checkpoint().checkpoint.origin;
    let mut messages = Vec::new();
    for (seq, bytes) in (at..to).zip(ctx.store.leaves(at..to)?) {
        let broken = || StoreError::NotIntact(format!("entry {seq}"));
        let leaf = Leaf::parse(&bytes).map_err(|_| broken())?;
        if !kinds.is_empty() && !kinds.contains(&leaf.kind.as_str()) {
            continue;
        }
        let entry = ctx.store.entry(seq)?.ok_or_else(broken)?;
        let seen = seen::of(&ctx, viewer, operator, &entry)?;
        let event = seen::cloud_event(&origin, &entry, seen);
        messages.push(format!("id: {seq}\nevent: {}\ndata: {event}\n\n", leaf.kind));
    }
    Ok((messages, to))
}
