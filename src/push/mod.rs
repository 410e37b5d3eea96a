//! The client of uploads: sends an export to a server, goes on where it stopped, and ends well only when the dataset
//! version is published.
//!
//! The client makes the key under which the server spools the export. It keeps it, readable by its owner only, in a state
//! file beside what it needs to find its upload again; the same command after a crash on either side resumes. When the
//! version is published the state file goes. Names of files stay here: the server is told what a file holds
//! (`intake::canonical_name`), its size and its digest.
//!
//! What it does not do: send anything in clear to another machine, or follow a redirect.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use almoner_model::{ContributorId, DatasetId, Digest};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::ErrorKind;
use crate::flows::ingest::Told;
use crate::intake::kinds::stranger;
use crate::intake::{self, canonical_name};
use crate::jobs::{Progress, Unit};

mod client;
mod reach;
mod state;

pub use client::Server;
use state::State;

/// Bytes of one request.
const PIECE: u64 = 8 << 20;
/// How often a job that a restart of the server cut short is asked for again.
const COMMITS: u32 = 20;
/// Longest silence between two attempts to reach the server.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Folders deeper than this are not followed.
const DEPTH_MAX: usize = 16;

/// What to push, and where.
pub struct Push {
    /// The export.
    pub dir: PathBuf,
    /// The server.
    pub server: Server,
    /// Whose data; the contributor of the token where none is named.
    pub contributor: Option<ContributorId>,
    /// The dataset.
    pub dataset: Option<DatasetId>,
    /// The profile.
    pub profile: Option<String>,
    /// Changes instead of everything.
    pub incremental: bool,
    /// What is said of the export that it cannot say itself.
    pub told: Told,
    /// Where state files are kept.
    pub state: PathBuf,
    /// How long to wait, in all, for a server that cannot be reached.
    pub patience: Duration,
}

/// Why a push did not end well.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The server's address.
    #[error("{0}")]
    Address(String),
    /// Nothing to send.
    #[error("{} holds no FHIR NDJSON and no OMOP table", .0.display())]
    Empty(PathBuf),
    /// A local file.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file changed while it was sent.
    #[error("{} changed while it was being sent; push again when the export is complete", .0.display())]
    Changed(PathBuf),
    /// What answers, or nothing, at the address: it stays so however long one waits.
    #[error("{0}")]
    Unusable(String),
    /// The server cannot be reached.
    #[error("the server cannot be reached ({0}); the same command goes on where this one stopped")]
    Unreachable(String),
    /// The server said no.
    #[error("{detail}")]
    Problem {
        /// The HTTP status; 0 for the failure of a job.
        status: u16,
        /// Which kind.
        kind: ErrorKind,
        /// What it said.
        detail: String,
        /// What it measured.
        measured: Value,
    },
}

impl PushError {
    /// What kind of no.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Problem { kind, .. } => *kind,
            Self::Changed(_) => ErrorKind::Conflict,
            Self::Unreachable(_) => ErrorKind::Fault,
            _ => ErrorKind::Invalid,
        }
    }

    fn status(&self) -> u16 {
        if let Self::Problem { status, .. } = self { *status } else { 0 }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> PushError + '_ {
    move |cause| PushError::File { path: path.to_owned(), cause }
}

/// A file to be sent.
struct Local {
    path: PathBuf,
    name: String,
    bytes: u64,
    sha256: Digest,
}

