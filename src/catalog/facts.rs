//! What a catalogue shows of a version, counted while the version is written.
//!
//! Counts people by code from de-identified rows, bucket by bucket; buckets hold different people, so counts add up. Memory
//! grows with the number of distinct codes, not with rows.
//!
//! Versions follow one another and are compared: who joined in between must not be seen to have a code. So the number of
//! people with a code is shown as a count shows it, moved by a keyed function of *who* they are and rounded; one person more
//! moves it anew, up or down, and says nothing. Whether a code is listed goes by the moved number, and rows by code are not
//! shown, since one person can have many. That a number moved at all would still say that somebody with the code came or
//! went: so a version's own numbers are shown only when enough people came, went or have other numbers of rows
//! ([`Facts::changed`], `counted_version`); to its contributor they always are.

use std::collections::{BTreeMap, HashMap};

use almoner_deid::DeidBatch;
use almoner_model::{Date, TableOrigin, TableSpec, Tables};
use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{Date32Type, Int64Type};

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::SMALLEST_CELL;
use crate::dataset::{CodeFrequency, DatasetCatalog, Extent, TableCatalog};
use crate::keys::{Keyring, label};

/// Codes that a manifest lists for a table, at most.
const CODES_LISTED: usize = 1000;
/// The greatest shift of a number of people before rounding.
const NOISE_MAX: u64 = 3;
/// What numbers of people are rounded to.
const ROUND: u64 = 5;
/// What the number of codes that are not listed is rounded up to.
const ROUND_HIDDEN: usize = 10;
/// Scope of the key.
const SCOPE: &str = "catalogue";

#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    persons: u64,
    /// Sum of hashes of who they are.
    who: u64,
    last: i64,
}

impl Seen {
    fn count(&mut self, person: i64) {
        if self.last != person || self.persons == 0 {
            self.persons += 1;
            self.who = self.who.wrapping_add(mixed(person));
            self.last = person;
        }
    }

    fn add(&mut self, other: Self) {
        self.persons += other.persons;
        self.who = self.who.wrapping_add(other.who);
    }

