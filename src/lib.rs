//! Almoner: hospitals give de-identified clinical data to research, patients decide, and everyone with a right to know
//! can prove afterwards what was delivered.
//!
//! The modules stand in the order in which data flows. `ARCHITECTURE.md` walks through them.

// What people said may be done with their data, and whether a use is within it
pub mod consent;
// Requests for data, and whether they may be released
pub mod policy;
pub mod request;
// What is true now: the fold of the log
pub use almoner_control::state;

// What is said and refused
pub use almoner_control::events;
pub mod error;

// State: the ledger and what is folded from it
pub mod store;
// Uploads at rest, under a key that only their sender keeps
pub mod spool;
// Access plane: who is meant, what is released
pub mod cohort;
pub mod release;
// Keys, and the only way from a hospital's patient to a subject
pub mod keys;
pub mod registry;
// How easily people could be told apart, and the gate before a release
pub mod risk;

// Test support: where third-party test data is
pub mod testdata;

// The data plane, in flow order
pub mod blob;
pub mod catalog;
pub mod dataset;
pub mod gather;
pub mod intake;
pub mod mapping;

// The verbs
pub mod flows;

// Work that outlives a request
pub mod jobs;

// Synthetic exports with planted identifiers
pub mod synth;

// The whole line, to watch
pub mod demo;

// The outside
pub mod app;
pub mod cli;
pub mod config;
pub mod push;
pub mod system;
pub mod tls;
pub mod web;
