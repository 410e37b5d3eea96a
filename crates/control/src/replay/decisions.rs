//! The decisions, one by one: what is recorded, and what comes of the entries before it.

use std::collections::BTreeSet;

use almoner_ledger::Leaf;
use almoner_model::consent::Use;
use almoner_model::{ContributorId, DatasetId, Date, Digest, Seq};

use super::Replay;
use super::history::Before;
use super::people::{self, Asked, Checked};
use crate::events::{CountAnswered, DownloadOpened, PermitDecided, ReleaseBuilt};
use crate::judge::{self, Basis, Counting, JudgeError, Judged, wanted};
use crate::policy::{Decision, Effect, HOUSE, Rules};
use crate::state::read;
use crate::state::records::Request;

/// What came of deciding again.
pub(super) enum Outcome {
    /// The same.
    Equal,
    /// Something else.
    Differs {
        /// What is recorded.
        recorded: String,
        /// What is computed.
        computed: String,
    },
    /// It rests on an entry that was erased.
    Erased(Seq),
}

impl Outcome {
    pub(super) fn differs(recorded: impl Into<String>, computed: impl Into<String>) -> Self {
        Self::Differs { recorded: recorded.into(), computed: computed.into() }
    }
}

/// What is recorded of a decision, and why something else was computed.
type Step<T> = Result<T, String>;

fn said(effect: &str, reasons: &[String]) -> String {
    if reasons.is_empty() { effect.to_owned() } else { format!("{effect}: {}", reasons.join("; ")) }
}

fn told(decision: &Decision) -> String {
    said(if decision.effect() == Effect::Permit { "permit" } else { "deny" }, decision.reasons())
}

/// A decision is made on the ledger before it, and its leaf says on how much of it.
fn on_a_prefix(leaf: &Leaf, as_of: Seq) -> Step<()> {
    if leaf.as_of == Some(as_of) && as_of <= leaf.seq {
        return Ok(());
    }
    Err("payload and leaf do not name one ledger size before the entry".to_owned())
}

impl Replay {
    /// Asks the rules that the entry names, or those of this version where it names none.
    fn ask<T>(
        &mut self,
        house: Option<Digest>,
        before: Before<'_>,
        (today, as_of): (Date, Seq),
        ask: impl FnOnce(&mut Rules, &Basis<'_, Before<'_>>) -> Result<T, JudgeError>,
    ) -> Step<T> {
        let own = Digest::of(HOUSE);
        let house = house.unwrap_or(own);
        let documents = &self.head.documents;
        let rules = self.rules.entry(house).or_insert_with(|| {
            let text = if house == own { Some(HOUSE) } else { documents.get(&house).map(String::as_str) };
            text.and_then(|text| Rules::new(text).ok())
        });
        let Some(rules) = rules else {
            return Err(format!("the house rules {} are not in the bundle, or are none", short(&house)));
        };
        let used = self.report.rules.entry(house).or_default();
        (used.decisions, used.of_this_version) = (used.decisions + 1, house == own);
        let changed = &self.head.changed;
        let document = |digest: &Digest| match documents.get(digest) {
            Some(text) => Ok(Some(text.clone().into_bytes())),
            None if changed.contains(digest) => Err(format!("the contract {} was changed", short(digest))),
            None => Err(format!("the contract {} is not in the bundle", short(digest))),
        };
        let basis = Basis { state: &before, documents: &document, today, as_of };
        ask(rules, &basis).map_err(|error| match error {
            JudgeError::Document(problem) => problem,
            other => other.to_string(),
        })
    }

    pub(super) fn permit(&mut self, leaf: &Leaf, recorded: &PermitDecided) -> Outcome {
        let mut words = said(&recorded.effect, &recorded.reasons);
        let computed = on_a_prefix(leaf, recorded.as_of).and_then(|()| {
            let first = self.permit_at(leaf, recorded, recorded.as_of)?;
            if self.history.changed_since(recorded.as_of) {
                let last = self.permit_at(leaf, recorded, leaf.seq)?;
                if told(&last) != told(&first) || last.policies() != first.policies() {
                    return Err(format!("{}, after what was said before the entry", told(&last)));
                }
            }
            Ok(first)
        });
        let computed = match computed {
            Ok(computed) => computed,
            Err(why) => return Outcome::differs(words, why),
        };
        let mut text = told(&computed);
        let names = recorded.policies.keys().chain(computed.policies().keys()).collect::<BTreeSet<_>>();
        for name in names {
            let (then, now) = (recorded.policies.get(name), computed.policies().get(name));
            if then != now {
                let digest = |d: Option<&Digest>| d.map_or_else(|| "none".to_owned(), short);
                words += &format!(", under rules of {name} {}", digest(then));
                text += &format!(", under rules of {name} {}", digest(now));
            }
        }
        let fits = leaf.decision.as_deref() == Some(&*recorded.effect)
            && leaf.policy.as_ref() == recorded.policies.get("house");
        if !fits {
            return Outcome::differs(words, "the leaf says another decision than its payload");
        }
        if words == text { Outcome::Equal } else { Outcome::differs(words, text) }
    }

