//! What a record's status says: whether it is a fact about the person.
//!
//! The codes stand in `schemas/mappings/fhir.toml`, section `[status]`, by resource type, and are those of R4's required
//! value sets. Only a record whose status is listed as a fact becomes rows. One without a status is taken as its element
//! is: R4 requires most of them, and what is absent denies nothing. A code that is not in the value set is not a fact.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::datatypes::CodeableConcept;
use crate::mapping::outcome::{Outcome, Reason, reason};

/// The codes of one element, by what they say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Statuses {
    /// It is so, or was.
    fact: Vec<String>,
    /// It was to be and did not happen.
    #[serde(default)]
    not_done: Vec<String>,
    /// It is planned, or refuted.
    #[serde(default)]
    not_a_fact: Vec<String>,
    /// It may be so.
    #[serde(default)]
    not_confirmed: Vec<String>,
    /// It was recorded by mistake.
    #[serde(default)]
    entered_in_error: Vec<String>,
    /// The source itself does not know. Refused like a code that is in no list.
    #[serde(default)]
    #[cfg_attr(not(test), expect(dead_code, reason = "listed so that every code of R4 is weighed"))]
    unknown: Vec<String>,
}

impl Statuses {
    /// Why a record with this status becomes no row; `None` where it is a fact.
    fn refuses(&self, code: &str) -> Option<Reason> {
        let lists = [
            (&self.entered_in_error, reason::ENTERED_IN_ERROR),
            (&self.not_done, reason::NOT_DONE),
            (&self.not_a_fact, reason::NOT_A_FACT),
            (&self.not_confirmed, reason::NOT_CONFIRMED),
        ];
        let listed = |list: &[String]| list.iter().any(|listed| listed == code);
        if listed(&self.fact) {
            return None;
        }
        let found = lists.iter().find(|(list, _)| listed(list)).map(|(_, reason)| *reason);
        Some(found.unwrap_or(reason::UNKNOWN_STATUS))
    }

    /// A status that is a code.
    pub fn check(&self, code: &str) -> Result<(), Outcome> {
        match self.refuses(code).filter(|_| !code.is_empty()) {
            Some(reason) => Err(Outcome::Unmapped(reason)),
            None => Ok(()),
        }
    }

    /// A status that is a CodeableConcept: every coding must be a fact, because one that denies is not outvoted.
    pub fn check_concept(&self, concept: Option<&CodeableConcept<'_>>) -> Result<(), Outcome> {
        let codings = concept.map_or(&[][..], |concept| &concept.coding);
        codings.iter().try_for_each(|coding| self.check(super::datatypes::text(&coding.code)))
    }
}

/// By resource type.
pub type StatusTable = BTreeMap<String, Statuses>;

