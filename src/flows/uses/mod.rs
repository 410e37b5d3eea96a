//! The usage log: what was done with people's data, entry by entry, for those whose data, project or work it is.
//!
//! A use is an entry of the ledger after which somebody knew more: a count that was answered, a release that was built, a
//! download that was opened. Everything here is read from entries, their opened payloads and what was folded from them;
//! nothing is kept beside them. An entry whose payload was erased stands with its position, time and kind only.
//!
//! Invariants: nobody sees a use that the lists of counts and releases would not show them, and no number of people that
//! is small, or that is of hospitals which are not all theirs. What a count answered stands in the list of counts only. No
//! row names a person. A call reads a bounded part of the ledger and holds a bounded number of rows.
//!
//! What it does not do: log that it was read. Reading about uses is not a use of data.

use almoner_ledger::Leaf;
use almoner_model::{ContributorId, DatasetId, Duo, ProjectId, RecipientId, ReleaseId, Seq, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::{AccessContext, AccessError};
use super::count::SMALLEST_CELL;
use crate::events::{CountAnswered, DownloadOpened, Event};
use crate::state::read;
use crate::state::records::{Release, Request};
use crate::store::{Actor, Entry, StoreError};

pub mod csv;
pub mod disclosures;
pub mod fhir;
pub mod processing;
pub mod seen;

/// The kinds of entries that are uses.
pub const KINDS: [&str; 3] = ["count.answered", "release.built", "download.opened"];

/// The columns of the table.
pub const COLUMNS: &[&str] = &[
    "seq",
    "time",
    "event_id",
    "kind",
    "erased",
    "project",
    "title",
    "recipient",
    "purpose",
    "purpose_label",
    "modifiers",
    "contributors",
    "datasets",
    "tables",
    "request",
    "release",
    "profile",
    "tier",
    "cohort",
    "persons",
    "closed",
    "bytes_sent",
    "as_of",
    "actor_role",
    "actor",
];

/// How many entries are read at a time.
const BATCH: u64 = 1_000;
/// How many entries a page looks through at most, where few of them are uses.
const LOOKED_MAX: u64 = 100_000;

/// Whose uses somebody may see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Viewer {
    /// Everybody's: the operator, and boards that are for all hospitals.
    Everything,
    /// Those of these hospitals' data.
    Contributors(Vec<ContributorId>),
    /// Those of these projects.
    Projects(Vec<ProjectId>),
}

impl Viewer {
    /// Whether what was done for `project` with the data of `contributors` is the viewer's to see.
    pub fn sees<'a>(
        &self,
        project: &ProjectId,
        contributors: impl IntoIterator<Item = &'a ContributorId>,
    ) -> bool {
        match self {
            Self::Everything => true,
            Self::Contributors(own) => contributors.into_iter().any(|c| own.contains(c)),
            Self::Projects(own) => own.contains(project),
        }
    }

    /// Whether it may look into what is this contributor's alone.
    pub fn covers(&self, contributor: &ContributorId) -> bool {
        match self {
            Self::Everything => true,
            Self::Contributors(own) => own.contains(contributor),
            Self::Projects(_) => false,
        }
    }

    /// Whether a number over all of `contributors` may be shown: to one hospital none over several.
    fn counts_over<'a>(&self, contributors: impl IntoIterator<Item = &'a ContributorId>) -> bool {
        match self {
            Self::Everything | Self::Projects(_) => true,
            Self::Contributors(own) => contributors.into_iter().all(|c| own.contains(c)),
        }
    }

    /// How many people, where it may be told: not few, and not over hospitals that are not all the viewer's.
    pub fn persons<'a>(
        &self,
        persons: u64,
        contributors: impl IntoIterator<Item = &'a ContributorId>,
    ) -> Option<u64> {
        Some(persons).filter(|n| *n >= SMALLEST_CELL && self.counts_over(contributors))
    }
}

/// Which uses to list.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Filter {
    /// Only for this project.
    pub project: Option<ProjectId>,
    /// Only of this hospital's data.
    pub contributor: Option<ContributorId>,
    /// Only by this recipient.
    pub recipient: Option<RecipientId>,
    /// Only from this instant of ledger time on.
    pub from: Option<Timestamp>,
    /// Only before this instant of ledger time.
    pub before: Option<Timestamp>,
}

