//! Backup and what a restore reads: a copy of a data folder with a list of its files, taken while a server works on it.
//!
//! Layer 3. Only read access to the data folder is needed; nothing is asked of the server that owns it. Order makes the copy
//! consistent: first the ledger with its state, as of one moment, then the registry, then files. What the ledger names was
//! durable before its entry was, so it is there when the files are copied; what is newer than the ledger's copy (subject
//! ids, a dataset version that was published meanwhile) is known by nothing in it, and set aside or completed by the first
//! start, as after a crash; a release that it does not know is left out. Only an erasure changes files that the ledger names already, so a copy beside which one ran is
//! none. No key is copied, and no spool.
//!
//! ```text
//! DEST/backup.json   format, time, origin, formats, the ledger's signed checkpoint, every file with length and SHA-256
//! DEST/backup.mac    HMAC-SHA256 of backup.json in hexadecimal, under the root key's label `backup/v1`
//! DEST/data/         the copy, laid out as a data folder
//! ```
//!
//! The list is written last: a copy that was cut short has none, and is no backup. What was erased after a backup was taken
//! is still in it: backups are to be destroyed when they are older than the law allows.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use almoner_model::{Digest, Timestamp};
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::erase;
use crate::error::ErrorKind;
use crate::jobs::{Progress, Unit};
use crate::keys::Key;
use crate::store::sqlite::{Options, SqliteStore, snapshot};
use crate::store::{EntryFilter, Store as _, StoreError};

/// The only format of a backup there is.
pub const FORMAT: &str = "almoner-backup/1";

/// Databases, in the order in which they are copied.
const DATABASES: &[&str] = &["ledger.sqlite", "registry.sqlite"];

/// Single files; only the first must be there.
const FILES: &[&str] = &["almoner.json", "config.toml"];

/// Folders of files.
const FOLDERS: &[&str] = &["blobs", "datasets", "releases", "vocabulary"];

/// Kind of the entry with which an erasure begins.
const ERASED: &str = "subject.erased";

/// The folder of releases, and how the name of one that is being built begins.
const RELEASES: &str = "releases";
const BUILDING: &str = ".building-";

/// Passes over folders in which names vanish while they are copied, because a release is finished.
const PASSES: u32 = 10;

/// A file of a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copied {
    /// Its path below `data/`, with `/`.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// `backup.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// When it was taken.
    pub created: Timestamp,
    /// The version of the program.
    pub program: String,
    /// Name of the ledger.
    pub origin: String,
    /// Entries of the ledger.
    pub entries: u64,
    /// The ledger's signed checkpoint, a C2SP signed note.
    pub checkpoint: String,
    /// Every file.
    pub files: Vec<Copied>,
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Why there is no backup, or none that can be restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// There is something where the copy is to be.
    #[error("{} is there already and not empty; name a folder that is not", .0.display())]
    Occupied(PathBuf),
    /// The copy would lie in what is copied.
    #[error("{} lies inside the data folder; name a place outside, best on another machine", .0.display())]
    Inside(PathBuf),
    /// The folder has no list of files.
    #[error("{} is not a backup, or one that was cut short: it has no backup.json", .0.display())]
    None(PathBuf),
    /// The list is of another format or not the one that was written.
    #[error("the backup cannot be used: {0}")]
    Damaged(String),
    /// The names in a folder kept changing.
    #[error("files kept vanishing while they were copied, or a link leads nowhere; try again")]
    Restless,
    /// An erasure wrote files anew that the copied ledger names as they were.
    #[error(
        "somebody is being erased, or was while the copy was made, so its parts do not fit together and it is no backup; make \
         another when no erasure runs. One that was cut short goes on when the server is started"
    )]
    Erasing,
    /// The ledger.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupError {
    /// What kind of "no" it is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::File { .. } | Self::Damaged(_) => ErrorKind::Fault,
            Self::Occupied(_) | Self::Restless | Self::Erasing => ErrorKind::Conflict,
            Self::Inside(_) | Self::None(_) => ErrorKind::Invalid,
            Self::Store(e) => e.kind(),
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError + '_ {
    move |cause| BackupError::File { path: path.to_owned(), cause }
}

