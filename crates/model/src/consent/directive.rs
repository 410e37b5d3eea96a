//! The directive: what one person said at one time, in a form that can be evaluated.
//!
//! A directive is a tree of provisions. Its **lineage** names the document that it is a version of (a paper form, a FHIR
//! Consent resource, the participant's own choices): within one lineage of one hospital the version signed last governs,
//! versions of different lineages stand beside one another.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::{ContributorId, Date, Digest, Duo, ProjectId, RecipientId, Seq, Timestamp};
use serde::{Deserialize, Serialize};

use super::category::Category;
use super::ranges::DateRanges;

/// What a provision does with a use that it matches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Allows it.
    Permit,
    /// Forbids it, also where another directive allows it.
    Deny,
    /// Says nothing itself; only its nested provisions do.
    Silent,
}

/// The time in which a provision is in force, both ends included; open where absent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    /// First instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Last instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Period {
    /// Whether it is in force at `at`.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|f| f <= at) && self.until.is_none_or(|u| at <= u)
    }
}

/// The days whose data a provision is about, both ends included; open where absent. Not its period of validity.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataPeriod {
    /// First day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Date>,
    /// Last day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
}

/// One rule, with the exceptions nested in it. An empty list narrows nothing.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provision {
    /// What it does.
    pub effect: Effect,
    /// For these purposes (DUO permissions) and narrower ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub purposes: Vec<Duo>,
    /// For research on these diseases and kinds of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diseases: Vec<String>,
    /// A permission holds only if the user is bound to each of these (DUO modifiers).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Duo>,
    /// For data of these categories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<Category>,
    /// For these recipients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<RecipientId>,
    /// For these projects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<ProjectId>,
    /// When it is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// Which days' data it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataPeriod>,
    /// Elements of the source that narrow it and are not understood, by path; never a value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_understood: Vec<String>,
    /// Exceptions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provisions: Vec<Provision>,
}

impl Provision {
    /// A rule that narrows nothing.
    pub const fn new(effect: Effect) -> Self {
        Self {
            effect,
            purposes: Vec::new(),
            diseases: Vec::new(),
            conditions: Vec::new(),
            categories: Vec::new(),
            recipients: Vec::new(),
            projects: Vec::new(),
            period: None,
            data: None,
            not_understood: Vec::new(),
            provisions: Vec::new(),
        }
    }

    /// A permission for `purposes`.
    pub fn permit(purposes: impl IntoIterator<Item = Duo>) -> Self {
        Self { purposes: purposes.into_iter().collect(), ..Self::new(Effect::Permit) }
    }

    /// The days that it is about.
    pub fn days(&self) -> DateRanges {
        self.data.map_or_else(DateRanges::all, |d| DateRanges::between(d.from, d.until))
    }

    /// Whether it or an exception in it has this effect.
    pub fn has(&self, effect: Effect) -> bool {
        self.effect == effect || self.provisions.iter().any(|p| p.has(effect))
    }

    /// The same without what it permits: its denials, each where it stood. An exception that permits is no longer one.
    #[must_use]
    pub fn denials_only(&self) -> Self {
        let effect = if self.effect == Effect::Permit { Effect::Silent } else { self.effect };
        let provisions = self.provisions.iter().map(Self::denials_only).collect();
        Self { effect, provisions, ..self.clone() }
    }

    /// The last instant, from `at` on, until which each of its rules stays in force or out of it; `None` if that is for ever.
    pub fn unchanged_until(&self, at: Timestamp) -> Option<Timestamp> {
        let period = self.period.unwrap_or_default();
        let begins =
            period.from.filter(|from| *from > at).map(|from| Timestamp::from_millis(from.millis() - 1));
        let ends = period.until.filter(|until| *until >= at);
        let nested = self.provisions.iter().filter_map(|rule| rule.unchanged_until(at));
        begins.into_iter().chain(ends).chain(nested).min()
    }

