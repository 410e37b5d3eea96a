//! `GET /v1/me/disclosures`

use actix_web::{HttpRequest, HttpResponse, get, web};
use almoner_model::Date;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::App;
use crate::flows::uses::disclosures as accounts;
use crate::flows::uses::{csv, fhir};
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::DecideForOneself;
use crate::web::error::Problem;
use crate::web::format::Format;
use crate::web::schema::CalendarDate;

const OFFERED: &[Format] = &[Format::Json, Format::Text, Format::Csv, Format::Fhir, Format::FhirNdjson];

/// Which disclosures, and in which form.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Period {
    /// The first day, UTC; six years ago where none is named.
    #[param(value_type = Option<CalendarDate>)]
    pub from: Option<Date>,
    /// The last day, UTC; today where none is named.
    #[param(value_type = Option<CalendarDate>)]
    pub to: Option<Date>,
    /// The form; where none is named, by `Accept`.
    #[param(inline)]
    pub format: Option<Format>,
}

/// Who received data about you, when, what and why, of what the hospital that invited you holds: an accounting of
/// disclosures as in 45 CFR 164.528, with the entries that need no accounting and the rule that says so. FHIR is R4 AuditEvent in
/// the profile IHE.BasicAudit.PrivacyDisclosure.Source.
#[utoipa::path(
    tag = "me",
    operation_id = "list_disclosures",
    security(("token" = ["decide_for_oneself"])),
    params(Period),
    responses((status = 200, content(
        (accounts::Accounting = "application/json"),
        (String = "text/plain"),
        (String = "text/csv"),
        (Object = "application/fhir+json"),
        (String = "application/fhir+ndjson"),
    )))
)]
#[get("/v1/me/disclosures")]
pub async fn disclosures(
    caller: Caller<DecideForOneself>,
    app: web::Data<App>,
    request: HttpRequest,
    period: web::Query<Period>,
) -> Result<HttpResponse, Problem> {
    let who = caller.person()?;
    let format = Format::chosen(&request, period.format, OFFERED)?;
    let (from, to) = (period.from, period.to);
    let told = blocking(&app, move |app| app.with_data(|ctx| accounts::accounting(ctx, &who, from, to)));
    let told = told.await?;
    let mut answer = HttpResponse::Ok();
    answer.content_type(format.media_type()).insert_header(("Cache-Control", "no-store"));
    let events = || {
        let origin = app.store.checkpoint().checkpoint.origin;
        let event = |d| fhir::disclosure_event(&origin, &caller.id, d);
        told.disclosures.iter().map(event).collect::<Vec<_>>()
    };
    Ok(match format {
        Format::Text => answer.body(accounts::text(&told)),
        Format::Csv => {
            let rows = accounts::rows(&told).map_err(Problem::fault)?;
            answer.insert_header(("Content-Disposition", "attachment; filename=\"disclosures.csv\""));
            answer.body(csv::lines(accounts::COLUMNS, &rows, true))
        }
        Format::Fhir => answer.body(fhir::bundle(&events(), None).to_string()),
        Format::FhirNdjson => answer.body(fhir::ndjson(&events())),
        Format::Json | Format::Ndjson => answer.json(&told),
    })
}
