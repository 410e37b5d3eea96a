//! One folder per noun, one file per operation.

pub mod health;
pub mod jobs;
pub mod ledger;
pub mod me;
pub mod tokens;
pub mod uploads;
