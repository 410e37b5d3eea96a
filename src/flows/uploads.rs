//! Uploads: declared, received piece by piece, verified, and handed over as an export.
//!
//! An upload is primary state: which files, of what size and digest, under which canonical name (`intake::canonical_name`
//! says what a file holds and nothing of what it was called). The bytes lie in the spool under a key that the client shows
//! with every request and the server never keeps; what it keeps is a digest by which a wrong key is told. Only publication
//! of the dataset version is an acknowledgement: until then the client can ask how far the upload is, go on, or begin
//! again. An upload that nobody continued for its time is forgotten, and its bytes with it.
//!
//! What it does not do: ingest. The job that does is `flows::ingest` on what [`Uploads::entries`] gives.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use almoner_model::{Clock, ContributorId, DatasetId, Digest, Entropy, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Act;
use crate::error::ErrorKind;
use crate::intake::{Entry, canonical_name};
use crate::jobs::{Progress, Unit};
use crate::spool::{self, SpoolFile, SpoolWriter, UploadKey};
use crate::store::{Store, StoreError, Write};

const KIND: &str = "upload";

/// A file of an upload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeclaredFile {
    /// Its canonical name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// SHA-256 of them.
    pub sha256: Digest,
}

/// An upload as it is declared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewUpload {
    /// Whose data.
    pub contributor: ContributorId,
    /// For which dataset.
    pub dataset: Option<DatasetId>,
    /// Under which profile.
    pub profile: Option<String>,
    /// Changes since the version before, instead of everything.
    pub incremental: bool,
    /// In the order of their ordinals, from 0.
    pub files: Vec<DeclaredFile>,
    /// Public id of the token that pushes.
    pub owner: String,
}

/// An upload as it is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UploadRecord {
    /// Its id.
    pub id: String,
    /// Whose data.
    pub contributor: ContributorId,
    /// For which dataset.
    pub dataset: Option<DatasetId>,
    /// Under which profile.
    pub profile: Option<String>,
    /// Changes instead of everything.
    pub incremental: bool,
    /// Public id of the token that pushes.
    pub owner: String,
    /// Tells a wrong key.
    pub key_check: Digest,
    /// When it was declared.
    pub created: Timestamp,
    /// How often it was committed.
    pub attempt: u32,
    /// The job of the last commit.
    pub job: Option<String>,
    /// Whether its dataset version was published; its bytes are gone.
    pub published: bool,
    /// What the ingest came to, once published: a client that was away then, or whose server stopped before the job's end
    /// was noted, finds it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Its files.
    pub files: Vec<DeclaredFile>,
}

/// Why an upload does not go on.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// There is no such upload, or no such file in it.
    #[error("there is no such upload or file; it may have run out of time: push again")]
    Unknown,
    /// The declaration.
    #[error("{0}")]
    Declared(String),
    /// The key.
    #[error("this is not the key that the upload began with")]
    Key,
    /// The offset, or somebody else writes.
    #[error("the upload is at another place; go on at what has been received")]
    Offset {
        /// Bytes that are here.
        received: u64,
    },
    /// Another request writes to the file.
    #[error("a later request is writing this file")]
    Busy,
    /// More bytes than declared.
    #[error("the file has more bytes than were declared")]
    TooLong,
    /// Not all bytes are here, or they are not those declared.
    #[error("{0} files are not complete or not what was declared; send them again")]
    Incomplete(usize),
    /// The same act declared another upload.
    #[error("this `Idempotency-Key` was used to declare something else")]
    Another,
    /// It was published.
    #[error("the upload was published; push again to publish anew")]
    Published,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk.
    #[error("the spool cannot be read or written: {0}")]
    Disk(#[from] io::Error),
}

impl UploadError {
    /// What kind of no.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown | Self::Declared(_) | Self::TooLong => ErrorKind::Invalid,
            Self::Key => ErrorKind::Denied,
            Self::Offset { .. } | Self::Busy | Self::Incomplete(_) | Self::Published | Self::Another => {
                ErrorKind::Conflict
            }
            Self::Store(e) => e.kind(),
            Self::Disk(_) => ErrorKind::Fault,
        }
    }
}