    fn permit_at(&mut self, leaf: &Leaf, recorded: &PermitDecided, as_of: Seq) -> Step<Decision> {
        let history = std::mem::take(&mut self.history);
        let before = history.before(as_of);
        let judged = request_in(before, &recorded.request).and_then(|request| {
            let (house, day) = (recorded.policies.get("house").copied(), leaf.time.date());
            self.ask(house, before, (day, as_of), |rules, basis| judge::request(rules, basis, &request))
        });
        self.history = history;
        Ok(judged?.decision)
    }

    pub(super) fn count(&mut self, leaf: &Leaf, recorded: &CountAnswered) -> Outcome {
        let history = std::mem::take(&mut self.history);
        let computed =
            self.count_in(leaf, recorded, history.before(recorded.as_of), history.before(leaf.seq));
        self.history = history;
        match computed {
            Ok(decision) if decision.effect() == Effect::Permit => Outcome::Equal,
            Ok(decision) => Outcome::differs("answered", told(&decision)),
            Err(why) => Outcome::differs("answered", why),
        }
    }

    fn count_in(
        &mut self,
        leaf: &Leaf,
        recorded: &CountAnswered,
        before: Before<'_>,
        now: Before<'_>,
    ) -> Step<Decision> {
        on_a_prefix(leaf, recorded.as_of)?;
        let project = read::project(&before, &recorded.project).map_err(|e| e.to_string())?;
        let project = project.ok_or("there is no such project")?;
        let contributors = holders(now, recorded.datasets.iter())?.into_iter().collect::<Vec<_>>();
        let counting = Counting {
            project: &recorded.project,
            recipient: &project.body.recipient,
            purpose: recorded.purpose,
            modifiers: &recorded.modifiers,
            contributors: &contributors,
        };
        let day = (leaf.time.date(), recorded.as_of);
        self.ask(leaf.policy, before, day, |rules, basis| judge::count(rules, basis, counting))
    }

    pub(super) fn release(&mut self, leaf: &Leaf, recorded: &ReleaseBuilt) -> Outcome {
        let words = format!("{} people, each permitted", recorded.persons);
        let history = std::mem::take(&mut self.history);
        let computed =
            self.release_in(leaf, recorded, (history.before(recorded.as_of), history.before(leaf.seq)));
        self.history = history;
        checked(words, computed)
    }

    fn release_in(
        &mut self,
        leaf: &Leaf,
        recorded: &ReleaseBuilt,
        (before, now): (Before<'_>, Before<'_>),
    ) -> Step<Checked> {
        on_a_prefix(leaf, recorded.as_of)?;
        let request = request_in(now, &recorded.request)?;
        let body = &request.submitted.body;
        if body.project != recorded.project || body.recipient != recorded.recipient {
            return Err("project and recipient are not those of the request".to_owned());
        }
        let permit = read::permit(&before, &recorded.request).map_err(|e| e.to_string())?;
        let permit = permit.filter(|p| p.body.effect == "permit" && p.origin.seq + 1 == recorded.as_of);
        let permit = permit.ok_or("there is no permit in the entry before its ledger size")?;
        let house = permit.body.policies.get("house").copied();
        let day = (permit.origin.time.date(), leaf.seq);
        let Judged { decision, k_min, .. } =
            self.ask(house, now, day, |rules, basis| judge::request(rules, basis, &request))?;
        if decision.effect() != Effect::Permit {
            return Err(told(&decision));
        }
        if recorded.k[0] != k_min || recorded.k[1] < k_min {
            return Err(format!(
                "classes of {k_min} at least; it says {} of {}",
                recorded.k[1], recorded.k[0]
            ));
        }
        if recorded.datasets.keys().collect::<BTreeSet<_>>() != body.datasets.iter().collect() {
            return Err("the datasets are not those of the request".to_owned());
        }
        let holders = holders(now, recorded.datasets.iter())?;
        let listing = self.head.releases.get(&recorded.release).ok_or("its members are not in the bundle")?;
        let persons = (listing.members.len() + listing.erased.len()) as u64;
        if people::root(listing) != recorded.members_root || persons != recorded.persons {
            return Err("the members are not those that the entry commits to".to_owned());
        }
        let wanted: Use = wanted(body, permit.body.required, true, permit.origin.time);
        self.report.persons += listing.members.len() as u64;
        let asked = Asked { wanted: &wanted, holders: &holders, as_of: recorded.as_of };
        Ok(self.people.permitted(listing, asked, leaf.seq))
    }

