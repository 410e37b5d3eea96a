//! The vocabulary of Almoner: ids, clock, randomness, dates, codes, canonical tables, `Sensitive<T>`.
//!
//! Layer 0: pure values. No I/O, no async, no wall clock, no ambient randomness; both of the last two are passed in
//! ([`Clock`], [`Entropy`]). Every other module of the project imports this one, and it imports none of them.

pub mod clock;
pub mod codes;
pub mod consent;
pub mod dates;
pub mod digest;
pub mod duo;
pub mod entropy;
pub mod ids;
pub mod origin;
#[cfg(feature = "schema")]
mod schema;
pub mod sensitive;
pub mod states;
pub mod tables;

pub use clock::{Clock, ManualClock, Timestamp};
pub use codes::{Code, Vocabulary};
pub use dates::{Date, DatePrecision, PartialDate};
pub use digest::Digest;
pub use duo::Duo;
pub use entropy::{Entropy, SeededEntropy};
pub use ids::{
    ContributorId, DatasetId, ProjectId, RecipientId, ReleaseId, RequestId, Seq, SourcePatientId, SubjectId,
};
pub use origin::{Origin, RowKey};
pub use sensitive::Sensitive;
pub use states::{in_united_states, state_code};
pub use tables::{ColumnSpec, ColumnType, IdentifierClass, TableOrigin, TableSpec, Tables};

/// A value that does not fit, as `serde` says it: what was expected, never what was there.
pub(crate) fn misfit<E: serde::de::Error>(expected: &str) -> E {
    E::invalid_value(serde::de::Unexpected::Other("this"), &expected)
}