/// Sends the export and waits until it is published. Gives what the ingest came to.
///
/// # Errors
/// [`PushError`]; the same call goes on where this one stopped.
pub fn push(push: &Push, progress: &dyn Progress) -> Result<Value, PushError> {
    let Looked { files, left_alone } = look(&push.dir, progress)?;
    let declared = declaration(push, &files);
    let mut state = State::find_or_make(&push.state, &push.server, &declared)?;
    let mut commits = 0;
    loop {
        let Some(upload) = open(push, &mut state, &declared, progress)? else { continue };
        if upload["published"] == true {
            // The job ended after this client had gone, or its server stopped between publishing and saying so.
            state.remove();
            return Ok(told(upload["result"].clone(), &left_alone));
        }
        send(push, &state, &upload, &files, progress)?;
        let committed = commit(push, &state, progress)?;
        match follow(push, &committed["id"], progress) {
            Ok(result) => {
                state.remove();
                return Ok(told(result, &left_alone));
            }
            // Cut short by a restart of the server, or bytes were damaged at rest: go on.
            Err(PushError::Problem { kind: ErrorKind::Conflict, .. }) if commits < COMMITS => {
                commits += 1;
                thread::sleep(Duration::from_secs(1));
            }
            Err(e) => return Err(e),
        }
    }
}

/// Adds what was not sent to what the server left alone, by reason.
fn told(mut result: Value, left_alone: &BTreeMap<&'static str, u64>) -> Value {
    for (reason, n) in left_alone {
        let there = result["strangers"][*reason].as_u64().unwrap_or_default();
        result["strangers"][*reason] = json!(there + n);
    }
    result
}

/// What lies in an export.
struct Looked {
    files: Vec<Local>,
    /// Entries that are no inputs, by reason.
    left_alone: BTreeMap<&'static str, u64>,
}

/// Finds and hashes the inputs, in order of their paths.
fn look(dir: &Path, progress: &dyn Progress) -> Result<Looked, PushError> {
    let mut found = Vec::new();
    let mut left_alone = BTreeMap::new();
    if dir.is_dir() {
        walk(dir, "", 0, &mut found, &mut left_alone)?;
    } else {
        let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        found.push((name, dir.to_owned()));
    }
    found.sort();
    for reason in found.iter().filter_map(|(name, _)| intake::left_alone(name)) {
        *left_alone.entry(reason).or_default() += 1;
    }
    let inputs: Vec<(String, PathBuf)> =
        found.into_iter().filter_map(|(name, path)| Some((canonical_name(&name)?, path))).collect();
    if inputs.is_empty() {
        return Err(PushError::Empty(dir.to_owned()));
    }
    let total = inputs.iter().filter_map(|(_, path)| fs::metadata(path).ok()).map(|m| m.len()).sum();
    progress.stage("hash", Some(total), Unit::Bytes);
    let files = inputs.into_iter().map(|(name, path)| hash(name, path, progress));
    Ok(Looked { files: files.collect::<Result<_, _>>()?, left_alone })
}

fn walk(
    dir: &Path,
    prefix: &str,
    depth: usize,
    out: &mut Vec<(String, PathBuf)>,
    left_alone: &mut BTreeMap<&'static str, u64>,
) -> Result<(), PushError> {
    for item in fs::read_dir(dir).map_err(at(dir))? {
        let item = item.map_err(at(dir))?;
        let name = format!("{prefix}{}", item.file_name().to_string_lossy());
        let kind = item.file_type().map_err(at(dir))?;
        if kind.is_dir() && depth < DEPTH_MAX {
            walk(&item.path(), &format!("{name}/"), depth + 1, out, left_alone)?;
        } else if kind.is_dir() {
            *left_alone.entry(stranger::TOO_DEEP).or_default() += 1;
        } else if fs::metadata(item.path()).is_ok_and(|m| m.is_file()) {
            out.push((name, item.path()));
        } else {
            *left_alone.entry(stranger::NOT_A_FILE).or_default() += 1;
        }
    }
    Ok(())
}

fn hash(name: String, path: PathBuf, progress: &dyn Progress) -> Result<Local, PushError> {
    let mut file = File::open(&path).map_err(at(&path))?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let n = file.read(&mut buffer).map_err(at(&path))?;
        if n == 0 {
            return Ok(Local { path, name, bytes, sha256: Digest(hash.finalize().into()) });
        }
        hash.update(&buffer[..n]);
        bytes += n as u64;
        progress.advance(n as u64);
    }
}

