//! Downloads: opened against the state of now, served by ranges, closed with a total.
//!
//! Opening checks again that every member still permits the use, to the same extent, and appends `download.opened` before a
//! byte is given; it gives a capability, a random text that names nothing and works for a short time. Range requests ride it
//! and are only counted; closing, or the end of that time ([`tidy`]), writes their total as one entry. What a person withdrew
//! after opening is stopped when the capability ends.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use almoner_control::judge::permits_less;
use almoner_model::{Digest, ReleaseId, Seq, SubjectId, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Act;
use super::access::{AccessError, entry};
use super::decide::{last_of_day, still_permitted};
use super::erase::not_of_the_erased;
use super::evidence::wanted;
use super::meanwhile::{Then, append_unless_less_is_permitted, decided};
use super::permitted::Sayings;
use super::question::{DataContext, DataError};
use super::release::{manifest_of, members, package_folder};
use crate::consent::{Use, evaluate};
use crate::events::{Actor, DownloadClosed, DownloadOpened, Event};
use crate::release::ReleaseError;
use crate::release::manifest::FileEntry;
use crate::state::records;
use crate::state::{read, topic};
use crate::store::{Precondition, StoreError, Write};

/// How long a capability works.
const MINUTES: i64 = 60;
/// Records read at a time.
const PAGE: usize = 1000;
/// Held while a total is read and written: ranges of one download come at once, and only one process owns the folder.
static COUNTING: Mutex<()> = Mutex::new(());
/// Kind of the primary records of capabilities.
const KIND: &str = "download-capability";

/// An open download.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct OpenDownload {
    /// Its id.
    pub download: String,
    /// Shown once; each request for a file presents it.
    pub capability: String,
    /// When it stops working.
    pub expires: Timestamp,
    /// Of which release.
    pub release: ReleaseId,
    /// Its entry.
    pub seq: Seq,
    /// What can be fetched, the manifest and the ledger's files included.
    pub files: Vec<DownloadFile>,
}

/// A file that can be fetched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DownloadFile {
    /// Relative path.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// SHA-256, also its `ETag`.
    pub sha256: Digest,
}

#[derive(Serialize, Deserialize)]
struct Capability {
    download: String,
    release: ReleaseId,
    expires: Timestamp,
    bytes_sent: u64,
    closed: bool,
}

/// Opens a download of `release`.
///
/// # Errors
/// An unknown release; [`AccessError::Refused`] if it would not be permitted any more; [`DataError::Nobody`] if a
/// member withdrew, refused or permits less since, with what to do.
pub fn open(ctx: &DataContext<'_>, act: &Act, release: &ReleaseId) -> Result<OpenDownload, DataError> {
    let _still = ctx.catalog.still();
    let act = &ctx.access.unused(act)?;
    decided(|| try_open(ctx, act, release))
}

fn try_open(ctx: &DataContext<'_>, act: &Act, release: &ReleaseId) -> Result<OpenDownload, DataError> {
    let store = ctx.access.store;
    let (as_of, now) = (store.size(), ctx.access.now()?);
    not_of_the_erased(ctx, release)?;
    let done = read::release(&ctx.access.state(), release)?.ok_or(AccessError::Unknown("release"))?;
    let request = read::request(&ctx.access.state(), &done.body.request)?;
    let request = request.ok_or(AccessError::Unknown("request"))?;
    let rules = still_permitted(&ctx.access, &request, (as_of, now))?;
    let aliases = ctx.access.people.aliases().map_err(AccessError::from)?;
    let checked = check_members(ctx, &done, &request, (as_of, now))?;
    let download = act.event_id(0);
    let event =
        Event::DownloadOpened(DownloadOpened { download: download.clone(), release: release.clone(), as_of });
    let mut new = entry(&event, act.event_id(0), act, None, vec![topic::done(&done.body.request)])?;
    new.as_of = Some(as_of);
    new.until = Some(checked.until);
    new.policy = rules.policies().get("house").copied();
    let rules = request.contributors.iter().map(topic::contributor);
    let unchanged: Vec<Precondition> = rules
        .chain([topic::request(&done.body.request), topic::ERASED.to_owned()])
        .map(|topic| Precondition { topic, as_of })
        .collect();
    let members = |ids: &BTreeSet<SubjectId>| !ids.is_disjoint(&checked.people);
    let then = Then { wanted: &checked.wanted, holders: &request.contributors, as_of, aliases: &aliases };
    let seq = append_unless_less_is_permitted(&ctx.access, &new, &unchanged, then, members)?;
    let opened = store.entry(seq)?.ok_or_else(|| DataError::failed("an entry is missing"))?;
    let capability = URL_SAFE_NO_PAD.encode(ctx.access.entropy.bytes32());
    let expires = Timestamp::from_millis(opened.leaf.time.millis() + MINUTES * 60_000);
    let record = Capability {
        download: download.clone(),
        release: release.clone(),
        expires,
        bytes_sent: 0,
        closed: false,
    };
    write(ctx, &capability, &record)?;
    let files = files(ctx, release)?;
    Ok(OpenDownload { download, capability, expires, release: release.clone(), seq, files })
}

