//! Mapping: raw records become staged rows of the canonical tables.
//!
//! The arrow `intake → mapping → gather`. Each source format has its own mapper ([`fhir`], [`omop`]); all of them write
//! through one [`StagedBuilder`], so that gathering knows one shape. Mapping is pure: it sees bytes and rules, opens
//! nothing, and asks nobody for the time. It does not resolve visits, drop duplicates or give event ids (`gather`), and
//! does not generalise anything (`crates/deid`).

pub mod fhir;
pub mod identifiers;
pub mod omop;
pub mod outcome;
pub mod people;
pub mod staged;
pub mod vocabulary;

pub use identifiers::NamedIdentifier;
pub use people::{Form, IdSpace, IdSpaces, KeyedHasher, OutsidePersons, PersonIndex, RowKind, Whose};
pub use staged::{
    DETAIL_KEY, ORDINAL, PERSON, ROW_KEY, RowWriter, STAGING_COLUMNS, StageError, StagedBatch, StagedBuilder,
    StagedSchema, StagedSink, Stated, VISIT_KEY,
};
