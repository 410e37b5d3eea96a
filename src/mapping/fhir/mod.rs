//! FHIR R4 resources become staged rows of the canonical tables.
//!
//! The arrow `intake → mapping → gather` for FHIR.

pub mod types;
