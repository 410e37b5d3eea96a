//! `/v1`

mod problems;
mod tokens;
mod uploads;
