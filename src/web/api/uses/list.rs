//! `GET /v1/uses`

use std::io;

use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, get, web};
use almoner_model::{ContributorId, ProjectId, RecipientId, Seq};
use async_stream::stream;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::App;
use crate::flows::AccessError;
use crate::flows::uses::{self, Filter, Found, Use, Viewer, csv, fhir};
use crate::web::answer::{Page, Paging, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadUses;
use crate::web::error::Problem;
use crate::web::format::{Format, begins, ends};
use crate::web::schema::Slug;

const OFFERED: &[Format] =
    &[Format::Json, Format::Text, Format::Csv, Format::Ndjson, Format::Fhir, Format::FhirNdjson];
/// Rows that are held at a time while a whole table is sent.
const CHUNK: usize = 500;

/// Which uses, and in which form.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Only for this project.
    #[param(value_type = Option<Slug>)]
    pub project: Option<ProjectId>,
    /// Only of this contributor's data.
    #[param(value_type = Option<Slug>)]
    pub contributor: Option<ContributorId>,
    /// Only by this recipient.
    #[param(value_type = Option<Slug>)]
    pub recipient: Option<RecipientId>,
    /// The first day (UTC) of the period, or its first instant.
    #[param(example = "2026-01-01", max_length = 64)]
    pub from: Option<String>,
    /// The last day (UTC) of the period, or the instant before which it ends.
    #[param(example = "2026-12-31", max_length = 64)]
    pub to: Option<String>,
    /// The form; where none is named, by `Accept`.
    #[param(inline)]
    pub format: Option<Format>,
    /// `next` of the page before.
    #[param(min_length = 1, max_length = 512, pattern = "^[A-Za-z0-9_-]+$")]
    pub cursor: Option<String>,
    /// Rows on a page. Where none is named: 100 in `json` and `fhir`, everything in the others.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<usize>,
}

impl Which {
    fn filter(&self) -> Result<Filter, Problem> {
        Ok(Filter {
            project: self.project.clone(),
            contributor: self.contributor.clone(),
            recipient: self.recipient.clone(),
            from: self.from.as_deref().map(|t| begins("from", t)).transpose()?,
            before: self.to.as_deref().map(|t| ends("to", t)).transpose()?,
        })
    }

    fn paging(&self) -> Paging {
        Paging { cursor: self.cursor.clone(), limit: self.limit }
    }

    fn start(&self) -> Result<Seq, Problem> {
        let bad = || Problem::invalid("The cursor is not one that this list gave.");
        self.paging().after()?.map_or(Ok(0), |text| text.parse().map_err(|_| bad()))
    }
}

