//! Whether a use is within what a person said.
//!
//! For each category of data that the use needs, the days that are permitted are computed as a set: the union of what the
//! governing directives permit, minus what any of them denies, cut by the withdrawals that stand. A category with no day
//! left is withheld. The use is permitted if no category that it *requires* is withheld. What is signed in the future of the
//! use says nothing.

use std::collections::BTreeSet;

use crate::{ContributorId, ProjectId, RecipientId, Seq, Timestamp};
use serde::{Deserialize, Serialize};

use super::category::{Category, CategorySet};
use super::directive::{Effect, Provision, Status, SubjectState, WithdrawalMode};
use super::purpose::Purpose;
use super::ranges::DateRanges;
use crate::origin::hidden_in;

/// What somebody wants to do.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Use {
    /// What for.
    pub purpose: Purpose,
    /// Who receives.
    pub recipient: RecipientId,
    /// In which project.
    pub project: ProjectId,
    /// Categories without which the use is not possible: those that a cohort's criteria look at.
    pub required: CategorySet,
    /// Further categories that are delivered where the person permits.
    pub delivered: CategorySet,
    /// The moment: ledger time.
    pub at: Timestamp,
}

/// Why a use is not permitted. Ordered from the least to the most telling: where several hold, the last is the one to
/// count a person under.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// They said nothing.
    NoConsent,
    /// They permitted it through another hospital, for that hospital's data.
    OtherHospital,
    /// They permitted it for other projects.
    OtherProject,
    /// They permitted it for other recipients.
    OtherRecipient,
    /// They permitted other purposes.
    OtherPurpose,
    /// They permitted other categories of data.
    OtherCategory,
    /// Their permission is not yet or no longer in force.
    OutsidePeriod,
    /// The user is not bound to a condition that they set.
    ConditionUnmet,
    /// Something in their directive is not understood.
    NotUnderstood,
    /// Only a board can weigh this purpose, and none has.
    NeedsBoard,
    /// They denied a category of data that the use requires, or one that it would reveal.
    CategoryDenied,
    /// They denied it.
    Denied,
    /// They withdrew.
    Withdrawn,
}

impl Reason {
    /// In words.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::NoConsent => "no consent is recorded",
            Self::OtherHospital => "consent was given for another hospital's data",
            Self::OtherProject => "consent was given for other projects",
            Self::OtherRecipient => "consent was given for other recipients",
            Self::OtherPurpose => "consent was given for other purposes",
            Self::OtherCategory => "consent was given for other categories of data",
            Self::OutsidePeriod => "consent is not yet or no longer in force",
            Self::ConditionUnmet => "the recipient is not bound to a condition of the consent",
            Self::NotUnderstood => "a part of the consent is not understood",
            Self::NeedsBoard => "this purpose needs a board's decision",
            Self::CategoryDenied => {
                "a category of data that is needed, or that the data would reveal, is denied"
            }
            Self::Denied => "this use is denied",
            Self::Withdrawn => "consent was withdrawn",
        }
    }
}

/// What a permission leaves out.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Categories that are withheld: of those asked for, and of those whose rows may be in the same tables.
    pub withheld: CategorySet,
    /// The days whose data may be used, in every category.
    pub days: DateRanges,
}

impl Limits {
    /// Whether nothing is left out.
    pub fn is_none(&self) -> bool {
        self.withheld.is_empty() && self.days.is_all()
    }
}

/// The answer, with its reasons.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the use is permitted.
    pub permit: bool,
    /// Why not, or why a part is withheld.
    pub reasons: BTreeSet<Reason>,
    /// The entries of the directives that it was permitted by.
    pub directives: Vec<Seq>,
    /// What is left out of a permission.
    pub limits: Limits,
}

impl Verdict {
    fn deny(reasons: BTreeSet<Reason>) -> Self {
        let limits = Limits { withheld: CategorySet::EMPTY, days: DateRanges::none() };
        Self { permit: false, reasons, directives: Vec::new(), limits }
    }

    /// The most telling reason.
    pub fn main_reason(&self) -> Option<Reason> {
        self.reasons.last().copied()
    }
}

/// What is permitted and what denied, in days; never both.
struct Outcome {
    permit: DateRanges,
    deny: DateRanges,
}

