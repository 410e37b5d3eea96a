//! Putting a data folder back from a backup, and proving by what was known outside of it that nothing was rolled back.
//!
//! A ledger that lacks entries which were published must not go on: what it signed next would be another history at sizes
//! that receipts and witnesses name already, and withdrawals among the lacking entries would be forgotten. So a restore
//! compares the backup with every checkpoint it is shown, and with the last one that was published from the place it
//! restores to. Where one of them says more, or there is none at all, it refuses unless the loss is accepted.
//!
//! The folder has no marker until its files are there and checked, so what a crash leaves is not taken for a data folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use almoner_model::{Clock, Entropy};
use serde::Serialize;

use super::files::{at, checkpoint_path, lock, make_folder, make_root, write_marker};
use super::folder::FOLDERS;
use super::{App, Folder, Marker, OpenError, keys_of, store_options};
use crate::config::Config;
use crate::error::ErrorKind;
use crate::flows::backup::{BackupError, check_list, read_list, unpack};
use crate::flows::verify::verify;
use crate::jobs::Progress;
use crate::keys::label;
use crate::store::StoreError;
use crate::store::sqlite::{Lacking, Options, SqliteStore, Standing, standing};

/// Why a backup was not restored. The folder is then as it was, but for [`RestoreError::NotIntact`].
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The folder or its key.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Nothing says how far the ledger had come.
    #[error(
        "there is no checkpoint to prove by that the backup is the newest: {} is not there, and none was named with \
         `--known`. Ask a witness or a mirror for the last one. Where there is none, restore with `--accept-loss`",
        .0.display()
    )]
    NotProven(PathBuf),
    /// Entries were published that the backup lacks.
    #[error(
        "the backup lacks {} entries ({} to {}) that were published, as {} says{}. Restored, the server would forget them \
         and sign another history. Look for a newer backup; if there is none, restore with `--accept-loss`",
        lacking.known - lacking.from, lacking.from, lacking.known - 1, known.display(), types(lacking)
    )]
    Lacks {
        /// What says so.
        known: PathBuf,
        /// What it lacks.
        lacking: Lacking,
    },
    /// The backup holds another history.
    #[error("the ledger in the backup is not the one that {} is a checkpoint of", .0.display())]
    Another(PathBuf),
    /// What was restored is not intact, or cannot be opened.
    #[error(
        "what was restored cannot be used ({0}); its marker is now almoner.json.refused, so that no server starts on it. Remove \
         the folder before another restore"
    )]
    NotIntact(String),
}

impl RestoreError {
    /// What kind of "no" it is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Backup(e) => e.kind(),
            Self::Open(e) => e.kind(),
            Self::NotProven(_) | Self::Lacks { .. } | Self::Another(_) => ErrorKind::Conflict,
            Self::NotIntact(_) => ErrorKind::Fault,
        }
    }
}

impl From<StoreError> for RestoreError {
    fn from(e: StoreError) -> Self {
        Self::Open(e.into())
    }
}

fn types(lacking: &Lacking) -> String {
    let each: Vec<_> = lacking.types.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    if each.is_empty() { String::new() } else { format!(": {}", each.join(", ")) }
}

/// How a restore went.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Restored {
    /// Entries of the ledger.
    pub entries: u64,
    /// Files that were put back.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The checkpoints that the ledger was proven to continue.
    pub proven_by: Vec<PathBuf>,
    /// What is lost, where that was accepted, as who knows most says. It names types of entries where that is a mirror.
    pub lost: Option<Lacking>,
    /// Where the checkpoint that shows the loss is kept.
    pub kept: Option<PathBuf>,
}

