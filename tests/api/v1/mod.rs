//! `/v1`

mod ingests;
mod problems;
mod push;
mod requests;
mod server;
mod tokens;
mod uploads;
