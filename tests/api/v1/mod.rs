//! `/v1`

mod problems;
mod push;
mod tokens;
mod uploads;
