//! De-identification: the stage between whole persons on true dates and what may be stored or released.
//!
//! Two arrows of the line, `derive: PersonBatch → PersonBatch` (eras and observation periods on true dates) and
//! `deidentify: PersonBatch → DeidBatch`. The crate is pure: no file, no network, no clock, no randomness. What a column
//! *is* stands in `schemas/tables`, what is *done* about it in `schemas/deid`; [`Profile`] is the checked product of the
//! two, total over every identifier class (default deny).
//!
//! Invariants: [`DeidBatch`] has no public constructor, so what was not de-identified cannot be published; reports hold
//! counts, never values; dates move backward only; the columnar adapter equals [`transform`], value for value.

mod ages;
mod batch;
mod columns;
mod core;
pub mod derive;
pub mod offset;
mod people;
mod plausible;
mod profile;
mod report;
#[cfg(test)]
mod testing;
pub mod zip3;

pub use ages::{Ages, AgesError};
pub use batch::{BatchError, DeidBatch, PersonBatch, ROW_KEY, arrow_schema, arrow_type};
pub use columns::{DeidError, deidentify};
pub use core::{DeidContext, SubjectContext, Value, transform};
pub use derive::{DeriveReport, DeriveRules, derive};
pub use plausible::{DatesError, Fault, Plausible};
pub use profile::{Action, Basis, Declares, Profile, ProfileError, Rule};
pub use report::{AgeReport, ColumnReport, DeidReport, TableReport};
pub use zip3::Zip3;
