//! Consent: what a person said may be done with their data, and whether a use is within it.
//!
//! Arrow of the line: a document (FHIR Consent, a row of a paper form, a participant's act) becomes a [`Directive`];
//! `flows` logs it; [`evaluate()`] answers whether a [`Use`] is permitted by everything a person ever said.
//!
//! Invariants:
//! - Nothing by default. Without a directive that covers the use there is no permission.
//! - The deepest matching provision wins; among siblings a denial wins; a denial in any active directive subtracts from
//!   what all others permit; a withdrawal stands until a later act names it.
//! - What is not understood narrows a permission to nothing and a denial to everything, and says so.
//! - Pure: the moment of the decision is part of the [`Use`]; nothing here knows who the person is.
//!
//! Here, and not in the root package, so that `almoner-verify` applies the same rules without the data engine.

pub mod category;
pub mod check;
pub mod directive;
pub mod evaluate;
pub mod purpose;
pub mod ranges;

pub use category::{Category, CategorySet};
pub use check::Flaw;
pub use directive::{
    Coverage, DataPeriod, Directive, DirectiveState, Effect, FormRef, Period, Provision, Signed, Source,
    Status, SubjectState, WithdrawalMode, WithdrawalState,
};
pub use evaluate::{Limits, Reason, Use, Verdict, evaluate};
pub use purpose::{Disease, Purpose, Statement};
pub use ranges::DateRanges;
