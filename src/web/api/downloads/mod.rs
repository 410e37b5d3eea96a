//! Open downloads: whoever has the capability fetches files, whole or by ranges, until it expires or is closed.

pub mod close;
pub mod describe;
pub mod fetch;
