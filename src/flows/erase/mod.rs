//! Erasure: what is kept of a person is destroyed, and everything that was proved stays proved.
//!
//! Asked by a hospital for its patient, or by the operator. A hospital erases what it gave itself; a person whom nobody else
//! knows is then gone altogether. The operator can erase a person everywhere.
//!
//! The crash story. One transaction of the ledger's database ([`Step::Entry`]) appends `subject.erased`, destroys payload, salt
//! and key of the entries that it names, and whatever the state had of them, and writes down what remains to be done. From here
//! on the person has said nothing, so that no count and no release has them, and releases that have them are not downloaded.
//! A crash before it leaves everything as it was; after it, the rest is done at the next start ([`recover`]), step by step, each
//! of which can be repeated. Where a step fails and nothing crashes, as on a full disk, a server goes on by itself ([`go_on`]):
//!
//! 1. [`Step::Known`]: what is not to come back is written beside the data folder (`known`), so that an older copy of the folder
//!    does not bring it back ([`again`]);
//! 2. [`Step::Registry`]: the registry forgets the person and keeps suppression tokens;
//! 3. [`Step::Dataset`], for each version with their rows: it is written anew beside itself, `dataset.rewritten` names the
//!    manifest that it had and the one that it has, and the folders are exchanged (`datasets`);
//! 4. [`Step::Release`]: the same for each release that has them (`releases`);
//! 5. [`Step::Forget`]: the note of what remains to be done loses the person's ids;
//! 6. [`Step::Scrub`]: both databases are written anew, so that nothing is left in free pages and write-ahead logs;
//! 7. [`Step::Done`]: the note goes.
//!
//! While an erasure runs no dataset version is made, and whoever reads files of datasets or releases is waited for before
//! folders are exchanged. What recipients have downloaded stays with them; `GET /v1/releases/{id}` tells that somebody was
//! erased, not whom.

mod datasets;
pub mod known;
mod releases;
mod said;

use std::collections::BTreeSet;
use std::path::Path;

use almoner_model::{ContributorId, Digest, ReleaseId, Seq, SourcePatientId, SubjectId, Timestamp};
use serde::{Deserialize, Serialize};

use super::Act;
use super::access::{AccessError, entry};
use super::question::{DataContext, DataError};
use crate::events::{Actor, Event, SubjectErased};
use crate::registry::{Registry, RegistryError};
use crate::state::records::{Contributor, Erasure as ErasureRecord};
use crate::state::{read, topic};
use crate::store::{Precondition, Store, StoreError, Write};
use known::Known;

/// Kind of the primary records of erasures that are not finished.
const KIND: &str = "erasure-unfinished";
/// How often the entry is tried again because somebody said something about the person.
const ATTEMPTS: usize = 100;
/// Unfinished erasures read at a time.
const PAGE: usize = 500;

/// A step of an erasure.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Step {
    /// The ledger's entry, with what it destroys.
    Entry,
    /// The note beside the data folder.
    Known,
    /// The registry.
    Registry,
    /// The entry that a dataset version was written anew.
    Dataset,
    /// The exchange of its folder.
    DatasetExchange,
    /// The entry that a release was written anew.
    Release,
    /// The exchange of its folder.
    ReleaseExchange,
    /// The person's ids leave the note of what remains to be done.
    Forget,
    /// Free pages and write-ahead logs.
    Scrub,
    /// The note goes.
    Done,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Self; 10] = [
        Self::Entry,
        Self::Known,
        Self::Registry,
        Self::Dataset,
        Self::DatasetExchange,
        Self::Release,
        Self::ReleaseExchange,
        Self::Forget,
        Self::Scrub,
        Self::Done,
    ];
}

/// A place for tests to make a step fail: called before (`false`) and after (`true`) it.
pub type Faults<'a> = dyn Fn(Step, bool) -> Result<(), DataError> + 'a;

/// What an erasure works on.
#[derive(Clone, Copy)]
pub struct EraseContext<'a> {
    /// Ledger, datasets, releases, keys.
    pub data: DataContext<'a>,
    /// Who is who.
    pub registry: &'a Registry,
    /// The file beside the data folder that says who is not to come back.
    pub known: &'a Path,
    /// For tests.
    pub faults: Option<&'a Faults<'a>>,
}

/// Whom to erase.
#[derive(Clone, Debug)]
pub struct Whom {
    /// Whose patient.
    pub contributor: ContributorId,
    /// The patient's record number there, or `Patient/<id>`.
    pub record_number: SourcePatientId,
    /// At every hospital, and not only there.
    pub everywhere: bool,
}

