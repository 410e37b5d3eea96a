//! What kind of record a row was made from: the lowest bits of its row key.
//!
//! A code's domain says which table its concept belongs to. It does not say what a record claims: an allergy to a drug, a
//! question about a diagnosis and a planned procedure name the same codes as the event. So every row keeps, in the key
//! that it has anyway, the [`Origin`] of its record. It decides which tables the row may be in whatever its code, and
//! which category of consent it belongs to wherever it went.
//!
//! A row key is 64 bits: 59 of a keyed hash of the record's kind and id, one that marks a row which was [added] because a
//! code stands for several concepts, and four of the origin. All rows of one record share their [record key].
//!
//! [added]: RowKey::is_added
//! [record key]: RowKey::record

use crate::consent::{Category, CategorySet};

/// The kind of a record, as far as it decides what its rows may claim.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Origin {
    /// No record: computed from other rows.
    Derived = 0,
    /// A row that arrived in a table of the CDM, or a record whose rows have one table only. It stays there.
    Table = 1,
    /// Encounter: a visit.
    Encounter = 2,
    /// Condition: a diagnosis or problem.
    Condition = 3,
    /// Procedure: something that was done.
    Procedure = 4,
    /// A medication record or an immunization: a drug that was prescribed, given or taken.
    Drug = 5,
    /// AllergyIntolerance: a propensity. It names what the person must not get.
    Allergy = 6,
    /// Device.
    Device = 7,
    /// Observation: a question and its answer. The code alone claims nothing.
    Observation = 8,
    /// DiagnosticReport: a conclusion.
    Report = 9,
    /// Specimen.
    Specimen = 10,
}

impl Origin {
    /// All of them, by their number.
    pub const ALL: &'static [Self] = &[
        Self::Derived,
        Self::Table,
        Self::Encounter,
        Self::Condition,
        Self::Procedure,
        Self::Drug,
        Self::Allergy,
        Self::Device,
        Self::Observation,
        Self::Report,
        Self::Specimen,
    ];

    /// Of a FHIR resource type; any other name is a table's.
    pub fn of_kind(kind: &str) -> Self {
        match kind {
            "Encounter" => Self::Encounter,
            "Condition" => Self::Condition,
            "Procedure" => Self::Procedure,
            "MedicationRequest"
            | "MedicationAdministration"
            | "MedicationStatement"
            | "MedicationDispense"
            | "Immunization" => Self::Drug,
            "AllergyIntolerance" => Self::Allergy,
            "Device" => Self::Device,
            "Observation" => Self::Observation,
            "DiagnosticReport" => Self::Report,
            "Specimen" => Self::Specimen,
            _ => Self::Table,
        }
    }

    /// The tables that rows of this origin may be in, the one where they begin first. None where a row stays in whichever
    /// table it is in.
    ///
    /// Only what says that an event took place may be in an event's table, and only in one whose event it can mean:
    /// a problem may turn out to be a procedure that was done and never a drug that was taken. A statement
    /// (`observation`) claims least.
    pub const fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Derived | Self::Table => &[],
            Self::Encounter => &["visit_occurrence"],
            Self::Condition => {
                &["condition_occurrence", "observation", "measurement", "procedure_occurrence"]
            }
            Self::Procedure => {
                &["procedure_occurrence", "observation", "measurement", "drug_exposure", "device_exposure"]
            }
            Self::Drug => &["drug_exposure", "observation", "device_exposure"],
            Self::Allergy | Self::Report => &["observation"],
            Self::Device => &["device_exposure", "observation"],
            Self::Observation => &["observation", "measurement"],
            Self::Specimen => &["specimen"],
        }
    }

    /// The table where rows of this origin begin, whatever their code. None where a row begins in one of several.
    pub fn home(self) -> Option<&'static str> {
        if self == Self::Observation { None } else { self.tables().first().copied() }
    }

    /// The category of consent that rows of this origin belong to beside that of their table.
    pub const fn category(self) -> Option<Category> {
        match self {
            Self::Encounter => Some(Category::Visits),
            Self::Condition => Some(Category::Conditions),
            Self::Procedure => Some(Category::Procedures),
            Self::Drug => Some(Category::Drugs),
            Self::Device => Some(Category::Devices),
            Self::Specimen => Some(Category::Specimens),
            // Observations are in the tables of both their categories only, so their table's category is theirs.
            Self::Observation | Self::Allergy | Self::Report | Self::Derived | Self::Table => None,
        }
    }

    /// The categories that a row of this origin in `table` shows: the table's and the record's. A derived row shows all
    /// that may be in the table it is derived from. `None` for a table that is not canonical.
    pub fn shows(self, table: &str) -> Option<CategorySet> {
        let own = CategorySet::EMPTY.with(Category::of_table(table)?);
        let from = match table {
            "drug_era" => "drug_exposure",
            "condition_era" => "condition_occurrence",
            _ => return Some(self.category().map_or(own, |category| own.with(category))),
        };
        Some(own.union(behind(from)))
    }
}