/// Whether `subject` permits `wanted` on the data that `holder` holds.
pub fn evaluate(subject: &SubjectState, holder: &ContributorId, wanted: &Use) -> Verdict {
    let apart = evaluate_reading(subject, holder, wanted);
    match &subject.as_one {
        None => apart,
        Some(one) => stricter(apart, evaluate_reading(one, holder, wanted)),
    }
}

/// What both verdicts permit.
fn stricter(a: Verdict, b: Verdict) -> Verdict {
    let reasons: BTreeSet<Reason> = a.reasons.union(&b.reasons).copied().collect();
    let days = a.limits.days.intersection(&b.limits.days);
    let directives: Vec<Seq> = a.directives.into_iter().filter(|seq| b.directives.contains(seq)).collect();
    if !a.permit || !b.permit || days.is_none() || directives.is_empty() {
        return Verdict::deny(if reasons.is_empty() { BTreeSet::from([Reason::Denied]) } else { reasons });
    }
    let limits = Limits { withheld: a.limits.withheld.union(b.limits.withheld), days };
    Verdict { permit: true, reasons, directives, limits }
}

fn evaluate_reading(subject: &SubjectState, holder: &ContributorId, wanted: &Use) -> Verdict {
    let subject = &*subject.signed_by(wanted.at);
    let mut reasons = BTreeSet::new();
    let mut cut = DateRanges::all();
    for withdrawal in subject.standing_for(holder) {
        match withdrawal.mode {
            WithdrawalMode::NoContact => {}
            WithdrawalMode::NoFurtherAccess => {
                cut =
                    cut.intersection(&DateRanges::between(None, Some(withdrawal.time.date().plus_days(-1))));
            }
            WithdrawalMode::NoFurtherUse | WithdrawalMode::Recall => {
                return Verdict::deny(BTreeSet::from([Reason::Withdrawn]));
            }
        }
    }
    if wanted.purpose.needs_board() {
        reasons.insert(Reason::NeedsBoard);
    }
    let mut days = cut;
    let mut withheld = CategorySet::EMPTY;
    let mut directives = BTreeSet::new();
    let categories = wanted.required.union(wanted.delivered);
    let mut required_missing = categories.is_empty() || wanted.purpose.needs_board();
    for category in categories.iter() {
        let permitted = category_days(subject, holder, wanted, category, &mut reasons, &mut directives);
        let left = days.intersection(&permitted);
        if permitted.is_none() {
            withheld = withheld.with(category);
            required_missing |= wanted.required.contains(category);
        } else {
            days = left;
        }
    }
    let nothing_left = categories.iter().all(|c| withheld.contains(c)) || days.is_none();
    if required_missing || nothing_left {
        if reasons.is_empty() {
            reasons.insert(if directives.is_empty() { Reason::NoConsent } else { Reason::Denied });
        }
        return Verdict::deny(reasons);
    }
    let hidden = not_permitted(subject, holder, wanted, hidden_in(categories), &days);
    Verdict {
        permit: true,
        reasons,
        directives: directives.into_iter().collect(),
        limits: Limits { withheld: withheld.union(hidden), days },
    }
}

/// The categories of `hidden` that are not permitted on all of `days`. The use does not ask for them; rows of theirs may
/// be in the tables that it asks for.
fn not_permitted(
    subject: &SubjectState,
    holder: &ContributorId,
    wanted: &Use,
    hidden: CategorySet,
    days: &DateRanges,
) -> CategorySet {
    let permitted = |c| category_days(subject, holder, wanted, c, &mut BTreeSet::new(), &mut BTreeSet::new());
    hidden.iter().filter(|category| !days.minus(&permitted(*category)).is_none()).collect()
}