/// An erasure, as it is told. Whom it concerned is not known any more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Erasure {
    /// Its id.
    pub erasure: String,
    /// The hospital that asked, or whose part it was; none where it was everything.
    pub contributor: Option<ContributorId>,
    /// Its entry.
    pub seq: Seq,
    /// Its time.
    pub time: Timestamp,
    /// Whether everything is destroyed; else the server goes on with it.
    pub finished: bool,
}

/// What remains to be done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Unfinished {
    erasure: String,
    actor: Actor,
    event_id: String,
    /// Entries appended so far.
    round: usize,
    /// All ids of the person; none once nothing has them any more.
    ids: BTreeSet<SubjectId>,
    /// Whose part it is; none where nobody else knows the person, or everything goes.
    part: Option<ContributorId>,
    /// The hospital that the entry names.
    told: Option<ContributorId>,
    /// Releases that have the person.
    releases: BTreeSet<ReleaseId>,
}

/// Erases a person, or a hospital's part. The same act again gives the same erasure, and goes on with it.
///
/// # Errors
/// [`AccessError::Unknown`] for somebody who is not known, [`AccessError::Denied`] for one who was erased before,
/// [`AccessError::Conflict`] while an export is taken in. If a step fails, the entry may stand in the ledger: the rest is then
/// done when the same is asked again, by [`go_on`], or at the next start.
pub fn erase(ctx: &EraseContext<'_>, act: &Act, whom: &Whom) -> Result<Erasure, DataError> {
    let access = &ctx.data.access;
    let _all = claim(ctx)?;
    let id = id_of(act);
    if access.repeated(act)?.is_some() {
        if let Some(unfinished) = access.store.get_primary(KIND, &id)? {
            finish(ctx, parse(unfinished)?)?;
        }
        return show(ctx, &id);
    }
    let contributor = &whom.contributor;
    read::contributor(&access.state(), contributor)
        .map_err(AccessError::from)?
        .ok_or(AccessError::Unknown("contributor"))?;
    let found = access.people.find_record(contributor, &whom.record_number).map_err(AccessError::from)?;
    let Some(subject) = found else {
        let before = ctx.registry.was_erased(contributor, &whom.record_number).map_err(registry)?;
        let erased = AccessError::Denied("this person was erased before".into());
        return Err(if before { erased } else { AccessError::Unknown("patient") }.into());
    };
    let told = (!whom.everywhere).then(|| contributor.clone());
    let unfinished = begin(ctx, act, subject, told)?;
    finish(ctx, unfinished)?;
    show(ctx, &id)
}

fn claim<'a>(ctx: &EraseContext<'a>) -> Result<crate::catalog::ClaimOfAll, DataError> {
    ctx.data.catalog.claim_all().ok_or_else(|| {
        AccessError::Conflict(
            "an export is being taken in, or another erasure runs; erase again when it is done".into(),
        )
        .into()
    })
}

fn registry(error: RegistryError) -> DataError {
    AccessError::Failed(error.to_string()).into()
}

fn id_of(act: &Act) -> String {
    format!("era-{}", &Digest::of(act.event_id.as_bytes()).to_string()[..16])
}

fn parse(value: serde_json::Value) -> Result<Unfinished, DataError> {
    serde_json::from_value(value).map_err(|_| DataError::failed("the note of an erasure is not intact"))
}

/// An erasure by its id.
///
/// # Errors
/// [`AccessError::Unknown`]; if the store fails.
pub fn show(ctx: &EraseContext<'_>, id: &str) -> Result<Erasure, DataError> {
    let all = list(&ctx.data)?;
    all.into_iter().find(|e| e.erasure == id).ok_or_else(|| AccessError::Unknown("erasure").into())
}

/// All erasures, in the order of the ledger.
///
/// # Errors
/// If the store fails.
pub fn list(ctx: &DataContext<'_>) -> Result<Vec<Erasure>, DataError> {
    let records: Vec<ErasureRecord> = read::all(&ctx.access.state(), "erasure").map_err(AccessError::from)?;
    let open: BTreeSet<String> = unfinished(ctx.access.store)?.into_iter().map(|u| u.erasure).collect();
    let told = |e: ErasureRecord| Erasure {
        finished: !open.contains(&e.body.erasure),
        erasure: e.body.erasure,
        contributor: e.body.contributor,
        seq: e.origin.seq,
        time: e.origin.time,
    };
    Ok(records.into_iter().map(told).collect())
}

fn unfinished(store: &dyn Store) -> Result<Vec<Unfinished>, DataError> {
    let rows = store.scan_primary(KIND, "", None, PAGE)?;
    rows.into_iter().map(|(_, value)| parse(value)).collect()
}

