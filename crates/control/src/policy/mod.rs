//! Policy: whether a request may be released, by the rules of the exchange and of each contributor.
//!
//! Arrow of the line: request ─ policy ─> [`Decision`] ─> permit ──> `release`.
//!
//! Invariants:
//! - Every contributor whose data is touched is asked: the house rules (`schemas/policy/house.cedar`) and its own contract,
//!   where it has one, must both permit. An error is a denial.
//! - A [`Decision`] comes only from [`Rules::decide`] and cannot be read back from bytes: whoever resumes work, or checks it,
//!   decides again.
//!
//! Whether each *person* permits is not decided here (`consent`).

mod engine;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use almoner_model::{ContributorId, Date, Digest, Duo, ProjectId, RecipientId, Seq};
use serde::Serialize;

use crate::events::EthicsDetermination;

pub use engine::{EngineError, HOUSE, Policy};

/// Permit or deny.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Permit.
    Permit,
    /// Deny.
    Deny,
}

/// A legal basis, as rules see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BasisFacts {
    /// `safe_harbor_attestation`, `expert_determination` or `data_use_agreement`.
    pub kind: String,
    /// The profile that it covers.
    pub profile: String,
    /// Last day in force.
    pub expires: Option<Date>,
}

/// Whether a legal basis of this kind can carry a release of this profile (45 CFR 164.514): an attestation Safe Harbor, (b)(2);
/// a data use agreement a limited data set, (e), and shifted dates, which are less; an expert's determination shifted dates,
/// (b)(1). The house rules say the same.
pub fn basis_fits(kind: &str, profile: &str) -> bool {
    matches!(
        (kind, profile),
        ("safe_harbor_attestation", "safe-harbor")
            | ("expert_determination" | "data_use_agreement", "date-shifted")
            | ("data_use_agreement", "limited")
    )
}

/// What rules see of a request for a release.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReleaseFacts {
    /// Diseases studied.
    pub diseases: Vec<String>,
    /// Whether methods are developed.
    pub methods: bool,
    /// Tables asked for.
    pub tables: Vec<String>,
    /// `public` or `controlled`.
    pub tier: String,
    /// The profile of the release.
    pub profile: String,
    /// The ethics board's determination.
    pub ethics: EthicsDetermination,
    /// What holds for this contributor: `approved`, `refused`, `revoked`, or `pending`.
    pub decision: String,
    /// Whether the recipient signed the terms.
    pub terms_signed: bool,
    /// The legal basis of this contributor's data.
    pub legal_basis: Option<BasisFacts>,
}

/// What rules see, for one contributor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Whose data.
    pub contributor: ContributorId,
    /// Who receives.
    pub recipient: RecipientId,
    /// In which project.
    pub project: ProjectId,
    /// What for.
    pub purpose: Duo,
    /// What the recipient binds itself to.
    pub modifiers: Vec<Duo>,
    /// The day, in ledger time.
    pub today: Date,
    /// For a release; none for a count.
    pub release: Option<ReleaseFacts>,
}

/// What was decided, and from what, so that it can be decided again. Only [`Rules::decide`] makes one.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Decision {
    effect: Effect,
    reasons: Vec<String>,
    policies: BTreeMap<String, Digest>,
    as_of: Seq,
}

impl Decision {
    /// The effect.
    pub const fn effect(&self) -> Effect {
        self.effect
    }

    /// Why not, each a sentence that names the contributor; empty for a permit.
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// Digests of the rules that were applied, by contributor (`house` for the exchange's own).
    pub const fn policies(&self) -> &BTreeMap<String, Digest> {
        &self.policies
    }

    /// Ledger size that it was made at.
    pub const fn as_of(&self) -> Seq {
        self.as_of
    }
}

/// Compiled rules, kept from one decision to the next.
pub struct Rules {
    house: Policy,
    contracts: HashMap<Digest, Option<Policy>>,
}

impl Rules {
    /// With these house rules ([`HOUSE`], or those of another version of the exchange).
    ///
    /// # Errors
    /// [`EngineError`] if they do not compile.
    pub fn new(house: &str) -> Result<Self, EngineError> {
        Ok(Self { house: Policy::compile(house)?, contracts: HashMap::new() })
    }

    /// Decides by the house rules and the contracts of all contributors in `asked`, each with its contract's text. A
    /// contract that does not compile is a denial.
    pub fn decide(&mut self, asked: &[(Facts, Option<String>)], as_of: Seq) -> Decision {
        let mut policies = BTreeMap::from([("house".to_owned(), self.house.digest())]);
        let mut reasons = BTreeSet::new();
        if asked.is_empty() {
            reasons.insert("no contributor's data is asked for".to_owned());
        }
        for (facts, contract) in asked {
            let mut say = |reason: String| reasons.insert(format!("{}: {reason}", facts.contributor));
            self.house.answer(facts).reasons.into_iter().for_each(|r| {
                say(r);
            });
            let Some(text) = contract else { continue };
            let digest = Digest::of(text);
            policies.insert(facts.contributor.to_string(), digest);
            match self.contracts.entry(digest).or_insert_with(|| Policy::compile(text).ok()) {
                Some(contract) => contract.answer(facts).reasons.into_iter().for_each(|r| {
                    say(r);
                }),
                None => {
                    say("its contract does not compile".to_owned());
                }
            }
        }
        let effect = if reasons.is_empty() { Effect::Permit } else { Effect::Deny };
        Decision { effect, reasons: reasons.into_iter().collect(), policies, as_of }
    }
}

/// As [`Rules::decide`], by the house rules of this version.
///
/// # Errors
/// [`EngineError`] if the house rules do not compile, which a test excludes.
pub fn decide(asked: &[(Facts, Option<String>)], as_of: Seq) -> Result<Decision, EngineError> {
    Ok(Rules::new(HOUSE)?.decide(asked, as_of))
}

#[cfg(test)]
mod tests;
