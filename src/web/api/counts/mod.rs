//! Counts of cohorts, protected.

pub mod ask;
pub mod list;
