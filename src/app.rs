//! The open data folder and everything that works on it: what flows are given by `web` and `cli`.
//!
//! One process owns a data folder, by an operating-system lock that ends with the process however it ends. The root key
//! lies outside the folder, in a file only its owner can read; the folder keeps a fingerprint of it, so a lost or changed
//! key is found here and not by records that no longer match. Layout:
//!
//! ```text
//! almoner.json     format, fingerprint of the root key, origin of the ledger, when it was made
//! almoner.lock     held by the owning process
//! almoner.sock     the owner's HTTP interface for commands on this machine (0600; only while it serves)
//! ledger.sqlite    ledger, projections, tokens, jobs
//! registry.sqlite  keyed tokens of patients, subject ids
//! blobs/ datasets/ releases/ spool/ vocabulary/
//! ```
//!
//! Making a folder is repeatable: the key file is made durable first and `almoner.json` last, by rename, so a crash
//! between leaves a folder that the next start completes. Not here: any work on data (that is `flows`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use almoner_ledger::LogKey;
use almoner_model::{Clock, Entropy, Tables, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::error::ErrorKind;
use crate::flows::tokens::Tokens;
use crate::flows::uploads::{Busy, UploadLimits, Uploads};
use crate::jobs::Jobs;
use crate::keys::{Keyring, label};
use crate::state::Projections;
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Store, StoreError};

/// The only format of the data folder there is.
pub const FORMAT: &str = "almoner-data/1";

/// Folders made inside the data folder.
const FOLDERS: &[&str] = &["blobs", "datasets", "releases", "spool", "vocabulary"];

/// Where the parts of a data folder are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The folder at `root`, which need not exist.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The data folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `almoner.json`.
    pub fn marker(&self) -> PathBuf {
        self.root.join("almoner.json")
    }

    /// The lock file.
    pub fn lock(&self) -> PathBuf {
        self.root.join("almoner.lock")
    }

    /// The owner's Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.root.join("almoner.sock")
    }

    /// The database of ledger and projections.
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger.sqlite")
    }

    /// The database of the subject registry.
    pub fn registry(&self) -> PathBuf {
        self.root.join("registry.sqlite")
    }

    /// Documents, definitions and lists by digest.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Dataset versions.
    pub fn datasets(&self) -> PathBuf {
        self.root.join("datasets")
    }

    /// Release packages.
    pub fn releases(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// Encrypted uploads and spill files.
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// The loaded vocabulary.
    pub fn vocabulary(&self) -> PathBuf {
        self.root.join("vocabulary")
    }

    /// The root key where the configuration names no other place: beside the folder, never in it.
    pub fn default_root_key(&self) -> PathBuf {
        let mut name = self.root.as_os_str().to_owned();
        while name.as_encoded_bytes().ends_with(b"/") {
            let text = name.to_string_lossy().trim_end_matches('/').to_owned();
            name = text.into();
        }
        name.push(".key");
        PathBuf::from(name)
    }
}

/// `almoner.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marker {
    /// [`FORMAT`].
    pub format: String,
    /// HMAC of a constant under a key derived from the root key, in hexadecimal.
    pub key_fingerprint: String,
    /// Name of the ledger in its checkpoints.
    pub origin: String,
    /// When the folder was made.
    pub created: Timestamp,
}

/// Why a data folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing has been made there yet.
    #[error("{} is not a data folder yet; make one with `almoner init`", .0.display())]
    NotInitialised(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Another process works on this folder.
    #[error("{} is in use by another almoner process", .0.display())]
    Owned(PathBuf),
    /// The marker is not one.
    #[error("{} is not the marker of a data folder of this version ({FORMAT})", .0.display())]
    Format(PathBuf),
    /// The root key is gone.
    #[error(
        "the root key {} is missing. Without it no patient can be recognised and no payload read: restore it from its \
         backup, or name its place with `root_key`",
        .0.display()
    )]
    KeyMissing(PathBuf),
    /// The root key is not the one this folder was made with.
    #[error("the root key {} is not the one that {} was made with", key.display(), folder.display())]
    KeyChanged {
        /// The key file.
        key: PathBuf,
        /// The data folder.
        folder: PathBuf,
    },
    /// The key file is not a key.
    #[error("{} is not a root key: it holds 64 hexadecimal digits", .0.display())]
    KeyMalformed(PathBuf),
    /// Others could read the key.
    #[error("the root key {} can be read by others; `chmod 600` it", .0.display())]
    KeyExposed(PathBuf),
    /// The key lies where it would be copied with what it protects.
    #[error("the root key {} lies inside the data folder; keep it outside", .0.display())]
    KeyInside(PathBuf),
    /// The ledger.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// A folder in use is a conflict; the rest the operator must put right.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(e) => e.kind(),
            Self::Owned(_) => ErrorKind::Conflict,
            Self::File { .. } => ErrorKind::Fault,
            _ => ErrorKind::Invalid,
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError + '_ {
    move |cause| OpenError::File { path: path.to_owned(), cause }
}