    /// The number of people as it is shown; `None` where it may be too small to be.
    fn shown(self, key: &[u8], table: &str, code: &str) -> Option<u64> {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
        for part in [table.as_bytes(), code.as_bytes(), &self.persons.to_be_bytes(), &self.who.to_be_bytes()]
        {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let bits = mac.finalize().into_bytes();
        let moved = self.persons + u64::from(u16::from_be_bytes([bits[0], bits[1]])) % (2 * NOISE_MAX + 1);
        let least = SMALLEST_CELL + 2 * NOISE_MAX;
        (moved >= least).then(|| (moved - NOISE_MAX + ROUND / 2) / ROUND * ROUND)
    }
}

/// A hash of a person's id (splitmix64), so that sums of different people differ.
const fn mixed(person: i64) -> u64 {
    let mut x = (person as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[derive(Default, Debug)]
struct TableFacts {
    rows: u64,
    persons: u64,
    /// By source code, with the concept that stood beside it first.
    codes: HashMap<Box<str>, (i64, Seen)>,
    /// By concept, of rows without a source code.
    concepts: HashMap<i64, Seen>,
    /// Rows with a source code, and of these with a concept too.
    with_code: u64,
    with_both: u64,
    /// Rows with a concept and no source code.
    with_concept_only: u64,
    without_code: u64,
    ends_before_start: u64,
}

/// Counts of one thread; threads are added up.
#[derive(Default, Debug)]
pub struct Facts {
    tables: BTreeMap<String, TableFacts>,
    days: Option<(i32, i32)>,
    people: HashMap<i64, Rows>,
}

/// A digest of how many rows a person has in each table.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rows(u64);

impl Rows {
    /// With `rows` of a table.
    fn add(&mut self, table: u64, rows: usize) {
        self.0 = self.0.wrapping_add(mixed((table ^ rows as u64).cast_signed()));
    }
}

/// Adds to `people` the rows of a table, which lie in one run for each person.
pub fn add_rows(people: &mut HashMap<i64, Rows>, table: &str, persons: &[i64]) {
    let name =
        table.bytes().fold(0, |hash: u64, b| hash.wrapping_mul(1 << 20 | 0x1b3).wrapping_add(u64::from(b)))
            << 32;
    for run in persons.chunk_by(|a, b| a == b) {
        people.entry(run[0]).or_default().add(name, run.len());
    }
}

impl Facts {
    /// How many people are in this version and not in `before`, or the other way round, or have other numbers of rows.
    pub fn changed(&self, before: &HashMap<i64, Rows>) -> u64 {
        let same = before.iter().filter(|(person, rows)| self.people.get(person) == Some(rows)).count();
        let both = before.keys().filter(|person| self.people.contains_key(person)).count();
        (self.people.len() + before.len() - both - same) as u64
    }

    /// Counts one bucket's tables.
    pub fn count(&mut self, tables: &Tables, batch: &DeidBatch) {
        for (spec, rows) in tables.iter().enumerate().filter_map(|(i, s)| Some((s, batch.get(i)?))) {
            self.table(spec, rows);
        }
    }

    /// Counts rows of one table, which are of people that nobody else counts.
    pub fn table(&mut self, spec: &TableSpec, rows: &RecordBatch) {
        let int = |name: Option<&str>| {
            name.and_then(|n| rows.column_by_name(n)).and_then(|c| c.as_primitive_opt::<Int64Type>())
        };
        let day = |name: Option<&str>| {
            name.and_then(|n| rows.column_by_name(n)).and_then(|c| c.as_primitive_opt::<Date32Type>())
        };
        let Some(persons) = int(Some("person_id")).map(|p| p.values()) else { return };
        let facts = self.tables.entry(spec.table.clone()).or_default();
        facts.rows += rows.num_rows() as u64;
        add_rows(&mut self.people, &spec.table, persons);
        facts.persons += persons.chunk_by(|a, b| a == b).count() as u64;
        let (start, end) = (day(spec.start.as_deref()), day(spec.end.as_deref()));
        if let (Some(start), TableOrigin::Mapped) = (start, spec.origin) {
            let (first, last) = (arrow::compute::min(start), arrow::compute::max(start));
            if let (Some(first), Some(last)) = (first, last) {
                let (a, b) = self.days.unwrap_or((first, last));
                self.days = Some((a.min(first), b.max(last)));
            }
        }
        if let (Some(start), Some(end)) = (start, end) {
            let reversed = |row: &usize| {
                start.is_valid(*row) && end.is_valid(*row) && end.value(*row) < start.value(*row)
            };
            facts.ends_before_start += (0..rows.num_rows()).filter(reversed).count() as u64;
        }
        let Some(concepts) = int(spec.concept.as_deref()) else { return };
        let codes =
            spec.source_value().and_then(|n| rows.column_by_name(n)).and_then(|c| c.as_string_opt::<i32>());
        facts.codes(persons, concepts.values(), codes);
    }

    /// Adds another thread's counts.
    pub fn add(&mut self, other: Self) {
        self.people.extend(other.people);
        for (table, theirs) in other.tables {
            let ours = self.tables.entry(table).or_default();
            ours.rows += theirs.rows;
            ours.persons += theirs.persons;
            ours.with_code += theirs.with_code;
            ours.with_both += theirs.with_both;
            ours.with_concept_only += theirs.with_concept_only;
            ours.without_code += theirs.without_code;
            ours.ends_before_start += theirs.ends_before_start;
            for (code, (concept, seen)) in theirs.codes {
                ours.codes.entry(code).or_insert((concept, Seen::default())).1.add(seen);
            }
            for (concept, seen) in theirs.concepts {
                ours.concepts.entry(concept).or_default().add(seen);
            }
        }
        self.days = match (self.days, other.days) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (ours, theirs) => ours.or(theirs),
        };
    }

    /// People counted: those with a person row.
    pub fn persons(&self) -> u64 {
        self.tables.get("person").map_or(0, |t| t.persons)
    }

    /// Rows with neither a concept nor a code, and all rows, of tables that have codes.
    pub fn unmapped(&self) -> (u64, u64) {
        let coded = self
            .tables
            .values()
            .filter(|t| !t.codes.is_empty() || !t.concepts.is_empty() || t.without_code > 0);
        coded.fold((0, 0), |(without, rows), t| (without + t.without_code, rows + t.rows))
    }

    /// Rows whose end lies before their start.
    pub fn ends_before_start(&self) -> u64 {
        self.tables.values().map(|t| t.ends_before_start).sum()
    }

    /// What may be shown. The same people give the same numbers.
    pub fn catalog(&self, keys: &Keyring) -> DatasetCatalog {
        let key = keys.scoped(label::COUNT_NOISE, SCOPE);
        let year = |days: i32| Date::from_days(days).year();
        DatasetCatalog {
            years: self.days.map(|(first, last)| (year(first), year(last))),
            smallest_cell: SMALLEST_CELL,
            tables: self
                .tables
                .iter()
                .map(|(name, facts)| (name.clone(), facts.catalog(key.as_slice(), name)))
                .collect(),
        }
    }
}

impl TableFacts {
    fn codes(&mut self, persons: &[i64], concepts: &[i64], codes: Option<&StringArray>) {
        for (row, (person, concept)) in persons.iter().zip(concepts).enumerate() {
            match codes.filter(|c| c.is_valid(row)).map(|c| c.value(row)) {
                Some(code) => {
                    self.with_code += 1;
                    self.with_both += u64::from(*concept != 0);
                    match self.codes.get_mut(code) {
                        Some((_, seen)) => seen.count(*person),
                        None => {
                            let mut seen = Seen::default();
                            seen.count(*person);
                            self.codes.insert(code.into(), (*concept, seen));
                        }
                    }
                }
                None if *concept != 0 => {
                    self.with_concept_only += 1;
                    self.concepts.entry(*concept).or_default().count(*person);
                }
                None => self.without_code += 1,
            }
        }
    }

    fn catalog(&self, key: &[u8], table: &str) -> TableCatalog {
        let of_codes = self.codes.iter().map(|(code, (concept, seen))| (code.to_string(), *concept, *seen));
        let of_concepts =
            self.concepts.iter().map(|(concept, seen)| (format!("concept:{concept}"), *concept, *seen));
        let mut codes: Vec<CodeFrequency> = of_codes
            .chain(of_concepts)
            .filter_map(|(code, concept, seen)| {
                let persons = seen.shown(key, table, &code)?;
                Some(CodeFrequency { code, concept, persons })
            })
            .collect();
        codes.sort_by(|a, b| b.persons.cmp(&a.persons).then_with(|| a.code.cmp(&b.code)));
        codes.truncate(CODES_LISTED);
        TableCatalog {
            persons: self.persons,
            codes_hidden: (self.codes.len() + self.concepts.len() - codes.len())
                .next_multiple_of(ROUND_HIDDEN) as u64,
            codes,
            source_codes: extent(self.with_code, self.with_code + self.with_concept_only),
            concepts: extent(
                self.with_both + self.with_concept_only,
                self.with_code + self.with_concept_only,
            ),
            rows_without_code: self.without_code,
            ends_before_start: self.ends_before_start,
        }
    }
}

const fn extent(rows: u64, of: u64) -> Extent {
    match rows {
        0 => Extent::None,
        rows if rows < of => Extent::Some,
        _ => Extent::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [4; 32];

    fn shown(people: impl Iterator<Item = i64>) -> Option<u64> {
        let mut seen = Seen::default();
        people.for_each(|person| seen.count(person));
        seen.shown(&KEY, "condition_occurrence", "SNOMED:44054006")
    }

    /// Of two versions, one with one person more: the difference is as often down as up, and often none.
    #[test]
    fn one_person_more_does_not_show() {
        let (mut up, mut down, mut none) = (0, 0, 0);
        for start in 0..600_i64 {
            let of = |people: i64| shown(start * 1_000..start * 1_000 + people).expect("many");
            let (before, with, without) = (of(100), of(101), of(100));
            assert_eq!(before, without, "the same people, the same number");
            assert!(before.abs_diff(100) <= 5 && before % 5 == 0, "{before}");
            match with.cmp(&before) {
                std::cmp::Ordering::Greater => up += 1,
                std::cmp::Ordering::Less => down += 1,
                std::cmp::Ordering::Equal => none += 1,
            }
        }
        assert!(up > 60 && down > 60 && none > 60, "{up} {down} {none}");
    }

    #[test]
    fn few_people_are_never_listed_and_the_edge_is_not_sharp() {
        assert!((0..11).all(|n| (0..50).all(|start| shown(start * 100..start * 100 + n).is_none())));
        let listed = |n: i64| (0..300).filter(|s| shown(s * 100..s * 100 + n).is_some()).count();
        assert!(
            (1..300).contains(&listed(12)) && (1..300).contains(&listed(15)),
            "{} {}",
            listed(12),
            listed(15)
        );
        assert_eq!(listed(17), 300);
        assert!((0..300).filter_map(|s| shown(s * 100..s * 100 + 12)).all(|n| n >= SMALLEST_CELL));
    }
}
