//! The files that make a folder a data folder: lock, root key, marker. Each write is durable before the next begins.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use almoner_model::Entropy;
use zeroize::Zeroizing;

use super::{FORMAT, Folder, Marker, OpenError};
use crate::config::Config;

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError + '_ {
    move |cause| OpenError::File { path: path.to_owned(), cause }
}

/// Where the root key is; refused inside the data folder.
pub(super) fn root_key_path(folder: &Folder, config: &Config) -> Result<PathBuf, OpenError> {
    let path = config.root_key.clone().unwrap_or_else(|| folder.default_root_key());
    if inside(folder, &path) { Err(OpenError::KeyInside(path)) } else { Ok(path) }
}

/// Where the last published checkpoint is kept; refused inside the data folder.
pub(super) fn checkpoint_path(folder: &Folder, config: &Config) -> Result<PathBuf, OpenError> {
    let path = config.ledger.checkpoint.clone().unwrap_or_else(|| folder.default_checkpoint());
    if inside(folder, &path) { Err(OpenError::CheckpointInside(path)) } else { Ok(path) }
}

fn inside(folder: &Folder, path: &Path) -> bool {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (parent.canonicalize(), folder.root().canonicalize()) {
        (Ok(parent), Ok(root)) => parent.starts_with(&root),
        _ => false,
    }
}

pub(super) fn make_folder(path: &Path) -> Result<(), OpenError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

/// Makes the data folder. One that was there before, empty or ours, becomes as private as one that is made: what lies in
/// it is nobody else's to read. In a folder with other things in it nothing is made.
pub(super) fn make_root(folder: &Folder) -> Result<(), OpenError> {
    let root = folder.root();
    make_folder(root)?;
    let mut listed = fs::read_dir(root).map_err(at(root))?;
    if listed.next().is_some() && !folder.marker().exists() && !folder.lock().exists() {
        return Err(OpenError::Elsewhere(root.to_owned()));
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o700)).map_err(at(root))
}

pub(super) fn lock(folder: &Folder) -> Result<File, OpenError> {
    let path = folder.lock();
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::Owned(folder.root().to_owned())),
        Err(fs::TryLockError::Error(cause)) => Err(OpenError::File { path, cause }),
    }
}

pub(super) fn write_key(path: &Path, entropy: &dyn Entropy) -> Result<(), OpenError> {
    let bytes = Zeroizing::new(entropy.bytes32());
    let text = Zeroizing::new(hex::encode(*bytes));
    let mut file =
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).map_err(at(path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(path))?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|d| d.sync_all()).map_err(at(parent))
}

pub(super) fn read_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, OpenError> {
    let metadata = match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(OpenError::KeyMissing(path.to_owned())),
        other => other.map_err(at(path))?,
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(OpenError::KeyExposed(path.to_owned()));
    }
    let text = Zeroizing::new(fs::read(path).map_err(at(path))?);
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_ascii(), key.as_mut())
        .map_err(|_| OpenError::KeyMalformed(path.to_owned()))?;
    Ok(key)
}

pub(super) fn write_marker(folder: &Folder, marker: &Marker) -> Result<(), OpenError> {
    let path = folder.marker();
    let temporary = path.with_extension("json.new");
    let text = serde_json::to_string_pretty(marker).expect("a marker is plain text");
    let mut file = File::create(&temporary).map_err(at(&temporary))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(&temporary))?;
    fs::rename(&temporary, &path).map_err(at(&path))?;
    File::open(folder.root()).and_then(|d| d.sync_all()).map_err(at(folder.root()))
}

pub(super) fn read_marker(folder: &Folder) -> Result<Marker, OpenError> {
    let path = folder.marker();
    let text = match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::NotInitialised(folder.root().to_owned()));
        }
        other => other.map_err(at(&path))?,
    };
    let marker: Marker = serde_json::from_slice(&text).map_err(|_| OpenError::Format(path.clone()))?;
    if marker.format == FORMAT { Ok(marker) } else { Err(OpenError::Format(path)) }
}
