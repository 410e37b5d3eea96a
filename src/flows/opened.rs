//! Opening payloads for replay: the bundle that, beside the public log, lets somebody make every decision again on their own
//! machine (`almoner-verify replay`; the format is [`almoner_control::replay::bundle`]).
//!
//! What is opened to whom: all that rules rest on, to whoever speaks for all contributors; to a board of some, what concerns
//! those contributors alone, and the requests, counts, releases and downloads of nobody else's data. Of people's consents the
//! payloads of members of the releases that are opened, and of all others whose they are (so that an omitted refusal is
//! noticed); where no release is opened, none. Who acted is opened to nobody. So a bundle names people by the exchange's ids
//! and is kept as a list of patients is.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;

use almoner_control::replay::bundle::{FORMAT, Line};
use almoner_control::replay::{CONTROL, DECISIONS, ERASURES, SAID};
use almoner_ledger::commitment::{Field, canonical_value};
use almoner_model::{ContributorId, Digest, ReleaseId, RequestId, Seq, SubjectId};
use serde::Serialize;
use serde_json::value::RawValue;

use super::access::{AccessError, Documents, Stored};
use super::evidence::opened_subject;
use super::question::DataError;
use crate::events::Event;
use crate::policy::HOUSE;
use crate::release::members::Members;
use crate::state::read;
use crate::state::records::{LegalBasis, Release, Request};
use crate::store::{Entry, EntryFilter, Payload, Store};

/// Entries read at a time.
const PAGE: usize = 1_000;

/// What payloads are opened from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Ledger and state.
    pub store: &'a dyn Store,
    /// Contracts and house rules.
    pub documents: &'a dyn Documents,
    /// The members of a release.
    pub members: &'a dyn Fn(&ReleaseId) -> Result<Members, DataError>,
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Opened {
    /// Entries of the log that the bundle is of.
    pub size: u64,
    /// Entries that were opened.
    pub entries: u64,
    /// Releases whose members are in it.
    pub releases: u64,
    /// Their members.
    pub members: u64,
}

/// Writes the bundle for a reader who speaks for the contributors `scope`; for all of them, if `None`.
///
/// # Errors
/// [`AccessError::Conflict`] if somebody is erased meanwhile; [`DataError`] for a contributor that there is not, if store, documents or a list of members cannot be read, or `out`
/// cannot be written.
pub fn write(
    from: Source<'_>,
    scope: Option<&[ContributorId]>,
    out: &mut dyn Write,
) -> Result<Opened, DataError> {
    for contributor in scope.into_iter().flatten() {
        read::contributor(&Stored(from.store), contributor)?.ok_or(AccessError::Unknown("contributor"))?;
    }
    let checkpoint = from.store.checkpoint().checkpoint;
    let mut bundle = Bundle {
        from,
        view: View::of(from.store, scope)?,
        out,
        done: Opened { size: checkpoint.size, ..Opened::default() },
    };
    bundle.line(&Line {
        format: Some(FORMAT.to_owned()),
        origin: Some(checkpoint.origin),
        size: Some(checkpoint.size),
        scope: scope.map(<[_]>::to_vec),
        ..Line::default()
    })?;
    bundle.rules(checkpoint.size)?;
    let people = bundle.releases(checkpoint.size)?;
    bundle.entries(checkpoint.size, &people)?;
    bundle.nobody_erased_since(checkpoint.size)?;
    bundle.out.flush().map_err(unwritten)?;
    Ok(bundle.done)
}

fn unwritten(error: std::io::Error) -> DataError {
    DataError::failed(format!("the bundle cannot be written: {}", error.kind()))
}

/// What a reader may see.
struct View<'a> {
    scope: Option<&'a [ContributorId]>,
    requests: BTreeMap<RequestId, bool>,
    bases: BTreeMap<String, ContributorId>,
    releases: BTreeMap<ReleaseId, Release>,
    projects: BTreeSet<String>,
}