    /// How deep the tree is, 1 for a rule without exceptions.
    pub fn depth(&self) -> usize {
        1 + self.provisions.iter().map(Self::depth).max().unwrap_or(0)
    }
}

/// How a directive came in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A FHIR R4 Consent resource.
    Fhir,
    /// A paper form, entered by staff or imported.
    Form,
    /// The participant.
    Participant,
}

/// Which form was signed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormRef {
    /// The form.
    pub form: String,
    /// Its version.
    pub version: String,
    /// Digest of the definition that was in force when it was recorded.
    pub definition: Digest,
}

/// When it was signed: the day, and the instant where it is known. Where the day is not known exactly, the first and the
/// last that it can have been.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The local day; of several that it can have been, the last.
    pub date: Date,
    /// The first day that it can have been, where the day is not known exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Date>,
    /// The instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

impl Signed {
    /// An instant, with its UTC day.
    pub const fn at(at: Timestamp) -> Self {
        Self { date: at.date(), since: None, at: Some(at) }
    }

    /// A day.
    pub const fn on(date: Date) -> Self {
        Self { date, since: None, at: None }
    }

    /// Some day from `first` to `last`, both included.
    pub fn between(first: Date, last: Date) -> Self {
        Self { date: last, since: (first < last).then_some(first), at: None }
    }

    /// The first day that it can have been.
    pub fn first_day(self) -> Date {
        self.since.unwrap_or(self.date)
    }

    /// The earliest instant that it can have been: where only the day is known, the start of that day in the time zone
    /// where days begin first (UTC+14).
    pub fn earliest(self) -> Timestamp {
        match self.at {
            Some(at) => at,
            None => Timestamp::from_millis(Timestamp::from_date(self.first_day()).millis() - 14 * 3_600_000),
        }
    }

    /// Whether it lies in the future of `now` whichever of its days it was: nothing is said by a signature that has not been given. Tomorrow is not in
    /// the future, for the hours in which it is tomorrow elsewhere. The one rule for whatever takes consents in, folds
    /// them and evaluates them.
    pub fn is_after(self, now: Timestamp) -> bool {
        let day = self.at.map_or(self.first_day(), |at| at.date().max(self.first_day()));
        day > now.date().plus_days(1)
    }
}

/// Whose data a directive speaks of. Its denials subtract everywhere; its permissions open the data of the hospital
/// through which it was given and no other's, whatever it says, since nobody proved there to be another hospital's patient.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// The data of the hospital through which it was given.
    #[default]
    Contributor,
    /// The data of every hospital.
    Exchange,
}

/// Whether the document is in force.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is.
    #[default]
    Active,
    /// It was, and no longer is (FHIR `inactive`, `entered-in-error`): it only supersedes.
    Inactive,
}

/// What one person said at one time.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directive {
    /// How it came in.
    pub source: Source,
    /// Which document it is a version of (`form:<form>`, `fhir:<keyed digest>`, `participant`).
    pub lineage: String,
    /// When it was signed.
    pub signed: Signed,
    /// Whether it is in force.
    #[serde(default)]
    pub status: Status,
    /// Whose data it covers.
    #[serde(default)]
    pub covers: Coverage,
    /// The form, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<FormRef>,
    /// Digest of the evidence (a scan, the resource as received).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Digest>,
    /// The rules.
    pub rules: Provision,
}

impl Directive {
    /// The shape: a digest of all that [`super::evaluate()`] looks at. People whose directives have the same shapes get
    /// the same verdict.
    pub fn shape(&self) -> Digest {
        let body = (self.status, self.covers, &self.rules);
        // A tuple of enums, strings, integers and lists always serialises.
        Digest::of(serde_json::to_vec(&body).unwrap_or_default())
    }
}

/// How far a withdrawal goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithdrawalMode {
    /// Do not contact me again. Data is used as before.
    NoContact,
    /// Nothing newer than this day: what happened to me afterwards is not used.
    NoFurtherAccess,
    /// No further use of anything.
    NoFurtherUse,
    /// No further use, and recipients are asked to destroy what they have.
    Recall,
}

