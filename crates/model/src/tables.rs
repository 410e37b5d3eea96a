//! The canonical tables: OMOP CDM 5.4, each column with its type, nullability and **identifier class**.
//!
//! The specifications are the files of `schemas/tables`, compiled in, so that what a privacy officer reads is what
//! runs. What a column *is* stands there; what is *done* about it stands in `schemas/deid`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// What a value is, as far as identification goes. Default deny: a profile must name an action for each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentifierClass {
    /// The exchange's id of the person.
    SubjectId,
    /// The id of a row.
    EventId,
    /// A reference to another row of the same person (a visit).
    EventRef,
    /// A reference to a provider, care site or location.
    StaffOrSiteRef,
    /// An id that the hospital gave (record number, visit number, specimen number).
    SourceId,
    /// Year of birth.
    BirthYear,
    /// Month of birth.
    BirthMonth,
    /// Day of birth.
    BirthDay,
    /// Date and time of birth.
    BirthDatetime,
    /// The date of something that happened to the person.
    EventDate,
    /// Its date and time.
    EventDatetime,
    /// Its time of day.
    EventTime,
    /// A postal (ZIP) code.
    PostalCode,
    /// A state or region.
    Region,
    /// An OMOP concept id.
    Concept,
    /// A code of a known system, `VOCABULARY:code`.
    SourceCode,
    /// A number: a result, a dose, a count.
    Quantity,
    /// Short free text.
    FreeText,
    /// The text of a clinical note.
    NoteText,
    /// A device identifier, serial or lot number.
    DeviceIdentifier,
    /// Whether the person is 90 or older.
    AgeFlag,
}

impl IdentifierClass {
    /// All classes, in the order of the declaration.
    pub const ALL: &'static [Self] = &[
        Self::SubjectId,
        Self::EventId,
        Self::EventRef,
        Self::StaffOrSiteRef,
        Self::SourceId,
        Self::BirthYear,
        Self::BirthMonth,
        Self::BirthDay,
        Self::BirthDatetime,
        Self::EventDate,
        Self::EventDatetime,
        Self::EventTime,
        Self::PostalCode,
        Self::Region,
        Self::Concept,
        Self::SourceCode,
        Self::Quantity,
        Self::FreeText,
        Self::NoteText,
        Self::DeviceIdentifier,
        Self::AgeFlag,
    ];
}

/// The type of a column, with its Arrow type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// Arrow `Int64`.
    Int64,
    /// Arrow `Float64`.
    Float64,
    /// Arrow `Utf8`.
    String,
    /// Arrow `Date32`.
    Date,
    /// Arrow `Timestamp(Microsecond, None)`, local wall clock.
    Datetime,
    /// Arrow `Boolean`.
    Bool,
}

/// Where a table's rows come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableOrigin {
    /// From the export.
    Mapped,
    /// Computed by `derive` on true dates; rows of this table in an export are replaced.
    Derived,
}

/// One column of a canonical table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnSpec {
    /// The CDM name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Whether it may be null.
    pub nullable: bool,
    /// What it is.
    pub class: IdentifierClass,
    /// Not in the CDM, added by Almoner.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extension: bool,
}

/// One canonical table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// The CDM name, lower case.
    pub table: String,
    /// CDM version.
    pub cdm: String,
    /// Version of this specification.
    pub version: u32,
    /// Mapped or derived.
    pub origin: TableOrigin,
    /// The column with the row's own id, where there is one.
    pub event_id: Option<String>,
    /// The column that rows are sorted by within a person.
    pub start: Option<String>,
    /// The column with the last day of the event.
    pub end: Option<String>,
    /// The column with the standard concept of the event.
    pub concept: Option<String>,
    /// Columns that risk is measured on.
    pub quasi_identifiers: Vec<String>,
    /// The columns, in CDM order; extensions last.
    pub columns: Vec<ColumnSpec>,
}

impl TableSpec {
    /// The position of a column.
    pub fn index_of(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == column)
    }

    /// A column by name.
    pub fn column(&self, column: &str) -> Option<&ColumnSpec> {
        self.columns.iter().find(|c| c.name == column)
    }

    /// The `*_source_value` column that belongs to the table's concept column, where there is one.
    pub fn source_value(&self) -> Option<&str> {
        let wanted = self.concept.as_deref()?.strip_suffix("_concept_id")?;
        let wanted = format!("{wanted}_source_value");
        self.columns.iter().find(|c| c.name == wanted).map(|c| c.name.as_str())
    }
}

