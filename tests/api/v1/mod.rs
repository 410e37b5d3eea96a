//! `/v1`

mod ingests;
mod problems;
mod push;
mod server;
mod tokens;
mod uploads;