fn write(ctx: &DataContext<'_>, capability: &str, record: &Capability) -> Result<(), DataError> {
    let value = serde_json::to_value(record).map_err(|_| DataError::failed("a capability is not JSON"))?;
    let key = Digest::of(capability).to_string();
    Ok(ctx.access.store.put_primary(vec![Write { kind: KIND.into(), key, value: Some(value) }])?)
}

/// Members who permit a download.
struct CheckedMembers {
    /// What they permit.
    wanted: Use,
    /// All their ids.
    people: BTreeSet<SubjectId>,
    /// The last instant at which they and the rules do.
    until: Timestamp,
}

/// Refuses if a member, under whatever id, no longer permits all that they permitted when the release was built: for any
/// hospital whose data of theirs may be in it. Everyone is judged again, since what was said once may have run out.
fn check_members(
    ctx: &DataContext<'_>,
    done: &records::Release,
    request: &records::Request,
    (as_of, at): (Seq, Timestamp),
) -> Result<CheckedMembers, DataError> {
    let permit = manifest_of(ctx, &done.body.release)?.ledger.permit;
    let then = wanted(ctx, request, permit)?;
    let now = Use { at, ..then.clone() };
    let (mut before, mut after) =
        (Sayings::new(ctx.access, done.body.as_of)?, Sayings::new(ctx.access, as_of)?);
    let (mut people, mut until) = (BTreeSet::new(), last_of_day(at));
    for member in members(ctx, &done.body.release)?.members {
        let parse = |text: &String| text.parse().ok().and_then(|n| SubjectId::new(n).ok());
        let known: Option<BTreeSet<SubjectId>> =
            member.also.iter().chain([&member.subject]).map(parse).collect();
        let (Some(known), Some(subject)) = (known, parse(&member.subject)) else {
            return Err(DataError::failed("a list of members is not intact"));
        };
        // What was said under an id that turned out to be the same person's since may be older than the release.
        let ids = after.ids(subject);
        let (said_then, said_now) = (before.of_ids(&known)?, after.of_ids(&ids)?);
        let less = |holder| {
            let (before, after) = (evaluate(&said_then, holder, &then), evaluate(&said_now, holder, &now));
            permits_less(&before, &after, done.origin.time.date())
        };
        if request.contributors.iter().any(less) {
            let reason = "a person in this release withdrew or permits less now; build a new release, which goes by that";
            return Err(DataError::Nobody { reasons: vec![reason.into()] });
        }
        let changes = said_now.directives.iter().filter_map(|d| d.directive.rules.unchanged_until(at));
        until = changes.fold(until, Timestamp::min);
        people.extend(ids);
    }
    Ok(CheckedMembers { wanted: now, people, until })
}

/// What can be fetched of a release.
fn files(ctx: &DataContext<'_>, release: &ReleaseId) -> Result<Vec<DownloadFile>, DataError> {
    let dir = package_folder(ctx.releases, release);
    let manifest = manifest_of(ctx, release)?;
    let mut out: Vec<DownloadFile> = Vec::new();
    for name in ["release.json", "SHA256SUMS", "ledger/entry.json", "ledger/entry.tlog-proof", "ledger/vkey"]
    {
        let FileEntry { path, sha256, bytes, .. } = FileEntry::of(&dir, name.to_owned(), None, Vec::new())?;
        out.push(DownloadFile { path, bytes, sha256 });
    }
    if dir.join("ledger/handovers").exists() {
        let handovers = FileEntry::of(&dir, "ledger/handovers".to_owned(), None, Vec::new())?;
        let FileEntry { path, sha256, bytes, .. } = handovers;
        out.push(DownloadFile { path, bytes, sha256 });
    }
    // Where people were erased since, the entries that say so.
    for n in 1.. {
        if !dir.join(format!("ledger/rewritten-{n}.json")).exists() {
            break;
        }
        for name in ["json", "tlog-proof"].map(|kind| format!("ledger/rewritten-{n}.{kind}")) {
            let FileEntry { path, sha256, bytes, .. } = FileEntry::of(&dir, name, None, Vec::new())?;
            out.push(DownloadFile { path, bytes, sha256 });
        }
    }
    out.extend(manifest.files.into_iter().map(|f| DownloadFile {
        path: f.path,
        bytes: f.bytes,
        sha256: f.sha256,
    }));
    out.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(out)
}

/// A file behind a capability.
#[derive(Debug)]
pub struct OpenFile {
    /// The open file.
    pub file: File,
    /// Its length.
    pub bytes: u64,
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of all of it, for `ETag`.
    pub sha256: Digest,
}