impl Filter {
    /// Whether it asks for anything that an erased entry does not tell any more.
    const fn is_by_content(&self) -> bool {
        self.project.is_some() || self.contributor.is_some() || self.recipient.is_some()
    }

    fn takes(&self, project: &ProjectId, recipient: &RecipientId, contributors: &[ContributorId]) -> bool {
        self.project.as_ref().is_none_or(|p| p == project)
            && self.recipient.as_ref().is_none_or(|r| r == recipient)
            && self.contributor.as_ref().is_none_or(|c| contributors.contains(c))
    }
}

/// A use of people's data. Members that a kind does not have, or that the caller may not see, are null or empty.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize, ToSchema)]
pub struct Use {
    /// Its entry in the ledger.
    pub seq: u64,
    /// When, in ledger time.
    #[schema(format = DateTime)]
    pub time: String,
    /// The UUID of the act.
    #[schema(format = "uuid")]
    pub event_id: String,
    /// `count.answered`, `release.built` or `download.opened`.
    pub kind: String,
    /// Whether what was said was erased: then nothing but position, time and kind is left.
    pub erased: bool,
    /// For which project.
    pub project: Option<String>,
    /// The project's title.
    pub title: Option<String>,
    /// The institution that received.
    pub recipient: Option<String>,
    /// What for: a DUO term.
    pub purpose: Option<String>,
    /// The same in words.
    pub purpose_label: Option<String>,
    /// What the recipient bound itself to: DUO modifiers.
    pub modifiers: Vec<String>,
    /// Whose data.
    pub contributors: Vec<String>,
    /// Dataset versions that were read, as `dataset@version`.
    pub datasets: Vec<String>,
    /// The tables of a release.
    pub tables: Vec<String>,
    /// By which request.
    pub request: Option<String>,
    /// Which release.
    pub release: Option<String>,
    /// The profile that a release was de-identified by.
    pub profile: Option<String>,
    /// `public` or `controlled`.
    pub tier: Option<String>,
    /// SHA-256 of the cohort definition: who was counted or asked for.
    pub cohort: Option<String>,
    /// People in a release; null if there are fewer than 11, and for contributors and boards of only some of its hospitals.
    pub persons: Option<u64>,
    /// When a download ended.
    #[schema(format = DateTime)]
    pub closed: Option<String>,
    /// How many bytes a download that ended sent.
    pub bytes_sent: Option<u64>,
    /// Ledger size at which consent was evaluated.
    pub as_of: Option<u64>,
    /// The role in which it was done.
    pub actor_role: Option<String>,
    /// Public id of the token by which it was done.
    pub actor: Option<String>,
}

/// Some uses, and where to go on.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Found {
    /// In the order of the ledger.
    pub uses: Vec<Use>,
    /// The entry at which the next page begins; none at the end. A page can be short, even empty, and yet have a next one.
    pub next: Option<Seq>,
}

/// At most `limit` uses that `viewer` may see, from the entry at `start` on.
///
/// # Errors
/// If the store cannot be read.
pub fn page(
    ctx: &AccessContext<'_>,
    viewer: &Viewer,
    filter: &Filter,
    start: Seq,
    limit: usize,
) -> Result<Found, AccessError> {
    let end = filter.before.map_or(Ok(ctx.store.size()), |t| first_at(ctx, t))?;
    let mut at = start.max(filter.from.map_or(Ok(0), |t| first_at(ctx, t))?);
    let mut uses = Vec::new();
    let stop = at.saturating_add(LOOKED_MAX).min(end);
    while at < stop && uses.len() < limit {
        let leaves = ctx.store.leaves(at..at.saturating_add(BATCH).min(stop))?;
        for leaf in leaves {
            let seq = at;
            at += 1;
            if KINDS.iter().any(|kind| is_of_kind(&leaf, kind)) {
                uses.extend(read_use(ctx, viewer, filter, seq)?);
            }
            if uses.len() == limit {
                break;
            }
        }
    }
    Ok(Found { uses, next: Some(at).filter(|at| *at < end) })
}