impl WithdrawalMode {
    /// As written in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoContact => "no_contact",
            Self::NoFurtherAccess => "no_further_access",
            Self::NoFurtherUse => "no_further_use",
            Self::Recall => "recall",
        }
    }

    /// Reads what [`Self::as_str`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::NoContact, Self::NoFurtherAccess, Self::NoFurtherUse, Self::Recall]
            .into_iter()
            .find(|m| m.as_str() == text)
    }
}

/// A directive as it stands in the ledger.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct DirectiveState {
    /// The entry.
    pub seq: Seq,
    /// Through which hospital.
    pub contributor: ContributorId,
    /// The directive.
    pub directive: Arc<Directive>,
    /// The withdrawal that it names, if it does.
    pub lifts: Option<Seq>,
}

/// A place in the order of the versions of one document: by day, then an act whose instant is known after a paper of that
/// day, then by order in the ledger.
type Place = (Date, Timestamp, Seq);

impl DirectiveState {
    fn place(&self, day: Date) -> Place {
        (day, self.directive.signed.at.unwrap_or(Timestamp::from_millis(i64::MIN)), self.seq)
    }

    /// The earliest that it can be.
    fn first(&self) -> Place {
        self.place(self.directive.signed.first_day())
    }

    /// The latest that it can be.
    fn last(&self) -> Place {
        self.place(self.directive.signed.date)
    }

    /// Whether it is later than `other` whatever the days were.
    fn is_later_than(&self, other: &Self) -> bool {
        self.first() > other.last()
    }

    fn permits(&self) -> bool {
        self.directive.status == Status::Active && self.directive.rules.has(Effect::Permit)
    }

    /// Whether what `other` permits no longer holds beside this version of the same document: of two that permit, the one
    /// that was signed last; otherwise whatever may be later.
    fn ends_permissions_of(&self, other: &Self) -> bool {
        if self.permits() { self.first() > other.first() } else { self.last() > other.first() }
    }
}

/// A withdrawal as it stands in the ledger.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct WithdrawalState {
    /// The entry.
    pub seq: Seq,
    /// The entry's time.
    pub time: Timestamp,
    /// Whose data; none for everyone's.
    pub contributor: Option<ContributorId>,
    /// How far.
    pub mode: WithdrawalMode,
}

/// Everything one person ever said, in ledger order.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct SubjectState {
    /// Their directives.
    pub directives: Vec<DirectiveState>,
    /// Their withdrawals.
    pub withdrawals: Vec<WithdrawalState>,
    /// For a person known under several ids: the same, read as one history, in which a version of a document under one id
    /// supersedes an earlier one under another. Both readings must permit ([`super::evaluate()`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_one: Option<Box<Self>>,
}

impl SubjectState {
    /// What a person said under several ids, each with its own state. The stricter of two readings holds: that documents
    /// of different ids are different documents, and that they are versions of one.
    #[must_use]
    pub fn merged(parts: impl IntoIterator<Item = (i64, Self)>) -> Self {
        let parts: Vec<(i64, Self)> = parts.into_iter().collect();
        if let [(_, only)] = parts.as_slice() {
            return only.clone();
        }
        let (mut apart, mut one) = (Self::default(), Self::default());
        for (id, said) in parts {
            for state in said.directives {
                one.directives.push(state.clone());
                let lineage = format!("{id}/{}", state.directive.lineage);
                let directive = Arc::new(Directive { lineage, ..(*state.directive).clone() });
                apart.directives.push(DirectiveState { directive, ..state });
            }
            one.withdrawals.extend(said.withdrawals.iter().cloned());
            apart.withdrawals.extend(said.withdrawals);
        }
        for state in [&mut apart, &mut one] {
            state.directives.sort_by_key(|d| d.seq);
            state.withdrawals.sort_by_key(|w| w.seq);
        }
        apart.as_one = Some(Box::new(one));
        apart
    }

