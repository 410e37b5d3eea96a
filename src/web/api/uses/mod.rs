//! The usage log: what was done with people's data, for those whose data, project or work it is.

pub mod list;