/// The days whose data of `category` is permitted.
fn category_days(
    subject: &SubjectState,
    holder: &ContributorId,
    wanted: &Use,
    category: Category,
    reasons: &mut BTreeSet<Reason>,
    directives: &mut BTreeSet<Seq>,
) -> DateRanges {
    let mut permit = DateRanges::none();
    let mut deny = DateRanges::none();
    let mut permitting = Vec::new();
    let mut any = false;
    for state in subject.governing().filter(|d| d.directive.status == Status::Active) {
        any = true;
        let outcome = provision(&state.directive.rules, wanted, category, reasons);
        deny = deny.union(&outcome.deny);
        if outcome.permit.is_none() {
            continue;
        }
        if state.contributor != *holder {
            reasons.insert(Reason::OtherHospital);
            continue;
        }
        permit = permit.union(&outcome.permit);
        permitting.push(state.seq);
    }
    if !any {
        reasons.insert(Reason::NoConsent);
    }
    let left = permit.minus(&deny);
    if left.is_none() {
        if !deny.is_none() {
            let elsewhere = Reason::CategoryDenied;
            reasons.insert(if permit.is_none() && !names_category(subject, category) {
                Reason::Denied
            } else {
                elsewhere
            });
        }
    } else {
        directives.extend(permitting);
    }
    left
}

fn names_category(subject: &SubjectState, category: Category) -> bool {
    fn named(node: &Provision, category: Category) -> bool {
        (node.effect == Effect::Deny && node.categories.iter().any(|c| c.shows_in(category)))
            || node.provisions.iter().any(|p| named(p, category))
    }
    subject.governing().any(|d| named(&d.directive.rules, category))
}

/// What one rule and its exceptions say. A rule that does not touch the use says nothing. A permission speaks only if it
/// covers the whole use; a denial speaks if it touches any part. An exception that permits counts only where the rule it
/// is nested in covers the use: beyond it, the outer rule holds.
fn provision(node: &Provision, wanted: &Use, category: Category, reasons: &mut BTreeSet<Reason>) -> Outcome {
    let nothing = || Outcome { permit: DateRanges::none(), deny: DateRanges::none() };
    let unclear = !node.not_understood.is_empty();
    if !(unclear && node.effect == Effect::Deny) {
        if let Some(reason) = misses(node, wanted, category) {
            if node.effect != Effect::Deny {
                reasons.insert(reason);
            }
            return nothing();
        }
    } else if node.period.is_some_and(|p| !p.contains(wanted.at)) {
        return nothing();
    }
    let (mut permit, mut deny) = (DateRanges::none(), DateRanges::none());
    for child in &node.provisions {
        let outcome = provision(child, wanted, category, reasons);
        permit = permit.union(&outcome.permit);
        deny = deny.union(&outcome.deny);
    }
    let short = falls_short(node, wanted, category);
    if let Some(reason) = short {
        if node.effect != Effect::Deny {
            reasons.insert(reason);
        }
        permit = DateRanges::none();
    }
    permit = permit.minus(&deny);
    let days = if unclear { DateRanges::all() } else { node.days() };
    match node.effect {
        Effect::Permit if short.is_none() => permit = days.minus(&deny),
        Effect::Deny => deny = deny.union(&days.minus(&permit)),
        Effect::Permit | Effect::Silent => {}
    }
    Outcome { permit: permit.intersection(&days), deny: deny.intersection(&days) }
}

/// Why a rule has nothing to do with the use; `None` if it touches it.
fn misses(node: &Provision, wanted: &Use, category: Category) -> Option<Reason> {
    if !node.projects.is_empty() && !node.projects.contains(&wanted.project) {
        return Some(Reason::OtherProject);
    }
    if !node.recipients.is_empty() && !node.recipients.contains(&wanted.recipient) {
        return Some(Reason::OtherRecipient);
    }
    if !wanted.purpose.touches(&node.purposes) {
        return Some(Reason::OtherPurpose);
    }
    if !node.categories.is_empty() && !node.categories.iter().any(|c| c.shows_in(category)) {
        return Some(Reason::OtherCategory);
    }
    node.period.is_some_and(|p| !p.contains(wanted.at)).then_some(Reason::OutsidePeriod)
}

/// Why a rule that touches the use does not cover all of it; `None` if it does.
fn falls_short(node: &Provision, wanted: &Use, category: Category) -> Option<Reason> {
    if !node.not_understood.is_empty() {
        return Some(Reason::NotUnderstood);
    }
    if !wanted.purpose.within(&node.purposes, &node.diseases) {
        return Some(Reason::OtherPurpose);
    }
    if !node.categories.is_empty() && !node.categories.contains(&category) {
        return Some(Reason::OtherCategory);
    }
    let (recipients, projects) = (!node.recipients.is_empty(), !node.projects.is_empty());
    wanted.purpose.unmet(&node.conditions, recipients, projects).map(|_| Reason::ConditionUnmet)
}
