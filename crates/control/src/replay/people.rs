//! What the members of releases said, and whether it permits what was released, by the rules of
//! [`almoner_model::consent`].

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use almoner_model::consent::{
    Directive, DirectiveState, SubjectState, Use, Verdict, WithdrawalMode, WithdrawalState, evaluate,
};
use almoner_model::{ContributorId, Date, Digest, Seq, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bundle::{Listed, Listing};
use crate::judge::permits_less;

#[derive(Deserialize)]
struct Recorded<'a> {
    contributor: ContributorId,
    #[serde(borrow)]
    directive: &'a RawValue,
    lifts: Option<Seq>,
}

#[derive(Deserialize)]
struct Withdrawn {
    contributor: Option<ContributorId>,
    mode: WithdrawalMode,
}

/// A use at one ledger size.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What for.
    pub wanted: &'a Use,
    /// The hospitals whose data it is of.
    pub holders: &'a BTreeSet<ContributorId>,
    /// Ledger size.
    pub as_of: Seq,
}

/// What a check of a release's people came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checked {
    /// The first of the people of whom it does not hold, by pseudonym, with why.
    pub first: Option<(String, &'static str)>,
    /// How many they are.
    pub wrong: u64,
    /// The first entry that one of them rests on and that was erased.
    pub erased: Option<Seq>,
}

impl Checked {
    fn wrong(&mut self, member: &Listed, why: &'static str) {
        self.wrong += 1;
        self.first.get_or_insert_with(|| (member.pseudonym.to_string(), why));
    }
}

/// The members of releases and what they said so far.
#[derive(Debug, Default)]
pub struct People {
    members: HashSet<i64>,
    said: HashMap<i64, SubjectState>,
    /// Directives by their bytes: many people sign the same form on the same day.
    known: HashMap<Box<str>, Arc<Directive>>,
    /// Consents and withdrawals that were erased.
    erased: BTreeSet<Seq>,
}

impl People {
    /// Of these releases.
    pub fn new<'a>(listings: impl IntoIterator<Item = &'a Listing>) -> Self {
        let ids = listings.into_iter().flat_map(|l| &l.members).flat_map(|m| m.ids.iter().copied());
        Self { members: ids.collect(), ..Self::default() }
    }

    /// Whether this is somebody in a release.
    pub fn is_member(&self, subject: i64) -> bool {
        self.members.contains(&subject)
    }

    /// Entry `seq`, a consent or withdrawal, was erased.
    pub fn erase(&mut self, seq: Seq) {
        self.erased.insert(seq);
    }

    /// A member said something. `None` if the payload is not one of its kind.
    pub fn hear(
        &mut self,
        subject: i64,
        (seq, time, kind): (Seq, Timestamp, &str),
        payload: &str,
    ) -> Option<()> {
        if kind == "consent.withdrawn" {
            let w: Withdrawn = serde_json::from_str(payload).ok()?;
            let said = WithdrawalState { seq, time, contributor: w.contributor, mode: w.mode };
            self.said.entry(subject).or_default().withdrawals.push(said);
            return Some(());
        }
        let r: Recorded<'_> = serde_json::from_str(payload).ok()?;
        let directive = match self.known.get(r.directive.get()) {
            Some(known) => Arc::clone(known),
            None => {
                let new: Arc<Directive> = Arc::new(serde_json::from_str(r.directive.get()).ok()?);
                self.known.insert(r.directive.get().into(), Arc::clone(&new));
                new
            }
        };
        // As in the fold: what is signed in the future of its entry says nothing.
        if !directive.signed.is_after(time) {
            let said = DirectiveState { seq, contributor: r.contributor, directive, lifts: r.lifts };
            self.said.entry(subject).or_default().directives.push(said);
        }
        Some(())
    }

    fn state(&self, ids: &[i64], as_of: Seq) -> SubjectState {
        let parts = ids.iter().filter_map(|id| Some((*id, self.said.get(id)?)));
        let parts: Vec<(i64, SubjectState)> = parts.map(|(id, said)| (id, said.before(as_of))).collect();
        SubjectState::merged(
            parts.into_iter().filter(|(_, s)| !s.directives.is_empty() || !s.withdrawals.is_empty()),
        )
    }

    fn spoke_since(&self, ids: &[i64], as_of: Seq) -> bool {
        let said = ids.iter().filter_map(|id| self.said.get(id));
        let last =
            said.flat_map(|s| [s.directives.last().map(|d| d.seq), s.withdrawals.last().map(|w| w.seq)]);
        last.flatten().any(|seq| seq >= as_of)
    }

    /// Whether every member permitted the use, by exactly the directives that the list names, and permits no less of it before
    /// entry `until`.
    pub fn permitted(&self, listing: &Listing, asked: Asked<'_>, until: Seq) -> Checked {
        let mut checked =
            Checked { erased: self.lost(!listing.erased.is_empty(), until), ..Checked::default() };
        for member in &listing.members {
            if let Some(seq) = member.directives.iter().find(|seq| self.erased.contains(seq)) {
                checked.erased.get_or_insert(*seq);
                continue;
            }
            let then = self.verdicts(&member.ids, asked);
            let permitting: BTreeSet<Seq> =
                then.iter().filter(|v| v.permit).flat_map(|v| v.directives.iter().copied()).collect();
            if permitting.is_empty() {
                checked.wrong(member, "nothing they said permits this use");
            } else if permitting.iter().ne(member.directives.iter()) {
                checked.wrong(member, "the directives that permit this are not those that the release names");
            } else if self.spoke_since(&member.ids, asked.as_of) {
                let now = self.verdicts(&member.ids, Asked { as_of: until, ..asked });
                let less = |(then, now): (&Verdict, &Verdict)| {
                    then.permit && !(now.permit && now.limits == then.limits)
                };
                if then.iter().zip(&now).any(less) {
                    checked.wrong(member, "they permitted less after the decision and before the release");
                }
            }
        }
        checked
    }

    /// Whether every member permits no less of `now` than of `then`, of a release that was built on `built`; `gone` says
    /// whether others were asked too whose records were erased since.
    pub fn still_permitted(
        &self,
        (listing, gone): (&Listing, bool),
        then: Asked<'_>,
        now: Asked<'_>,
        built: Date,
    ) -> Checked {
        let mut checked = Checked { erased: self.lost(gone, now.as_of), ..Checked::default() };
        for member in &listing.members {
            if let Some(seq) = member.directives.iter().find(|seq| self.erased.contains(seq)) {
                checked.erased.get_or_insert(*seq);
                continue;
            }
            let (before, after) = (self.verdicts(&member.ids, then), self.verdicts(&member.ids, now));
            if before.iter().zip(&after).any(|(before, after)| permits_less(before, after, built)) {
                checked.wrong(member, "they had withdrawn, or permitted less");
            }
        }
        checked
    }

    fn verdicts(&self, ids: &[i64], asked: Asked<'_>) -> Vec<Verdict> {
        let state = self.state(ids, asked.as_of);
        asked.holders.iter().map(|holder| evaluate(&state, holder, asked.wanted)).collect()
    }

    /// Where members' own records were erased: the first consent that was, since whose it was is not known any more.
    fn lost(&self, gone: bool, until: Seq) -> Option<Seq> {
        gone.then(|| self.erased.first().copied().unwrap_or(until))
    }
}

/// The root over a release's members.
pub fn root(listing: &Listing) -> Digest {
    let mut hashes = listing.hashes.clone();
    hashes.sort_unstable();
    Digest(almoner_ledger::tree::root_of(&hashes))
}