fn declaration(push: &Push, files: &[Local]) -> Value {
    let files: Vec<Value> =
        files.iter().map(|f| json!({"name": f.name, "bytes": f.bytes, "sha256": f.sha256})).collect();
    json!({
        "contributor": push.contributor, "dataset": push.dataset, "profile": push.profile,
        "incremental": push.incremental, "files": files,
    })
}

/// The upload, declared where it is not yet. `None` if it had run out and must be declared anew.
fn open(
    push: &Push,
    state: &mut State,
    declared: &Value,
    progress: &dyn Progress,
) -> Result<Option<Value>, PushError> {
    if let Some(id) = &state.upload {
        match push.patiently(progress, || push.server.get(&format!("/v1/uploads/{id}"))) {
            Err(e) if e.status() == 404 => {
                state.renew()?;
                return Ok(None);
            }
            other => return other.map(Some),
        }
    }
    let upload = push.patiently(progress, || push.server.post("/v1/uploads", Some(declared), state))?;
    let id = upload["id"].as_str().ok_or_else(strange)?;
    state.opened(id)?;
    Ok(Some(upload))
}

fn send(
    push: &Push,
    state: &State,
    upload: &Value,
    files: &[Local],
    progress: &dyn Progress,
) -> Result<(), PushError> {
    progress.stage("upload", Some(files.iter().map(|f| f.bytes).sum()), Unit::Bytes);
    let id = upload["id"].as_str().ok_or_else(strange)?;
    for (ordinal, file) in files.iter().enumerate() {
        let mut offset = upload["files"][ordinal]["received"].as_u64().ok_or_else(strange)?;
        progress.advance(offset);
        let mut open = File::open(&file.path).map_err(at(&file.path))?;
        while offset < file.bytes {
            let piece = read(&mut open, offset, file)?;
            let path = format!("/v1/uploads/{id}/files/{ordinal}?offset={offset}");
            let received = match push.patiently(progress, || push.server.patch(&path, &piece, state)) {
                Ok(answer) => answer["received"].as_u64(),
                Err(PushError::Problem { status: 409, measured, .. }) if measured["received"].is_u64() => {
                    measured["received"].as_u64()
                }
                Err(e) => return Err(e),
            };
            let received = received.ok_or_else(strange)?;
            progress.advance(received.saturating_sub(offset));
            offset = received;
        }
    }
    Ok(())
}

fn read(open: &mut File, offset: u64, file: &Local) -> Result<Vec<u8>, PushError> {
    let wanted = PIECE.min(file.bytes - offset);
    let mut piece = Vec::new();
    open.seek(SeekFrom::Start(offset)).map_err(at(&file.path))?;
    open.take(wanted).read_to_end(&mut piece).map_err(at(&file.path))?;
    if piece.len() as u64 == wanted { Ok(piece) } else { Err(PushError::Changed(file.path.clone())) }
}

fn commit(push: &Push, state: &State, progress: &dyn Progress) -> Result<Value, PushError> {
    let id = state.upload.as_deref().unwrap_or_default();
    let Told { same_person_ids, accept_incomplete, replace_all } = push.told;
    let said = format!(
        "same_person_ids={same_person_ids}&accept_incomplete={accept_incomplete}&replace_all={replace_all}"
    );
    push.patiently(progress, || push.server.post_keyed(&format!("/v1/uploads/{id}/commit?{said}"), state))
}

/// Follows a job to its end.
fn follow(push: &Push, job: &Value, progress: &dyn Progress) -> Result<Value, PushError> {
    let id = job.as_str().ok_or_else(strange)?;
    let mut seen = crate::cli::owner::Seen::default();
    loop {
        let job = push.patiently(progress, || push.server.get(&format!("/v1/jobs/{id}")))?;
        seen.tell(&job["progress"], progress);
        match job["state"].as_str() {
            Some("queued" | "running") => thread::sleep(Duration::from_millis(300)),
            Some("done") => return Ok(job["result"].clone()),
            Some("failed") => return Err(client::problem(0, &job["failure"])),
            Some("interrupted") => {
                return Err(job_over(ErrorKind::Conflict, "the server stopped before the end"));
            }
            _ => return Err(job_over(ErrorKind::Denied, "the job was cancelled")),
        }
    }
}