    /// What had been said before entry `as_of`.
    #[must_use]
    pub fn before(&self, as_of: Seq) -> Self {
        Self {
            directives: self.directives.iter().filter(|d| d.seq < as_of).cloned().collect(),
            withdrawals: self.withdrawals.iter().filter(|w| w.seq < as_of).cloned().collect(),
            as_one: self.as_one.as_ref().map(|one| Box::new(one.before(as_of))),
        }
    }

    /// What governs: of each lineage of each hospital the version signed last, and of those signed together the one
    /// recorded last. Where days of signing are not known exactly, a permission falls by any refusal or end that may be
    /// later, and a denial only by what is later in any case: a version of which only the denials are left comes without
    /// the rest.
    pub fn governing(&self) -> impl Iterator<Item = Cow<'_, DirectiveState>> {
        self.directives.iter().filter_map(move |d| {
            let versions = move || {
                self.directives.iter().filter(move |other| {
                    other.contributor == d.contributor && other.directive.lineage == d.directive.lineage
                })
            };
            if versions().any(|other| other.is_later_than(d)) {
                return None;
            }
            if !versions().any(|other| other.ends_permissions_of(d)) {
                return Some(Cow::Borrowed(d));
            }
            let rules = d.directive.rules.denials_only();
            let left = d.directive.status == Status::Active && rules.has(Effect::Deny);
            left.then(|| {
                let directive = Arc::new(Directive { rules, ..(*d.directive).clone() });
                Cow::Owned(DirectiveState { directive, ..d.clone() })
            })
        })
    }

    /// What was signed by `at`, and every withdrawal. A signature in the future says nothing.
    #[must_use]
    pub fn signed_by(&self, at: Timestamp) -> Cow<'_, Self> {
        if !self.directives.iter().any(|d| d.directive.signed.is_after(at)) {
            return Cow::Borrowed(self);
        }
        let mut out = self.clone();
        out.directives.retain(|d| !d.directive.signed.is_after(at));
        Cow::Owned(out)
    }

    /// The hospitals at which an act lifts `withdrawal` ([`lifts`]). An act opens only the data of the hospital through
    /// which it was said.
    pub fn lifted_at(&self, withdrawal: &WithdrawalState) -> BTreeSet<&ContributorId> {
        self.directives.iter().filter(|d| lifts(d, withdrawal)).map(|d| &d.contributor).collect()
    }

    /// The withdrawals that stand for the data of `holder`.
    pub fn standing_for(&self, holder: &ContributorId) -> impl Iterator<Item = &WithdrawalState> {
        self.withdrawals.iter().filter(move |w| {
            w.contributor.as_ref().is_none_or(|c| c == holder) && !self.lifted_at(w).contains(holder)
        })
    }
}

/// Whether `act` lifts `withdrawal`: it names it, was recorded after it, and was signed after it. A participant's own act
/// is made when it is recorded. For any other the signature must be later than the whole day of the withdrawal, since a
/// participant's withdrawal stands in the log with its day only, and a hospital's paper lifts only a withdrawal that is
/// limited to that hospital. The person's own act lifts, for the hospital through which it comes, also what they said to
/// all.
pub fn lifts(act: &DirectiveState, withdrawal: &WithdrawalState) -> bool {
    let signed = act.directive.signed.earliest();
    let later = match act.directive.source {
        Source::Participant => signed > withdrawal.time,
        Source::Fhir | Source::Form => signed > Timestamp::from_date(withdrawal.time.date().plus_days(1)),
    };
    // A hospital takes back what was said to it; what was said to all, only the person does.
    let own = match &withdrawal.contributor {
        Some(hospital) => *hospital == act.contributor,
        None => act.directive.source == Source::Participant,
    };
    act.lifts == Some(withdrawal.seq) && act.seq > withdrawal.seq && later && own
}
