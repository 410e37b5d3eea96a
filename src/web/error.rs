//! How the HTTP interface says no: RFC 9457 problem details of the five kinds.
//!
//! A problem never repeats what the caller sent and never says a patient's value: it carries a kind, a sentence, where
//! needed a JSON pointer or what was measured against what is required, and the id of the request under which the log has
//! more. Faults say nothing but that id. Statuses are decided here once:
//!
//! | kind | status | what the caller does next |
//! |---|---|---|
//! | invalid | 400 malformed, 404 no such thing, 405, 413, 415, 422 understood but not acceptable | change the call |
//! | denied | 401 who are you, 403 not you | another token, or nothing |
//! | conflict | 409 the state is another, 412 precondition | look again, repeat |
//! | refused | 422 a privacy gate; `measured` and `required` say by how much | ask for less |
//! | fault | 500, 503 not now | tell the operator the request id; repeat later |

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::catalog::CatalogError;
use crate::error::ErrorKind;
use crate::flows::consent::ImportError;
use crate::flows::count;
use crate::flows::{AccessError, DataError};
use crate::jobs::Failure;
use crate::release::ReleaseError;
use crate::state::ReadError;

/// The media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Makes problems of module errors that have `kind()` and a sentence that is fit for the outside.
macro_rules! problem_from {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for $crate::web::error::Problem {
            fn from(e: $error) -> Self {
                Self::new(e.kind(), e)
            }
        }
    )*};
}

tokio::task_local! {
    /// The id of the request that is being answered.
    pub static REQUEST_ID: String;
}

/// Which kind of no.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The call is not what it should be.
    Invalid,
    /// The caller may not, or a rule or missing consent forbids it.
    Denied,
    /// The state is not the one this needs.
    Conflict,
    /// A privacy gate: measured against required.
    Refused,
    /// Our fault.
    Fault,
}

