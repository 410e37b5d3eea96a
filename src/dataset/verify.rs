//! Verifying a version: every file against the manifest, and the manifest against the ledger's digest.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

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

fn fresh(path: &Path) -> Result<Digest, DatasetError> {
    hash(path).map(|(digest, _)| digest).map_err(|_| DatasetError::ManifestDiffers)
}

fn hash(path: &Path) -> std::io::Result<(Digest, u64)> {
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
