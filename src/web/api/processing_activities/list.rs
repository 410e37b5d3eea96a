//! `GET /v1/processing-activities`

use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::App;
use crate::flows::uses::csv;
use crate::flows::uses::processing::{self, Register};
use crate::web::answer::blocking;
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadProcessing;
use crate::web::error::Problem;
use crate::web::format::Format;

const OFFERED: &[Format] = &[Format::Json, Format::Text, Format::Csv];

/// In which form.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Form {
    /// The form; where none is named, by `Accept`.
    #[param(inline)]
    pub format: Option<Format>,
}

/// The register of processing activities (GDPR Art. 30) as far as the exchange knows it: one activity for each hospital's
/// data, one for each project that asked for data, one for the exchange's own accounts. Contributors and boards see those of
/// their data. What a controller adds by itself is named in `to_complete`.
#[utoipa::path(
    tag = "processing-activities",
    operation_id = "list_processing_activities",
    security(("token" = ["read_processing"])),
    params(Form),
    responses((status = 200, content(
        (Register = "application/json"),
        (String = "text/plain"),
        (String = "text/csv"),
    )))
)]
#[get("/v1/processing-activities")]
pub async fn list(
    caller: Caller<ReadProcessing>,
    app: web::Data<App>,
    request: HttpRequest,
    form: web::Query<Form>,
) -> Result<HttpResponse, Problem> {
    let format = Format::chosen(&request, form.format, OFFERED)?;
    let viewer = caller.viewer();
    let register =
        blocking(&app, move |app| processing::register(&app.access(), &viewer, &app.config.keeping()));
    let register = register.await?;
    let mut answer = HttpResponse::Ok();
    answer.content_type(format.media_type()).insert_header(("Cache-Control", "no-store"));
    Ok(match format {
        Format::Text => answer.body(processing::text(&register)),
        Format::Csv => {
            let rows = processing::rows(&register).map_err(Problem::fault)?;
            answer
                .insert_header(("Content-Disposition", "attachment; filename=\"processing-activities.csv\""));
            answer.body(csv::lines(processing::COLUMNS, &rows, true))
        }
        _ => answer.json(&register),
    })
}
