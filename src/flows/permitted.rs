//! Who permits a use: [`PermittedSubjects`], by evaluating each distinct shape of directives once.
//!
//! People are many and what they said is not: most signed one of a few forms. The [`ConsentIndex`] keeps for every person
//! the number of their *profile* (the governing directives and standing withdrawals, by shape), reads again only those
//! about whom something was said since, and a use is evaluated once for each profile.
//!
//! An answer is exact for one ledger size: entries from `as_of` on are not seen. People whom the registry knows under
//! several ids are evaluated over everything that was said under any of them, so that the stricter holds.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use almoner_model::{ContributorId, DatasetId, Date, Digest, Seq, SubjectId};

use super::access::{AccessContext, AccessError, SamePeople, Stored};
use crate::consent::{self, Limits, Reason, SubjectState, Use, Verdict, WithdrawalMode};
use crate::state::records::{LastErasure, Shape, SubjectRecord, seq_key, subject_key};
use crate::state::{ReadError, read};

/// The people of one dataset's contributor who permit a use.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PermittedIn {
    /// Their subject ids, ascending.
    pub ids: Vec<i64>,
    /// For those whose permission leaves something out: what.
    pub limits: BTreeMap<i64, Limits>,
}

/// The people who permit a use, by dataset, as of a ledger size.
///
/// A person's permission covers the data of the hospital through which it was given unless it says otherwise, so who is
/// permitted differs between datasets of different contributors.
#[derive(Clone, PartialEq, Debug)]
pub struct PermittedSubjects {
    /// By dataset.
    pub datasets: BTreeMap<DatasetId, PermittedIn>,
    /// The contributor of each dataset.
    pub contributors: BTreeMap<DatasetId, ContributorId>,
    /// How many of the people who said something through these contributors do not permit it in any of the datasets, by
    /// the most telling reason. People who never said anything are in no count.
    pub refused: BTreeMap<Reason, u64>,
    /// Ledger size that it was made at.
    pub as_of: Seq,
    /// Which ids were known to be one person's.
    pub aliases: Vec<(SubjectId, SubjectId)>,
}

