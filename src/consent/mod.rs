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
//! The model and its evaluation live in [`almoner_model::consent`], so that `almoner-verify` applies the same rules.
//! It does not decide requests (`policy`) and does not know tables or files.

pub mod fhir;
pub mod form;

pub use almoner_model::consent::{
    Category, CategorySet, Coverage, DataPeriod, DateRanges, Directive, DirectiveState, Disease, Effect,
    FormRef, Limits, Period, Provision, Purpose, Reason, Signed, Source, Statement, Status, SubjectState,
    Use, Verdict, WithdrawalMode, WithdrawalState, category, directive, evaluate, purpose, ranges,
};

#[cfg(test)]
mod tests;
