//! Counts of cohorts, protected.

pub mod ask;