impl PermittedSubjects {
    /// Everyone permitted in at least one of the datasets, ascending.
    pub fn ids(&self) -> Vec<i64> {
        let mut all: Vec<i64> = self.datasets.values().flat_map(|d| d.ids.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether nobody is permitted.
    pub fn is_empty(&self) -> bool {
        self.datasets.values().all(|d| d.ids.is_empty())
    }

    /// Why nobody, or not everybody, is permitted: one sentence for each reason, the most frequent first.
    pub fn explanation(&self) -> Vec<String> {
        if self.refused.is_empty() && self.is_empty() {
            return vec!["no consent is recorded for anyone in these datasets".to_owned()];
        }
        let mut reasons: Vec<(Reason, u64)> = self.refused.iter().map(|(r, n)| (*r, *n)).collect();
        reasons.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        reasons.into_iter().map(|(reason, _)| reason.sentence().to_owned()).collect()
    }
}

/// A withdrawal: whose data, how far, from when, and where it was lifted.
type Ended = (Option<ContributorId>, WithdrawalMode, Option<Date>, Vec<ContributorId>);

/// What is evaluated, once for all people who share it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Profile {
    directives: Vec<(ContributorId, Digest)>,
    withdrawals: Vec<Ended>,
    /// For a person known under several ids: the profile of what they said, read as one history.
    as_one: Option<Box<Profile>>,
}

#[derive(Clone, Default)]
struct Inner {
    as_of: Seq,
    last_erasure: Option<LastErasure>,
    last_change: Option<String>,
    aliases: Vec<(SubjectId, SubjectId)>,
    shapes: HashMap<Digest, Arc<Shape>>,
    numbers: HashMap<Profile, u32>,
    /// One person's state for each profile.
    profiles: Vec<(Profile, SubjectState)>,
    people: BTreeMap<SubjectId, u32>,
    /// Records that were read before they are asked for; `None` of people who said nothing.
    known: BTreeMap<SubjectId, Option<SubjectRecord>>,
}

/// Who said what, folded once and brought up to date with each question.
#[derive(Default)]
pub struct ConsentIndex(Mutex<Inner>);

impl ConsentIndex {
    /// An index that has read nothing yet.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Who permits `wanted` in `datasets`, as of `as_of` (now, if `None`).
///
/// # Errors
/// [`AccessError::Unknown`] for a dataset that does not exist, [`AccessError::Invalid`] for an `as_of` beyond the ledger, or
/// if store or registry fail.
pub fn permitted_subjects(
    ctx: &AccessContext<'_>,
    wanted: &Use,
    datasets: &[DatasetId],
    as_of: Option<Seq>,
) -> Result<PermittedSubjects, AccessError> {
    let mut contributors = BTreeMap::new();
    for id in datasets {
        let dataset = read::dataset(&ctx.state(), id)?.ok_or(AccessError::Unknown("dataset"))?;
        contributors.insert(id.clone(), dataset.contributor);
    }
    // Size and aliases are read under the lock, so that the index never goes back to an older state of anybody.
    let mut inner = ctx.index.0.lock().unwrap_or_else(PoisonError::into_inner);
    let size = ctx.store.size();
    // Of whoever was erased nothing is to be remembered.
    let last_erasure = read::last_erasure(&ctx.state(), "last")?;
    if inner.last_erasure != last_erasure {
        *inner = Inner { last_erasure, ..Inner::default() };
    }
    let aliases = ctx.people.aliases()?;
    let at = as_of.unwrap_or(size);
    if at > size {
        return Err(AccessError::invalid("/as_of", "the ledger is not that long"));
    }
    if at >= inner.as_of {
        inner.advance(ctx.state(), at, aliases)?;
        return Ok(inner.answer(wanted, contributors));
    }
    drop(inner);
    let mut once = Inner::default();
    once.advance(ctx.state(), at, aliases)?;
    Ok(once.answer(wanted, contributors))
}

/// Whether one person permits `wanted` on the data that `holder` holds, as of `as_of`, with the entries that say so: the
/// evidence for a member of a release.
///
/// # Errors
/// If store or registry fail.
pub fn verdict(
    ctx: &AccessContext<'_>,
    subject: SubjectId,
    holder: &ContributorId,
    wanted: &Use,
    as_of: Seq,
) -> Result<Verdict, AccessError> {
    let state = Sayings::new(*ctx, as_of)?.of(subject)?;
    Ok(consent::evaluate(&state, holder, wanted))
}

/// Whoever said something at a ledger position from `from` up to, not including, `to`.
///
/// # Errors
/// If the store fails.
pub fn said_between(ctx: &AccessContext<'_>, from: Seq, to: Seq) -> Result<BTreeSet<SubjectId>, AccessError> {
    let mut out = BTreeSet::new();
    let mut after = from.checked_sub(1).map(seq_key);
    loop {
        let page: Vec<(String, SubjectId)> =
            read::page(&ctx.state(), "consent-change", after.as_deref(), PAGE)?;
        let full = page.len() == PAGE;
        after = page.last().map(|(key, _)| key.clone());
        for (key, subject) in page {
            if key >= seq_key(to) {
                return Ok(out);
            }
            out.insert(subject);
        }
        if !full {
            return Ok(out);
        }
    }
}

/// What people said up to a ledger size, one person after the other.
pub struct Sayings<'a> {
    ctx: AccessContext<'a>,
    as_of: Seq,
    same: SamePeople,
    inner: Inner,
}

/// Records that are read at once where many people are asked about, the ids between them included.
const RUN: usize = 64;

impl<'a> Sayings<'a> {
    /// Of the ledger's first `as_of` entries.
    ///
    /// # Errors
    /// If the registry fails.
    pub fn new(ctx: AccessContext<'a>, as_of: Seq) -> Result<Self, AccessError> {
        Ok(Self { ctx, as_of, same: ctx.same_people()?, inner: Inner::default() })
    }

    /// Reads what was said by many people at once, so that [`Self::of`] does not read them one by one.
    ///
    /// # Errors
    /// If the store fails.
    pub fn prepare(&mut self, subjects: impl IntoIterator<Item = SubjectId>) -> Result<(), AccessError> {
        let wanted: BTreeSet<SubjectId> = subjects.into_iter().flat_map(|s| self.same.of(s)).collect();
        let state = self.ctx.state();
        let mut rest = wanted.iter().copied().peekable();
        while let Some(next) = rest.peek() {
            let before = SubjectId::new(next.get() - 1).ok().map(subject_key);
            let page: Vec<(String, SubjectRecord)> =
                read::page(&state, "subject-directives", before.as_deref(), RUN)?;
            let last = if page.len() < RUN { None } else { page.last().map(|(key, _)| key.clone()) };
            let mut found: BTreeMap<String, SubjectRecord> = page.into_iter().collect();
            while let Some(subject) =
                rest.next_if(|s| last.as_ref().is_none_or(|last| subject_key(*s) <= *last))
            {
                self.inner.known.insert(subject, found.remove(&subject_key(subject)));
            }
        }
        Ok(())
    }

    /// All ids of a person.
    pub fn ids(&self, subject: SubjectId) -> BTreeSet<SubjectId> {
        self.same.of(subject)
    }

