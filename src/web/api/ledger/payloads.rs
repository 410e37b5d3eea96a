//! `GET /v1/ledger/payloads`

use std::io::{self, Write};

use actix_web::{HttpResponse, get, web};
use async_stream::stream;
use tokio::sync::mpsc::{Sender, channel};

use crate::app::App;
use crate::flows::DataError;
use crate::flows::opened::{self, Source};
use crate::flows::release::members_in;
use crate::web::auth::Caller;
use crate::web::auth::roles::AuditDecisions;
use crate::web::error::Problem;

/// Bytes that are sent at a time.
const PIECE: usize = 256 << 10;
/// Pieces that wait to be sent.
const WAITING: usize = 4;

/// The payloads that rules and consents rest on, opened: with them and the public ledger `almoner-verify replay` makes every
/// decision again, offline. A board of all contributors gets all of them; a board of some what concerns those
/// contributors alone. It names members of releases by the exchange's ids and opens what they said, so keep it as a list of
/// patients is kept.
#[utoipa::path(
    tag = "ledger",
    operation_id = "read_payloads",
    security(("token" = ["audit_decisions"])),
    responses((status = 200, body = String, content_type = "application/x-ndjson", description = "One object a line"))
)]
#[get("/v1/ledger/payloads")]
pub async fn payloads(caller: Caller<AuditDecisions>, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let scope = caller.scope.iter().map(|s| s.parse()).collect::<Result<Vec<_>, _>>();
    let scope = scope.map_err(Problem::fault)?;
    let (to, mut pieces) = channel(WAITING);
    let work = web::block(move || {
        let source = Source {
            store: &*app.store,
            documents: &app.documents,
            members: &|id| members_in(&app.releases, &app.keys, id),
        };
        let mut out = Pieces { to: &to, waiting: Vec::with_capacity(PIECE) };
        let done = opened::write(source, (!scope.is_empty()).then_some(&*scope), &mut out);
        if let Err(error) = done {
            // Nobody hears it where the caller is gone.
            let _ = to.blocking_send(Err(error));
        }
    });
    // What fails before the first piece is answered as a problem.
    let first = match pieces.recv().await {
        Some(first) => first?,
        None => return Err(Problem::fault(io::Error::other("nothing was written"))),
    };
    let rest = stream! {
        yield Ok(first);
        while let Some(piece) = pieces.recv().await {
            yield piece.map_err(|_| io::Error::other("the ledger could not be read on"));
        }
        let _ = work.await;
    };
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .insert_header(("Cache-Control", "private, no-store"))
        .streaming(Box::pin(rest)))
}

/// Hands on what is written, in pieces.
struct Pieces<'a> {
    to: &'a Sender<Result<web::Bytes, DataError>>,
    waiting: Vec<u8>,
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.waiting, Vec::with_capacity(PIECE));
        self.to.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
