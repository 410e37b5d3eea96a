//! Work that outlives a request: queued, run a few at a time, followed, and remembered over a restart.

pub mod progress;

pub use progress::{Progress, Recorded, Silent, Unit};
