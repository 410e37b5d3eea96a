//! Replay: every decision in a log made again, from the entries before its `as_of`, by whoever has the log and the payloads
//! that were opened to them ([`bundle`]).
//!
//! The entries are read once, in order. Each that the bundle opens is held against the log's commitment to it; those that
//! rules rest on are folded by the fold that the exchange uses ([`crate::state`]), and what members of releases said is kept.
//! At a decision the rules ([`crate::judge`], [`almoner_model::consent`]) are asked again:
//!
//! | entry | what is made again |
//! |---|---|
//! | `permit.decided` | effect, reasons and the digests of all rules, from request, committees' words, terms, legal bases, contracts, ethics determination, and the day of the entry |
//! | `count.answered` | whether house rules and contracts let it be counted, over the dataset versions that were the latest |
//! | `release.built` | that there was a permit and still is, dataset versions, the class size required; and of each member that what they said permits the use, by exactly the directives that the release commits to |
//! | `download.opened` | that the request was still permitted and no member permitted less |
//!
//! Every verdict is `equal`, `differs` or `erased(entry)`. Not made again, because it rests on more than entries: how many were
//! counted and who of the permitted is in a cohort (the data), the protection of a number (a key), what the gate measured
//! (the data), that two ids are one person's where a release does not say so (the registry).
//!
//! What is said to be erased must be named by an erasure that the bundle opens: an entry by `subject.erased`, a member of a
//! release by `release.rewritten`.
//!
//! What must be open and is not, or is another than the log commits to, is a finding of its own, by entry. A bundle for somebody
//! who speaks for some contributors leaves the others' decisions closed; of them nothing is said.

pub mod bundle;
mod decisions;
mod history;
mod people;
mod report;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::BufRead;

use almoner_ledger::commitment::{canonical, canonical_value, commit};
use almoner_ledger::evidence::{Leaves, OpenedSubject};
use almoner_ledger::tree::Edge;
use almoner_ledger::{Checkpoint, Hash, Leaf, leaf};
use almoner_model::{Digest, ReleaseId, Seq, SubjectId};
use serde_json::Value;

use self::bundle::{BundleError, Given, Head, Lines};
use self::decisions::Outcome;
use self::history::History;
use self::people::People;
pub use self::report::{Decided, Finding, Report, RulesUsed, Tally, Verdict};
use crate::events::{Actor, Event};
use crate::policy::Rules;
use crate::state::{ProjectedEntry, Projections, Projector};

/// Kinds of entries that rules rest on, and so are folded.
pub const CONTROL: [&str; 12] = [
    "contributor.registered",
    "contributor.changed",
    "contract.published",
    "dataset.published",
    "legal_basis.recorded",
    "legal_basis.ended",
    "project.created",
    "request.submitted",
    "request.decided",
    "terms.signed",
    "permit.decided",
    "release.built",
];
/// Kinds of entries that are decisions and made again.
pub const DECISIONS: [&str; 4] = ["permit.decided", "count.answered", "release.built", "download.opened"];
/// What people say.
pub const SAID: [&str; 2] = ["consent.recorded", "consent.withdrawn"];
/// Erasures, which say what cannot be opened any more.
pub const ERASURES: [&str; 2] = ["subject.erased", "release.rewritten"];
/// Decisions that rest on more than entries.
const NOT_RECOMPUTABLE: [&str; 1] = ["release.refused"];

/// What was decided, again, over all `leaves` of the log that `tree` signs.
///
/// # Errors
/// [`BundleError`] if the bundle is none, or cannot be read on.
pub fn replay<R: BufRead>(
    tree: &Checkpoint,
    leaves: &mut Leaves<'_>,
    bundle: R,
) -> Result<Report, BundleError> {
    let mut lines = Lines::new(bundle);
    let head = lines.head()?;
    let mut replay = Replay {
        people: People::new(head.releases.values()),
        head,
        history: History::default(),
        rules: BTreeMap::new(),
        named: BTreeMap::new(),
        lost: BTreeSet::new(),
        erasures: BTreeMap::new(),
        rewritten: BTreeMap::new(),
        report: Report::default(),
    };
    if replay.head.origin != tree.origin || replay.head.size > tree.size {
        replay.report.find(None, "the bundle is of another log, or of a longer one");
    }
    let (mut edge, mut read) = (Edge::new(), 0);
    for (seq, bytes) in leaves.take_while(|(seq, _)| *seq < tree.size) {
        read += 1;
        edge.push(leaf::hash(&bytes));
        // What was appended after the bundle was made is not in it.
        if seq >= replay.head.size {
            continue;
        }
        let given = lines.entry(seq)?;
        match Leaf::parse(&bytes) {
            Ok(leaf) => replay.entry(&leaf, given),
            Err(error) => replay.report.find(Some(seq), error.to_string()),
        }
    }
    if read != tree.size || edge.root() != tree.root {
        replay.report.find(None, "the entries at hand are not those of the log that the checkpoint signs");
    }
    if lines.more()? {
        replay.report.find(None, "the bundle goes on after the last entry of the log");
    }
    Ok(replay.finish(read))
}