/// Whether the bytes of a leaf are of this kind. Leaves are JCS JSON whose texts hold no quotation marks, so a member looks
/// like this in one place only.
fn is_of_kind(leaf: &[u8], kind: &str) -> bool {
    let member = format!("\"type\":\"{kind}\"");
    memchr::memmem::find(leaf, member.as_bytes()).is_some()
}

/// The first entry at `time` or after. Ledger time never goes back.
fn first_at(ctx: &AccessContext<'_>, time: Timestamp) -> Result<Seq, AccessError> {
    let (mut low, mut high) = (0, ctx.store.size());
    while low < high {
        let middle = low + (high - low) / 2;
        let leaf = ctx.store.leaves(middle..middle + 1)?.pop();
        let leaf = leaf.as_deref().map(Leaf::parse).transpose().ok().flatten();
        let leaf = leaf.ok_or_else(|| StoreError::NotIntact(format!("entry {middle}")))?;
        if leaf.time < time { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

fn read_use(
    ctx: &AccessContext<'_>,
    viewer: &Viewer,
    filter: &Filter,
    seq: Seq,
) -> Result<Option<Use>, AccessError> {
    let Some(entry) = ctx.store.entry(seq)? else { return Ok(None) };
    let (Some(value), Some(actor)) = (entry.payload.value(), entry.payload.actor()) else {
        return Ok((!filter.is_by_content()).then(|| bare(&entry, true)));
    };
    let event = Event::read(&entry.leaf.kind, value.clone())
        .map_err(|_| StoreError::NotIntact(format!("entry {seq}: the payload is none of its kind")))?;
    match event {
        Event::CountAnswered(count) => counted(ctx, viewer, filter, &entry, count),
        Event::ReleaseBuilt(body) => {
            let Some((release, request)) = release_of(ctx, &body.release)? else { return Ok(None) };
            Ok(released(ctx, viewer, filter, &entry, &release, &request)?
                .map(|used| Use { as_of: Some(body.as_of), ..used }))
        }
        Event::DownloadOpened(body) => downloaded(ctx, viewer, filter, &entry, &body),
        _ => Ok(None),
    }
    .map(|found| found.map(|used| by(used, actor)))
}

/// What an entry tells without its payload.
fn bare(entry: &Entry, erased: bool) -> Use {
    Use {
        seq: entry.seq,
        time: entry.leaf.time.to_string(),
        event_id: entry.leaf.event_id.clone(),
        kind: entry.leaf.kind.clone(),
        erased,
        ..Use::default()
    }
}

fn by(used: Use, actor: &Actor) -> Use {
    Use { actor_role: Some(actor.role.clone()), actor: Some(actor.id.clone()), ..used }
}

fn counted(
    ctx: &AccessContext<'_>,
    viewer: &Viewer,
    filter: &Filter,
    entry: &Entry,
    count: CountAnswered,
) -> Result<Option<Use>, AccessError> {
    let Some(project) = read::project(&ctx.state(), &count.project)? else { return Ok(None) };
    let contributors = contributors_of(ctx, count.datasets.keys())?;
    let recipient = &project.body.recipient;
    if !viewer.sees(&count.project, &contributors) || !filter.takes(&count.project, recipient, &contributors)
    {
        return Ok(None);
    }
    Ok(Some(Use {
        project: Some(count.project.to_string()),
        title: Some(project.body.title),
        recipient: Some(recipient.to_string()),
        contributors: texts(&contributors),
        datasets: versions(&count.datasets),
        cohort: Some(count.cohort.to_string()),
        as_of: Some(count.as_of),
        ..with_purpose(bare(entry, false), count.purpose, &count.modifiers)
    }))
}

fn released(
    ctx: &AccessContext<'_>,
    viewer: &Viewer,
    filter: &Filter,
    entry: &Entry,
    release: &Release,
    request: &Request,
) -> Result<Option<Use>, AccessError> {
    let (body, asked) = (&release.body, &request.submitted.body);
    if !viewer.sees(&body.project, &request.contributors)
        || !filter.takes(&body.project, &body.recipient, &request.contributors)
    {
        return Ok(None);
    }
    let project = read::project(&ctx.state(), &body.project)?;
    Ok(Some(Use {
        project: Some(body.project.to_string()),
        title: project.map(|p| p.body.title),
        recipient: Some(body.recipient.to_string()),
        contributors: texts(&contributors_of(ctx, body.datasets.keys())?),
        datasets: versions(&body.datasets),
        tables: body.tables.keys().cloned().collect(),
        request: Some(body.request.to_string()),
        release: Some(body.release.to_string()),
        profile: Some(asked.profile.clone()),
        tier: Some(asked.tier.clone()),
        cohort: Some(asked.cohort.to_string()),
        persons: viewer.persons(body.persons, &request.contributors),
        ..with_purpose(bare(entry, false), asked.purpose, &asked.modifiers)
    }))
}

fn downloaded(
    ctx: &AccessContext<'_>,
    viewer: &Viewer,
    filter: &Filter,
    entry: &Entry,
    body: &DownloadOpened,
) -> Result<Option<Use>, AccessError> {
    let Some((release, request)) = release_of(ctx, &body.release)? else { return Ok(None) };
    let Some(used) = released(ctx, viewer, filter, entry, &release, &request)? else { return Ok(None) };
    let closed = read::download(&ctx.state(), &body.download)?.and_then(|d| d.closed);
    Ok(Some(Use {
        closed: closed.map(|(at, _)| at.time.to_string()),
        bytes_sent: closed.map(|(_, bytes)| bytes),
        as_of: Some(body.as_of),
        ..used
    }))
}

fn with_purpose(used: Use, purpose: Duo, modifiers: &[Duo]) -> Use {
    Use {
        purpose: Some(purpose.to_string()),
        purpose_label: Some(purpose.label().to_owned()),
        modifiers: modifiers.iter().map(ToString::to_string).collect(),
        ..used
    }
}

/// A release with the request that it was built from.
fn release_of(ctx: &AccessContext<'_>, id: &ReleaseId) -> Result<Option<(Release, Request)>, AccessError> {
    let Some(release) = read::release(&ctx.state(), id)? else { return Ok(None) };
    let request = read::request(&ctx.state(), &release.body.request)?;
    Ok(request.map(|request| (release, request)))
}

/// Whose data these datasets are, each once.
fn contributors_of<'a>(
    ctx: &AccessContext<'_>,
    datasets: impl IntoIterator<Item = &'a DatasetId>,
) -> Result<Vec<ContributorId>, AccessError> {
    let mut all = Vec::new();
    for id in datasets {
        if let Some(dataset) = read::dataset(&ctx.state(), id)?
            && !all.contains(&dataset.contributor)
        {
            all.push(dataset.contributor);
        }
    }
    Ok(all)
}

fn texts<T: ToString>(ids: &[T]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn versions(datasets: &std::collections::BTreeMap<DatasetId, u32>) -> Vec<String> {
    datasets.iter().map(|(id, version)| format!("{id}@{version}")).collect()
}

/// Uses for reading, two lines each.
pub fn text(uses: &[Use]) -> String {
    uses.iter().map(told).collect()
}

fn told(used: &Use) -> String {
    let Use { seq, time, kind, .. } = used;
    if used.erased {
        return format!("{seq:>8}  {time}  {kind}: erased\n");
    }
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let what = match (&used.release, kind.as_str()) {
        (Some(release), "download.opened") => format!("{} downloaded {release}", text(&used.recipient)),
        (Some(release), _) => format!("{release} was built for {}", text(&used.recipient)),
        _ => format!("a cohort was counted for {}", text(&used.recipient)),
    };
    let people = used.persons.map(|n| format!(", {n} people")).unwrap_or_default();
    format!(
        "{seq:>8}  {time}  {what}{people}\n          {} ({}), {}, data of {}, by {} {}\n",
        text(&used.title),
        text(&used.project),
        text(&used.purpose_label),
        used.contributors.join(", "),
        text(&used.actor_role),
        text(&used.actor)
    )
}
