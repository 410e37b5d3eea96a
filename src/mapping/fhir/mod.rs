//! FHIR R4 resources become staged rows of the canonical tables.
//!
//! The arrow `intake → mapping → gather` for FHIR, in two passes: the reference pass ([`ReferencePass`]) finds people and
//! medications, then a [`FhirMapper`] a thread maps every line. Only what has a column is read: names, displays, narrative,
//! notes and attachments never leave the line. Codes become `VOCABULARY:code` of known systems; concepts come later, from
//! a vocabulary. It does not resolve visits, drop duplicates or generalise.

mod clinical;
mod columns;
mod datatypes;
mod deleted;
mod drugs;
mod findings;
mod mapper;
mod observations;
mod people;
mod reference;
mod references;
mod resources;
mod rules;
mod status;
#[cfg(test)]
mod tests;
pub mod types;
mod version;
mod visits;

pub use columns::MissingColumn;
pub use findings::{Finding, Findings, FindingsReport};
pub use mapper::{ConsentFound, Deletion, FhirContext, FhirMapper, FhirOutput};
pub use people::PatientFacts;
pub use references::{PatientSink, ReferencePass, References};
pub use rules::{FhirRules, RulesError};
pub use version::takes_over;