/// Copies the data folder `root` into the new or empty folder `dest`. `ledger` is what the folder's ledger is opened with, and
/// `copied` what its copy is; `key` is the key of the label `backup/v1`.
///
/// # Errors
/// [`BackupError`]; what was copied so far is then no backup, and may be removed.
pub fn backup(
    root: &Path,
    (ledger, copied): (Options, Options),
    key: &Key,
    dest: &Path,
    progress: &dyn Progress,
) -> Result<Manifest, BackupError> {
    let created = ledger.clock.now();
    let data = dest.join("data");
    occupy(root, dest)?;
    folder(&data)?;
    let live =
        SqliteStore::open_read_only(Options { path: root.join("ledger.sqlite"), anchor: None, ..ledger })?;
    let before = live.size();
    if erase::writes_files(&live)? {
        return Err(BackupError::Erasing);
    }
    let mut files = Vec::new();
    for name in DATABASES {
        let (from, to) = (root.join(name), data.join(name));
        let length = fs::metadata(&from).map_err(at(&from))?.len();
        progress.stage("databases", Some(length), Unit::Bytes);
        File::create_new(&to).map_err(at(&to))?;
        private(&to)?;
        snapshot(&from, &to, &|bytes| progress.advance(bytes))?;
        files.push(digest_of(&to, name)?);
    }
    let copy =
        SqliteStore::open_read_only(Options { path: data.join("ledger.sqlite"), anchor: None, ..copied })?;
    let signed = copy.checkpoint();
    progress.stage("files", None, Unit::Bytes);
    for (place, name) in FILES.iter().enumerate() {
        match copy_file(&root.join(name), &data.join(name), name, progress) {
            Err(BackupError::File { cause, .. }) if place > 0 && cause.kind() == io::ErrorKind::NotFound => {}
            copied => files.push(copied?),
        }
    }
    let ledger = &copy;
    let mut tree =
        Tree { root, data: &data, ledger, done: BTreeSet::new(), files: Vec::new(), vanished: true };
    for pass in 0.. {
        if !std::mem::take(&mut tree.vanished) {
            break;
        }
        if pass == PASSES {
            return Err(BackupError::Restless);
        }
        FOLDERS.iter().try_for_each(|name| tree.copy(name, progress))?;
    }
    tree.built_meanwhile()?;
    let begun = EntryFilter { kinds: vec![ERASED.into()], topic: None };
    if !live.entries(before, 1, &begun)?.is_empty() {
        return Err(BackupError::Erasing);
    }
    files.append(&mut tree.files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let checkpoint = String::from_utf8_lossy(&signed.note).into_owned();
    let manifest = Manifest {
        format: FORMAT.into(),
        created,
        program: env!("CARGO_PKG_VERSION").into(),
        origin: signed.checkpoint.origin,
        entries: signed.checkpoint.size,
        checkpoint,
        files,
    };
    write_list(dest, &manifest, key)?;
    Ok(manifest)
}

/// Takes `dest`, which is new or empty and not in `root`.
fn occupy(root: &Path, dest: &Path) -> Result<(), BackupError> {
    folder(dest)?;
    let (inside, of) = (dest.canonicalize().map_err(at(dest))?, root.canonicalize().map_err(at(root))?);
    if inside.starts_with(of) {
        return Err(BackupError::Inside(dest.to_owned()));
    }
    match fs::read_dir(dest).map_err(at(dest))?.next() {
        Some(_) => Err(BackupError::Occupied(dest.to_owned())),
        None => Ok(()),
    }
}

fn folder(path: &Path) -> Result<(), BackupError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

fn private(path: &Path) -> Result<(), BackupError> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(at(path))
}

fn write_list(dest: &Path, manifest: &Manifest, key: &Key) -> Result<(), BackupError> {
    let text = serde_json::to_vec_pretty(manifest).map_err(|e| BackupError::Damaged(e.to_string()))?;
    let (list, mac) = (dest.join("backup.json"), dest.join("backup.mac"));
    write(&mac, hex::encode(authenticated(key, &text).finalize().into_bytes()).as_bytes())?;
    sync_folder(&dest.join("data"))?;
    write(&list, &text)?;
    sync_folder(dest)
}

fn authenticated(key: &Key, text: &[u8]) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(&**key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let mut file = new_file(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(path))
}

fn new_file(path: &Path) -> Result<File, BackupError> {
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).map_err(at(path))
}

fn sync_folder(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(at(path))
}

/// Folders that are being copied.
struct Tree<'a> {
    root: &'a Path,
    data: &'a Path,
    /// The copied ledger.
    ledger: &'a SqliteStore,
    done: BTreeSet<String>,
    files: Vec<Copied>,
    /// Whether something that was listed was not there any more.
    vanished: bool,
}

impl Tree<'_> {
    /// Copies the folder `name` and what is in it, but for what was copied before and what was set aside.
    fn copy(&mut self, name: &str, progress: &dyn Progress) -> Result<(), BackupError> {
        let from = self.root.join(name);
        folder(&self.data.join(name))?;
        let Some(listed) = self.there(fs::read_dir(&from), &from)? else { return Ok(()) };
        for entry in listed {
            let Some(entry) = self.there(entry, &from)? else { continue };
            let (path, child) = (entry.path(), entry.file_name());
            let Some(child) = child.to_str().filter(|child| *child != ".orphaned") else { continue };
            if name == RELEASES && !self.knows(child)? {
                continue;
            }
            let child = format!("{name}/{child}");
            // What a link names: parts of the folder may lie on other disks.
            let Some(kind) = self.there(fs::metadata(&path), &path)? else { continue };
            if kind.is_dir() {
                self.copy(&child, progress)?;
            } else if kind.is_file() && !self.done.contains(&child) {
                match copy_file(&path, &self.data.join(&child), &child, progress) {
                    Err(BackupError::File { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                        self.vanished = true;
                    }
                    copied => {
                        self.files.push(copied?);
                        self.done.insert(child);
                    }
                }
            }
        }
        sync_folder(&self.data.join(name))
    }

    /// Whether the copied ledger knows the release whose folder, finished or being built, this is. In what it does not know
    /// nobody would ever be erased.
    fn knows(&self, folder: &str) -> Result<bool, BackupError> {
        let id = folder.strip_prefix(BUILDING).unwrap_or(folder);
        Ok(self.ledger.get("release", id)?.is_some())
    }

    /// Leaves out what was copied of a release while it was built, where it was finished and copied after that.
    fn built_meanwhile(&mut self) -> Result<(), BackupError> {
        let releases = self.data.join(RELEASES);
        for entry in fs::read_dir(&releases).map_err(at(&releases))? {
            let path = entry.map_err(at(&releases))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.strip_prefix(BUILDING).is_some_and(|id| releases.join(id).exists()) {
                let below = format!("{RELEASES}/{name}/");
                self.files.retain(|file| !file.path.starts_with(&below));
                fs::remove_dir_all(&path).map_err(at(&path))?;
            }
        }
        Ok(())
    }

    fn there<T>(&mut self, had: io::Result<T>, path: &Path) -> Result<Option<T>, BackupError> {
        match had {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.vanished = true;
                Ok(None)
            }
            had => had.map(Some).map_err(at(path)),
        }
    }
}

