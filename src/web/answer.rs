//! How the HTTP interface says yes: bodies, pages of lists, and blocking work off the serving threads.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, Responder, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

use super::api::jobs::Job;
use super::error::{Kind, Problem, REQUEST_ID};
use crate::app::App;
use crate::store::Store;

/// Runs blocking work on a thread that may block.
///
/// # Errors
/// The work's error as a problem.
pub async fn blocking<T, E, F>(app: &web::Data<App>, work: F) -> Result<T, Problem>
where
    T: Send + 'static,
    E: Send + 'static,
    F: FnOnce(&App) -> Result<T, E> + Send + 'static,
    Problem: From<E>,
{
    let app = app.clone();
    let request = REQUEST_ID.try_with(Clone::clone).ok();
    let work = move || work(&app).map_err(|error| later(Problem::from(error), &*app.store));
    // Problems and faults that are made over there name the request too.
    let named = move || match request {
        Some(id) => REQUEST_ID.sync_scope(id, work),
        None => work(),
    };
    web::block(named).await?
}

/// What failed while the ledger takes nothing (disk full, read-only or failing) is asked again later: 503.
fn later(problem: Problem, store: &dyn Store) -> Problem {
    if problem.kind == Kind::Fault && store.accepting().is_err() { problem.not_now() } else { problem }
}

/// Turns at work that reads whole datasets or releases: as many at a time as jobs; who comes later waits, in order.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Semaphore>);

impl Turns {
    /// `at_once` turns.
    pub fn new(at_once: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once)))
    }

    /// Runs blocking work that reads much, when it is its turn. A caller that hangs up gives up its place in the queue;
    /// work that has begun is done, since it may be in the ledger already.
    ///
    /// # Errors
    /// The work's error as a problem.
    pub async fn take<T, E, F>(&self, app: &web::Data<App>, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: FnOnce(&App) -> Result<T, E> + Send + 'static,
        Problem: From<E>,
    {
        let turn = Arc::clone(&self.0).acquire_owned().await.map_err(Problem::fault)?;
        let done = blocking(app, move |app| {
            let _turn = turn;
            work(app)
        });
        done.await
    }
}

/// 201 with the new thing.
#[derive(Debug)]
pub struct Created<T>(pub T);

impl<T: Serialize> Responder for Created<T> {
    type Body = actix_web::body::BoxBody;
    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Created().json(self.0)
    }
}

/// 202 with a job that can be followed at `Location`.
#[derive(Debug)]
pub struct Accepted<T> {
    /// Where the job is.
    pub location: String,
    /// The job.
    pub body: T,
}

impl Accepted<Job> {
    /// A job.
    pub fn job(job: Job) -> Self {
        Self { location: format!("/v1/jobs/{}", job.id), body: job }
    }
}

impl<T: Serialize> Responder for Accepted<T> {
    type Body = actix_web::body::BoxBody;
    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Accepted().insert_header((header::LOCATION, self.location)).json(self.body)
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// In order of their keys; jobs newest first.
    pub items: Vec<T>,
    /// Pass as `cursor` to get the next page; null at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which page of a list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// `next` of the page before.
    #[param(min_length = 1, max_length = 512, pattern = "^[A-Za-z0-9_-]+$")]
    pub cursor: Option<String>,
    /// Items on a page.
    #[param(minimum = 1, maximum = 500, default = 100)]
    pub limit: Option<usize>,
}

impl Paging {
    /// The key after which the page begins.
    ///
    /// # Errors
    /// 400 if the cursor is not one.
    pub fn after(&self) -> Result<Option<String>, Problem> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok().filter(|_| (1..=512).contains(&cursor.len()));
        let key = bytes.and_then(|b| String::from_utf8(b).ok()).filter(|k| !k.contains('\0'));
        key.map(Some).ok_or_else(|| Problem::invalid("The cursor is not one that this list gave."))
    }

    /// How many items.
    ///
    /// # Errors
    /// 400 outside 1 to 500.
    pub fn limit(&self) -> Result<usize, Problem> {
        match self.limit.unwrap_or(100) {
            n @ 1..=500 => Ok(n),
            _ => Err(Problem::invalid("`limit` is 1 to 500.")),
        }
    }

    /// A page of `rows` that were read with one more than the limit, where there are more.
    pub fn page<R, T>(&self, mut rows: Vec<(String, R)>, view: impl Fn(R) -> T) -> Page<T> {
        let limit = self.limit.unwrap_or(100);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(|(key, _)| URL_SAFE_NO_PAD.encode(key)) } else { None };
        Page { items: rows.into_iter().map(|(_, row)| view(row)).collect(), next }
    }
}

/// The header by which a creating call is known again.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyHeader {
    /// Repeating a call with the same key and body gives the first answer again instead of acting twice. Kept 24 hours.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 128, pattern = "^[!-~]{1,128}$")]
    pub idempotency_key: Option<String>,
}
