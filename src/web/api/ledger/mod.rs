//! The ledger as anybody may read it: C2SP tlog-tiles, and what the API adds for people.

pub mod checkpoint;
pub mod vkey;