    /// What was said under any id of the person.
    ///
    /// # Errors
    /// If the store fails.
    pub fn of(&mut self, subject: SubjectId) -> Result<SubjectState, AccessError> {
        self.of_ids(&self.same.of(subject))
    }

    /// What was said under these ids, which stand for one person.
    ///
    /// # Errors
    /// If the store fails.
    pub fn of_ids(&mut self, ids: &BTreeSet<SubjectId>) -> Result<SubjectState, AccessError> {
        let Some(first) = ids.first() else { return Ok(SubjectState::default()) };
        self.inner.aliases = ids.iter().skip(1).map(|id| (*id, *first)).collect();
        self.inner.merged_state(self.ctx.state(), *first, self.as_of)
    }
}

impl Inner {
    /// Reads what was said up to `as_of`, and nothing after.
    fn advance(
        &mut self,
        state: Stored<'_>,
        as_of: Seq,
        aliases: Vec<(SubjectId, SubjectId)>,
    ) -> Result<(), AccessError> {
        let fresh = self.as_of == 0 && self.last_change.is_none();
        let mut changed = BTreeSet::new();
        if aliases != self.aliases {
            for (a, b) in self.aliases.iter().chain(&aliases) {
                changed.extend([*a, *b]);
            }
            self.aliases = aliases;
        }
        if fresh {
            self.read_everyone(state, as_of)?;
            // Whoever changed while the pages were read is read again next time: their entries are at `as_of` or after.
            self.last_change = (as_of > 0).then(|| seq_key(as_of - 1));
        } else if as_of > self.as_of {
            self.read_changes(state, as_of, &mut changed)?;
        }
        for subject in changed {
            self.place(state, subject, as_of)?;
        }
        self.as_of = as_of.max(self.as_of);
        Ok(())
    }

    fn read_everyone(&mut self, state: Stored<'_>, as_of: Seq) -> Result<(), AccessError> {
        let merged: BTreeSet<SubjectId> = self.aliases.iter().flat_map(|(a, b)| [*a, *b]).collect();
        let mut after: Option<String> = None;
        loop {
            let page: Vec<(String, SubjectRecord)> =
                read::page(&state, "subject-directives", after.as_deref(), PAGE)?;
            let full = page.len() == PAGE;
            after = page.last().map(|(key, _)| key.clone());
            for (key, record) in page {
                let subject = key
                    .parse()
                    .ok()
                    .and_then(|n| SubjectId::new(n).ok())
                    .ok_or(ReadError::Malformed("subject-directives"))?;
                if merged.contains(&subject) {
                    continue;
                }
                let said = self.said(state, &record, as_of)?;
                self.assign(subject, said);
            }
            if !full {
                return Ok(());
            }
        }
    }

    fn read_changes(
        &mut self,
        state: Stored<'_>,
        as_of: Seq,
        changed: &mut BTreeSet<SubjectId>,
    ) -> Result<(), AccessError> {
        loop {
            let page: Vec<(String, SubjectId)> =
                read::page(&state, "consent-change", self.last_change.as_deref(), PAGE)?;
            let limit = seq_key(as_of);
            let full = page.len() == PAGE;
            for (key, subject) in page {
                if key >= limit {
                    return Ok(());
                }
                changed.insert(subject);
                self.last_change = Some(key);
            }
            if !full {
                return Ok(());
            }
        }
    }

    /// Evaluates anew where a person belongs, with everyone that they are the same person as.
    fn place(&mut self, state: Stored<'_>, subject: SubjectId, as_of: Seq) -> Result<(), AccessError> {
        let said = self.merged_state(state, subject, as_of)?;
        for id in self.same_person(subject) {
            self.assign(id, said.clone());
        }
        Ok(())
    }

    fn same_person(&self, subject: SubjectId) -> BTreeSet<SubjectId> {
        let mut group = BTreeSet::from([subject]);
        loop {
            let before = group.len();
            for (a, b) in &self.aliases {
                if group.contains(a) || group.contains(b) {
                    group.extend([*a, *b]);
                }
            }
            if group.len() == before {
                return group;
            }
        }
    }

    /// What was said under any of a person's ids.
    fn merged_state(
        &mut self,
        state: Stored<'_>,
        subject: SubjectId,
        as_of: Seq,
    ) -> Result<SubjectState, AccessError> {
        let mut parts = Vec::new();
        for id in self.same_person(subject) {
            let record = match self.known.remove(&id) {
                Some(known) => known,
                None => read::subject(&state, id)?,
            };
            if let Some(record) = record {
                parts.push((id.get(), self.said(state, &record, as_of)?));
            }
        }
        Ok(SubjectState::merged(parts))
    }

