//! From the header of one file to what is done with each of its columns. Made once for each file.

use std::collections::HashMap;

use almoner_model::{ColumnType, IdentifierClass, TableSpec, Tables};

/// How one canonical column is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Source {
    /// Its position in the specification.
    pub column: usize,
    /// The cell with its value.
    pub cell: usize,
    /// What to do with it.
    pub read: Read,
}

/// How a cell becomes a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Read {
    /// A whole number that must be one.
    Integer,
    /// A reference to staff or a site; never leaves, and so is passed over where it is no number.
    LooseInteger,
    Number,
    Date,
    Datetime,
    Text,
    /// A code of a known system, for which these cells name concepts: source concept, then concept.
    Code([Option<usize>; 2]),
}

/// A date that is read, with the date-time that stands in for it, and (for an end) the date that does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct DateFallback {
    pub column: usize,
    pub cell: Option<usize>,
    pub datetime: Option<usize>,
}

/// What is done with the columns of one file.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Index of the canonical table.
    pub table: usize,
    /// Cells in a row.
    pub width: usize,
    pub(super) person: Option<usize>,
    pub(super) id: Option<usize>,
    pub(super) visit: Option<usize>,
    pub(super) detail: Option<usize>,
    pub(super) location: Option<usize>,
    pub(super) sources: Vec<Source>,
    pub(super) start: Option<DateFallback>,
    /// An end date that may not be null.
    pub(super) end: Option<DateFallback>,
}

/// Names that CDM 5.3 and some exports give to columns of 5.4.
const OLDER_NAMES: &[(&str, &str)] = &[
    ("admitting_source_concept_id", "admitted_from_concept_id"),
    ("admitting_source_value", "admitted_from_source_value"),
    ("discharge_to_concept_id", "discharged_to_concept_id"),
    ("discharge_to_source_value", "discharged_to_source_value"),
    ("visit_detail_parent_id", "parent_visit_detail_id"),
    ("qualifier_source_value", "modifier_source_value"),
];

impl Plan {
    /// For a file with this header, whose rows belong to `tables[table]`. Columns that the CDM does not have are passed
    /// over. Header names count in any case, with blanks around them.
    pub fn new(spec: &TableSpec, table: usize, header: &[&str]) -> Self {
        let clean = |name: &str| name.trim().trim_start_matches('\u{feff}').trim().to_ascii_lowercase();
        let cells: HashMap<String, usize> =
            header.iter().enumerate().rev().map(|(i, name)| (clean(name), i)).collect();
        let at = |name: &str| {
            cells.get(name).copied().or_else(|| {
                OLDER_NAMES
                    .iter()
                    .filter(|(_, new)| *new == name)
                    .find_map(|(old, _)| cells.get(*old).copied())
            })
        };
        let datetime_of = |date: &str| at(&format!("{}time", date));
        let fallback = |name: &str| {
            let column = spec.index_of(name)?;
            Some(DateFallback { column, cell: at(name), datetime: datetime_of(name) })
        };
        let needs_end = |name: &&str| spec.column(name).is_some_and(|c| !c.nullable);
        let start = spec.start.as_deref().and_then(fallback);
        let end = spec.end.as_deref().filter(needs_end).and_then(fallback);
        let mut sources = Vec::new();
        for (column, c) in spec.columns.iter().enumerate() {
            let dated = [&start, &end].into_iter().flatten().any(|d| d.column == column);
            let Some(cell) = at(&c.name) else { continue };
            if !dated && let Some(read) = read_of(c.class, c.kind, &c.name, &at) {
                sources.push(Source { column, cell, read });
            }
        }
        let (visit, detail) = match spec.table.as_str() {
            "visit_occurrence" => (at("preceding_visit_occurrence_id"), None),
            "visit_detail" => (at("visit_occurrence_id"), at("parent_visit_detail_id")),
            _ => (at("visit_occurrence_id"), at("visit_detail_id")),
        };
        let id = spec.event_id.as_deref().or(Some("person_id")).and_then(at);
        let location = (spec.table == "person").then(|| at("location_id")).flatten();
        Self {
            table,
            width: header.len(),
            person: at("person_id"),
            id,
            visit,
            detail,
            location,
            sources,
            start,
            end,
        }
    }

    /// Whether rows can be told apart and belong to someone.
    pub const fn usable(&self) -> bool {
        self.person.is_some() && self.id.is_some()
    }
}

fn read_of(
    class: IdentifierClass,
    kind: ColumnType,
    name: &str,
    at: &dyn Fn(&str) -> Option<usize>,
) -> Option<Read> {
    use IdentifierClass as C;
    Some(match (class, kind) {
        (C::SubjectId | C::EventId | C::EventRef | C::AgeFlag, _) => return None,
        (C::StaffOrSiteRef, ColumnType::Int64) => Read::LooseInteger,
        (C::SourceCode, ColumnType::String) => {
            let stem = name.strip_suffix("_source_value").unwrap_or(name);
            Read::Code([at(&format!("{stem}_source_concept_id")), at(&format!("{stem}_concept_id"))])
        }
        (_, ColumnType::Int64) => Read::Integer,
        (_, ColumnType::Float64) => Read::Number,
        (_, ColumnType::Date) => Read::Date,
        (_, ColumnType::Datetime) => Read::Datetime,
        (_, ColumnType::String) => Read::Text,
        (_, ColumnType::Bool) => return None,
    })
}

/// The plans of the files of one export, made when their headers are read.
#[derive(Clone, Debug, Default)]
pub struct Plans(HashMap<u32, Plan>);

impl Plans {
    /// Makes the plan of the file with ordinal `file`.
    pub fn add(&mut self, tables: &Tables, table: usize, file: u32, header: &[&str]) {
        if let Some(spec) = tables.iter().nth(table) {
            self.0.insert(file, Plan::new(spec, table, header));
        }
    }

    /// The plan of a file.
    pub fn get(&self, file: u32) -> Option<&Plan> {
        self.0.get(&file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(table: &str, header: &[&str]) -> Plan {
        let tables = Tables::embedded().expect("consistent");
        Plan::new(tables.get(table).expect("present"), tables.index_of(table).expect("present"), header)
    }

    #[test]
    fn headers_count_in_any_case_and_by_older_names() {
        let visit = plan(
            "visit_occurrence",
            &[
                "\u{feff}VISIT_OCCURRENCE_ID",
                " Person_Id ",
                "VISIT_START_DATE",
                "ADMITTING_SOURCE_CONCEPT_ID",
                "x",
            ],
        );
        assert!(visit.usable());
        assert_eq!((visit.person, visit.id, visit.width), (Some(1), Some(0), 5));
        let tables = Tables::embedded().expect("consistent");
        let admitted = tables.get("visit_occurrence").and_then(|t| t.index_of("admitted_from_concept_id"));
        assert!(visit.sources.iter().any(|s| Some(s.column) == admitted && s.cell == 3));
        assert_eq!(visit.end.map(|e| e.cell), Some(None), "an end date is needed and will be the start");
    }

    #[test]
    fn codes_know_where_their_concepts_are() {
        let plan =
            plan("measurement", &["measurement_id", "person_id", "unit_source_value", "unit_concept_id"]);
        assert!(plan.sources.iter().any(|s| s.read == Read::Code([None, Some(3)])));
        assert!(!self::plan("death", &["death_date"]).usable());
    }
}