/// An open data folder.
pub struct App {
    /// The configuration it was opened with.
    pub config: Config,
    /// Where its parts are.
    pub folder: Folder,
    /// What the folder says about itself.
    pub marker: Marker,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Every key, derived from the root key.
    pub keys: Keyring,
    /// The canonical tables.
    pub tables: Tables,
    /// Work that outlives a request. Before the store, so that it ends first.
    pub jobs: Jobs,
    /// Where the bytes of uploads are.
    pub spool: PathBuf,
    /// Files of uploads that are being written.
    pub uploading: Busy,
    /// Ledger, state, tokens.
    pub store: Arc<dyn Store>,
    /// Held as long as the folder is open.
    _lock: File,
}

impl App {
    /// Makes what is missing of a data folder and its root key. Returns whether anything was made.
    ///
    /// # Errors
    /// If a file cannot be made, the folder is in use, or an existing key does not fit.
    pub fn init(
        folder: &Folder,
        config: &Config,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<bool, OpenError> {
        make_folder(folder.root())?;
        let _lock = lock(folder)?;
        let key_path = root_key_path(folder, config)?;
        let new = !folder.marker().exists();
        if new && !key_path.exists() {
            write_key(&key_path, entropy)?;
        }
        let key = read_key(&key_path)?;
        for name in FOLDERS {
            make_folder(&folder.root().join(name))?;
        }
        if new {
            let marker = Marker {
                format: FORMAT.into(),
                key_fingerprint: Keyring::from_root(&key).fingerprint().to_string(),
                origin: config.ledger.origin.clone().unwrap_or_else(|| {
                    let digits = hex::encode(&entropy.bytes32()[..6]);
                    format!("almoner.local/{digits}")
                }),
                created: clock.now(),
            };
            write_marker(folder, &marker)?;
        }
        Ok(new)
    }

    /// Opens a data folder and takes its lock.
    ///
    /// # Errors
    /// If it is not one, another process owns it, or its root key is missing, exposed or another.
    pub fn open(
        folder: Folder,
        config: Config,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, OpenError> {
        let marker = read_marker(&folder)?;
        let lock = lock(&folder)?;
        let keys = keys_of(&folder, &config, &marker)?;
        let tables = Tables::embedded().expect("the embedded tables are checked by a test");
        let options = store_options(&folder, &marker, &keys, Arc::clone(&clock), Arc::clone(&entropy))?;
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(options)?);
        let jobs =
            Jobs::start(Arc::clone(&store), Arc::clone(&clock), config.jobs.at_once, config.jobs.keep_days)?;
        let spool = folder.spool();
        Ok(Self {
            config,
            folder,
            marker,
            clock,
            entropy,
            keys,
            tables,
            jobs,
            spool,
            uploading: Busy::default(),
            store,
            _lock: lock,
        })
    }

    /// Uploads.
    pub fn uploads(&self) -> Uploads<'_> {
        Uploads {
            store: &*self.store,
            spool: &self.spool,
            busy: &self.uploading,
            limits: UploadLimits {
                bytes_max: self.config.uploads.bytes_max,
                files_max: self.config.uploads.files_max,
                keep_hours: self.config.uploads.keep_hours,
            },
            clock: &*self.clock,
            entropy: &*self.entropy,
        }
    }

    /// Whether a job waits or runs.
    pub fn unfinished(&self, job: &str) -> bool {
        self.jobs.get(job).ok().flatten().is_some_and(|job| !job.state.is_final())
    }

    /// API tokens.
    pub fn tokens(&self) -> Tokens<'_> {
        Tokens { store: &*self.store, clock: &*self.clock, entropy: &*self.entropy }
    }
}

