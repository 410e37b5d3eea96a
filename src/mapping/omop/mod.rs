//! Tables of the OMOP CDM 5.3 and 5.4, as a hospital has them, become staged rows of the canonical tables.
//!
//! The arrow `intake → mapping → gather` for OMOP. A row comes as text cells, whatever it was stored in. Concept ids are
//! kept as they arrive. A `*_source_value` is kept only as `VOCABULARY:code`: where it is written so already, or where it
//! equals the code of a concept that the same row names and a loaded vocabulary knows. Everything else in such a column
//! is where identifiers hide, and is dropped and counted. The reference pass ([`OmopPeople`]) finds people and their
//! places first; then an [`OmopMapper`] a thread maps every row to exactly one outcome.
//!
//! CDM tables without a place in the canonical tables, and tables that `derive` makes again, are counted and left out.

mod cells;
mod columns;
mod mapper;
mod people;
mod values;

pub use cells::Cells;
pub use columns::{Plan, Plans};
pub use mapper::{Noted, OmopContext, OmopMapper};
pub use people::{OmopPeople, PersonFacts};

use almoner_model::{TableOrigin, Tables};

use super::outcome::{Reason, reason};

/// What becomes of the rows of a CDM table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// They are mapped to the canonical table with this index.
    Carried(usize),
    /// `location`: joined to people in the reference pass.
    Joined,
    /// They are left out, for this reason.
    LeftOut(Reason),
}

/// What becomes of the rows of the CDM table `name` (lower case).
pub fn fate(tables: &Tables, name: &str) -> Fate {
    match tables.index_of(name).zip(tables.get(name)) {
        Some((_, spec)) if spec.origin == TableOrigin::Derived => Fate::LeftOut(reason::DERIVED),
        Some((_, spec)) if spec.table == "note" => Fate::LeftOut(reason::NOTE_DROPPED),
        Some((index, _)) => Fate::Carried(index),
        None => match name {
            "location" => Fate::Joined,
            "dose_era" | "drug_era" | "condition_era" | "observation_period" => {
                Fate::LeftOut(reason::DERIVED)
            }
            "note_nlp" => Fate::LeftOut(reason::NOTE_DROPPED),
            _ => Fate::LeftOut(reason::TYPE_NOT_CARRIED),
        },
    }
}

/// An id in one spelling: `12`, ` 12 ` and `12.0` are the same number.
pub(super) fn plain_id(text: &str) -> &str {
    let text = text.trim();
    match text.split_once('.') {
        Some((whole, zeros)) if !whole.is_empty() && zeros.bytes().all(|b| b == b'0') => whole,
        _ => text,
    }
}
