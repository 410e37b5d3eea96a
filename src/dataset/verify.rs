//! Verifying a version: every file against the manifest, and the manifest against the ledger's digest.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use almoner_model::Digest;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{DatasetError, DatasetVersion};

/// What was verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Verified {
    /// Files, the manifest included.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl DatasetVersion {
    /// Hashes every file. That the manifest is the ledger's was checked when the version was opened.
    ///
    /// # Errors
    /// [`DatasetError::Differs`] or [`DatasetError::Stranger`] names the first bad file, in the order of paths.
    pub fn verify(&self) -> Result<Verified, DatasetError> {
        let manifest = &self.manifest;
        let tables = manifest.files.iter().map(|f| (&f.path, f.sha256, f.bytes));
        let reports = manifest.report_files.iter().map(|f| (&f.path, f.sha256, f.bytes));
        let mut named: Vec<_> = tables.chain(reports).collect();
        named.sort();
        let mut done = Verified { files: 1, bytes: manifest.to_bytes().len() as u64 };
        for (path, sha256, bytes) in &named {
            let at = path.split('/').fold(self.root.clone(), |at, part| at.join(part));
            let differs = || DatasetError::Differs { file: (*path).clone() };
            if hash(&at).map_err(|_| differs())? != (*sha256, *bytes) {
                return Err(differs());
            }
            done.files += 1;
            done.bytes += bytes;
        }
        let own = fresh(&self.root.join("manifest.json"))?;
        if own != self.digest {
            return Err(DatasetError::ManifestDiffers);
        }
        let mut known: BTreeSet<String> = named.iter().map(|(path, ..)| (*path).clone()).collect();
        known.insert("manifest.json".to_owned());
        match first_stranger(&self.root, "", &known) {
            Some(file) => Err(DatasetError::Stranger { file }),
            None => Ok(done),
        }
    }
}

/// Files that were found to be what their manifests say, as they lay then. A file that has not changed its length, its
/// time or its place on the disk since is not read again.
#[derive(Debug, Default)]
pub struct Intact(Mutex<HashMap<PathBuf, Seen>>);

/// Length, time of the last change (seconds and nanoseconds) and inode of a file.
type Seen = (u64, i64, i64, u64);

fn seen(path: &Path) -> std::io::Result<Seen> {
    let m = std::fs::metadata(path)?;
    Ok((m.len(), m.mtime(), m.mtime_nsec(), m.ino()))
}

impl Intact {
    /// Checks the files of `version` in `tables` before they are used.
    ///
    /// # Errors
    /// [`DatasetError::Differs`] with the first file that is not what was published.
    pub fn check(&self, version: &DatasetVersion, tables: &BTreeSet<&str>) -> Result<(), DatasetError> {
        for file in version.manifest.files.iter().filter(|f| tables.contains(f.table.as_str())) {
            let path = version.path(file);
            let differs = |_| DatasetError::Differs { file: file.path.clone() };
            let now = seen(&path).map_err(differs)?;
            let known = |all: &HashMap<PathBuf, Seen>| all.get(&path) == Some(&now);
            if known(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
                continue;
            }
            if hash(&path).map_err(differs)? != (file.sha256, file.bytes) {
                return Err(DatasetError::Differs { file: file.path.clone() });
            }
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path, now);
        }
        Ok(())
    }

    /// Forgets everything, so that the next check reads the files themselves.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn fresh(path: &Path) -> Result<Digest, DatasetError> {
    hash(path).map(|(digest, _)| digest).map_err(|_| DatasetError::ManifestDiffers)
}

pub(super) fn hash(path: &Path) -> std::io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((Digest(hasher.finalize().into()), bytes)),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                bytes += n as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn first_stranger(root: &Path, prefix: &str, known: &BTreeSet<String>) -> Option<String> {
    let mut items: Vec<_> = std::fs::read_dir(root.join(prefix)).ok()?.flatten().collect();
    items.sort_by_key(std::fs::DirEntry::file_name);
    for item in items {
        let name = item.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if item.file_type().is_ok_and(|kind| kind.is_dir()) {
            if let Some(stranger) = first_stranger(root, &path, known) {
                return Some(stranger);
            }
        } else if !known.contains(&path) {
            return Some(path);
        }
    }
    None
}
