//! Rows of other tables that say again what the person row says: a result that is the sex, the race, an age, a ZIP code.
//!
//! Where the gate generalised or withheld an attribute, these rows would undo it, so they do not leave. Which rows those
//! are goes by their code, and by its concept where a vocabulary is loaded. What is not claimed: that nothing else of a
//! history tells the attribute (a pregnancy tells the sex, a discharge may tell a death); see `risk`.

use std::collections::BTreeSet;

use almoner_model::{Code, TableSpec};
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;

use super::ReleaseError;
use crate::risk::{Place, Recoding};

/// Whether a recoding changes the attribute.
type Changed = fn(&Recoding) -> bool;

/// Codes that restate an attribute of the person (LOINC 2.78, SNOMED CT).
const CODES: &[(Changed, &[&str])] = &[
    (
        |r| !r.birth_date,
        &[
            "LOINC:21112-8",    // Birth date
            "LOINC:80904-6",    // Birth year
            "SNOMED:184099003", // Date of birth
            "LOINC:30525-0",    // Age
            "LOINC:21611-9",    // Age, estimated
            "LOINC:21612-7",    // Age, reported
            "LOINC:29553-5",    // Age, calculated
            "LOINC:30972-4",    // Age at onset of adverse event
            "LOINC:39016-1",    // Age at death
            "LOINC:63900-5",    // Current age or age at death
            "SNOMED:397659008", // Age (in use before 397669002)
            "SNOMED:397669002", // Age
            "SNOMED:424144002", // Current chronological age
            "SNOMED:445518008", // Age at onset of clinical finding
            "SNOMED:105727008", // Age category
        ],
    ),
    (
        |r| r.place != Place::AsReleased,
        &[
            "LOINC:45401-7", // Postal code
            "LOINC:56799-0", // Address
        ],
    ),
    (
        |r| !r.sex,
        &[
            "LOINC:46098-0",    // Sex
            "LOINC:21840-4",    // Sex
            "LOINC:76689-9",    // Sex assigned at birth
            "LOINC:76691-5",    // Gender identity
            "SNOMED:263495000", // Gender
            "SNOMED:184100006", // Patient sex
        ],
    ),
    (
        |r| !r.race,
        &[
            "LOINC:32624-9", // Race
            "LOINC:72826-1", // Race OMB.1997
        ],
    ),
    (
        |r| !r.ethnicity,
        &[
            "LOINC:42784-9",    // Ethnic background Stated
            "LOINC:69490-1",    // Ethnicity OMB.1997
            "SNOMED:364699009", // Ethnic group
        ],
    ),
    (
        |r| !r.death,
        &[
            "LOINC:31211-6",    // Date of death
            "LOINC:81954-0",    // Date of death
            "LOINC:81956-5",    // Date and time of death
            "SNOMED:419620001", // Death
            "SNOMED:419099009", // Dead
        ],
    ),
];

/// Concepts of ages and births that are known without a vocabulary.
const BIRTH_CONCEPTS: [i64; 4] = [
    3_022_304,  // LOINC Age
    4_265_453,  // SNOMED CT Age
    21_494_070, // LOINC Birth year
    4_083_587,  // SNOMED CT Date of birth
];

/// The codes that restate what a recoding changed.
pub(super) struct Restating {
    codes: BTreeSet<&'static str>,
    concepts: BTreeSet<i64>,
}

impl Restating {
    /// Of `recoding`; `concepts` gives those of a code, where a vocabulary knows it.
    pub(super) fn new(recoding: &Recoding, concepts: &dyn Fn(&Code) -> Vec<i64>) -> Self {
        let changed = CODES.iter().filter(|(changed, _)| changed(recoding));
        let codes: BTreeSet<&str> = changed.flat_map(|(_, codes)| codes.iter().copied()).collect();
        let known = BIRTH_CONCEPTS.into_iter().filter(|_| !recoding.birth_date);
        let concepts = codes.iter().filter_map(|code| Code::parse(code)).flat_map(|c| concepts(&c));
        let concepts = concepts.chain(known).collect();
        Self { codes, concepts }
    }

    /// The rows of a table that do not restate anything.
    ///
    /// # Errors
    /// [`ReleaseError::Tables`] if the batch is not of the table.
    pub(super) fn without(&self, spec: &TableSpec, batch: &RecordBatch) -> Result<RecordBatch, ReleaseError> {
        if self.codes.is_empty() {
            return Ok(batch.clone());
        }
        let concept = spec.concept.as_deref();
        let source = concept.map(|c| c.replace("_concept_id", "_source_concept_id"));
        let numbers: Vec<_> = concept
            .into_iter()
            .chain(source.as_deref())
            .filter_map(|name| batch.column_by_name(name)?.as_primitive_opt::<Int64Type>())
            .collect();
        let text = spec.source_value().and_then(|name| batch.column_by_name(name)?.as_string_opt::<i32>());
        let restates = |row: usize| {
            text.is_some_and(|t| t.is_valid(row) && self.codes.contains(t.value(row)))
                || numbers.iter().any(|n| n.is_valid(row) && self.concepts.contains(&n.value(row)))
        };
        let stays: BooleanArray = (0..batch.num_rows()).map(|row| Some(!restates(row))).collect();
        filter_record_batch(batch, &stays).map_err(|_| ReleaseError::Tables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the profiles know to tell an age or a birth stays behind where births were made coarser.
    #[test]
    fn ages_and_births_are_those_of_the_profiles() {
        let coarser = Restating::new(&Recoding { birth_date: false, ..Recoding::NONE }, &|_| Vec::new());
        let list: toml::Table = include_str!("../../schemas/deid/ages.toml").parse().expect("TOML");
        for group in ["age", "birth"] {
            let codes = list[group]["codes"].as_array().expect("codes");
            assert!(codes.iter().all(|c| coarser.codes.contains(c.as_str().expect("text"))), "{group}");
            let concepts = list[group]["concepts"].as_array().expect("concepts");
            assert!(concepts.iter().all(|c| coarser.concepts.contains(&c.as_integer().expect("an id"))));
        }
        assert!(Restating::new(&Recoding::NONE, &|_| Vec::new()).concepts.is_empty());
    }

    #[test]
    fn every_code_reads_and_each_attribute_has_its_own() {
        let all: Vec<&str> = CODES.iter().flat_map(|(_, codes)| codes.iter().copied()).collect();
        assert!(all.iter().all(|code| Code::parse(code).is_some_and(|c| c.to_string() == *code)));
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        let codes = |r: &Recoding| Restating::new(r, &|_| vec![7]).codes;
        assert!(codes(&Recoding::NONE).is_empty());
        let sex = codes(&Recoding { sex: false, ..Recoding::NONE });
        assert!(sex.contains("LOINC:46098-0") && !sex.contains("LOINC:32624-9"));
    }
}