/// Types whose status is looked at.
pub const TYPES: &[&str] = &[
    "Condition",
    "AllergyIntolerance",
    "Encounter",
    "Procedure",
    "Observation",
    "DiagnosticReport",
    "MedicationRequest",
    "MedicationRequest.intent",
    "MedicationAdministration",
    "MedicationStatement",
    "MedicationDispense",
    "Immunization",
    "Device",
    "Specimen",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::fhir::FhirRules;

    /// The types whose status is looked at, with all codes of their R4 value sets.
    const R4: &[(&str, &[&str])] = &[
        (
            "Condition",
            &["unconfirmed", "provisional", "differential", "confirmed", "refuted", "entered-in-error"],
        ),
        ("AllergyIntolerance", &["unconfirmed", "confirmed", "refuted", "entered-in-error"]),
        (
            "Encounter",
            &[
                "planned",
                "arrived",
                "triaged",
                "in-progress",
                "onleave",
                "finished",
                "cancelled",
                "entered-in-error",
                "unknown",
            ],
        ),
        (
            "Procedure",
            &[
                "preparation",
                "in-progress",
                "not-done",
                "on-hold",
                "stopped",
                "completed",
                "entered-in-error",
                "unknown",
            ],
        ),
        (
            "Observation",
            &[
                "registered",
                "preliminary",
                "final",
                "amended",
                "corrected",
                "cancelled",
                "entered-in-error",
                "unknown",
            ],
        ),
        (
            "DiagnosticReport",
            &[
                "registered",
                "partial",
                "preliminary",
                "final",
                "amended",
                "corrected",
                "appended",
                "cancelled",
                "entered-in-error",
                "unknown",
            ],
        ),
        (
            "MedicationRequest",
            &[
                "active",
                "on-hold",
                "cancelled",
                "completed",
                "entered-in-error",
                "stopped",
                "draft",
                "unknown",
            ],
        ),
        (
            "MedicationRequest.intent",
            &[
                "proposal",
                "plan",
                "order",
                "original-order",
                "reflex-order",
                "filler-order",
                "instance-order",
                "option",
            ],
        ),
        (
            "MedicationAdministration",
            &["in-progress", "not-done", "on-hold", "completed", "entered-in-error", "stopped", "unknown"],
        ),
        (
            "MedicationStatement",
            &[
                "active",
                "completed",
                "entered-in-error",
                "intended",
                "stopped",
                "on-hold",
                "unknown",
                "not-taken",
            ],
        ),
        (
            "MedicationDispense",
            &[
                "preparation",
                "in-progress",
                "cancelled",
                "on-hold",
                "completed",
                "entered-in-error",
                "stopped",
                "declined",
                "unknown",
            ],
        ),
        ("Immunization", &["completed", "entered-in-error", "not-done"]),
        ("Device", &["active", "inactive", "entered-in-error", "unknown"]),
        ("Specimen", &["available", "unavailable", "unsatisfactory", "entered-in-error"]),
    ];

    #[test]
    fn every_code_of_r4_is_weighed_and_no_other_is_a_fact() {
        let rules = FhirRules::embedded().expect("consistent");
        assert_eq!(R4.iter().map(|(name, _)| *name).collect::<Vec<_>>(), TYPES);
        for (name, codes) in R4 {
            let statuses = rules.statuses(name);
            let lists = [
                &statuses.fact,
                &statuses.not_done,
                &statuses.not_a_fact,
                &statuses.not_confirmed,
                &statuses.entered_in_error,
                &statuses.unknown,
            ];
            let mut listed: Vec<&str> = lists.iter().flat_map(|l| l.iter().map(String::as_str)).collect();
            listed.sort_unstable();
            let mut expected = codes.to_vec();
            expected.sort_unstable();
            assert_eq!(listed, expected, "{name}");
            assert_eq!(statuses.check(""), Ok(()));
            assert_eq!(statuses.check("no-such-code"), Err(Outcome::Unmapped(reason::UNKNOWN_STATUS)));
        }
        let says = |name: &str, code: &str| rules.statuses(name).refuses(code);
        assert_eq!(says("Condition", "confirmed"), None);
        for doubted in ["unconfirmed", "provisional", "differential"] {
            assert_eq!(says("Condition", doubted), Some(reason::NOT_CONFIRMED));
        }
        assert_eq!(says("Condition", "refuted"), Some(reason::NOT_A_FACT));
        assert_eq!(says("Procedure", "not-done"), Some(reason::NOT_DONE));
        assert_eq!(says("MedicationRequest.intent", "proposal"), Some(reason::NOT_A_FACT));
        assert_eq!(says("MedicationDispense", "in-progress"), Some(reason::NOT_A_FACT));
        assert_eq!(says("MedicationStatement", "unknown"), Some(reason::UNKNOWN_STATUS));
        for name in TYPES.iter().filter(|name| !name.contains('.')) {
            assert_eq!(says(name, "entered-in-error"), Some(reason::ENTERED_IN_ERROR), "{name}");
        }
    }
}
