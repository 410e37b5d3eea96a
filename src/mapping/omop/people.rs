//! The reference pass over OMOP: who is in the export, and in which postal area and state they live.
//!
//! Reads `location` and `person` before anything else is mapped. Addresses, cities and coordinates are not read.

use std::collections::HashMap;

use super::{Cells, plain_id, values};
use crate::mapping::PersonIndex;
use crate::mapping::outcome::{Outcome, rule};

/// What the registry and linkage are told of a person. Wiped with its row.
#[derive(Debug)]
pub struct PersonFacts<'r> {
    /// `person_id`.
    pub source_id: &'r str,
    /// `person_source_value`: the hospital's record number, where there is one.
    pub record_number: Option<&'r str>,
}

/// Postal code and state of a place.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Place {
    pub zip: Option<Box<str>>,
    pub state: Option<Box<str>>,
}

/// Collects people and places.
#[derive(Debug, Default)]
pub struct OmopPeople {
    places: HashMap<Box<str>, Place>,
}

/// The positions of named columns in a header.
fn find<const N: usize>(header: &[&str], names: [&str; N]) -> [Option<usize>; N] {
    names.map(|name| {
        header.iter().position(|h| h.trim().trim_start_matches('\u{feff}').trim().eq_ignore_ascii_case(name))
    })
}

impl OmopPeople {
    /// Takes one row of `location`.
    pub fn location(&mut self, header: &[&str], row: Cells<'_>) -> Outcome {
        let [id, zip, state] = find(header, ["location_id", "zip", "state"]);
        let text = |column: Option<usize>| column.and_then(|c| row.get(c));
        let Some(id) = text(id) else { return Outcome::broken(rule::NO_ID) };
        let place = Place { zip: text(zip).map(Into::into), state: text(state).map(Into::into) };
        self.places.insert(plain_id(id).into(), place);
        Outcome::Mapped
    }

    /// Takes one row of `person`: gives it a place in `persons`. Rows that mapping will refuse are passed over.
    pub fn person<'r>(
        &self,
        header: &[&str],
        row: Cells<'r>,
        persons: &mut PersonIndex,
    ) -> Option<(u32, PersonFacts<'r>)> {
        let [id, year, birth, number] =
            find(header, ["person_id", "year_of_birth", "birth_datetime", "person_source_value"]);
        let text = |column: Option<usize>| column.and_then(|c| row.get(c));
        let source_id = plain_id(text(id)?);
        let born = text(year).and_then(values::integer).is_some()
            || text(birth).and_then(values::date_time).is_some();
        born.then(|| (persons.add(source_id), PersonFacts { source_id, record_number: text(number) }))
    }

    pub(super) fn place(&self, id: &str) -> Option<&Place> {
        self.places.get(plain_id(id))
    }
}