/// Problem details (RFC 9457).
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:almoner:problem:` and the kind.
    #[serde(rename = "type")]
    #[schema(examples("urn:almoner:problem:invalid"))]
    pub type_uri: String,
    /// The kind in words.
    pub title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// One of the five kinds.
    pub kind: Kind,
    /// What is wrong and what to do.
    pub detail: String,
    /// The id of the request, as the server's log has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Where in the body (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Why, one reason each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What was measured, for `refused`, and counts that explain.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub measured: Option<Value>,
}

impl Problem {
    /// A problem of `kind` with the kind's usual status.
    pub fn new(kind: ErrorKind, detail: impl fmt::Display) -> Self {
        let (status, kind, title) = match kind {
            ErrorKind::Invalid => (400, Kind::Invalid, "Not a valid call"),
            ErrorKind::Denied => (403, Kind::Denied, "Not permitted"),
            ErrorKind::Conflict => (409, Kind::Conflict, "The state is another"),
            ErrorKind::Refused => (422, Kind::Refused, "Refused to protect people"),
            ErrorKind::Fault => (500, Kind::Fault, "Our fault"),
        };
        let instance = REQUEST_ID.try_with(Clone::clone).ok();
        let detail = if kind == Kind::Fault {
            tracing::error!(request_id = instance.as_deref().unwrap_or("none"), "fault: {detail}");
            "The server failed. Tell its operator the id of this request.".to_owned()
        } else {
            detail.to_string()
        };
        let type_uri = format!("urn:almoner:problem:{}", format!("{kind:?}").to_lowercase());
        Self {
            type_uri,
            title,
            status,
            kind,
            detail,
            instance,
            pointer: None,
            reasons: Vec::new(),
            measured: None,
        }
    }

    /// 400: the call is malformed.
    pub fn invalid(detail: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Invalid, detail)
    }

    /// 422: the call is well formed and cannot be accepted.
    pub fn unacceptable(detail: impl fmt::Display) -> Self {
        Self::invalid(detail).with_status(422)
    }

    /// 401: no usable token.
    pub fn unauthenticated(detail: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Denied, detail).with_status(401)
    }

    /// 403: not this caller.
    pub fn denied(detail: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Denied, detail)
    }

    /// 404: there is no such thing, or none that this caller may know of.
    pub fn not_found() -> Self {
        Self::invalid("There is no such thing, or none that you may see.").with_status(404)
    }

    /// 409.
    pub fn conflict(detail: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Conflict, detail)
    }

    /// 500: `cause` goes to the log only.
    pub fn fault(cause: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Fault, cause)
    }

    /// With another status of the same kind.
    #[must_use]
    pub const fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// 503: a fault that may pass; the same call may be repeated.
    #[must_use]
    pub fn not_now(mut self) -> Self {
        self.status = 503;
        "The server cannot record anything at the moment. Repeat the call later."
            .clone_into(&mut self.detail);
        self
    }

    /// With the place in the body.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// With the place of what the pointer is in.
    #[must_use]
    pub fn within(mut self, place: &str) -> Self {
        self.pointer = self.pointer.map(|pointer| format!("{place}{pointer}"));
        self
    }

    /// With one reason each.
    #[must_use]
    pub fn because(mut self, reasons: Vec<String>) -> Self {
        self.reasons = reasons;
        self
    }

    /// With what was measured.
    #[must_use]
    pub fn with_measured(mut self, measured: Value) -> Self {
        self.measured = Some(measured);
        self
    }

    /// As the failure of a job, which tells faults by the job's id itself.
    pub fn into_failure(self) -> Failure {
        let kind = match self.kind {
            Kind::Invalid => ErrorKind::Invalid,
            Kind::Denied => ErrorKind::Denied,
            Kind::Conflict => ErrorKind::Conflict,
            Kind::Refused => ErrorKind::Refused,
            Kind::Fault => ErrorKind::Fault,
        };
        Failure { kind, detail: self.detail, reasons: self.reasons, measured: self.measured }
    }

    /// The response.
    pub fn response(&self) -> HttpResponse {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut builder = HttpResponse::build(status);
        builder.insert_header((header::CONTENT_TYPE, PROBLEM_JSON));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            builder.insert_header((header::RETRY_AFTER, HeaderValue::from_static("5")));
        }
        if status == StatusCode::UNAUTHORIZED {
            builder.insert_header((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"almoner\""),
            ));
        }
        builder.body(serde_json::to_vec(self).expect("a problem is plain text"))
    }
}

impl From<ErrorKind> for Kind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Invalid => Self::Invalid,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Conflict => Self::Conflict,
            ErrorKind::Refused => Self::Refused,
            ErrorKind::Fault => Self::Fault,
        }
    }
}

impl From<crate::flows::tokens::TokenError> for Problem {
    fn from(e: crate::flows::tokens::TokenError) -> Self {
        match e {
            crate::flows::tokens::TokenError::Unknown => Self::not_found(),
            e if e.kind() == ErrorKind::Invalid => Self::unacceptable(e),
            e => Self::new(e.kind(), e),
        }
    }
}

impl From<AccessError> for Problem {
    fn from(e: AccessError) -> Self {
        match e {
            AccessError::Unknown(_) => {
                Self::invalid(format!("There is no such {}.", unknown(&e))).with_status(404)
            }
            AccessError::Invalid { pointer, reason } => Self::unacceptable(reason).at(pointer),
            AccessError::Refused(refusal) => Self::denied("There is no permit.").because(refusal.reasons),
            e => Self::new(e.kind(), e),
        }
    }
}

fn unknown(e: &AccessError) -> &'static str {
    match e {
        AccessError::Unknown(what) => what,
        _ => "thing",
    }
}

impl From<DataError> for Problem {
    fn from(e: DataError) -> Self {
        match e {
            DataError::Access(e) => e.into(),
            DataError::Catalog(e) => e.into(),
            DataError::Definition(e) => Self::unacceptable(e.reason).at(e.pointer),
            DataError::Nobody { reasons } => {
                Self::denied("Nobody in these datasets permits this.").because(reasons)
            }
            DataError::Release(ReleaseError::Refused(refused)) => {
                let measured = crate::flows::release::measured(&refused);
                Self::new(ErrorKind::Refused, &refused).with_measured(measured)
            }
            DataError::Counts { asked, again } => {
                let (most, days) = (count::NEW_MAX, count::WINDOW_DAYS);
                let measured = serde_json::json!({"counts": asked, "most": most, "days": days, "again": again.to_string()});
                Self::new(ErrorKind::Refused, &e).with_measured(measured)
            }
            e if e.kind() == ErrorKind::Invalid => Self::unacceptable(e),
            e => Self::new(e.kind(), e),
        }
    }
}

impl From<CatalogError> for Problem {
    fn from(e: CatalogError) -> Self {
        if e.kind() == ErrorKind::Invalid {
            Self::invalid(e).with_status(404)
        } else {
            Self::new(e.kind(), e)
        }
    }
}

impl From<ImportError> for Problem {
    fn from(e: ImportError) -> Self {
        match e {
            ImportError::Access(e) => e.into(),
            ImportError::Forms(e) => Self::unacceptable(e).at("/forms"),
            ImportError::List(e) => Self::unacceptable(e).at("/list"),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(e: ReadError) -> Self {
        Self::fault(e)
    }
}

problem_from!(crate::store::StoreError);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
    fn error_response(&self) -> HttpResponse {
        self.response()
    }
}

impl From<actix_web::error::BlockingError> for Problem {
    fn from(e: actix_web::error::BlockingError) -> Self {
        Self::fault(e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_nothing_of_its_cause() {
        let problem = Problem::fault("disk of Mrs Smith is full");
        assert_eq!((problem.status, problem.kind), (500, Kind::Fault));
        assert!(!serde_json::to_string(&problem).expect("JSON").contains("Smith"));
    }

    #[test]
    fn a_problem_is_rfc_9457() {
        let problem = Problem::unacceptable("no such term").at("/purpose");
        let json = serde_json::to_value(&problem).expect("JSON");
        assert_eq!(json["type"], "urn:almoner:problem:invalid");
        assert_eq!((json["status"].as_u64(), json["pointer"].as_str()), (Some(422), Some("/purpose")));
        assert_eq!(problem.response().headers().get(header::CONTENT_TYPE).expect("set"), PROBLEM_JSON);
    }
}
