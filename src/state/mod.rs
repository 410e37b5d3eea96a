//! Control state: the fold of the log into what is true now.
//!
//! Everything here can be rebuilt from the entries and their payloads; nothing else may write it.

pub mod projection;

pub use projection::{ProjectedEntry, Projector, Rejection, View, Write};
