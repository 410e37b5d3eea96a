//! The reference pass over OMOP: who is in the export, and in which postal area and state they live.
//!
//! Reads `location` and `person` before anything else is mapped. Addresses, cities and coordinates are not read.

use std::collections::HashMap;

use almoner_model::in_united_states;

use super::{Cells, plain_id, values};
use crate::mapping::outcome::{Outcome, rule};
use crate::mapping::{Form, PersonIndex};

/// What the registry and linkage are told of a person. Wiped with its row.
#[derive(Debug)]
pub struct PersonFacts<'r> {
    /// `person_id`.
    pub source_id: &'r str,
    /// `person_source_value`: the hospital's record number, where there is one.
    pub record_number: Option<&'r str>,
}

/// OMOP concept of the United States of America.
const UNITED_STATES: i64 = 4_330_442;

/// Postal code and state of a place in the United States.
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
        let [id, zip, state, country, concept] =
            find(header, ["location_id", "zip", "state", "country_source_value", "country_concept_id"]);
        let text = |column: Option<usize>| column.and_then(|c| row.get(c));
        let Some(id) = text(id) else { return Outcome::broken(rule::NO_ID) };
        let country = match text(concept).and_then(values::integer).filter(|concept| *concept != 0) {
            Some(UNITED_STATES) => Some("US"),
            // Another country, under whatever name.
            Some(_) => Some("other"),
            None => text(country),
        };
        // Elsewhere five digits are no ZIP code, and two letters no state.
        let american = in_united_states(country, text(state));
        let kept = |column| text(column).filter(|_| american).map(Into::into);
        let place = Place { zip: kept(zip), state: kept(state) };
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
        born.then(|| {
            (persons.add(Form::Omop, source_id), PersonFacts { source_id, record_number: text(number) })
        })
    }

    pub(super) fn place(&self, id: &str) -> Option<&Place> {
        self.places.get(plain_id(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_united_states_have_a_zip_code() {
        const HEADER: [&str; 5] =
            ["location_id", "zip", "state", "country_source_value", "country_concept_id"];
        let place = |cells: [&str; 4]| {
            let cells = [&["7"], &cells[..]].concat();
            let ends: Vec<usize> = (1..=cells.len()).map(|n| cells[..n].concat().len()).collect();
            let text = cells.concat();
            let mut people = OmopPeople::default();
            assert_eq!(people.location(&HEADER, Cells::Text { text: &text, ends: &ends }), Outcome::Mapped);
            let place = people.place("7").expect("known").clone();
            (place.zip.map(String::from), place.state.map(String::from))
        };
        let known = (Some("02139".to_owned()), Some("MA".to_owned()));
        assert_eq!(place(["02139", "MA", "", ""]), known);
        assert_eq!(place(["02139", "MA", "USA", "0"]), known);
        assert_eq!(place(["02139", "MA", "", "4330442"]), known);
        for foreign in [
            ["10115", "DE", "Germany", ""],
            ["10115", "DE", "DE", "0"],
            ["10115", "MA", "", "4103000"],
            ["10115", "Bayern", "", ""],
            ["10115", "", "", ""],
        ] {
            assert_eq!(place(foreign), (None, None), "{foreign:?}");
        }
    }
}
