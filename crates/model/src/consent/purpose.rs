//! What data is used for, in the terms of the GA4GH Data Use Ontology, and what a permission asks of it.
//!
//! A permission covers a use when every stated part of the use's purpose is within it (matching as in GA4GH's data-use
//! matching: a broad permission covers a narrow use; methods research is covered unless excluded). Some statements are
//! never for a machine to weigh: they need a board ([`Statement`]).

use std::collections::BTreeSet;

use crate::Duo;
use serde::{Deserialize, Serialize};

/// A disease with everything it is a kind of, codes of one ontology.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Disease {
    /// Its code (`MONDO:0005148`, `DOID:9351`, `SNOMED:44054006`).
    pub code: String,
    /// The codes it is a kind of, where the ontology is loaded; empty otherwise, so that only the same code matches.
    pub ancestors: BTreeSet<String>,
}

impl Disease {
    /// Whether it is `code` or a kind of it.
    pub fn is_a(&self, code: &str) -> bool {
        self.code == code || self.ancestors.contains(code)
    }
}

/// Something said about a purpose that only a board can weigh.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statement {
    /// The collaborator is required.
    CollaboratorRequired,
    /// Anything not foreseen.
    Other,
    /// A secondary use not foreseen.
    SecondaryOther,
    /// The data's own terms ask for an ethics approval.
    EthicsApprovalRequired,
    /// Use as controls.
    Controls,
    /// Variation within a population.
    Population,
    /// One gender.
    Gender,
    /// Children.
    Pediatric,
    /// Vulnerable populations.
    VulnerablePopulations,
    /// Illegal behaviour.
    IllegalBehavior,
    /// Sexual diseases.
    SexualDiseases,
    /// Psychological traits.
    PsychologicalTraits,
    /// Not about health.
    NotHealth,
    /// Stigmatised diseases.
    StigmatizedDiseases,
}

impl Statement {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::CollaboratorRequired,
        Self::Other,
        Self::SecondaryOther,
        Self::EthicsApprovalRequired,
        Self::Controls,
        Self::Population,
        Self::Gender,
        Self::Pediatric,
        Self::VulnerablePopulations,
        Self::IllegalBehavior,
        Self::SexualDiseases,
        Self::PsychologicalTraits,
        Self::NotHealth,
        Self::StigmatizedDiseases,
    ];
}

/// The purpose of a use.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Purpose {
    /// The DUO permissions that the use needs, all of them.
    pub terms: Vec<Duo>,
    /// The diseases studied, when [`Duo::DiseaseResearch`] is among the terms.
    #[serde(default)]
    pub diseases: Vec<Disease>,
    /// Development of methods or algorithms.
    #[serde(default)]
    pub methods: bool,
    /// What the user binds itself to ([`Duo::NonCommercial`], [`Duo::Publication`], …).
    #[serde(default)]
    pub modifiers: BTreeSet<Duo>,
    /// What only a board can weigh.
    #[serde(default)]
    pub statements: BTreeSet<Statement>,
    /// Whether the boards concerned have weighed the statements and approved.
    #[serde(default)]
    pub board_approved: bool,
}

impl Purpose {
    /// The purpose that people's consent is asked for by a request. Every request rests on an ethics board's
    /// determination, so whoever asks is bound to it ([`Duo::EthicsApproval`]).
    pub fn requested(
        term: Duo,
        modifiers: impl IntoIterator<Item = Duo>,
        diseases: impl IntoIterator<Item = String>,
        methods: bool,
        statements: impl IntoIterator<Item = Statement>,
        board_approved: bool,
    ) -> Self {
        let disease = |code| Disease { code, ancestors: BTreeSet::new() };
        Self {
            terms: vec![term],
            diseases: diseases.into_iter().map(disease).collect(),
            methods,
            modifiers: modifiers.into_iter().chain([Duo::EthicsApproval]).collect(),
            statements: statements.into_iter().collect(),
            board_approved,
        }
    }

    /// A purpose of one term, with what the user binds itself to.
    pub fn of(term: Duo, modifiers: impl IntoIterator<Item = Duo>) -> Self {
        Self { terms: vec![term], modifiers: modifiers.into_iter().collect(), ..Self::default() }
    }

