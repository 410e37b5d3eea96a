//! Vocabularies: from a code of a system to its concept, its standard concepts and their domain.
//!
//! Serves the arrow `intake → mapping`. Looking up is pure; where an index lies on disk is the business of who opens it.

/// Answers about codes. Cheap to ask, from many threads.
pub trait ConceptLookup: Send + Sync {
    /// Whether the vocabulary has the code: codes that it has are preferred to others.
    fn knows(&self, vocabulary_id: &str, code: &str) -> bool;

    /// The concept that `SOURCE_TO_CONCEPT_MAP` gives for a code of a local system.
    fn local(&self, system: &str, code: &str) -> Option<i64>;
}

/// No vocabulary is loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoVocabulary;

impl ConceptLookup for NoVocabulary {
    fn knows(&self, _: &str, _: &str) -> bool {
        false
    }

    fn local(&self, _: &str, _: &str) -> Option<i64> {
        None
    }
}