/// Why the table specifications do not load.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// Not the JSON that a table specification is.
    #[error("schemas/tables/{table}.json: {source}")]
    Json {
        /// The table.
        table: String,
        /// What serde found.
        source: serde_json::Error,
    },
    /// A named column is missing, or a name occurs twice.
    #[error("schemas/tables/{table}.json: column {column}: {reason}")]
    Column {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What is wrong.
        reason: &'static str,
    },
}

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../schemas/tables/", $name, ".json")))),*]
    };
}

/// The files of `schemas/tables`, in the order in which the CDM lists the tables.
const EMBEDDED: &[(&str, &str)] = embedded![
    "person",
    "observation_period",
    "visit_occurrence",
    "visit_detail",
    "condition_occurrence",
    "drug_exposure",
    "procedure_occurrence",
    "device_exposure",
    "measurement",
    "observation",
    "death",
    "note",
    "specimen",
    "condition_era",
    "drug_era",
];

/// All canonical tables, checked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tables(Arc<Vec<TableSpec>>);

impl Tables {
    /// The compiled-in specifications.
    ///
    /// # Errors
    /// [`TablesError`] if a file is not what it should be; a test of this crate keeps that from shipping.
    pub fn embedded() -> Result<Self, TablesError> {
        let mut tables = Vec::with_capacity(EMBEDDED.len());
        for (name, text) in EMBEDDED {
            let spec: TableSpec = serde_json::from_str(text)
                .map_err(|source| TablesError::Json { table: (*name).to_owned(), source })?;
            check(name, &spec)?;
            tables.push(spec);
        }
        Ok(Self(Arc::new(tables)))
    }

    /// The tables in CDM order.
    pub fn iter(&self) -> std::slice::Iter<'_, TableSpec> {
        self.0.iter()
    }

    /// A table by name.
    pub fn get(&self, table: &str) -> Option<&TableSpec> {
        self.0.iter().find(|t| t.table == table)
    }

    /// The position of a table: a small number that stands for it.
    pub fn index_of(&self, table: &str) -> Option<usize> {
        self.0.iter().position(|t| t.table == table)
    }

    /// The digest of all specifications as compiled in.
    pub fn digest(&self) -> Digest {
        let all: Vec<&str> = EMBEDDED.iter().map(|(_, text)| *text).collect();
        Digest::of(all.join("\n"))
    }
}

fn check(name: &str, spec: &TableSpec) -> Result<(), TablesError> {
    let fail = |column: &str, reason| {
        Err(TablesError::Column { table: name.to_owned(), column: column.to_owned(), reason })
    };
    if spec.table != name {
        return fail(&spec.table, "the file has another table's name");
    }
    for (i, column) in spec.columns.iter().enumerate() {
        if spec.columns[..i].iter().any(|c| c.name == column.name) {
            return fail(&column.name, "named twice");
        }
    }
    let named = [&spec.event_id, &spec.start, &spec.end, &spec.concept].into_iter().flatten();
    for column in named.chain(&spec.quasi_identifiers) {
        if spec.column(column).is_none() {
            return fail(column, "not a column of the table");
        }
    }
    if spec.column("person_id").is_none_or(|c| c.class != IdentifierClass::SubjectId) {
        return fail("person_id", "every table has one, of class subject_id");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_tables_load() {
        let tables = Tables::embedded().expect("schemas/tables is consistent");
        assert_eq!(tables.iter().count(), 15);
        let condition = tables.get("condition_occurrence").expect("present");
        assert_eq!(condition.source_value(), Some("condition_source_value"));
        assert_eq!(condition.start.as_deref(), Some("condition_start_date"));
    }

    #[test]
    fn a_column_that_does_not_exist_is_refused() {
        let tables = Tables::embedded().expect("consistent");
        let mut spec = tables.get("death").expect("present").clone();
        spec.start = Some("nowhere".to_owned());
        assert!(matches!(check("death", &spec), Err(TablesError::Column { .. })));
    }
}