/// Lists what was done with people's data, in the order of the ledger: counts answered, releases built, downloads opened.
/// Researchers see their projects', contributors and boards those of their data. What a count answered is in the list of
/// counts.
///
/// `text`, `csv`, `ndjson` and `fhir-ndjson` give the whole period in one answer unless `limit` is named; the others pages, whose next
/// one is in `next` and in the header `Link`. A page can be short, even empty, and yet have a next one. In CSV a cell that a
/// spreadsheet would take for a formula begins with an apostrophe. FHIR is R4 AuditEvent in the profiles of IHE Basic Audit
/// Log Patterns.
#[utoipa::path(
    tag = "uses",
    operation_id = "list_uses",
    security(("token" = ["read_uses"])),
    params(Which),
    responses((status = 200, content(
        (Page<Use> = "application/json"),
        (String = "text/plain"),
        (String = "text/csv"),
        (String = "application/x-ndjson"),
        (Object = "application/fhir+json"),
        (String = "application/fhir+ndjson"),
    )))
)]
#[get("/v1/uses")]
pub async fn list(
    caller: Caller<ReadUses>,
    app: web::Data<App>,
    request: HttpRequest,
    which: web::Query<Which>,
) -> Result<HttpResponse, Problem> {
    let format = Format::chosen(&request, which.format, OFFERED)?;
    let (filter, start) = (which.filter()?, which.start()?);
    let viewer = caller.viewer();
    let whole = which.limit.is_none() && !matches!(format, Format::Json | Format::Fhir);
    let limit = if whole { CHUNK } else { which.paging().limit()? };
    let first = read(&app, &viewer, &filter, start, limit).await?;
    let mut answer = HttpResponse::Ok();
    answer.content_type(format.media_type()).insert_header(("Cache-Control", "no-store"));
    if format == Format::Csv {
        answer.insert_header(("Content-Disposition", "attachment; filename=\"uses.csv\""));
    }
    if whole {
        return Ok(everything(answer, app, format, viewer, filter, first));
    }
    let cursor = first.next.map(|seq| URL_SAFE_NO_PAD.encode(seq.to_string()));
    let next = cursor.as_deref().map(|cursor| next_page(&request, cursor));
    if let Some(next) = &next {
        answer.insert_header(("Link", format!("<{next}>; rel=\"next\"")));
    }
    Ok(match format {
        Format::Json => answer.json(Page { items: first.uses, next: cursor }),
        Format::Fhir => {
            let origin = app.store.checkpoint().checkpoint.origin;
            let events: Vec<_> = first.uses.iter().map(|used| fhir::audit_event(&origin, used)).collect();
            answer.body(fhir::bundle(&events, next.as_deref()).to_string())
        }
        _ => answer.body(rendered(&app, format, &first.uses, true)?),
    })
}

async fn read(
    app: &web::Data<App>,
    viewer: &Viewer,
    filter: &Filter,
    start: Seq,
    limit: usize,
) -> Result<Found, Problem> {
    let (viewer, filter) = (viewer.clone(), filter.clone());
    blocking(app, move |app| uses::page(&app.access(), &viewer, &filter, start, limit)).await
}

/// The same call with another cursor.
fn next_page(request: &HttpRequest, cursor: &str) -> String {
    let kept = request.query_string().split('&').filter(|p| !p.is_empty() && !p.starts_with("cursor="));
    let own = format!("cursor={cursor}");
    let all: Vec<&str> = kept.chain([own.as_str()]).collect();
    format!("{}?{}", request.path(), all.join("&"))
}

fn rendered(app: &App, format: Format, uses: &[Use], headed: bool) -> Result<String, AccessError> {
    let failed = |_| AccessError::Failed("a use is not JSON".into());
    let rows = uses.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    Ok(match format {
        Format::Csv => csv::lines(uses::COLUMNS, &rows, headed),
        Format::Text => uses::text(uses),
        Format::FhirNdjson => {
            let origin = app.store.checkpoint().checkpoint.origin;
            let events: Vec<_> = uses.iter().map(|used| fhir::audit_event(&origin, used)).collect();
            fhir::ndjson(&events)
        }
        _ => rows.iter().map(|row| format!("{row}\n")).collect(),
    })
}

/// Everything from `first` on, a chunk at a time. What fails on the way, or a server that stops, cuts the answer short, so
/// that nobody takes a part for the whole.
fn everything(
    mut answer: HttpResponseBuilder,
    app: web::Data<App>,
    format: Format,
    viewer: Viewer,
    filter: Filter,
    first: Found,
) -> HttpResponse {
    let body = stream! {
        let (mut found, mut headed) = (first, true);
        loop {
            let text = rendered(&app, format, &found.uses, headed).map_err(io::Error::other);
            headed = false;
            match text {
                Ok(text) if text.is_empty() => {}
                Ok(text) => yield Ok(web::Bytes::from(text)),
                Err(error) => {
                    yield Err(error);
                    break;
                }
            }
            let Some(next) = found.next else { break };
            if app.jobs.stopping() {
                yield Err(io::Error::other("the server is stopping"));
                break;
            }
            match read(&app, &viewer, &filter, next, CHUNK).await {
                Ok(more) => found = more,
                Err(problem) => {
                    yield Err(io::Error::other(problem.detail));
                    break;
                }
            }
        }
    };
    answer.streaming(Box::pin(body))
}