/// The categories of all records whose rows may be in `table`.
fn behind(table: &str) -> CategorySet {
    Origin::ALL.iter().filter(|o| o.tables().contains(&table)).filter_map(|o| o.category()).collect()
}

/// The categories that rows in the tables of `asked` may belong to by their records, without those of `asked`.
pub fn hidden_in(asked: CategorySet) -> CategorySet {
    let tables = asked.iter().flat_map(|category| category.tables().iter());
    let all = tables.fold(CategorySet::EMPTY, |set, table| set.union(behind(table)));
    all.iter().filter(|category| !asked.contains(*category)).collect()
}

const ORIGIN: u64 = 0b1111;
const ADDED: u64 = 0b1_0000;

/// The key of a row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RowKey(u64);

impl RowKey {
    /// Of a record: `hash` is a keyed hash of its kind and id.
    pub const fn of_record(origin: Origin, hash: u64) -> Self {
        Self(hash & !(ORIGIN | ADDED) | origin as u64)
    }

    /// As stored.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As stored.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The origin; [`Origin::Table`] where the bits are no origin of this version.
    pub fn origin(self) -> Origin {
        Origin::ALL.get((self.0 & ORIGIN) as usize).copied().unwrap_or(Origin::Table)
    }

    /// The key that all rows of the record share.
    #[must_use]
    pub const fn record(self) -> Self {
        Self(self.0 & !ADDED)
    }

    /// The key of a row that a vocabulary added to the record because a code stands for several concepts.
    #[must_use]
    pub const fn added(self) -> Self {
        Self(self.0 | ADDED)
    }

    /// Whether a vocabulary added the row.
    pub const fn is_added(self) -> bool {
        self.0 & ADDED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tables;

    #[test]
    fn a_key_keeps_its_origin_and_shares_its_record() {
        for (number, origin) in Origin::ALL.iter().enumerate() {
            assert_eq!(*origin as usize, number);
            let key = RowKey::of_record(*origin, u64::MAX);
            assert_eq!((key.origin(), key.is_added(), key.record()), (*origin, false, key));
            let added = key.added();
            assert_eq!((added.origin(), added.is_added(), added.record()), (*origin, true, key));
        }
        assert_eq!(RowKey::from_bits(0).origin(), Origin::Derived);
        assert_eq!(RowKey::from_bits(15).origin(), Origin::Table, "not an origin of this version");
    }

    #[test]
    fn no_statement_is_in_a_table_of_events() {
        let tables = Tables::embedded().expect("consistent");
        for origin in Origin::ALL {
            assert!(origin.tables().iter().all(|t| tables.get(t).is_some()), "{origin:?}");
        }
        for statement in [Origin::Allergy, Origin::Report, Origin::Observation] {
            assert!(statement.tables().iter().all(|t| matches!(*t, "observation" | "measurement")));
        }
    }

    #[test]
    fn what_a_row_shows_follows_its_record() {
        let set = |categories: &[Category]| Some(categories.iter().copied().collect::<CategorySet>());
        let shows = |origin: Origin, table| origin.shows(table);
        assert_eq!(
            shows(Origin::Condition, "observation"),
            set(&[Category::Conditions, Category::Observations])
        );
        assert_eq!(shows(Origin::Condition, "condition_occurrence"), set(&[Category::Conditions]));
        assert_eq!(shows(Origin::Table, "observation"), set(&[Category::Observations]));
        assert_eq!(shows(Origin::Derived, "drug_era"), set(&[Category::Drugs, Category::Procedures]));
        assert_eq!(shows(Origin::Derived, "condition_era"), set(&[Category::Conditions]));
        assert_eq!(shows(Origin::Condition, "nowhere"), None);
        let asked: CategorySet = [Category::Observations].into_iter().collect();
        let hidden: Vec<Category> = hidden_in(asked).iter().collect();
        let expected = [Category::Conditions, Category::Drugs, Category::Procedures, Category::Devices];
        assert_eq!(hidden, expected);
    }
}
