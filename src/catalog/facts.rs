//! What a catalogue shows of a version, counted while the version is written.
//!
//! Counts rows and people by code from de-identified rows, bucket by bucket; buckets hold different people, so counts add
//! up. Memory grows with the number of distinct codes, not with rows.

use std::collections::{BTreeMap, HashMap};

use almoner_deid::DeidBatch;
use almoner_model::{Date, TableOrigin, TableSpec, Tables};
use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{Date32Type, Int64Type};

use super::SMALLEST_CELL;
use crate::dataset::{CodeFrequency, DatasetCatalog, Extent, TableCatalog};

/// Codes that a manifest lists for a table, at most.
const CODES_LISTED: usize = 1000;

#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    rows: u64,
    persons: u64,
    last: i64,
}

impl Seen {
    fn count(&mut self, person: i64) {
        self.rows += 1;
        if self.last != person || self.persons == 0 {
            self.persons += 1;
            self.last = person;
        }
    }

    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.persons += other.persons;
    }
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
}

impl Facts {
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

    /// What may be shown.
    pub fn catalog(&self) -> DatasetCatalog {
        let year = |days: i32| Date::from_days(days).year();
        DatasetCatalog {
            years: self.days.map(|(first, last)| (year(first), year(last))),
            smallest_cell: SMALLEST_CELL,
            tables: self.tables.iter().map(|(name, facts)| (name.clone(), facts.catalog())).collect(),
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

    fn catalog(&self) -> TableCatalog {
        let of_codes = self.codes.iter().map(|(code, (concept, seen))| (code.to_string(), *concept, *seen));
        let of_concepts =
            self.concepts.iter().map(|(concept, seen)| (format!("concept:{concept}"), *concept, *seen));
        let mut codes: Vec<CodeFrequency> = of_codes
            .chain(of_concepts)
            .filter(|(_, _, seen)| seen.persons >= SMALLEST_CELL)
            .map(|(code, concept, seen)| CodeFrequency {
                code,
                concept,
                rows: seen.rows,
                persons: seen.persons,
            })
            .collect();
        codes.sort_by(|a, b| b.persons.cmp(&a.persons).then_with(|| a.code.cmp(&b.code)));
        codes.truncate(CODES_LISTED);
        TableCatalog {
            persons: self.persons,
            codes_hidden: (self.codes.len() + self.concepts.len() - codes.len()) as u64,
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
