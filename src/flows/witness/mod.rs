//! A running witness: what it cosigned last of each log it knows, kept in a folder of its own, and the evidence of logs
//! that broke their word. What it answers is decided in [`almoner_ledger::witness`].
//!
//! ```text
//! witness.json                 format, name, verifier key
//! witness.key                  32 secret bytes in hexadecimal (0600)
//! witness.lock                 held by the running process
//! logs/<SHA-256 of origin>     the checkpoint that was cosigned last, with its signatures
//! evidence/<log>-<kind>-<size>-<root>.json   almoner_ledger::fork
//! ```
//!
//! One lock per log is held from the look at what was cosigned last until the new checkpoint is durable, and the answer is
//! given after that: no two requests can roll a log back, and no crash can forget a cosignature that anybody has. A write
//! that failed leaves that log refused until the witness is started again and reads what the disk holds.
//!
//! The key lies beside what was cosigned, so that losing the folder ends the witness and does not make it forget. An older
//! copy of the folder must never be run: it would cosign another history.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use almoner_ledger::cosignature::{WitnessKey, attach, split};
use almoner_ledger::witness::{Logs, Refusal, SIZE_MEDIA_TYPE, Submission};
use almoner_ledger::{Checkpoint, KeyError};
use almoner_model::{Clock, Digest, Entropy, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::durable;
use crate::error::ErrorKind;

mod evidence;
#[cfg(test)]
mod tests;

use evidence::Evidence;

/// The only format of the folder there is.
pub const FORMAT: &str = "almoner-witness/1";

/// Why a witness does not start.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// Nothing has been made there.
    #[error("{} is not a witness's folder; make one with `almoner witness init`", .0.display())]
    NotInitialised(PathBuf),
    /// Something else is there.
    #[error("{} has other files in it; name an empty folder, or one that is not there yet", .0.display())]
    Elsewhere(PathBuf),
    /// A witness is there already.
    #[error("{} is the folder of the witness {name} already", folder.display())]
    Exists {
        /// Where.
        folder: PathBuf,
        /// Which.
        name: String,
    },
    /// Another process runs it.
    #[error("{} is in use by another almoner process", .0.display())]
    Owned(PathBuf),
    /// What was cosigned is lost or changed.
    #[error(
        "{} is missing or not what this witness wrote. It cannot know what it cosigned, so it must not cosign again: make \
         a new witness with a new name, and tell those whose policy names this one",
        .0.display()
    )]
    Lost(PathBuf),
    /// Its name.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No log is named.
    #[error("no log is named; give its verifier key with --log")]
    NoLog,
    /// A file cannot be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

impl WitnessError {
    /// What kind of no.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Owned(_) | Self::Exists { .. } => ErrorKind::Conflict,
            Self::File { .. } => ErrorKind::Fault,
            _ => ErrorKind::Invalid,
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> WitnessError + '_ {
    move |cause| WitnessError::File { path: path.to_owned(), cause }
}

/// `witness.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    format: String,
    name: String,
    vkey: String,
}

/// What a witness answers over HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The media type of the body.
    pub media_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    fn text(status: u16, body: String) -> Self {
        Self { status, media_type: "text/plain; charset=utf-8", body }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        match refusal.size() {
            Some(size) => {
                Self { status: refusal.status(), media_type: SIZE_MEDIA_TYPE, body: format!("{size}\n") }
            }
            None => Self::text(refusal.status(), format!("{refusal}\n")),
        }
    }
}

/// What was cosigned last of one log.
#[derive(Clone, Default)]
struct Latest {
    checkpoint: Option<Checkpoint>,
    /// With the log's signatures and the cosignature.
    note: Vec<u8>,
    /// Seconds since the epoch.
    time: u64,
    /// A write failed, so what the disk holds is not known.
    unknown: bool,
}

/// How it stands with one log.
#[derive(Clone, Debug, Serialize)]
pub struct LogStatus {
    /// Which.
    pub origin: String,
    /// Entries cosigned last; `null` if never.
    pub size: Option<u64>,
    /// Root cosigned last.
    pub root: Option<Digest>,
    /// When.
    pub cosigned: Option<Timestamp>,
    /// Proofs that the log signed two histories.
    pub forks: usize,
    /// Requests that show less: a proof that failed, fewer entries than cosigned.
    pub suspicions: usize,
}

