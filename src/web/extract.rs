//! What happens when a body, path or query does not parse: a problem that says where, and never repeats what was sent.
//!
//! A body that does not fit is told by the member (a JSON pointer) and what was expected there. `serde` quotes the value it
//! could not read; only the parts of its sentence that come from our own types are passed on: the name of a missing member,
//! and what was expected instead. Names of members are ours too, for no body has members of the caller's own naming.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::error::{PathError, PayloadError, QueryPayloadError};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};

use super::error::Problem;
use crate::app::App;

/// A JSON body of at most `http.body_bytes_max` bytes; any error is a problem.
#[derive(Debug)]
pub struct Body<T>(T);

impl<T> Body<T> {
    /// What was sent.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let json = request
            .mime_type()
            .ok()
            .flatten()
            .is_some_and(|mime| mime.subtype() == "json" || mime.suffix().is_some_and(|s| s == "json"));
        let bytes_max = request.app_data::<web::Data<App>>().map(|app| app.config.http.body_bytes_max);
        let bytes = web::Bytes::from_request(request, payload);
        Box::pin(async move {
            if !json {
                let said = "The body must be JSON, with `Content-Type: application/json`.";
                return Err(Problem::invalid(said).with_status(415));
            }
            let bytes = bytes.await.map_err(|e| unread(&e, bytes_max.unwrap_or_default()))?;
            parse(&bytes).map(Self)
        })
    }
}

fn unread(error: &actix_web::Error, bytes_max: usize) -> Problem {
    match error.as_error::<PayloadError>() {
        Some(PayloadError::Overflow) => {
            Problem::invalid(format!("The body has more than {bytes_max} bytes.")).with_status(413)
        }
        _ => Problem::invalid("The body could not be read."),
    }
}

/// A body as a value.
///
/// # Errors
/// 400 where it is not JSON; 422 where it does not fit, with the pointer of the member that does not.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = pointer(error.path());
        misfit(path, error.inner())
    })?;
    json.end().map(|()| value).map_err(|e| misfit(String::new(), &e))
}

fn misfit(mut pointer: String, error: &serde_json::Error) -> Problem {
    if !error.is_data() {
        let place = format!("The body is not JSON (line {}, column {}).", error.line(), error.column());
        return Problem::invalid(place);
    }
    let message = error.to_string();
    if message.starts_with("unknown field") {
        // The last part is the member that is not ours.
        pointer.truncate(pointer.rfind('/').unwrap_or(0));
    }
    if let Some(name) = missing(&message) {
        pointer = format!("{pointer}/{name}");
    }
    let place = if pointer.is_empty() { "The body" } else { pointer.as_str() };
    Problem::unacceptable(sentence(&format!("{place} does not fit"), told(&message))).at(pointer)
}

/// A path as a JSON pointer (RFC 6901). What is behind a part that has no name in it is left out.
fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1")))
            }
            Segment::Enum { .. } => {}
            Segment::Unknown => break,
        }
    }
    pointer
}

/// The path extractor: an id that does not parse names nothing.
pub fn path() -> web::PathConfig {
    web::PathConfig::default().error_handler(|_: PathError, _: &HttpRequest| Problem::not_found().into())
}

/// The query extractor.
pub fn query() -> web::QueryConfig {
    web::QueryConfig::default().error_handler(|error, _: &HttpRequest| {
        let told = match &error {
            QueryPayloadError::Deserialize(e) => queried(&e.to_string()),
            _ => None,
        };
        Problem::invalid(sentence("The query does not fit", told)).into()
    })
}

fn queried(message: &str) -> Option<String> {
    missing(message).map(|name| format!("`{name}` is missing")).or_else(|| told(message))
}

fn sentence(start: &str, told: Option<String>) -> String {
    match told {
        Some(told) => format!("{start}: {told}."),
        None => format!("{start}."),
    }
}

/// The name of the member that is missing.
fn missing(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

/// The part of serde's sentence that cannot hold what the caller sent.
fn told(message: &str) -> Option<String> {
    let message = message.rsplit_once(" at line ").map_or(message, |(before, _)| before);
    if missing(message).is_some() {
        return Some("it is missing".into());
    }
    if message.starts_with("unknown field") {
        let (_, expected) = message.rsplit_once("expected ")?;
        return Some(format!("a member is unknown; expected {expected}"));
    }
    let (_, expected) = message.rsplit_once(", expected ")?;
    Some(format!("expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use almoner_model::{Date, Duo, ProjectId};
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Request {
        age: u8,
        #[serde(default)]
        project: Option<ProjectId>,
        #[serde(default)]
        purpose: Purpose,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Purpose {
        terms: Vec<Duo>,
        #[serde(default)]
        until: Option<Date>,
    }

    #[test]
    fn what_does_not_fit_is_told_by_its_member_and_never_repeated() {
        for (sent, status, at, said) in [
            (r#"{"age": "Marine542"}"#, 422, "/age", "/age does not fit: expected u8"),
            (r#"{"age": 1, "Marine542": 1}"#, 422, "", "a member is unknown; expected one of `age`"),
            (r#"{"age": 1, "purpose": {"Marine542": 1}}"#, 422, "/purpose", "expected `terms` or `until`"),
            ("{}", 422, "/age", "it is missing"),
            (r#"{"age": 1, "purpose": {}}"#, 422, "/purpose/terms", "it is missing"),
            (r#"{"age": 54200}"#, 422, "/age", "expected u8"),
            (r#"{"age": 1, "project": "Marine 542"}"#, 422, "/project", "1 to 64 characters"),
            (
                r#"{"age": 1, "purpose": {"terms": ["Marine542"]}}"#,
                422,
                "/purpose/terms/0",
                "a known DUO term",
            ),
            (
                r#"{"age": 1, "purpose": {"terms": "Marine542"}}"#,
                422,
                "/purpose/terms",
                "expected a sequence",
            ),
            (
                r#"{"age": 1, "purpose": {"terms": [], "until": "542"}}"#,
                422,
                "/purpose/until",
                "a calendar date",
            ),
            (r#"["Marine542"]"#, 422, "/0", "expected u8"),
            (r#"{"age": Marine542"#, 400, "", "not JSON (line 1"),
            (r#"{"age": 1} Marine542"#, 400, "", "not JSON (line 1"),
        ] {
            let problem = parse::<Request>(sent.as_bytes()).expect_err(sent);
            assert_eq!(
                (problem.status, problem.pointer.unwrap_or_default().as_str()),
                (status, at),
                "{sent}"
            );
            assert!(problem.detail.contains(said), "{sent}: {}", problem.detail);
            assert!(!problem.detail.contains("542"), "{sent}: {}", problem.detail);
        }
    }
}
