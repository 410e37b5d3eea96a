//! What concerns the caller itself.

pub mod identity;
