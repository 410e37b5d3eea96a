//! What concerns the caller itself: who it is, and for participants their choices and what came of them.

pub mod choices;
pub mod decide;
pub mod disclosures;
pub mod identity;
pub mod uses;
pub mod withdraw;
