//! In which form a view is given: by the parameter `format`, else by `Accept`, else JSON.

use actix_web::HttpRequest;
use actix_web::http::header::{self, Header as _};
use almoner_model::{Date, Timestamp};
use serde::Deserialize;
use utoipa::ToSchema;

use super::error::Problem;
use crate::flows::uses::{csv, fhir};

/// A form of a view.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// JSON.
    Json,
    /// A table for spreadsheets.
    Csv,
    /// JSON, one row a line.
    Ndjson,
    /// For reading and printing.
    Text,
    /// A FHIR R4 Bundle of AuditEvents.
    Fhir,
    /// FHIR R4 AuditEvents, one a line.
    FhirNdjson,
}

impl Format {
    /// As it is written in `format`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Text => "text",
            Self::Fhir => "fhir",
            Self::FhirNdjson => "fhir-ndjson",
        }
    }

    /// The media type that an answer carries.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => csv::MEDIA_TYPE,
            Self::Ndjson => "application/x-ndjson",
            Self::Text => "text/plain; charset=utf-8",
            Self::Fhir => fhir::MEDIA_TYPE,
            Self::FhirNdjson => fhir::NDJSON_MEDIA_TYPE,
        }
    }

    /// The form to answer in, of those that are offered: the named one, else the best that the caller accepts, else JSON.
    ///
    /// # Errors
    /// 400 if the named one is not offered here.
    pub fn chosen(request: &HttpRequest, named: Option<Self>, offered: &[Self]) -> Result<Self, Problem> {
        if let Some(named) = named {
            let all: Vec<&str> = offered.iter().map(|f| f.as_str()).collect();
            let no = || Problem::invalid(format!("`format` is one of {} here.", all.join(", ")));
            return offered.contains(&named).then_some(named).ok_or_else(no);
        }
        let accepted = header::Accept::parse(request).map(|a| a.ranked()).unwrap_or_default();
        let essence = |f: &Self| f.media_type().split(';').next().unwrap_or_default();
        let first = accepted.iter().find_map(|m| offered.iter().find(|f| essence(f) == m.essence_str()));
        Ok(first.copied().unwrap_or(Self::Json))
    }
}

/// The first instant of a period that begins at `text`: a day, or an instant.
///
/// # Errors
/// 400 if it is neither.
pub fn begins(name: &str, text: &str) -> Result<Timestamp, Problem> {
    let day = Date::parse(text.as_bytes()).map(Timestamp::from_date);
    day.or_else(|| Timestamp::parse(text)).ok_or_else(|| no_moment(name))
}

/// The first instant after a period that ends with the day `text`, or before the instant `text`.
///
/// # Errors
/// 400 if it is neither.
pub fn ends(name: &str, text: &str) -> Result<Timestamp, Problem> {
    let day = Date::parse(text.as_bytes()).map(|d| Timestamp::from_date(d.plus_days(1)));
    day.or_else(|| Timestamp::parse(text)).ok_or_else(|| no_moment(name))
}

fn no_moment(name: &str) -> Problem {
    Problem::invalid(format!(
        "`{name}` is a day such as 2026-01-31, or an instant such as 2026-01-31T09:30:00Z."
    ))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_named_form_wins_over_the_accepted_one_and_json_is_for_everything_else() {
        let offered = [Format::Json, Format::Csv, Format::Fhir];
        let chosen = |accept: &str, named| {
            let request = TestRequest::default().insert_header(("accept", accept)).to_http_request();
            Format::chosen(&request, named, &offered)
        };
        for (accept, expected) in [
            ("*/*", Format::Json),
            ("text/csv", Format::Csv),
            ("application/json;q=0.2, text/csv;q=0.9", Format::Csv),
            ("application/fhir+json", Format::Fhir),
            ("text/html, image/png", Format::Json),
            ("no media type", Format::Json),
        ] {
            assert_eq!(chosen(accept, None).expect("a form"), expected, "{accept}");
        }
        assert_eq!(chosen("text/csv", Some(Format::Json)).expect("a form"), Format::Json);
        assert_eq!(chosen("*/*", Some(Format::Text)).expect_err("not offered").status, 400);
    }

    #[test]
    fn a_period_of_days_has_its_last_day_in_it() {
        let at = |text: &str| Timestamp::parse(text).expect("an instant");
        assert_eq!(begins("from", "2026-01-31").expect("a day"), at("2026-01-31T00:00:00Z"));
        assert_eq!(ends("to", "2026-01-31").expect("a day"), at("2026-02-01T00:00:00Z"));
        assert_eq!(ends("to", "2026-01-31T09:30:00Z").expect("an instant"), at("2026-01-31T09:30:00Z"));
        assert!(begins("from", "yesterday").is_err());
    }
}
