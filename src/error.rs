//! The five kinds of refusal that anyone outside can see (RFC 9457 problem details are made from them in `web`).
//!
//! Every module has its own error type; all it owes the outside is a kind, a sentence without any patient's value, and,
//! for [`ErrorKind::Refused`], what was measured against what is required.

use serde::{Deserialize, Serialize};

/// What kind of "no" an error is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorKind {
    /// The input is not what it should be; a locator says where. Change it and try again.
    Invalid,
    /// The caller may not do this, or a rule or a missing consent forbids it.
    Denied,
    /// The state changed, or it is not the state this needs. Look again.
    Conflict,
    /// A privacy gate: measured against required.
    Refused,
    /// Our fault; an incident id is all that is said outside.
    Fault,
}
