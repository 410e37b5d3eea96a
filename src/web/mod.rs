//! The HTTP interface: everything that leaves or enters over the network.
//!
//! `router` is the table of what there is; `api/<noun>/<verb>.rs` has one file per operation, which parses, makes one call
//! and wraps the answer. Authorisation is in the handler's type ([`auth::Caller`]); every error is a problem
//! ([`error::Problem`]). Nothing here decides anything about data: that is in `flows`.

pub mod answer;
pub mod api;
pub mod auth;
pub mod error;
pub mod extract;
pub mod format;
pub mod idempotency;
pub mod metrics;
pub mod mirror;
pub mod openapi;
pub mod router;
pub mod schema;
pub mod server;
pub mod small;
pub mod trace;
pub mod ui;
pub mod witness;

pub use server::{ServeError, Serving, serve, spawn};