fn job_over(kind: ErrorKind, detail: &str) -> PushError {
    PushError::Problem { status: 0, kind, detail: detail.into(), measured: Value::Null }
}

impl Push {
    /// Tries again while the server cannot be reached or is not ready, ever slower, as long as there is patience; `progress`
    /// hears of each wait.
    fn patiently<T>(
        &self,
        progress: &dyn Progress,
        call: impl Fn() -> Result<T, PushError>,
    ) -> Result<T, PushError> {
        let (mut wait, mut waited) = (Duration::from_millis(200), Duration::ZERO);
        while waited < self.patience {
            let why = match call() {
                Err(PushError::Unreachable(why)) => format!("{} is not reached ({why})", self.server.base()),
                Err(PushError::Problem { status: status @ 502..=504, .. }) => {
                    format!("{} is not ready ({status})", self.server.base())
                }
                other => return other,
            };
            progress.waiting(&format!("{why}; trying again in {:.1} seconds", wait.as_secs_f32()));
            thread::sleep(wait);
            waited += wait;
            wait = (wait * 2).min(WAIT_MAX);
        }
        call()
    }
}

fn strange() -> PushError {
    PushError::Address("what answers there is not an almoner server".into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::intake::{Entry, Limits, LocalFile, classify, list};
    use crate::jobs::Silent;
    use crate::mapping::KeyedHasher;

    fn zip(path: &Path, members: &[&str]) {
        let mut writer = zip::ZipWriter::new(File::create(path).expect("made"));
        for name in members {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).expect("begun");
        }
        writer.finish().expect("written");
    }

    #[test]
    fn the_server_numbers_files_as_their_holder_does() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            path
        };
        for name in [
            ".hidden",
            "a/readme.txt",
            "b/Condition.ndjson",
            "b/log.ndjson",
            "c-Observation.ndjson",
            "c.zip-Encounter.ndjson",
            "deleted/Bundle.ndjson",
            "person.csv",
            "person/1.parquet",
            "z/Patient.ndjson.gz",
        ] {
            fs::write(at(name), "x").expect("written");
        }
        fs::write(at("broken.zip"), "x").expect("written");
        zip(&at("c.zip"), &["readme.md", "Patient.ndjson", "Device.ndjson", "in/another.zip"]);
        let limits = Limits::default();
        let listed = list(dir.path(), &limits).expect("lists");
        let here: Vec<_> = listed
            .iter()
            .filter(|l| l.kind.is_some() || l.left_alone == Some(stranger::ARCHIVE_DAMAGED))
            .map(|l| (l.ordinal, l.kind.unwrap_or("damaged")))
            .collect();
        // As the server gets them: `flows::uploads`.
        let sent = look(dir.path(), &Silent).expect("found").files;
        let entries = sent.iter().enumerate().map(|(ordinal, file)| Entry {
            path: format!("{ordinal:06}/{}", file.name),
            raw: Ok(Arc::new(LocalFile::new(file.path.clone(), file.bytes))),
        });
        let export = classify(entries.collect(), &limits, &KeyedHasher::new(&[1; 32])).expect("an export");
        let damaged = export.strangers.iter().filter(|s| s.reason == stranger::ARCHIVE_DAMAGED);
        let there: Vec<_> = export
            .inputs
            .iter()
            .map(|input| (input.ordinal, input.kind.label()))
            .chain(damaged.map(|stranger| (stranger.ordinal, "damaged")))
            .collect();
        assert_eq!(here, there);
        assert_eq!(here.len(), 9, "{here:?}");
    }
}
