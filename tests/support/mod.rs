//! What the tests of the whole line share: the scanner for identifiers, and the program run as its users run it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod line;
pub mod run;
pub mod scan;