impl OpenFile {
    /// Reads `length` bytes from `start`.
    ///
    /// # Errors
    /// If the file is shorter or cannot be read.
    pub fn range(&mut self, start: u64, length: u64) -> Result<Vec<u8>, DataError> {
        let mut out = vec![0; usize::try_from(length).map_err(|_| ReleaseError::Tables)?];
        self.file.seek(SeekFrom::Start(start)).map_err(ReleaseError::from)?;
        self.file.read_exact(&mut out).map_err(ReleaseError::from)?;
        Ok(out)
    }
}

fn find(ctx: &DataContext<'_>, capability: &str) -> Result<Capability, DataError> {
    let denied = || AccessError::Denied("this capability does not work; open the download again".into());
    let value =
        ctx.access.store.get_primary(KIND, &Digest::of(capability).to_string())?.ok_or_else(denied)?;
    let record: Capability = serde_json::from_value(value).map_err(|_| denied())?;
    if record.closed || ctx.access.clock.now() >= record.expires {
        return Err(denied().into());
    }
    Ok(record)
}

/// The file at `path` of the release that `capability` opens.
///
/// # Errors
/// Denied if the capability does not work (any more); unknown if there is no such file.
pub fn file(ctx: &DataContext<'_>, capability: &str, path: &str) -> Result<OpenFile, DataError> {
    let _still = ctx.catalog.still();
    let record = find(ctx, capability)?;
    not_of_the_erased(ctx, &record.release)?;
    let inside = Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    let listed = files(ctx, &record.release)?.into_iter().find(|f| f.path == path && inside);
    let listed = listed.ok_or(AccessError::Unknown("file in this release"))?;
    let path = package_folder(ctx.releases, &record.release).join(path);
    let file = File::open(&path).map_err(ReleaseError::from)?;
    Ok(OpenFile { file, bytes: listed.bytes, path, sha256: listed.sha256 })
}

/// Counts bytes that were sent under a capability.
///
/// # Errors
/// Denied if the capability does not work (any more).
pub fn sent(ctx: &DataContext<'_>, capability: &str, bytes: u64) -> Result<(), DataError> {
    let _one = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut record = find(ctx, capability)?;
    record.bytes_sent += bytes;
    write(ctx, capability, &record)
}

/// Ends a download and logs its total. Ending it again changes nothing.
///
/// # Errors
/// Denied if there is no such capability.
pub fn close(ctx: &DataContext<'_>, act: &Act, capability: &str) -> Result<u64, DataError> {
    let _one = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let denied = || AccessError::Denied("there is no such download".into());
    let value =
        ctx.access.store.get_primary(KIND, &Digest::of(capability).to_string())?.ok_or_else(denied)?;
    let mut record: Capability = serde_json::from_value(value).map_err(|_| denied())?;
    if !record.closed {
        log_end(ctx, &act.actor, &record)?;
        record.closed = true;
        write(ctx, capability, &record)?;
    }
    Ok(record.bytes_sent)
}

/// Logs the total of a download, once: a repetition after a crash finds its entry.
fn log_end(ctx: &DataContext<'_>, actor: &Actor, record: &Capability) -> Result<(), DataError> {
    let event = Event::DownloadClosed(DownloadClosed {
        download: record.download.clone(),
        release: record.release.clone(),
        bytes_sent: record.bytes_sent,
    });
    let act = Act::repeated(ctx.keys, actor.clone(), format!("close {}", record.download).as_bytes());
    let new = entry(&event, act.event_id(0), &act, None, Vec::new())?;
    match ctx.access.store.append(vec![new], &[]) {
        // It has been closed already, by somebody else or with another total.
        Ok(_) | Err(StoreError::Rejected(_) | StoreError::EventReused(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Ends the downloads whose time is over: their totals are logged, their capabilities forgotten. Gives how many.
///
/// # Errors
/// If the store fails; what is left is ended the next time.
pub fn tidy(ctx: &DataContext<'_>) -> Result<usize, DataError> {
    let _one = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let system = Act::system(ctx.access.entropy).actor;
    let now = ctx.access.clock.now();
    let (mut after, mut ended): (Option<String>, usize) = (None, 0);
    loop {
        let page = ctx.access.store.scan_primary(KIND, "", after.as_deref(), PAGE)?;
        after = page.last().map(|(key, _)| key.clone());
        let full = page.len() == PAGE;
        for (key, value) in page {
            let Ok(record) = serde_json::from_value::<Capability>(value) else { continue };
            if now < record.expires {
                continue;
            }
            if !record.closed {
                log_end(ctx, &system, &record)?;
            }
            ctx.access.store.put_primary(vec![Write { kind: KIND.into(), key, value: None }])?;
            ended += 1;
        }
        if !full {
            return Ok(ended);
        }
    }
}
