//! `/v1`

mod problems;
mod push;
mod server;
mod tokens;
mod uploads;
