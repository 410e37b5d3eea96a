//! The fixed code-to-concept pairs and preferences of `schemas/mappings/fhir.toml`, compiled in and checked.

use std::collections::BTreeMap;

use almoner_model::{Digest, Vocabulary};
use serde::Deserialize;

use super::status::{StatusTable, Statuses, TYPES};

const EMBEDDED: &str = include_str!("../../../schemas/mappings/fhir.toml");

/// What stands in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    gender: BTreeMap<String, i64>,
    race: BTreeMap<String, i64>,
    ethnicity: BTreeMap<String, i64>,
    visit: BTreeMap<String, i64>,
    comparator: BTreeMap<String, i64>,
    answer: Answer,
    r#type: Types,
    preference: BTreeMap<String, Vec<String>>,
    condition_status: ConditionStatus,
    status: StatusTable,
}

/// Concepts that say how certain a condition is.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConditionStatus {
    confirmed: i64,
}

/// Concepts of yes and no.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Yes.
    pub yes: i64,
    /// No.
    pub no: i64,
}

/// Concepts that say where a record comes from.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Types {
    /// A health record.
    pub ehr: i64,
    /// A prescription in one.
    pub prescription: i64,
    /// A dispensing record in one.
    pub dispensing: i64,
    /// An administration record in one.
    pub administration: i64,
}

/// Which kind of event a code stands for; decides which of several codings is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodeRole {
    /// Diagnoses.
    Condition,
    /// Procedures.
    Procedure,
    /// Drugs and vaccines.
    Drug,
    /// Observations and measurements.
    Observation,
    /// Devices.
    Device,
    /// Specimens.
    Specimen,
    /// Coded results.
    Value,
    /// All else.
    Other,
}

impl CodeRole {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Condition, "condition"),
        (Self::Procedure, "procedure"),
        (Self::Drug, "drug"),
        (Self::Observation, "observation"),
        (Self::Device, "device"),
        (Self::Specimen, "specimen"),
        (Self::Value, "value"),
        (Self::Other, "other"),
    ];
}

/// Why the rules do not load.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// Not the TOML that they are.
    #[error("schemas/mappings/fhir.toml: {0}")]
    Toml(#[from] toml::de::Error),
    /// Statuses of a resource type are missing, or of one that is not looked at.
    #[error("schemas/mappings/fhir.toml: the statuses are not those of the types that are mapped")]
    Status,
    /// A preference names a system or a role that is none.
    #[error("schemas/mappings/fhir.toml: preference {0} is unknown or incomplete")]
    Preference(String),
}

/// The rules.
#[derive(Clone, Debug)]
pub struct FhirRules {
    file: File,
    /// By role, then vocabulary: rank, lower is better.
    ranks: Vec<Vec<u8>>,
    /// For a type without statuses: none of them is a fact.
    none: Statuses,
}

impl FhirRules {
    /// The compiled-in rules.
    ///
    /// # Errors
    /// [`RulesError`] if the file is not what it should be; a test keeps that from shipping.
    pub fn embedded() -> Result<Self, RulesError> {
        let file: File = toml::from_str(EMBEDDED)?;
        let mut ranks = vec![vec![100; Vocabulary::ALL.len()]; CodeRole::ALL.len()];
        for (role, name) in CodeRole::ALL {
            let order = file.preference.get(name).ok_or_else(|| RulesError::Preference(name.to_owned()))?;
            for (rank, id) in (0u8..).zip(order) {
                let vocabulary = Vocabulary::from_id(id).ok_or_else(|| RulesError::Preference(id.clone()))?;
                ranks[role as usize][vocabulary as usize] = rank;
            }
        }
        let mut types = TYPES.to_vec();
        types.sort_unstable();
        if !file.status.keys().map(String::as_str).eq(types) {
            return Err(RulesError::Status);
        }
        Ok(Self { file, ranks, none: Statuses::default() })
    }

    /// The digest of the file as compiled in.
    pub fn digest() -> Digest {
        Digest::of(EMBEDDED)
    }

    /// How well a system stands for a role: lower is better.
    pub fn rank(&self, role: CodeRole, vocabulary: Vocabulary) -> u8 {
        self.ranks[role as usize][vocabulary as usize]
    }

    /// The concept of an administrative gender, 0 if none.
    pub fn gender(&self, code: &str) -> i64 {
        self.file.gender.get(code).copied().unwrap_or(0)
    }

    /// The concept of an OMB race category, 0 if none.
    pub fn race(&self, code: &str) -> i64 {
        self.file.race.get(code).copied().unwrap_or(0)
    }

    /// The concept of an OMB ethnicity category, 0 if none.
    pub fn ethnicity(&self, code: &str) -> i64 {
        self.file.ethnicity.get(code).copied().unwrap_or(0)
    }

    /// The visit concept of an encounter class, 0 if none.
    pub fn visit(&self, code: &str) -> i64 {
        self.file.visit.get(code).copied().unwrap_or(0)
    }

    /// The operator concept of a comparator.
    pub fn comparator(&self, code: &str) -> Option<i64> {
        self.file.comparator.get(code).copied()
    }

    /// The concept of yes or no.
    pub const fn answer(&self, yes: bool) -> i64 {
        if yes { self.file.answer.yes } else { self.file.answer.no }
    }

    /// What the statuses of a resource type say.
    pub(super) fn statuses(&self, kind: &str) -> &Statuses {
        self.file.status.get(kind).unwrap_or(&self.none)
    }

    /// The status concept of a confirmed condition.
    pub const fn confirmed(&self) -> i64 {
        self.file.condition_status.confirmed
    }

    /// Type concepts.
    pub const fn types(&self) -> Types {
        self.file.r#type
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_rules_load() {
        let rules = FhirRules::embedded().expect("schemas/mappings/fhir.toml is consistent");
        assert_eq!((rules.gender("female"), rules.gender("unknown")), (8532, 0));
        assert_eq!((rules.race("2106-3"), rules.ethnicity("2186-5")), (8527, 38_003_564));
        assert_eq!((rules.visit("AMB"), rules.visit("IMP"), rules.visit("EMER")), (9202, 9201, 9203));
        let rank = |v| rules.rank(CodeRole::Condition, v);
        assert!(rank(Vocabulary::Snomed) < rank(Vocabulary::Icd10Cm));
        assert!(rank(Vocabulary::Icd9Cm) < rank(Vocabulary::Loinc));
    }
}