    pub(super) fn download(&mut self, leaf: &Leaf, recorded: &DownloadOpened) -> Outcome {
        let history = std::mem::take(&mut self.history);
        let computed = self.download_in(leaf, recorded, history.before(recorded.as_of));
        self.history = history;
        checked("opened".to_owned(), computed)
    }

    fn download_in(&mut self, leaf: &Leaf, recorded: &DownloadOpened, before: Before<'_>) -> Step<Checked> {
        on_a_prefix(leaf, recorded.as_of)?;
        let release = read::release(&before, &recorded.release).map_err(|e| e.to_string())?;
        let release = release.ok_or("there is no such release")?;
        let request = request_in(before, &release.body.request)?;
        let day = (leaf.time.date(), recorded.as_of);
        let judged =
            self.ask(leaf.policy, before, day, |rules, basis| judge::request(rules, basis, &request))?;
        if judged.decision.effect() != Effect::Permit {
            return Err(told(&judged.decision));
        }
        let permit = read::permit(&before.earlier(release.body.as_of), &release.body.request);
        let permit = permit.map_err(|e| e.to_string())?.ok_or("there was no permit")?;
        let listing = self.head.releases.get(&recorded.release).ok_or("its members are not in the bundle")?;
        let holders: BTreeSet<ContributorId> = request.contributors.iter().cloned().collect();
        let then = wanted(&request.submitted.body, permit.body.required, true, permit.origin.time);
        let now = Use { at: leaf.time, ..then.clone() };
        let (then, now) = (
            Asked { wanted: &then, holders: &holders, as_of: release.body.as_of },
            Asked { wanted: &now, holders: &holders, as_of: recorded.as_of },
        );
        // Of whoever had left the release before nothing was asked.
        let left = self.rewritten.get(&recorded.release);
        let gone = listing.erased.iter().any(|hash| !left.is_some_and(|left| left.contains(hash)));
        Ok(self.people.still_permitted((listing, gone), then, now, release.origin.time.date()))
    }
}

fn checked(recorded: String, computed: Step<Checked>) -> Outcome {
    match computed {
        Err(why) => Outcome::differs(recorded, why),
        Ok(Checked { first: Some((person, why)), wrong, .. }) => {
            let others = if wrong > 1 { format!(" (and {} more)", wrong - 1) } else { String::new() };
            Outcome::differs(recorded, format!("person {person}: {why}{others}"))
        }
        Ok(Checked { erased: Some(entry), .. }) => Outcome::Erased(entry),
        Ok(_) => Outcome::Equal,
    }
}

fn request_in(before: Before<'_>, id: &almoner_model::RequestId) -> Step<Request> {
    let request = read::request(&before, id).map_err(|e| e.to_string())?;
    request.ok_or_else(|| "there is no such request".to_owned())
}

/// The contributors of dataset versions, each of which must have been the latest.
fn holders<'a>(
    before: Before<'_>,
    versions: impl Iterator<Item = (&'a DatasetId, &'a u32)>,
) -> Step<BTreeSet<ContributorId>> {
    let mut holders = BTreeSet::new();
    for (id, version) in versions {
        let dataset = read::dataset(&before, id).map_err(|e| e.to_string())?;
        let dataset = dataset.ok_or_else(|| format!("there is no dataset {id}"))?;
        if dataset.versions.len() as u64 != u64::from(*version) {
            return Err(format!("version {} of dataset {id} was the latest", dataset.versions.len()));
        }
        holders.insert(dataset.contributor);
    }
    Ok(holders)
}

fn short(digest: &Digest) -> String {
    digest.to_string().chars().take(12).collect()
}