/// How many erasures are not finished.
///
/// # Errors
/// If the store fails.
pub fn open(store: &dyn Store) -> Result<usize, StoreError> {
    Ok(store.scan_primary(KIND, "", None, PAGE)?.len())
}

/// Whether an erasure still has files of datasets or releases to write anew.
///
/// # Errors
/// If the store fails, or a note is not intact.
pub fn writes_files(store: &dyn Store) -> Result<bool, StoreError> {
    let open = unfinished(store).map_err(|_| StoreError::NotIntact("the note of an erasure".into()))?;
    Ok(open.iter().any(|one| !one.ids.is_empty()))
}

/// Refuses what would serve a release that still has somebody who was erased.
///
/// # Errors
/// [`AccessError::Conflict`]; if the store fails.
pub(super) fn not_of_the_erased(ctx: &DataContext<'_>, release: &ReleaseId) -> Result<(), DataError> {
    if unfinished(ctx.access.store)?.iter().any(|u| u.releases.contains(release)) {
        let text =
            "a person in this release was erased, and it is being written anew without them; try again soon";
        return Err(AccessError::Conflict(text.into()).into());
    }
    Ok(())
}

/// One step, with places to fail before and after it.
fn step<T>(
    ctx: &EraseContext<'_>,
    step: Step,
    run: impl FnOnce() -> Result<T, DataError>,
) -> Result<T, DataError> {
    ctx.faults.map_or(Ok(()), |fail| fail(step, false))?;
    let done = run()?;
    ctx.faults.map_or(Ok(()), |fail| fail(step, true))?;
    Ok(done)
}

/// Appends the entry.
fn begin(
    ctx: &EraseContext<'_>,
    act: &Act,
    subject: SubjectId,
    told: Option<ContributorId>,
) -> Result<Unfinished, DataError> {
    let ids = ctx.registry.ids(subject).map_err(registry)?;
    let others = |c: &ContributorId| ctx.registry.others_know(&ids, c).map_err(registry);
    let part = match &told {
        Some(contributor) if others(contributor)? => told.clone(),
        _ => None,
    };
    let new = Unfinished {
        erasure: id_of(act),
        actor: act.actor.clone(),
        event_id: act.event_id.clone(),
        round: 0,
        ids,
        part,
        told,
        releases: BTreeSet::new(),
    };
    step(ctx, Step::Entry, || destroy(ctx, new))
}

/// Appends an entry and destroys what people's entries left, with the note of what remains to be done.
fn destroy(ctx: &EraseContext<'_>, before: Unfinished) -> Result<Unfinished, DataError> {
    let access = &ctx.data.access;
    let act = Act { actor: before.actor.clone(), event_id: before.event_id.clone() };
    for _ in 0..ATTEMPTS {
        let as_of = access.store.size();
        let said = said::by(ctx, &before)?;
        let mut now = Unfinished { round: before.round + 1, ..before.clone() };
        now.releases.extend(said.releases);
        let event = Event::SubjectErased(SubjectErased {
            erasure: now.erasure.clone(),
            contributor: now.told.clone(),
            entries: said.destroy.entries.clone(),
        });
        let new = entry(&event, act.event_id(before.round), &act, None, vec![topic::ERASED.to_owned()])?;
        let mut destroy = said.destroy;
        destroy.primary.push(note(&now, true)?);
        let topics = before.ids.iter().map(|id| topic::subject(*id));
        let nothing_more: Vec<Precondition> = topics.map(|topic| Precondition { topic, as_of }).collect();
        match access.store.erase(new, destroy, &nothing_more) {
            Err(StoreError::Precondition { .. }) => {}
            other => {
                other?;
                return Ok(now);
            }
        }
    }
    Err(AccessError::Conflict("more is said of this person all the time; try again".into()).into())
}

fn note(unfinished: &Unfinished, kept: bool) -> Result<Write, DataError> {
    let value = serde_json::to_value(unfinished).map_err(|_| DataError::failed("a note is not JSON"))?;
    Ok(Write { kind: KIND.into(), key: unfinished.erasure.clone(), value: kept.then_some(value) })
}

