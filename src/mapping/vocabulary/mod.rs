//! Vocabularies: from a code of a system to its concept, its standard concepts and their domain.
//!
//! Serves the arrow `intake → mapping`. [`VocabularyBuilder`] turns the OHDSI tables (Athena's CONCEPT,
//! CONCEPT_RELATIONSHIP, SOURCE_TO_CONCEPT_MAP) into one compact index, [`VocabularyIndex`] answers from it, and
//! [`ConceptMapper`] applies the answers to rows: staged ones at ingest, those of a dataset when vocabularies come later.
//! All of it is pure; where an index lies on disk is the business of `intake::vocabulary`.

mod apply;
mod builder;
mod facts;
mod index;
mod place;
#[cfg(test)]
mod tests;

pub use apply::{Assign, ConceptMapper, ConceptReport, VocabularySink};
pub use builder::{VocabularyBuilder, VocabularyError, VocabularyStats};
pub use index::{BadIndex, VocabularyIndex};
pub use place::ALLERGY_TO_DRUG;

/// The domain of a concept, as far as it decides a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Domain {
    /// condition_occurrence
    Condition,
    /// drug_exposure
    Drug,
    /// procedure_occurrence
    Procedure,
    /// device_exposure
    Device,
    /// measurement
    Measurement,
    /// observation
    Observation,
    /// specimen
    Specimen,
    /// A domain without a table of its own: rows stay where they are.
    Other,
}

impl Domain {
    const ALL: [Self; 8] = [
        Self::Condition,
        Self::Drug,
        Self::Procedure,
        Self::Device,
        Self::Measurement,
        Self::Observation,
        Self::Specimen,
        Self::Other,
    ];

    /// By OMOP `domain_id`.
    pub fn from_id(id: &str) -> Self {
        match id {
            "Condition" => Self::Condition,
            "Drug" => Self::Drug,
            "Procedure" => Self::Procedure,
            "Device" => Self::Device,
            "Measurement" => Self::Measurement,
            "Observation" => Self::Observation,
            "Specimen" => Self::Specimen,
            _ => Self::Other,
        }
    }

    /// Whether `table` is that of a domain. In others (deaths, visits, people) a concept of any domain is at home.
    pub fn has_table(table: &str) -> bool {
        Self::ALL.iter().any(|domain| domain.table() == Some(table))
    }

    /// The table that holds events of this domain.
    pub const fn table(self) -> Option<&'static str> {
        Some(match self {
            Self::Condition => "condition_occurrence",
            Self::Drug => "drug_exposure",
            Self::Procedure => "procedure_occurrence",
            Self::Device => "device_exposure",
            Self::Measurement => "measurement",
            Self::Observation => "observation",
            Self::Specimen => "specimen",
            Self::Other => return None,
        })
    }
}

/// A standard concept that a code maps to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standard {
    /// OMOP concept id.
    pub concept: i64,
    /// Its domain.
    pub domain: Domain,
}

/// What a vocabulary says about a code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The concept of the code itself.
    pub source: i64,
    /// The standard concepts that it maps to, ascending; itself if it is standard; none if it has no map.
    pub standard: Vec<Standard>,
}

/// Answers about codes. Cheap to ask, from many threads.
pub trait ConceptLookup: Send + Sync {
    /// The concept and standard concepts of a code.
    fn find(&self, vocabulary_id: &str, code: &str) -> Option<Found>;

    /// Whether the vocabulary has the code: codes that it has are preferred to others.
    fn knows(&self, vocabulary_id: &str, code: &str) -> bool;

    /// The concept that `SOURCE_TO_CONCEPT_MAP` gives for a code of a local system, which stands there as
    /// `source_vocabulary_id` (the system's URI, or for OMOP tables its name).
    fn local(&self, system: &str, code: &str) -> Option<i64>;
}

/// No vocabulary is loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoVocabulary;

impl ConceptLookup for NoVocabulary {
    fn find(&self, _: &str, _: &str) -> Option<Found> {
        None
    }

    fn knows(&self, _: &str, _: &str) -> bool {
        false
    }

    fn local(&self, _: &str, _: &str) -> Option<i64> {
        None
    }
}