/// A replay on its way.
struct Replay {
    head: Head,
    people: People,
    history: History,
    /// House rules by digest; `None` for those that are not at hand.
    rules: BTreeMap<Digest, Option<Rules>>,
    /// The first entry that names a document as its rules.
    named: BTreeMap<Digest, Seq>,
    /// Entries that rules rest on and that were erased.
    lost: BTreeSet<Seq>,
    /// Entries that are said to be erasures, with the entries that they are said to have erased.
    erasures: BTreeMap<Seq, Vec<Seq>>,
    /// The members who were erased from a release so far, as the log says.
    rewritten: BTreeMap<ReleaseId, HashSet<Hash>>,
    report: Report,
}

impl Replay {
    fn entry(&mut self, leaf: &Leaf, given: Option<Given>) {
        let kind = leaf.kind.as_str();
        if ERASURES.contains(&kind) {
            self.erasure(leaf, given);
            return;
        }
        if SAID.contains(&kind) {
            self.said(leaf, given);
            return;
        }
        if let Some(known) = NOT_RECOMPUTABLE.iter().find(|k| **k == kind) {
            *self.report.not_recomputable.entry(known).or_default() += 1;
        }
        let decision = DECISIONS.iter().copied().find(|k| *k == kind);
        if decision.is_none() && !CONTROL.contains(&kind) {
            return;
        }
        let Some(given) = given else {
            self.not_open(leaf, decision.is_some());
            return;
        };
        if let Some(by) = given.erased {
            self.erased_by(leaf.seq, by);
            self.lost.insert(leaf.seq);
            if let Some(kind) = decision {
                self.report.decided(leaf.seq, kind, Verdict::Erased { entry: leaf.seq });
            }
            return;
        }
        self.report.opened += 1;
        let payload = self.opened(leaf, &given);
        let event = payload.clone().and_then(|p| Event::read(kind, p).ok());
        if let Some(kind) = decision {
            self.decide(leaf, kind, event.as_ref());
        }
        if let (Some(payload), true) = (payload, CONTROL.contains(&kind)) {
            self.fold(leaf, &payload);
        }
    }

    fn decide(&mut self, leaf: &Leaf, kind: &'static str, event: Option<&Event>) {
        if let Some(house) = leaf.policy {
            self.named.entry(house).or_insert(leaf.seq);
        }
        let outcome = match event {
            Some(Event::PermitDecided(e)) => self.permit(leaf, e),
            Some(Event::CountAnswered(e)) => self.count(leaf, e),
            Some(Event::ReleaseBuilt(e)) => self.release(leaf, e),
            Some(Event::DownloadOpened(e)) => self.download(leaf, e),
            _ => Outcome::differs("the entry of the log", "the payload in the bundle is not the entry's"),
        };
        let lost = self.lost.range(..leaf.seq).next().copied();
        let verdict = match (outcome, lost) {
            (Outcome::Equal, _) => Verdict::Equal,
            (Outcome::Erased(entry), _) => Verdict::Erased { entry },
            // Without the entries that are gone nothing can be said.
            (Outcome::Differs { .. }, Some(entry)) if event.is_some() => Verdict::Erased { entry },
            (Outcome::Differs { recorded, computed }, _) => Verdict::Differs { recorded, computed },
        };
        self.report.decided(leaf.seq, kind, verdict);
    }

    /// An entry that the bundle does not have.
    fn not_open(&mut self, leaf: &Leaf, decision: bool) {
        if self.head.scope.is_some() {
            self.report.closed += u64::from(decision);
        } else {
            self.report.find(Some(leaf.seq), format!("{} is not in the bundle", leaf.kind));
        }
    }

    fn erased_by(&mut self, seq: Seq, by: Seq) {
        self.erasures.entry(by).or_default().push(seq);
    }

    /// An erasure: what is said to be erased by it must be named by it.
    fn erasure(&mut self, leaf: &Leaf, given: Option<Given>) {
        let Some(given) = given else {
            return;
        };
        self.report.opened += 1;
        let event = self.opened(leaf, &given).and_then(|payload| Event::read(&leaf.kind, payload).ok());
        match event {
            Some(Event::SubjectErased(e)) => {
                let named: HashSet<Seq> = e.entries.into_iter().collect();
                for seq in self.erasures.remove(&leaf.seq).unwrap_or_default() {
                    if !named.contains(&seq) {
                        let what =
                            format!("it is said to be erased by entry {}, which does not name it", leaf.seq);
                        self.report.find(Some(seq), what);
                    }
                }
            }
            Some(Event::ReleaseRewritten(e)) => {
                self.rewritten.entry(e.release).or_default().extend(e.members.iter().map(|hash| hash.0));
            }
            _ => {}
        }
    }

    /// The payload, if the log commits to it.
    fn opened(&mut self, leaf: &Leaf, given: &Given) -> Option<Value> {
        let Some((opening, text)) = &given.payload else {
            self.report.find(Some(leaf.seq), format!("{} is in the bundle without its payload", leaf.kind));
            return None;
        };
        if !committed(leaf, opening, text.get()) {
            let what = format!("the payload of {} is not the one that the log commits to", leaf.kind);
            self.report.find(Some(leaf.seq), what);
            return None;
        }
        serde_json::from_str(text.get()).ok()
    }