type Turns = HashMap<(String, u32), Arc<Mutex<u64>>>;

/// Whose turn it is to write each file. The last request to begin has it: a request whose client has gone may linger
/// until its connection times out, and must not keep the client from going on.
#[derive(Clone, Debug, Default)]
pub struct Busy(Arc<Mutex<Turns>>);

impl Busy {
    fn turn(&self, id: &str, ordinal: u32) -> Arc<Mutex<u64>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry((id.to_owned(), ordinal)).or_default())
    }

    fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(upload, _), _| upload != id);
    }
}

/// A request that writes to a file, as long as it is its turn.
pub struct Writing {
    turn: Arc<Mutex<u64>>,
    mine: u64,
    writer: SpoolWriter,
}

impl Writing {
    /// Takes more bytes.
    ///
    /// # Errors
    /// [`UploadError::Busy`] if a later request writes now; [`UploadError::TooLong`], [`UploadError::Disk`].
    pub fn push(&mut self, bytes: &[u8], entropy: &dyn Entropy) -> Result<(), UploadError> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if *turn != self.mine {
            return Err(UploadError::Busy);
        }
        match self.writer.push(bytes, entropy) {
            Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(UploadError::TooLong),
            other => Ok(other?),
        }
    }

    /// Makes what was taken durable. Returns the bytes that are here now.
    ///
    /// # Errors
    /// [`UploadError::Disk`].
    pub fn finish(self) -> Result<u64, UploadError> {
        Ok(self.writer.finish()?)
    }
}

/// What one client may ask for.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// Largest upload, in bytes.
    pub bytes_max: u64,
    /// Most files.
    pub files_max: u32,
    /// How long an upload that nobody continues is kept, in hours.
    pub keep_hours: u32,
}

/// The uploads of one data folder.
#[derive(Clone, Copy)]
pub struct Uploads<'a> {
    /// Where they are declared.
    pub store: &'a dyn Store,
    /// Where their bytes are.
    pub spool: &'a Path,
    /// Files that are being written.
    pub busy: &'a Busy,
    /// What one client may ask for.
    pub limits: UploadLimits,
    /// Time.
    pub clock: &'a dyn Clock,
    /// Randomness.
    pub entropy: &'a dyn Entropy,
}

