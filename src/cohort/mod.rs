//! Cohorts: who is meant. `definition -> plan -> execute -> members`.
//!
//! [`definition`] reads the simple cohort JSON (`docs/cohort.md`), [`mod@plan`] turns it into event queries and a program,
//! [`execute`] reads only the needed columns of dataset versions, and [`evaluate`] runs the program over one person's
//! sorted events. What cannot be answered exactly as asked is refused with its JSON Pointer, never answered with 0.
//!
//! Nothing here decides who may be counted: the permitted people are an input.

pub mod definition;
pub mod evaluate;
pub mod execute;
#[cfg(test)]
pub(crate) mod fixture;
mod json;
pub mod plan;

pub use definition::SimpleCohort;
pub use plan::{DatasetFacts, Plan, plan};

use crate::error::ErrorKind;

/// Why a definition is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The bytes are not JSON.
    NotJson,
    /// A key that the language does not have.
    UnknownKey,
    /// A required key is absent.
    MissingKey,
    /// A value of another JSON type.
    WrongType,
    /// A value outside what is possible.
    OutOfRange,
    /// A code that is not `VOCABULARY:code` of a known system.
    UnknownCode,
    /// The construct has no meaning here.
    Unsupported,
    /// A concept set cannot be resolved with what is loaded.
    VocabularyMissing,
    /// Finer than a dataset's declared precision.
    TooFine,
}

/// A definition is refused: where, by which rule, and what to do. Never carries a value of the definition.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("cohort definition at '{pointer}': {reason}")]
pub struct DefinitionError {
    /// JSON Pointer (RFC 6901) into the definition.
    pub pointer: String,
    /// The rule.
    pub rule: Rule,
    /// What is wrong and what to do.
    pub reason: String,
}

impl DefinitionError {
    pub(crate) fn new(pointer: impl Into<String>, rule: Rule, reason: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), rule, reason: reason.into() }
    }

    /// Always [`ErrorKind::Invalid`].
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}
