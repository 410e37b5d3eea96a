//! What happens when a body, path or query does not parse: a problem that says where, and never repeats what was sent.
//!
//! `serde` quotes the value it could not read. Only the parts of its sentence that come from our own types are passed on:
//! the name of a missing field, and what was expected instead.

use actix_web::error::{JsonPayloadError, PathError, QueryPayloadError};
use actix_web::{HttpRequest, web};

use super::error::Problem;

/// The JSON extractor: at most `limit` bytes, any error as a problem.
pub fn json(limit: usize) -> web::JsonConfig {
    web::JsonConfig::default()
        .limit(limit)
        .error_handler(|error, _: &HttpRequest| json_problem(&error).into())
}

/// The path extractor: an id that does not parse names nothing.
pub fn path() -> web::PathConfig {
    web::PathConfig::default().error_handler(|_: PathError, _: &HttpRequest| Problem::not_found().into())
}

/// The query extractor.
pub fn query() -> web::QueryConfig {
    web::QueryConfig::default().error_handler(|error, _: &HttpRequest| {
        let told = match &error {
            QueryPayloadError::Deserialize(e) => told(&e.to_string()),
            _ => None,
        };
        Problem::invalid(sentence("The query does not fit", told)).into()
    })
}

fn json_problem(error: &JsonPayloadError) -> Problem {
    match error {
        JsonPayloadError::OverflowKnownLength { limit, .. } | JsonPayloadError::Overflow { limit } => {
            Problem::invalid(format!("The body has more than {limit} bytes.")).with_status(413)
        }
        JsonPayloadError::ContentType => {
            Problem::invalid("The body must be JSON, with `Content-Type: application/json`.").with_status(415)
        }
        JsonPayloadError::Deserialize(e) if e.is_data() => {
            let place = format!("The body does not fit (line {}, column {})", e.line(), e.column());
            Problem::unacceptable(sentence(&place, told(&e.to_string())))
        }
        JsonPayloadError::Deserialize(e) => {
            Problem::invalid(format!("The body is not JSON (line {}, column {}).", e.line(), e.column()))
        }
        _ => Problem::invalid("The body could not be read."),
    }
}

fn sentence(start: &str, told: Option<String>) -> String {
    match told {
        Some(told) => format!("{start}: {told}."),
        None => format!("{start}."),
    }
}

/// The part of serde's sentence that cannot hold what the caller sent.
fn told(message: &str) -> Option<String> {
    let message = message.rsplit_once(" at line ").map_or(message, |(before, _)| before);
    if let Some(rest) = message.strip_prefix("missing field `") {
        let name = rest.split('`').next()?;
        return Some(format!("the field `{name}` is missing"));
    }
    if message.starts_with("unknown field") {
        let (_, expected) = message.rsplit_once("expected ")?;
        return Some(format!("a field is unknown; expected {expected}"));
    }
    let (_, expected) = message.rsplit_once(", expected ")?;
    Some(format!("expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Body {
        age: u8,
    }

    fn detail(text: &str) -> String {
        json_problem(&JsonPayloadError::Deserialize(serde_json::from_str::<Body>(text).expect_err("bad")))
            .detail
    }

    #[test]
    fn what_was_sent_is_never_repeated() {
        for (sent, said) in [
            (r#"{"age": "Marine542"}"#, "expected u8"),
            (r#"{"Marine542": 1}"#, "a field is unknown; expected `age`"),
            (r#"{}"#, "`age` is missing"),
            (r#"{"age": 54200}"#, "expected u8"),
            (r#"{"age": Marine542"#, "not JSON (line 1"),
        ] {
            let detail = detail(sent);
            assert!(detail.contains(said), "{detail}");
            assert!(!detail.contains("542"), "{detail}");
        }
    }
}