/// What the ledger of a data folder is opened with, also where another process owns the folder and it is only read.
///
/// # Errors
/// As [`App::open`], but for the lock.
pub fn ledger_options(
    folder: &Folder,
    config: &Config,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Options, OpenError> {
    let marker = read_marker(folder)?;
    let keys = keys_of(folder, config, &marker)?;
    store_options(folder, &marker, &keys, clock, entropy)
}

fn keys_of(folder: &Folder, config: &Config, marker: &Marker) -> Result<Keyring, OpenError> {
    let path = root_key_path(folder, config)?;
    let keys = Keyring::from_root(&*read_key(&path)?);
    if keys.fingerprint().to_string() == marker.key_fingerprint {
        Ok(keys)
    } else {
        Err(OpenError::KeyChanged { key: path, folder: folder.root().to_owned() })
    }
}

fn store_options(
    folder: &Folder,
    marker: &Marker,
    keys: &Keyring,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Options, OpenError> {
    let key = LogKey::new(&marker.origin, &keys.key(label::LEDGER_SIGN));
    Ok(Options {
        path: folder.ledger(),
        key: key.map_err(|e| StoreError::Invalid(e.to_string()))?,
        wrapping_key: *keys.key(label::PAYLOAD_WRAP),
<<<<<<< HEAD
        clock,
        entropy,
=======
        clock: Arc::clone(clock),
        entropy: Arc::clone(entropy),
>>>>>>> d209d74 (Take uploads in pieces; test the interface from outside)
        projector: Arc::new(Projections),
        faults: None,
    })
}

/// Where the root key is; refused inside the data folder.
fn root_key_path(folder: &Folder, config: &Config) -> Result<PathBuf, OpenError> {
    let path = config.root_key.clone().unwrap_or_else(|| folder.default_root_key());
    let canonical = |p: &Path| p.canonicalize().ok();
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (canonical(parent), canonical(folder.root())) {
        (Some(parent), Some(root)) if parent.starts_with(&root) => Err(OpenError::KeyInside(path)),
        _ => Ok(path),
    }
}

fn make_folder(path: &Path) -> Result<(), OpenError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

fn lock(folder: &Folder) -> Result<File, OpenError> {
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

fn write_key(path: &Path, entropy: &dyn Entropy) -> Result<(), OpenError> {
    let bytes = Zeroizing::new(entropy.bytes32());
    let text = Zeroizing::new(hex::encode(*bytes));
    let mut file =
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).map_err(at(path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(path))?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|d| d.sync_all()).map_err(at(parent))
}

fn read_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, OpenError> {
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

fn write_marker(folder: &Folder, marker: &Marker) -> Result<(), OpenError> {
    let path = folder.marker();
    let temporary = path.with_extension("json.new");
    let text = serde_json::to_string_pretty(marker).expect("a marker is plain text");
    let mut file = File::create(&temporary).map_err(at(&temporary))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(&temporary))?;
    fs::rename(&temporary, &path).map_err(at(&path))?;
    File::open(folder.root()).and_then(|d| d.sync_all()).map_err(at(folder.root()))
}

fn read_marker(folder: &Folder) -> Result<Marker, OpenError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use almoner_model::{ManualClock, SeededEntropy};

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a folder for the test"))
        }
        fn folder(&self) -> Folder {
            Folder::at(self.0.path().join("data"))
        }
        fn init(&self, seed: u64) -> Result<bool, OpenError> {
            let clock = ManualClock::at(Timestamp::from_millis(0));
            App::init(&self.folder(), &Config::default(), &clock, &SeededEntropy::new(seed))
        }
        fn open(&self) -> Result<App, OpenError> {
            let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
            App::open(self.folder(), Config::default(), clock, Arc::new(SeededEntropy::new(9)))
        }
    }

    #[test]
    fn a_folder_is_made_once_and_opened_by_one_process() {
        let place = Place::new();
        assert!(matches!(place.open(), Err(OpenError::NotInitialised(_))));
        assert!(place.init(1).expect("made"));
        assert!(!place.init(2).expect("nothing to make"));
        let app = place.open().expect("opens");
        assert!(matches!(place.open(), Err(OpenError::Owned(_))));
        assert!(matches!(place.init(3), Err(OpenError::Owned(_))));
        drop(app);
        place.open().expect("free again");
        let mode = fs::metadata(place.folder().default_root_key()).expect("key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_lost_changed_or_exposed_key_is_named() {
        let place = Place::new();
        place.init(1).expect("made");
        let key = place.folder().default_root_key();
        let right = fs::read(&key).expect("key");

        fs::write(&key, "ab".repeat(32)).expect("written");
        assert!(matches!(place.open(), Err(OpenError::KeyChanged { .. })));
        fs::write(&key, "short").expect("written");
        assert!(matches!(place.open(), Err(OpenError::KeyMalformed(_))));
        fs::write(&key, &right).expect("written");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(matches!(place.open(), Err(OpenError::KeyExposed(_))));
        fs::remove_file(&key).expect("removed");
        assert!(matches!(place.open(), Err(OpenError::KeyMissing(_))));
        assert!(matches!(place.init(1), Err(OpenError::KeyMissing(_))), "init never replaces a lost key");
    }

    #[test]
    fn a_crash_between_key_and_marker_is_completed() {
        let place = Place::new();
        place.init(1).expect("made");
        fs::remove_file(place.folder().marker()).expect("as if the rename had not happened");
        assert!(place.init(2).expect("completed"));
        place.open().expect("with the first key");
    }

    #[test]
    fn the_key_never_lies_in_the_folder_it_protects() {
        let place = Place::new();
        let config = Config { root_key: Some(place.folder().root().join("root.key")), ..Config::default() };
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let made = App::init(&place.folder(), &config, &clock, &SeededEntropy::new(1));
        assert!(matches!(made, Err(OpenError::KeyInside(_))));
    }
}