    /// Whether anything is stated at all: a purpose that says nothing is covered by nothing.
    pub fn is_stated(&self) -> bool {
        self.methods || !self.terms.is_empty()
    }

    /// Whether a board must decide and has not.
    pub fn needs_board(&self) -> bool {
        !self.statements.is_empty() && !self.board_approved
    }

    /// Whether a permission for any of `purposes` (empty: any) and, where named, `diseases` covers all of this.
    pub fn within(&self, purposes: &[Duo], diseases: &[String]) -> bool {
        let term = |t: &Duo| purposes.is_empty() || purposes.iter().any(|p| p.covers(*t));
        self.is_stated() && self.terms.iter().all(term) && self.diseases_within(diseases)
    }

    fn diseases_within(&self, named: &[String]) -> bool {
        named.is_empty()
            || (self.terms.is_empty() && self.methods)
            || (!self.diseases.is_empty() && self.diseases.iter().all(|d| named.iter().any(|n| d.is_a(n))))
    }

    /// Whether a denial of any of `purposes` (empty: any) touches any part of this. The diseases that a denial names do
    /// not narrow it: whether a study of one disease also looks at another cannot be told from codes.
    pub fn touches(&self, purposes: &[Duo]) -> bool {
        let term = |t: &Duo| purposes.is_empty() || purposes.iter().any(|p| p.covers(*t) || t.covers(*p));
        self.terms.is_empty() || self.terms.iter().any(term)
    }

    /// The first of the conditions of a permission that this use does not meet. `named_recipients` and
    /// `named_projects` say whether the permission names them (it is then narrowed by them already).
    pub fn unmet(&self, conditions: &[Duo], named_recipients: bool, named_projects: bool) -> Option<Duo> {
        conditions.iter().copied().find(|c| !self.meets(*c, named_recipients, named_projects))
    }

    fn meets(&self, condition: Duo, named_recipients: bool, named_projects: bool) -> bool {
        let bound = |d: Duo| self.modifiers.contains(&d);
        match condition {
            Duo::NoMethods => !self.methods,
            Duo::PopulationProhibited => {
                let population =
                    |t: &Duo| t.covers(Duo::PopulationResearch) || Duo::PopulationResearch.covers(*t);
                !self.terms.contains(&Duo::PopulationResearch)
                    && (bound(Duo::PopulationProhibited) || !self.terms.iter().any(population))
            }
            Duo::NotForProfitOrganisation => bound(condition) || bound(Duo::NotForProfitNonCommercial),
            Duo::NonCommercial => bound(condition) || bound(Duo::NotForProfitNonCommercial),
            Duo::NotForProfitNonCommercial => {
                bound(condition) || (bound(Duo::NotForProfitOrganisation) && bound(Duo::NonCommercial))
            }
            Duo::InstitutionSpecific | Duo::UserSpecific => named_recipients,
            Duo::ProjectSpecific => named_projects,
            other => bound(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_that_says_nothing_is_within_nothing() {
        assert!(!Purpose::default().within(&[], &[]));
        assert!(Purpose::of(Duo::HealthResearch, []).within(&[], &[]));
    }

    #[test]
    fn conditions_bind_only_those_who_accepted_them() {
        let commercial = Purpose::of(Duo::HealthResearch, []);
        let bound = Purpose::of(Duo::HealthResearch, [Duo::NotForProfitNonCommercial]);
        assert_eq!(commercial.unmet(&[Duo::NonCommercial], false, false), Some(Duo::NonCommercial));
        assert_eq!(bound.unmet(&[Duo::NonCommercial, Duo::NotForProfitOrganisation], false, false), None);
        let general = Purpose::of(Duo::GeneralResearch, []);
        assert_eq!(
            general.unmet(&[Duo::PopulationProhibited], false, false),
            Some(Duo::PopulationProhibited),
            "general research includes ancestry research unless it is renounced"
        );
        assert_eq!(bound.unmet(&[Duo::PopulationProhibited], false, false), None);
        assert_eq!(bound.unmet(&[Duo::ProjectSpecific], false, false), Some(Duo::ProjectSpecific));
    }
}