/// Restores the backup at `source` into `folder`, which is new or empty.
///
/// # Errors
/// [`RestoreError`].
pub fn restore(
    source: &Path,
    folder: &Folder,
    config: &Config,
    (known, accept_loss): (&[PathBuf], bool),
    (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
    progress: &dyn Progress,
) -> Result<Restored, RestoreError> {
    let (manifest, list) = read_list(source)?;
    let path = source.join("data").join("almoner.json");
    let marker = fs::read(&path).map_err(at(&path))?;
    let listed = manifest.files.iter().find(|file| file.path == "almoner.json");
    if listed.is_none_or(|file| file.sha256 != almoner_model::Digest::of(&marker)) {
        return Err(BackupError::Damaged("almoner.json is not what it was".into()).into());
    }
    let marker: Marker = serde_json::from_slice(&marker).map_err(|_| OpenError::Format(path))?;
    let keys = keys_of(folder, config, &marker)?;
    check_list(source, &list, &keys.key(label::BACKUP))?;
    let options = |path: PathBuf| -> Result<Options, OpenError> {
        let options = store_options(folder, config, &marker, &keys, clock.clone(), entropy.clone())?;
        Ok(Options { path, ..options })
    };
    let backed_up = options(source.join("data").join("ledger.sqlite"))?;
    let anchor = checkpoint_path(folder, config)?;
    let (proven_by, lost) = proven(&backed_up, &anchor, known, accept_loss)?;

    if folder.root().exists() && fs::read_dir(folder.root()).map_err(at(folder.root()))?.next().is_some() {
        return Err(OpenError::Elsewhere(folder.root().to_owned()).into());
    }
    make_root(folder)?;
    FOLDERS.iter().try_for_each(|name| make_folder(&folder.root().join(name)))?;
    if let Err(error) = unpack(source, &manifest, folder.root(), progress) {
        remove_made(folder.root()).map_err(at(folder.root()))?;
        return Err(error.into());
    }
    let kept = {
        let _lock = lock(folder)?;
        let rollback =
            if lost.is_none() { None } else { SqliteStore::accept_rollback(&options(folder.ledger())?)? };
        write_marker(folder, &marker)?;
        rollback.map(|rollback| rollback.kept)
    };
    // Completes or sets aside what the copy has beyond its ledger, as after a crash.
    let opened = App::open(folder.clone(), config.clone(), clock.clone(), entropy.clone()).map(drop);
    let checked = opened.map_err(|e| e.to_string()).and_then(|()| {
        let ledger = options(folder.ledger()).map_err(|e| e.to_string())?;
        intact(folder, ledger)
    });
    if let Err(problem) = checked {
        let refused = folder.root().join("almoner.json.refused");
        fs::rename(folder.marker(), &refused).map_err(at(&refused))?;
        return Err(RestoreError::NotIntact(problem));
    }
    let (entries, files, bytes) = (manifest.entries, manifest.files.len(), manifest.bytes());
    Ok(Restored { entries, files, bytes, proven_by, lost, kept })
}

/// What `almoner verify` says of the folder: the first thing that is wrong.
fn intact(folder: &Folder, ledger: Options) -> Result<(), String> {
    let (datasets, releases, documents) = (folder.datasets(), folder.releases(), folder.blobs());
    let found = verify(ledger, &datasets, &releases, &documents, true).map_err(|e| e.to_string())?;
    if found.intact {
        return Ok(());
    }
    let first = found.ledger.findings.first().map(|f| format!("{} {}: {}", f.class, f.row, f.problem));
    let file = found.files().find_map(|c| Some(format!("{}: {}", c.name, c.problem.as_ref()?)));
    Err(first.or(file).unwrap_or_default())
}

/// Compares the ledger in the backup with all that is known of it: by what it is proven, and what it lacks.
fn proven(
    ledger: &Options,
    anchor: &Path,
    known: &[PathBuf],
    accept_loss: bool,
) -> Result<(Vec<PathBuf>, Option<Lacking>), RestoreError> {
    let (mut proven_by, mut lost) = (Vec::new(), Vec::new());
    let own = anchor.exists().then(|| anchor.to_owned());
    for known in known.iter().chain(&own) {
        match standing(ledger, known)? {
            Standing::Continues { .. } => proven_by.push(known.clone()),
            Standing::Lacks(lacking) if accept_loss => lost.push(lacking),
            Standing::Lacks(lacking) => return Err(RestoreError::Lacks { known: known.clone(), lacking }),
            Standing::Another { .. } => return Err(RestoreError::Another(known.clone())),
        }
    }
    if proven_by.is_empty() && lost.is_empty() && !accept_loss {
        return Err(RestoreError::NotProven(anchor.to_owned()));
    }
    Ok((proven_by, lost.into_iter().max_by_key(|lacking| (lacking.known, lacking.proven))))
}

/// Leaves an empty folder, as it was.
fn remove_made(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
