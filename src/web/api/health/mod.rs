//! Whether the server lives, is ready, and how it does.

pub mod live;
pub mod metrics;
pub mod ready;