    fn said(
        &mut self,
        state: Stored<'_>,
        record: &SubjectRecord,
        as_of: Seq,
    ) -> Result<SubjectState, AccessError> {
        for row in &record.directives {
            if let Entry::Vacant(place) = self.shapes.entry(row.shape) {
                let shape = read::shape(&state, &row.shape)?
                    .ok_or(AccessError::Read(ReadError::Malformed("shape")))?;
                place.insert(Arc::new(shape));
            }
        }
        let said = record.state(&|digest| self.shapes.get(digest).cloned());
        Ok(said.ok_or(AccessError::Read(ReadError::Malformed("shape")))?.before(as_of))
    }

    fn assign(&mut self, subject: SubjectId, said: SubjectState) {
        if said.directives.is_empty() && said.withdrawals.is_empty() {
            self.people.remove(&subject);
            return;
        }
        let profile = profile_of(&said);
        let number = match self.numbers.get(&profile) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.profiles.len()).unwrap_or(u32::MAX);
                self.numbers.insert(profile.clone(), number);
                self.profiles.push((profile, said));
                number
            }
        };
        self.people.insert(subject, number);
    }

    fn answer(&self, wanted: &Use, contributors: BTreeMap<DatasetId, ContributorId>) -> PermittedSubjects {
        let holders: BTreeSet<&ContributorId> = contributors.values().collect();
        let verdicts: BTreeMap<&ContributorId, Vec<Verdict>> = holders
            .iter()
            .map(|holder| {
                let of = self.profiles.iter().map(|(_, said)| consent::evaluate(said, holder, wanted));
                (*holder, of.collect())
            })
            .collect();
        let mut datasets: BTreeMap<DatasetId, PermittedIn> = BTreeMap::new();
        for (dataset, contributor) in &contributors {
            let verdicts = &verdicts[contributor];
            let mut permitted = PermittedIn::default();
            for (subject, number) in &self.people {
                let verdict = &verdicts[*number as usize];
                if verdict.permit {
                    permitted.ids.push(subject.get());
                    if !verdict.limits.is_none() {
                        permitted.limits.insert(subject.get(), verdict.limits.clone());
                    }
                }
            }
            datasets.insert(dataset.clone(), permitted);
        }
        let mut refused = BTreeMap::new();
        let why: Vec<Option<Reason>> =
            (0..self.profiles.len()).map(|n| self.refusal(n, &verdicts, &holders)).collect();
        for number in self.people.values() {
            if let Some(reason) = why[*number as usize] {
                *refused.entry(reason).or_insert(0) += 1;
            }
        }
        PermittedSubjects {
            datasets,
            contributors,
            refused,
            as_of: self.as_of,
            aliases: self.aliases.clone(),
        }
    }

    /// Why a profile permits nothing to any of the holders; `None` if it does, or said nothing through them.
    fn refusal(
        &self,
        number: usize,
        verdicts: &BTreeMap<&ContributorId, Vec<Verdict>>,
        holders: &BTreeSet<&ContributorId>,
    ) -> Option<Reason> {
        let (profile, _) = &self.profiles[number];
        let concerned = profile.directives.iter().any(|(c, _)| holders.contains(c))
            || profile.withdrawals.iter().any(|(c, ..)| c.as_ref().is_none_or(|c| holders.contains(c)));
        let all: Vec<&Verdict> = verdicts.values().map(|v| &v[number]).collect();
        if !concerned || all.iter().any(|v| v.permit) {
            return None;
        }
        all.iter().filter_map(|v| v.main_reason()).max()
    }
}

const PAGE: usize = 4_096;

fn profile_of(said: &SubjectState) -> Profile {
    let mut directives: Vec<(ContributorId, Digest)> =
        said.governing().map(|d| (d.contributor.clone(), d.directive.shape())).collect();
    directives.sort();
    directives.dedup();
    let mut withdrawals: Vec<_> = said
        .withdrawals
        .iter()
        .map(|w| (w, said.lifted_at(w)))
        .filter(|(w, lifted)| w.contributor.as_ref().is_none_or(|c| !lifted.contains(c)))
        .map(|(w, lifted)| {
            let day = (w.mode == WithdrawalMode::NoFurtherAccess).then(|| w.time.date());
            (w.contributor.clone(), w.mode, day, lifted.into_iter().cloned().collect())
        })
        .collect();
    withdrawals.sort();
    withdrawals.dedup();
    let as_one = said.as_one.as_ref().map(|one| Box::new(profile_of(one)));
    Profile { directives, withdrawals, as_one }
}