impl<'a> View<'a> {
    fn of(store: &dyn Store, scope: Option<&'a [ContributorId]>) -> Result<Self, DataError> {
        let state = Stored(store);
        let mut view = Self {
            scope,
            requests: BTreeMap::new(),
            bases: BTreeMap::new(),
            releases: BTreeMap::new(),
            projects: BTreeSet::new(),
        };
        for request in read::all::<Request>(&state, "request")? {
            let covered = request.contributors.iter().all(|c| view.covers(c));
            if covered {
                view.projects.insert(request.submitted.body.project.to_string());
            }
            view.requests.insert(request.submitted.body.request, covered);
        }
        for basis in read::all::<LegalBasis>(&state, "legal-basis")? {
            view.bases.insert(basis.body.id, basis.body.contributor);
        }
        for release in read::all::<Release>(&state, "release")? {
            if view.request(&release.body.request) {
                view.releases.insert(release.body.release.clone(), release);
            }
        }
        if scope.is_some() {
            let mut after = None;
            loop {
                let page: Vec<(String, crate::state::records::Count)> =
                    read::page(&state, "count", after.as_deref(), PAGE)?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                for (_, count) in page {
                    if view.data(&state, count.body.datasets.keys())? {
                        view.projects.insert(count.body.project.to_string());
                    }
                }
            }
        }
        Ok(view)
    }

    fn covers(&self, contributor: &ContributorId) -> bool {
        self.scope.is_none_or(|all| all.contains(contributor))
    }

    fn request(&self, request: &RequestId) -> bool {
        self.requests.get(request).copied().unwrap_or(false)
    }

