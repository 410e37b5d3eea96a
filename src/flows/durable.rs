//! Files that are whole and durable, or as they were: what a witness and a mirror keep.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Puts `bytes` under the name `path`, with this mode: written beside it, made durable, renamed, and the folder made
/// durable. When this returns the file is there after a power loss too; if it fails, what is there after one is the old
/// file or the new one.
///
/// # Errors
/// If a step fails.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = suffixed(path, ".new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_folder(path)
}

/// Makes the folder that `path` is in durable.
///
/// # Errors
/// If it cannot be opened or synced.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Makes a folder and those above it, which only its owner can read where `private`.
///
/// # Errors
/// If it cannot be made.
pub fn make_folder(path: &Path, private: bool) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(if private { 0o700 } else { 0o755 }).create(path)
}

/// Takes a lock that ends with the process; `None` if another has it.
///
/// # Errors
/// If the file cannot be made.
pub fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(cause)) => Err(cause),
    }
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