/// Copies a file, durable but for its name.
fn copy_file(from: &Path, to: &Path, name: &str, progress: &dyn Progress) -> Result<Copied, BackupError> {
    let source = File::open(from).map_err(at(from))?;
    let mut target = new_file(to)?;
    let copied = pass(source, from, name, |piece| {
        progress.advance(piece.len() as u64);
        target.write_all(piece).map_err(at(to))
    })?;
    target.sync_all().map_err(at(to))?;
    Ok(copied)
}

fn digest_of(path: &Path, name: &str) -> Result<Copied, BackupError> {
    pass(File::open(path).map_err(at(path))?, path, name, |_| Ok(()))
}

/// Reads a file to its end, in pieces.
fn pass(
    mut file: File,
    path: &Path,
    name: &str,
    mut piece: impl FnMut(&[u8]) -> Result<(), BackupError>,
) -> Result<Copied, BackupError> {
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).map_err(at(path))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        piece(&buffer[..read])?;
        bytes += read as u64;
    }
    Ok(Copied { path: name.to_owned(), bytes, sha256: Digest(hash.finalize().into()) })
}

/// Reads the list of the backup at `source`, not yet whether it is the one that was written.
///
/// # Errors
/// [`BackupError::None`], [`BackupError::Damaged`].
pub fn read_list(source: &Path) -> Result<(Manifest, Vec<u8>), BackupError> {
    let path = source.join("backup.json");
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BackupError::None(source.to_owned()));
        }
        read => read.map_err(at(&path))?,
    };
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|_| BackupError::Damaged("backup.json is not a list of this version".into()))?;
    match manifest.format.as_str() {
        FORMAT => Ok((manifest, text)),
        _ => Err(BackupError::Damaged(format!("backup.json is not of the format {FORMAT}"))),
    }
}

/// Checks that a list's bytes are those that were written by who has the root key.
///
/// # Errors
/// [`BackupError::Damaged`].
pub fn check_list(source: &Path, text: &[u8], key: &Key) -> Result<(), BackupError> {
    let path = source.join("backup.mac");
    let mac = fs::read(&path).map_err(at(&path))?;
    let mac = hex::decode(mac.trim_ascii()).unwrap_or_default();
    authenticated(key, text).verify_slice(&mac).map_err(|_| {
        BackupError::Damaged("backup.json is not the list that was written with this root key".into())
    })
}

/// Copies every file of the backup at `source` into the data folder `root`, and compares each with the list.
///
/// # Errors
/// [`BackupError::Damaged`] naming the first file that is not what it was; file errors.
pub fn unpack(
    source: &Path,
    manifest: &Manifest,
    root: &Path,
    progress: &dyn Progress,
) -> Result<(), BackupError> {
    progress.stage("restore", Some(manifest.bytes()), Unit::Bytes);
    FOLDERS.iter().try_for_each(|name| folder(&root.join(name)))?;
    let data = source.join("data");
    let mut folders = BTreeSet::from([root.to_owned()]);
    for file in &manifest.files {
        if file.path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(BackupError::Damaged("a file's path leads outside the backup".into()));
        }
        // The marker makes it a data folder; it is written last, by who restores.
        if file.path == "almoner.json" {
            continue;
        }
        let to = root.join(&file.path);
        let parent = to.parent().unwrap_or(root);
        folder(parent)?;
        folders.extend(parent.ancestors().take_while(|at| at.starts_with(root)).map(Path::to_owned));
        let copied = copy_file(&data.join(&file.path), &to, &file.path, progress).map_err(|e| match e {
            BackupError::File { cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
                BackupError::Damaged(format!("{} is missing", file.path))
            }
            other => other,
        })?;
        if copied != *file {
            return Err(BackupError::Damaged(format!("{} is not what it was", file.path)));
        }
    }
    folders.iter().try_for_each(|at| sync_folder(at))
}