/// Everything after the entry.
fn finish(ctx: &EraseContext<'_>, mut unfinished: Unfinished) -> Result<(), DataError> {
    let store = ctx.data.access.store;
    if !unfinished.ids.is_empty() {
        loop {
            forget(ctx, &unfinished)?;
            // What was said of the person while the registry still knew them.
            let said = said::by(ctx, &unfinished)?;
            if said.destroy.entries.is_empty() {
                break;
            }
            unfinished = step(ctx, Step::Entry, || destroy(ctx, unfinished))?;
        }
        datasets::rewrite(ctx, &unfinished)?;
        releases::rewrite(ctx, &unfinished)?;
        unfinished.ids.clear();
        unfinished.releases.clear();
        step(ctx, Step::Forget, || Ok(store.put_primary(vec![note(&unfinished, true)?])?))?;
    }
    step(ctx, Step::Scrub, || {
        store.scrub()?;
        ctx.registry.scrub().map_err(registry)
    })?;
    step(ctx, Step::Done, || Ok(store.put_primary(vec![note(&unfinished, false)?])?))
}

/// The registry forgets the person, after it stands beside the data folder that they do not come back.
fn forget(ctx: &EraseContext<'_>, unfinished: &Unfinished) -> Result<(), DataError> {
    let (ids, part) = (&unfinished.ids, unfinished.part.as_ref());
    let refused = ctx.registry.to_refuse(ids, part).map_err(registry)?;
    step(ctx, Step::Known, || {
        let one = Known { erasure: unfinished.erasure.clone(), part: part.cloned(), refused };
        known::add(ctx.known, &one).map_err(|e| known::failed(&e))
    })?;
    step(ctx, Step::Registry, || {
        ctx.registry.forget(ids, part).map_err(registry)?;
        Ok(())
    })
}

/// Erases again whoever is known to have been erased and is there nevertheless, because the data folder is an older copy. Gives
/// how many people. Where it is not known whose part was erased, it is that of the hospital whose tokens they are.
///
/// # Errors
/// As [`erase`].
pub fn again(ctx: &EraseContext<'_>, erased: &[Known]) -> Result<usize, DataError> {
    let hospitals = read::all::<Contributor>(&ctx.data.access.state(), "contributor");
    let hospitals = hospitals.map_err(AccessError::from)?;
    let mut people = BTreeSet::new();
    for known in erased {
        ctx.registry.refuse(&known.refused).map_err(registry)?;
        let mut done = BTreeSet::new();
        // What is forgotten of one bearer may be another's too.
        let bearers = || ctx.registry.bearers(&known.refused).map_err(registry);
        while let Some((subject, scope)) = bearers()?.into_iter().next() {
            if !done.insert((subject, scope)) {
                return Err(DataError::failed("the list of erasures beside the data folder is not intact"));
            }
            let of_scope = || hospitals.iter().find(|h| ctx.registry.is_scope(&scope, &h.body.contributor));
            let told = match &known.part {
                None if known.is_of_some_part() => of_scope().map(|h| h.body.contributor.clone()),
                part => part.clone(),
            };
            let act = Act::system(ctx.data.access.entropy);
            let unfinished = begin(ctx, &act, subject, told)?;
            finish(ctx, unfinished)?;
            people.insert(subject);
        }
    }
    Ok(people.len())
}

/// Finishes what is unfinished because a step failed, as on a full disk. Gives how many there were.
///
/// # Errors
/// [`AccessError::Conflict`] while an export is taken in or another erasure runs; if a step fails, which can be repeated.
pub fn go_on(ctx: &EraseContext<'_>) -> Result<usize, DataError> {
    let _all = claim(ctx)?;
    let open = unfinished(ctx.data.access.store)?;
    let count = open.len();
    // One that cannot be finished, as for a damaged file, does not keep the others.
    let failed = open.into_iter().filter_map(|one| finish(ctx, one).err()).reduce(|first, _| first);
    failed.map_or(Ok(count), Err)
}

/// Finishes what a crash left unfinished, and erases again whoever an older copy of the data folder brought back. Only at start.
///
/// # Errors
/// If a step fails; the next start goes on.
pub fn recover(ctx: &EraseContext<'_>) -> Result<(), DataError> {
    let _all = claim(ctx)?;
    for one in unfinished(ctx.data.access.store)? {
        finish(ctx, one)?;
    }
    let kept = known::read(ctx.known).map_err(|e| known::failed(&e))?;
    let there: BTreeSet<_> = kept.iter().flat_map(|known| &known.refused).copied().collect();
    let mut missing = ctx.registry.refused().map_err(registry)?;
    missing.retain(|refused| !there.contains(refused));
    if !missing.is_empty() {
        let one = Known { erasure: String::new(), part: None, refused: missing };
        known::add(ctx.known, &one).map_err(|e| known::failed(&e))?;
    }
    let people = again(ctx, &kept)?;
    if people > 0 {
        tracing::warn!(
            people,
            "people who had been erased were in this copy of the data folder; they were erased again"
        );
    }
    Ok(())
}