impl Uploads<'_> {
    /// Declares an upload.
    ///
    /// # Errors
    /// [`UploadError::Declared`] if it is too large or a name is not canonical.
    pub fn declare(&self, new: NewUpload, key: &UploadKey, act: &Act) -> Result<UploadRecord, UploadError> {
        self.check(&new)?;
        let id = format!("upl_{}", hex::encode(&Digest::of(act.event_id.as_bytes()).as_bytes()[..8]));
        if let Some(known) = self.read(&id)? {
            if key.check(&id) != known.key_check {
                return Err(UploadError::Key);
            }
            let same = known.files == new.files
                && (&known.contributor, &known.dataset, &known.profile)
                    == (&new.contributor, &new.dataset, &new.profile)
                && known.incremental == new.incremental;
            return if same { Ok(known) } else { Err(UploadError::Another) };
        }
        let record = UploadRecord {
            key_check: key.check(&id),
            id,
            contributor: new.contributor,
            dataset: new.dataset,
            profile: new.profile,
            incremental: new.incremental,
            owner: new.owner,
            created: self.clock.now(),
            attempt: 0,
            job: None,
            published: false,
            result: None,
            files: new.files,
        };
        fs::create_dir_all(self.folder(&record.id))?;
        self.save(&record)?;
        Ok(record)
    }

    fn check(&self, new: &NewUpload) -> Result<(), UploadError> {
        let declared = |why: String| Err(UploadError::Declared(why));
        if new.files.is_empty() {
            return declared("an upload has at least one file".into());
        }
        if new.files.len() as u64 > u64::from(self.limits.files_max) {
            return declared(format!("an upload has at most {} files", self.limits.files_max));
        }
        let total = new.files.iter().try_fold(0_u64, |sum, f| sum.checked_add(f.bytes));
        if total.is_none_or(|t| t > self.limits.bytes_max) {
            return declared(format!("an upload has at most {} bytes", self.limits.bytes_max));
        }
        let foreign = new.files.iter().position(|f| canonical_name(&f.name).as_deref() != Some(&f.name));
        match foreign {
            Some(at) => {
                declared(format!("the name of file {at} is not the canonical name of a kind of input"))
            }
            None => Ok(()),
        }
    }

    /// An upload.
    ///
    /// # Errors
    /// [`UploadError::Unknown`], or the store.
    pub fn find(&self, id: &str) -> Result<UploadRecord, UploadError> {
        self.read(id)?.ok_or(UploadError::Unknown)
    }

    /// Uploads in order of their ids, after `after`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<UploadRecord>, UploadError> {
        let rows = self.store.scan_primary(KIND, "", after, limit)?;
        Ok(rows.into_iter().filter_map(|(_, value)| serde_json::from_value(value).ok()).collect())
    }

    /// Bytes received of each file.
    ///
    /// # Errors
    /// If the spool cannot be looked at.
    pub fn received(&self, record: &UploadRecord) -> Result<Vec<u64>, UploadError> {
        let files = record.files.iter().enumerate();
        files
            .map(|(i, f)| {
                let here = if record.published {
                    f.bytes
                } else {
                    spool::received(&self.path(&record.id, i), f.bytes)?
                };
                Ok(here)
            })
            .collect()
    }

    /// Goes on writing a file at `offset`, in place of any request that still does.
    ///
    /// # Errors
    /// [`UploadError`] if key, file or offset are not right.
    pub fn write(
        &self,
        id: &str,
        ordinal: u32,
        offset: u64,
        key: &UploadKey,
    ) -> Result<Writing, UploadError> {
        let record = self.open(id, key)?;
        let file = self.file(&record, ordinal, key)?;
        let turn = self.busy.turn(id, ordinal);
        let mut at = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let received = file.received()?;
        if received != offset {
            return Err(UploadError::Offset { received });
        }
        fs::create_dir_all(self.folder(id))?;
        let writer = file.write_at(offset)?;
        *at += 1;
        let mine = *at;
        drop(at);
        Ok(Writing { turn, mine, writer })
    }

    /// The next attempt to publish an upload: its record, with the job's id.
    ///
    /// # Errors
    /// [`UploadError::Incomplete`] if bytes are missing; [`UploadError::Published`] if it was published.
    pub fn commit(
        &self,
        id: &str,
        key: &UploadKey,
        unfinished: impl Fn(&str) -> bool,
    ) -> Result<UploadRecord, UploadError> {
        let mut record = self.open(id, key)?;
        let received = self.received(&record)?;
        let missing = received.iter().zip(&record.files).filter(|(here, file)| **here != file.bytes).count();
        if missing > 0 {
            return Err(UploadError::Incomplete(missing));
        }
        if !record.job.as_deref().is_some_and(unfinished) {
            record.attempt += 1;
            record.job = Some(format!("job_{}_{}", &record.id[4..], record.attempt));
            self.save(&record)?;
        }
        Ok(record)
    }

    /// The verified upload as entries of an export. Files that are not what was declared are forgotten, to be sent again.
    ///
    /// # Errors
    /// [`UploadError::Incomplete`], or the disk.
    pub fn entries(
        &self,
        record: &UploadRecord,
        key: &UploadKey,
        progress: &dyn Progress,
    ) -> Result<Vec<Entry>, UploadError> {
        progress.stage("verify", Some(record.files.iter().map(|f| f.bytes).sum()), Unit::Bytes);
        let mut entries = Vec::with_capacity(record.files.len());
        let mut wrong = 0;
        for (ordinal, declared) in (0..).zip(&record.files) {
            let file = self.file(record, ordinal, key)?;
            if !file.verify(&declared.sha256, |n| progress.advance(n))? {
                file.reset()?;
                wrong += 1;
            }
            let path = format!("{ordinal:06}/{}", declared.name);
            entries.push(Entry { path, raw: Ok(Arc::new(file)) });
        }
        if wrong > 0 { Err(UploadError::Incomplete(wrong)) } else { Ok(entries) }
    }

    /// Marks an upload as published and removes its bytes.
    ///
    /// # Errors
    /// If the store or the disk fails.
    pub fn published(&self, id: &str, result: Value) -> Result<(), UploadError> {
        let mut record = self.find(id)?;
        record.published = true;
        record.result = Some(result);
        self.save(&record)?;
        Ok(self.remove_bytes(id)?)
    }

    /// Forgets an upload.
    ///
    /// # Errors
    /// If the store or the disk fails.
    pub fn discard(&self, id: &str) -> Result<(), UploadError> {
        self.remove_bytes(id)?;
        Ok(self.store.put_primary(vec![Write { kind: KIND.into(), key: id.into(), value: None }])?)
    }

    /// Forgets uploads that nobody continued, and bytes of none.
    ///
    /// # Errors
    /// If the store or the disk fails.
    pub fn tidy(&self, unfinished: impl Fn(&str) -> bool) -> Result<(), UploadError> {
        let oldest = self.clock.now().millis() - i64::from(self.limits.keep_hours) * 3_600_000;
        let mut after: Option<String> = None;
        let mut known = HashSet::new();
        loop {
            let page = self.list(after.as_deref(), 100)?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            for record in page {
                let touched = self.touched(&record.id).max(record.created.millis());
                if touched < oldest && !record.job.as_deref().is_some_and(&unfinished) {
                    self.discard(&record.id)?;
                } else {
                    known.insert(record.id);
                }
            }
        }
        for entry in fs::read_dir(self.spool)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("upl_") && !known.contains(&name) && self.touched(&name) < oldest {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// When bytes of an upload last came, in milliseconds since 1970; 0 where there are none.
    fn touched(&self, id: &str) -> i64 {
        let modified = |path: &Path| {
            let time = fs::metadata(path).and_then(|m| m.modified()).ok()?;
            time.duration_since(std::time::UNIX_EPOCH).ok().map(|d| d.as_millis() as i64)
        };
        let folder = self.folder(id);
        let files = fs::read_dir(&folder).into_iter().flatten().flatten().filter_map(|e| modified(&e.path()));
        files.chain(modified(&folder)).max().unwrap_or(0)
    }

    fn open(&self, id: &str, key: &UploadKey) -> Result<UploadRecord, UploadError> {
        let record = self.find(id)?;
        if key.check(id) != record.key_check {
            return Err(UploadError::Key);
        }
        if record.published { Err(UploadError::Published) } else { Ok(record) }
    }

    fn file(&self, record: &UploadRecord, ordinal: u32, key: &UploadKey) -> Result<SpoolFile, UploadError> {
        let declared = record.files.get(ordinal as usize).ok_or(UploadError::Unknown)?;
        let path = self.path(&record.id, ordinal as usize);
        Ok(SpoolFile::new(path, key, &record.id, ordinal, declared.bytes))
    }

    fn folder(&self, id: &str) -> PathBuf {
        self.spool.join(id)
    }

    fn path(&self, id: &str, ordinal: usize) -> PathBuf {
        self.folder(id).join(format!("{ordinal:06}"))
    }

    fn remove_bytes(&self, id: &str) -> io::Result<()> {
        self.busy.forget(id);
        match fs::remove_dir_all(self.folder(id)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn read(&self, id: &str) -> Result<Option<UploadRecord>, StoreError> {
        let value = self.store.get_primary(KIND, id)?;
        value
            .map(serde_json::from_value)
            .transpose()
            .map_err(|_| StoreError::NotIntact(format!("upload {id}")))
    }

    fn save(&self, record: &UploadRecord) -> Result<(), UploadError> {
        let value = serde_json::to_value(record).expect("a record is plain text");
        let write = Write { kind: KIND.into(), key: record.id.clone(), value: Some(value) };
        Ok(self.store.put_primary(vec![write])?)
    }
}