    fn fold(&mut self, leaf: &Leaf, payload: &Value) {
        let nobody = Actor { role: String::new(), id: String::new() };
        let entry = ProjectedEntry {
            seq: leaf.seq,
            time: leaf.time,
            kind: &leaf.kind,
            actor: &nobody,
            subject: None,
            payload,
        };
        self.contract_at_hand(leaf, payload);
        match Projections.project(&entry, &self.history.before(leaf.seq)) {
            Ok(writes) => self.history.write(leaf.seq, writes),
            // What follows from an entry that is gone, or closed to this reader, cannot be told from what is impossible.
            Err(_) if !self.lost.is_empty() || self.head.scope.is_some() => {}
            Err(refused) => self.report.find(Some(leaf.seq), format!("impossible here: {}", refused.0)),
        }
    }

    fn contract_at_hand(&mut self, leaf: &Leaf, payload: &Value) {
        let Ok(Event::ContractPublished(e)) = Event::read(&leaf.kind, payload.clone()) else { return };
        let problem = if self.head.changed.contains(&e.policy) {
            self.named.insert(e.policy, leaf.seq);
            "is not the document that the entry names: its bytes were changed"
        } else if self.head.documents.contains_key(&e.policy) {
            return;
        } else {
            "is not in the bundle"
        };
        self.report.find(Some(leaf.seq), format!("the contract of {} {problem}", e.contributor));
    }

    /// A consent or withdrawal: its payload matters of members only, whose it is of everybody.
    fn said(&mut self, leaf: &Leaf, given: Option<Given>) {
        let Some(given) = given else {
            if !self.head.releases.is_empty() {
                self.report.find(Some(leaf.seq), format!("{} is not in the bundle", leaf.kind));
            }
            return;
        };
        if let Some(by) = given.erased {
            self.erased_by(leaf.seq, by);
            self.people.erase(leaf.seq);
            return;
        }
        self.report.opened += 1;
        let Some(subject) = given.subject.as_ref().filter(|s| is_subject(leaf, s)).map(|s| s.subject) else {
            self.report
                .find(Some(leaf.seq), format!("{} is of another person than the bundle says", leaf.kind));
            return;
        };
        if given.payload.is_none() && !self.people.is_member(subject) {
            return;
        }
        let Some((opening, text)) = &given.payload else {
            let what = format!("{} is of somebody in a release and is not opened", leaf.kind);
            self.report.find(Some(leaf.seq), what);
            return;
        };
        if !committed(leaf, opening, text.get()) {
            let what = format!("the payload of {} is not the one that the log commits to", leaf.kind);
            self.report.find(Some(leaf.seq), what);
        } else if self.people.is_member(subject)
            && self.people.hear(subject, (leaf.seq, leaf.time, &leaf.kind), text.get()).is_none()
        {
            self.report.find(Some(leaf.seq), format!("{} is not understood", leaf.kind));
        }
    }

    fn finish(mut self, entries: u64) -> Report {
        for (by, erased) in std::mem::take(&mut self.erasures) {
            let what = format!("it is said to be erased by entry {by}, which is no erasure that is opened");
            self.report.find(erased.first().copied(), what);
        }
        for digest in std::mem::take(&mut self.head.changed) {
            let contract = self.named.get(&digest).is_some_and(|seq| self.report.names(*seq));
            if !contract {
                let what = format!("the text of document {digest} was changed");
                self.report.find(self.named.get(&digest).copied(), what);
            }
        }
        for (listed, listing) in &self.head.releases {
            let seen = self.history.before(Seq::MAX);
            let release = crate::state::read::release(&seen, listed).ok().flatten();
            if release.is_none() {
                self.report
                    .find(None, format!("the bundle has members of {listed}, which is not in the log"));
            }
            let left = self.rewritten.get(listed);
            if listing.erased.iter().any(|hash| !left.is_some_and(|left| left.contains(hash))) {
                let what = format!(
                    "somebody is said to be erased from {listed}, and no entry that is opened says so"
                );
                self.report.find(release.map(|r| r.origin.seq), what);
            }
        }
        let mut report = self.report;
        report.entries = entries;
        report.intact = report.findings_total == 0 && report.differing() == 0;
        report
    }
}

/// Whether the leaf commits to the payload: to its bytes, or where a program wrote them in another form, to their value.
fn committed(leaf: &Leaf, opening: &Digest, text: &str) -> bool {
    let is = |bytes: &[u8]| Digest(commit(opening.as_bytes(), bytes)) == leaf.payload;
    let value = || serde_json::from_str(text).ok().and_then(|v: Value| canonical_value(&v).ok());
    is(text.as_bytes()) || value().is_some_and(|bytes| is(&bytes))
}

fn is_subject(leaf: &Leaf, opened: &OpenedSubject) -> bool {
    SubjectId::new(opened.subject).is_ok()
        && canonical(&opened.subject)
            .is_ok_and(|bytes| leaf.subject == Some(Digest(commit(opened.opening.as_bytes(), &bytes))))
}
