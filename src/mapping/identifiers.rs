//! Identifiers by which references name people (`Patient?identifier=`, `Reference.identifier`), apart from their ids.
//!
//! Serves [`super::PersonIndex`]. What is kept of an identifier is two keyed hashes, of its value and of its system, in one
//! sorted list: 24 bytes each. Whose an identifier is and whether it is one patient's alone is for the index to say.

use super::people::KeyedHasher;

/// An identifier as a reference names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NamedIdentifier<'t> {
    /// The system, empty for an identifier that has none; `None` where any system will do.
    pub system: Option<&'t str>,
    /// The value.
    pub value: &'t str,
}

impl<'t> NamedIdentifier<'t> {
    /// Reads a token of a search (FHIR R4 section 3.1.1.4.10): `system|value`, `|value` for one without a system, `value`
    /// for that value in whatever system.
    pub fn parse(token: &'t str) -> Self {
        match token.split_once('|') {
            Some((system, value)) => Self { system: Some(system.trim()), value: value.trim() },
            None => Self { system: None, value: token.trim() },
        }
    }

    /// Of a logical reference (R4 section 2.3.0.3), which need not say the system.
    pub fn logical(system: &'t str, value: &'t str) -> Self {
        let (system, value) = (system.trim(), value.trim());
        Self { system: (!system.is_empty()).then_some(system), value }
    }
}

/// The hashes of one identifier. The order puts those of one value together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Row {
    value: u64,
    system: u64,
    person: u32,
}

/// Identifiers of the people of an export.
#[derive(Default, Debug)]
pub(super) struct Identifiers {
    rows: Vec<Row>,
    sorted: bool,
}

impl Identifiers {
    /// That a person has an identifier.
    pub fn add(&mut self, hasher: &KeyedHasher, system: &str, value: &str, person: u32) {
        let named = NamedIdentifier { system: Some(system.trim()), value: value.trim() };
        let (value, system) = hashes(hasher, named);
        self.rows.push(Row { value, system: system.unwrap_or_default(), person });
        self.sorted = false;
    }

    /// Makes looking up fast; to be called when all are added.
    pub fn sort(&mut self) {
        self.rows.sort_unstable();
        self.rows.dedup();
        self.rows.shrink_to_fit();
        self.sorted = true;
    }

    /// Everyone who has an identifier, somebody perhaps more than once.
    pub fn of(&self, hasher: &KeyedHasher, named: NamedIdentifier<'_>) -> impl Iterator<Item = u32> {
        let (value, system) = hashes(hasher, named);
        let from = if self.sorted { self.rows.partition_point(|row| row.value < value) } else { 0 };
        let sorted = self.sorted;
        self.rows[from..]
            .iter()
            .take_while(move |row| !sorted || row.value == value)
            .filter(move |row| row.value == value && system.is_none_or(|system| row.system == system))
            .map(|row| row.person)
    }

    /// One number that stands for what a reference names.
    pub fn key(hasher: &KeyedHasher, named: NamedIdentifier<'_>) -> u128 {
        let (value, system) = hashes(hasher, named);
        let system = system.unwrap_or_else(|| hasher.identifier_hash("any", ""));
        u128::from(system) << 64 | u128::from(value)
    }
}

/// The hashes of value and system.
fn hashes(hasher: &KeyedHasher, named: NamedIdentifier<'_>) -> (u64, Option<u64>) {
    let system = named.system.map(|system| hasher.identifier_hash("system", system));
    (hasher.identifier_hash("value", named.value), system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read() {
        let named = |system, value| NamedIdentifier { system, value };
        assert_eq!(NamedIdentifier::parse("urn:h|77"), named(Some("urn:h"), "77"));
        assert_eq!(NamedIdentifier::parse("|77"), named(Some(""), "77"));
        assert_eq!(NamedIdentifier::parse(" 77 "), named(None, "77"));
        assert_eq!(NamedIdentifier::logical("", "77"), named(None, "77"));
        assert_eq!(NamedIdentifier::logical("urn:h", "77"), named(Some("urn:h"), "77"));
    }

    #[test]
    fn a_value_is_found_in_any_system_and_in_its_own() {
        let hasher = KeyedHasher::new(&[1; 32]);
        let mut all = Identifiers::default();
        for (system, value, person) in
            [("urn:a", "1", 0), ("urn:b", "1", 1), ("", "2", 2), ("urn:a", "2", 3), ("urn:a", "1", 0)]
        {
            all.add(&hasher, system, value, person);
        }
        for sorted in [false, true] {
            if sorted {
                all.sort();
            }
            let of = |token: &str| {
                let mut found: Vec<u32> = all.of(&hasher, NamedIdentifier::parse(token)).collect();
                found.sort_unstable();
                found.dedup();
                found
            };
            assert_eq!((of("urn:a|1"), of("urn:b|1"), of("urn:c|1")), (vec![0], vec![1], vec![]));
            assert_eq!((of("1"), of("2"), of("|2"), of("3")), (vec![0, 1], vec![2, 3], vec![2], vec![]));
        }
    }
}