    /// Whether all of these datasets are of contributors that the reader speaks for.
    fn data<'d>(
        &self,
        state: &Stored<'_>,
        datasets: impl Iterator<Item = &'d almoner_model::DatasetId>,
    ) -> Result<bool, DataError> {
        for id in datasets {
            if !read::dataset(state, id)?.is_some_and(|d| self.covers(&d.contributor)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether an entry that rules rest on is opened.
    fn shows(&self, state: &Stored<'_>, kind: &str, payload: &serde_json::Value) -> Result<bool, DataError> {
        if self.scope.is_none() {
            return Ok(true);
        }
        let event =
            Event::read(kind, payload.clone()).map_err(|_| DataError::failed("an entry is not one"))?;
        Ok(match &event {
            // Who contributes is told to everyone who has a token.
            Event::ContributorRegistered(_) | Event::ContributorChanged(_) => true,
            Event::ContractPublished(e) => self.covers(&e.contributor),
            Event::DatasetPublished(e) => self.covers(&e.contributor),
            Event::LegalBasisRecorded(e) => self.covers(&e.contributor),
            Event::LegalBasisEnded(e) => self.bases.get(&e.id).is_some_and(|c| self.covers(c)),
            Event::ProjectCreated(e) => self.projects.contains(e.project.as_str()),
            Event::RequestSubmitted(e) => self.request(&e.request),
            Event::RequestDecided(e) => self.request(&e.request),
            Event::TermsSigned(e) => self.request(&e.request),
            Event::PermitDecided(e) => self.request(&e.request),
            Event::ReleaseBuilt(e) => self.request(&e.request),
            Event::DownloadOpened(e) => self.releases.contains_key(&e.release),
            // With them what is erased is told from what is left out.
            Event::SubjectErased(_) => true,
            Event::ReleaseRewritten(e) => self.releases.contains_key(&e.release),
            Event::CountAnswered(e) => self.data(state, e.datasets.keys())?,
            _ => false,
        })
    }
}

struct Bundle<'a> {
    from: Source<'a>,
    view: View<'a>,
    out: &'a mut dyn Write,
    done: Opened,
}

impl Bundle<'_> {
    fn line(&mut self, line: &Line<'_>) -> Result<(), DataError> {
        let mut text = serde_json::to_vec(line).map_err(|_| DataError::failed("a line is not JSON"))?;
        text.push(b'\n');
        self.out.write_all(&text).map_err(unwritten)
    }

    fn each(
        &mut self,
        size: u64,
        kinds: &[&str],
        mut take: impl FnMut(&mut Self, &Entry) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let filter = EntryFilter { kinds: kinds.iter().map(|k| (*k).to_owned()).collect(), topic: None };
        let mut from: Seq = 0;
        loop {
            let page = self.from.store.entries(from, PAGE, &filter)?;
            let full = page.len() == PAGE;
            from = page.last().map_or(from, |e| e.seq + 1);
            for entry in page.iter().filter(|e| e.seq < size) {
                take(self, entry)?;
            }
            if !full || from >= size {
                return Ok(());
            }
        }
    }

    /// House rules and contracts.
    fn rules(&mut self, size: u64) -> Result<(), DataError> {
        let mut written = BTreeSet::new();
        let own = Digest::of(HOUSE);
        let mut add = |bundle: &mut Self, digest: Digest, must: bool| {
            if !written.insert(digest) {
                return Ok(());
            }
            let bytes = bundle.from.documents.get(&digest).map_err(DataError::failed)?;
            let text = bytes.and_then(|b| String::from_utf8(b).ok());
            match text.or_else(|| (digest == own).then(|| HOUSE.to_owned())) {
                Some(text) => {
                    bundle.line(&Line { document: Some(digest), text: Some(text), ..Line::default() })
                }
                None if must => {
                    Err(AccessError::Failed(format!("document {digest} is not in the store")).into())
                }
                None => Ok(()),
            }
        };
        let kinds: Vec<&str> = DECISIONS.into_iter().chain(["contract.published"]).collect();
        self.each(size, &kinds, |bundle, entry| {
            if let Some(house) = entry.leaf.policy {
                add(bundle, house, false)?;
            }
            let Some(payload) = entry.payload.value() else { return Ok(()) };
            match Event::read(&entry.leaf.kind, payload.clone()) {
                Ok(Event::ContractPublished(e)) if bundle.view.covers(&e.contributor) => {
                    add(bundle, e.policy, true)
                }
                _ => Ok(()),
            }
        })
    }

    /// Releases with their members, who are given back.
    fn releases(&mut self, size: u64) -> Result<HashSet<SubjectId>, DataError> {
        let mut people = HashSet::new();
        let opened = self.view.releases.values().filter(|r| r.origin.seq < size);
        for release in opened.cloned().collect::<Vec<_>>() {
            let id = &release.body.release;
            self.done.releases += 1;
            let list = (self.from.members)(id)?;
            for member in list.members {
                let ids = member.also.iter().chain([&member.subject]);
                people.extend(ids.filter_map(|id| SubjectId::new(id.parse().ok()?).ok()));
                self.done.members += 1;
                self.line(&Line { release: Some(id.clone()), member: Some(member), ..Line::default() })?;
            }
            for hash in list.erased {
                self.line(&Line { release: Some(id.clone()), erased_member: Some(hash), ..Line::default() })?;
            }
        }
        Ok(people)
    }

    fn entries(&mut self, size: u64, people: &HashSet<SubjectId>) -> Result<(), DataError> {
        let mut kinds: Vec<&str> = CONTROL.to_vec();
        kinds.extend(DECISIONS.into_iter().filter(|k| !CONTROL.contains(k)));
        if self.done.releases > 0 {
            kinds.extend(SAID);
            kinds.extend(ERASURES);
        }
        self.each(size, &kinds, |bundle, entry| bundle.entry(entry, people))
    }

    /// That everything was read as it was at one ledger size: who is erased meanwhile may be in one part and not in another.
    fn nobody_erased_since(&self, size: u64) -> Result<(), DataError> {
        let filter = EntryFilter { kinds: ERASURES.map(str::to_owned).to_vec(), topic: None };
        match self.from.store.entries(size, 1, &filter)?.first() {
            None => Ok(()),
            Some(_) => Err(AccessError::Conflict("somebody was erased meanwhile; ask again".into()).into()),
        }
    }

    fn entry(&mut self, entry: &Entry, people: &HashSet<SubjectId>) -> Result<(), DataError> {
        let seq = Some(entry.seq);
        let value = match &entry.payload {
            Payload::Present { value, .. } => value,
            Payload::Erased(by) => {
                return self.line(&Line { seq, erased: Some(by.unwrap_or(entry.seq)), ..Line::default() });
            }
        };
        let said = SAID.contains(&entry.leaf.kind.as_str());
        if !said && !self.view.shows(&Stored(self.from.store), &entry.leaf.kind, value)? {
            return Ok(());
        }
        self.done.entries += 1;
        let subject = opened_subject(entry)?;
        if said && !entry.subject.is_some_and(|s| people.contains(&s)) {
            return self.line(&Line { seq, subject, ..Line::default() });
        }
        let text = canonical_value(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let raw = text.and_then(|text| RawValue::from_string(text).ok());
        let raw = raw.ok_or_else(|| DataError::failed("a payload is not JSON"))?;
        let opening = entry.payload.opening(Field::Payload).map(Digest);
        self.line(&Line { seq, opening, payload: Some(&raw), subject, ..Line::default() })
    }
}