/// A running witness.
pub struct Witness {
    key: WitnessKey,
    folder: PathBuf,
    logs: Logs,
    latest: BTreeMap<String, Mutex<Latest>>,
    evidence: Evidence,
    clock: Arc<dyn Clock>,
    /// Held as long as it runs.
    _lock: fs::File,
}

impl Witness {
    /// Makes a new witness called `name` in `folder` and returns its verifier key line.
    ///
    /// # Errors
    /// [`WitnessError`]: a bad name, other files in the folder, or a file that cannot be written.
    pub fn init(folder: &Path, name: &str, entropy: &dyn Entropy) -> Result<String, WitnessError> {
        let secret = Zeroizing::new(entropy.bytes32());
        let key = WitnessKey::new(name, &secret)?;
        if let Ok(marker) = read_marker(folder) {
            return Err(WitnessError::Exists { folder: folder.to_owned(), name: marker.name });
        }
        durable::make_folder(folder, true).map_err(at(folder))?;
        // What a crash left of an earlier attempt has never cosigned anything.
        let ours = ["witness.key", "witness.key.new", "witness.json.new", "logs", "evidence"];
        for entry in fs::read_dir(folder).map_err(at(folder))? {
            let name = entry.map_err(at(folder))?.file_name();
            if !ours.iter().any(|ours| name == *ours) {
                return Err(WitnessError::Elsewhere(folder.to_owned()));
            }
        }
        for part in ["logs", "evidence"] {
            let path = folder.join(part);
            durable::make_folder(&path, true).map_err(at(&path))?;
        }
        let path = folder.join("witness.key");
        let text = Zeroizing::new(hex::encode(*secret));
        durable::write(&path, text.as_bytes(), 0o600).map_err(at(&path))?;
        let vkey = key.public().line().to_owned();
        let marker = Marker { format: FORMAT.into(), name: name.to_owned(), vkey: vkey.clone() };
        let text = serde_json::to_string_pretty(&marker).expect("a marker is plain text");
        let path = folder.join("witness.json");
        durable::write(&path, text.as_bytes(), 0o600).map_err(at(&path))?;
        Ok(vkey)
    }

