//! Rows of other tables that say again what the person row says: a result that is the sex, the race, an age, a ZIP code.
//!
//! Where the gate generalised or withheld an attribute, these rows would undo it, so they do not leave. Which rows those
//! are goes by their code, and by its concept where a vocabulary is loaded; those that tell an age or a birth are the ones
//! that the profiles know (`schemas/deid/ages.toml`). What is not claimed: that nothing else of a
//! history tells the attribute (a pregnancy tells the sex, a discharge may tell a death); see `risk`.

use std::collections::BTreeSet;

use almoner_deid::Ages;
use almoner_model::{Code, TableSpec};
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;

use super::ReleaseError;
use crate::risk::{Place, Recoding};

/// Whether a recoding changes the attribute.
type Changed = fn(&Recoding) -> bool;

/// Codes that restate an attribute of the person but its birth (LOINC 2.78, SNOMED CT).
const CODES: &[(Changed, &[&str])] = &[
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

/// The codes that restate what a recoding changed.
pub(super) struct Restating<'a> {
    codes: BTreeSet<&'a str>,
    concepts: BTreeSet<i64>,
}

impl<'a> Restating<'a> {
    /// Of `recoding`; `ages` tell a birth, and `concepts` gives those of another code, where a vocabulary knows it.
    pub(super) fn new(recoding: &Recoding, ages: &'a Ages, concepts: &dyn Fn(&Code) -> Vec<i64>) -> Self {
        let changed = CODES.iter().filter(|(changed, _)| changed(recoding));
        let mut codes: BTreeSet<&str> = changed.flat_map(|(_, codes)| codes.iter().copied()).collect();
        let mut concepts: BTreeSet<i64> =
            codes.iter().filter_map(|code| Code::parse(code)).flat_map(|c| concepts(&c)).collect();
        if !recoding.birth_date {
            codes.extend(ages.codes());
            concepts.extend(ages.concepts());
        }
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

    fn restating<'a>(recoding: &Recoding, ages: &'a Ages) -> Restating<'a> {
        Restating::new(recoding, ages, &|_| vec![7])
    }

    /// What the profiles know to tell an age or a birth stays behind where births were made coarser.
    #[test]
    fn each_attribute_has_its_own() {
        let ages = Ages::current().expect("loads");
        let all: Vec<&str> =
            CODES.iter().flat_map(|(_, codes)| codes.iter().copied()).chain(ages.codes()).collect();
        assert!(all.iter().all(|code| Code::parse(code).is_some_and(|c| c.to_string() == *code)));
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        let none = restating(&Recoding::NONE, &ages);
        assert!(none.codes.is_empty() && none.concepts.is_empty());
        let sex = restating(&Recoding { sex: false, ..Recoding::NONE }, &ages);
        assert!(sex.codes.contains("LOINC:46098-0") && !sex.codes.contains("LOINC:32624-9"));
        assert_eq!(sex.concepts, BTreeSet::from([7]));
        let birth = restating(&Recoding { birth_date: false, ..Recoding::NONE }, &ages);
        assert!(birth.codes.contains("LOINC:30525-0") && birth.codes.contains("LOINC:21112-8"));
        assert!(birth.concepts.contains(&3_022_304) && birth.concepts.contains(&21_494_070));
    }
}