    /// Opens a witness's folder to cosign `logs`, and takes its lock.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn open(folder: &Path, logs: Logs, clock: Arc<dyn Clock>) -> Result<Self, WitnessError> {
        let marker = read_marker(folder)?;
        if logs.origins().next().is_none() {
            return Err(WitnessError::NoLog);
        }
        let path = folder.join("witness.lock");
        let lock = durable::lock(&path).map_err(at(&path))?;
        let lock = lock.ok_or_else(|| WitnessError::Owned(folder.to_owned()))?;
        let path = folder.join("witness.key");
        let text = Zeroizing::new(fs::read(&path).map_err(at(&path))?);
        let mut secret = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim_ascii(), secret.as_mut())
            .map_err(|_| WitnessError::Lost(path.clone()))?;
        let key = WitnessKey::new(&marker.name, &secret)?;
        if key.public().line() != marker.vkey {
            return Err(WitnessError::Lost(path));
        }
        let mut latest = BTreeMap::new();
        for origin in logs.origins() {
            latest.insert(origin.to_owned(), Mutex::new(read_latest(folder, origin, &key)?));
        }
        let evidence = Evidence::open(folder.join("evidence"), logs.origins())?;
        Ok(Self { key, folder: folder.to_owned(), logs, latest, evidence, clock, _lock: lock })
    }

    /// Its verifier key line.
    pub fn vkey(&self) -> &str {
        self.key.public().line()
    }

    /// Answers `POST /add-checkpoint`.
    pub fn add_checkpoint(&self, body: &[u8]) -> Answer {
        let submission = match Submission::read(body, &self.logs) {
            Ok(submission) => submission,
            Err(refusal) => return refusal.into(),
        };
        let origin = &submission.signed.checkpoint.origin;
        let Some(latest) = self.latest.get(origin) else { return Refusal::UnknownLog.into() };
        let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.unknown {
            return Answer::text(503, "the record of this log could not be written\n".into());
        }
        if let Err(refusal) = submission.decide(latest.checkpoint.as_ref()) {
            let before = latest.note.clone();
            drop(latest);
            if let Some(suspicion) = refusal.shows() {
                self.evidence.keep(suspicion, &before, &submission);
            }
            return refusal.into();
        }
        self.cosign(&submission, &mut latest)
    }

    fn cosign(&self, submission: &Submission, latest: &mut Latest) -> Answer {
        let signed = &submission.signed;
        let time = self.clock.now().millis().max(0).unsigned_abs() / 1000;
        if time < latest.time {
            // A cosignature says what is the largest tree as of its time, so times do not go back either.
            let (origin, behind) = (&signed.checkpoint.origin, latest.time - time);
            tracing::warn!(%origin, behind, "the clock is behind the last cosignature");
            return Answer::text(503, "the witness's clock is behind its last cosignature\n".into());
        }
        let Ok((text, _)) = split(&signed.note) else { return Refusal::Malformed.into() };
        let cosignature = self.key.cosign(text, time);
        let Ok(note) = attach(&signed.note, [cosignature.line.as_str()]) else {
            return Refusal::Malformed.into();
        };
        let path = log_path(&self.folder, &signed.checkpoint.origin);
        if let Err(error) = durable::write(&path, &note, 0o600) {
            latest.unknown = true;
            tracing::error!(
                file = %path.display(), error = %error.kind(),
                "what was cosigned could not be made durable; this log is refused until the witness is started again"
            );
            return Answer::text(503, "the record of this log could not be written\n".into());
        }
        tracing::debug!(origin = %signed.checkpoint.origin, size = signed.checkpoint.size, "cosigned");
        *latest = Latest { checkpoint: Some(signed.checkpoint.clone()), note, time, unknown: false };
        Answer::text(200, cosignature.line)
    }

    /// The checkpoint cosigned last of the log whose origin has this SHA-256 in hexadecimal; `None` if there is none.
    pub fn cosigned(&self, origin_sha256: &str) -> Option<Vec<u8>> {
        let (_, latest) = self.latest.iter().find(|(origin, _)| log_name(origin) == origin_sha256)?;
        let latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.checkpoint.is_some().then(|| latest.note.clone())
    }

    /// Whether it cosigns every log that it knows.
    pub fn healthy(&self) -> bool {
        self.latest.values().all(|latest| !latest.lock().unwrap_or_else(PoisonError::into_inner).unknown)
    }

    /// How it stands with every log.
    pub fn status(&self) -> Vec<LogStatus> {
        let of = |(origin, latest): (&String, &Mutex<Latest>)| {
            let latest = latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let (forks, suspicions) = self.evidence.kept(origin);
            let seconds = i64::try_from(latest.time).unwrap_or(i64::MAX / 1000);
            LogStatus {
                origin: origin.clone(),
                size: latest.checkpoint.as_ref().map(|c| c.size),
                root: latest.checkpoint.as_ref().map(|c| Digest(c.root)),
                cosigned: latest.checkpoint.as_ref().map(|_| Timestamp::from_millis(seconds * 1000)),
                forks,
                suspicions,
            }
        };
        self.latest.iter().map(of).collect()
    }
}

fn read_marker(folder: &Path) -> Result<Marker, WitnessError> {
    let none = || WitnessError::NotInitialised(folder.to_owned());
    let text = fs::read(folder.join("witness.json")).map_err(|_| none())?;
    let marker: Marker = serde_json::from_slice(&text).map_err(|_| none())?;
    if marker.format == FORMAT { Ok(marker) } else { Err(none()) }
}

fn log_name(origin: &str) -> String {
    Digest::of(origin.as_bytes()).to_string()
}

fn log_path(folder: &Path, origin: &str) -> PathBuf {
    folder.join("logs").join(log_name(origin))
}

/// What was cosigned last, which this witness's own cosignature vouches for.
fn read_latest(folder: &Path, origin: &str, key: &WitnessKey) -> Result<Latest, WitnessError> {
    let path = log_path(folder, origin);
    let note = match fs::read(&path) {
        // Never cosigned, unless the whole of what was cosigned is gone.
        Err(e) if e.kind() == io::ErrorKind::NotFound && folder.join("logs").is_dir() => {
            return Ok(Latest::default());
        }
        Err(_) => return Err(WitnessError::Lost(path)),
        Ok(note) => note,
    };
    let read = || {
        let (text, lines) = split(&note).ok()?;
        let cosignature = key.public().find(text, lines).ok()??;
        let checkpoint = Checkpoint::parse(text).filter(|checkpoint| checkpoint.origin == origin)?;
        Some((checkpoint, cosignature.time))
    };
    match read() {
        Some((checkpoint, time)) => Ok(Latest { checkpoint: Some(checkpoint), note, time, unknown: false }),
        None => Err(WitnessError::Lost(path)),
    }
}
