//! The open data folder and everything that works on it: what flows are given by `web` and `cli`.
//!
//! One process owns a data folder, by an operating-system lock that ends with the process however it ends. The root key
//! lies outside the folder, in a file only its owner can read; the folder keeps a fingerprint of it, so a lost or changed
//! key is found here and not by records that no longer match. Beside it lies the ledger's last published checkpoint, by
//! which an older copy of the ledger is found. Layout:
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

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use almoner_deid::Zip3;
use almoner_ledger::LogKey;
use almoner_model::{Clock, Entropy, SubjectId, Tables, Timestamp};
use serde::{Deserialize, Serialize};

use crate::blob::{BlobError, Blobs};
use crate::catalog::{Catalog, CatalogError};
use crate::cohort::plan::Concepts;
use crate::config::Config;
use crate::error::ErrorKind;
use crate::flows::access::{AccessContext, AccessError};
use crate::flows::backup::Manifest;
use crate::flows::cosign::board::Timing;
use crate::flows::cosign::{self, CosignError, Cosigner};
use crate::flows::erase::{self, EraseContext};
use crate::flows::ingest::{self, IngestContext, IngestError};
use crate::flows::permitted::ConsentIndex;
use crate::flows::release;
use crate::flows::tokens::Tokens;
use crate::flows::uploads::{Busy, UploadLimits, Uploads};
use crate::flows::{self, DataContext, DataError};
use crate::intake::vocabulary::{LoadError, LoadedVocabulary};
use crate::intake::{Limits, vocabulary};
use crate::jobs::{Jobs, Progress};
use crate::keys::{Keyring, label};
use crate::registry::{Registry, RegistryError};
use crate::state::Projections;
use crate::store::signing::SigningKeys;
use crate::store::sqlite::{Options, Rollback, SqliteStore};
use crate::store::{Store, StoreError};

mod files;
mod folder;
pub mod restore;

use files::{
    checkpoint_path, lock, make_folder, make_root, read_key, read_marker, root_key_path, write_key,
    write_marker,
};
use folder::FOLDERS;
pub use folder::Folder;

/// The only format of the data folder there is.
pub const FORMAT: &str = "almoner-data/1";

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
    /// There are other things in the folder.
    #[error("{} has other files in it; name an empty folder, or one that is not there yet", .0.display())]
    Elsewhere(PathBuf),
    /// A database is gone.
    #[error(
        "{} is missing. What was published cannot be told from what was not, or who is who: restore the folder from its \
         backup. Nothing was changed",
        .0.display()
    )]
    DatabaseMissing(PathBuf),
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
    /// The last checkpoint lies where it would be put back with an older ledger.
    #[error("the last checkpoint {} would lie inside the data folder; name a place outside", .0.display())]
    CheckpointInside(PathBuf),
    /// The ledger.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The subject registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The catalogue.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A folder of files.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// What a crash left of a release.
    #[error("a release that was cut short: {0}")]
    Release(#[from] DataError),
    /// What a crash left of an erasure, or an older copy of the folder brought back.
    #[error("an erasure that was cut short, or is to be done again: {0}")]
    Erasure(DataError),
}

impl OpenError {
    /// A folder in use is a conflict; the rest the operator must put right.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(e) => e.kind(),
            Self::Registry(e) => e.kind(),
            Self::Blob(e) => e.kind(),
            Self::Release(e) | Self::Erasure(e) => e.kind(),
            Self::Catalog(e) => e.kind(),
            Self::Owned(_) => ErrorKind::Conflict,
            Self::File { .. } => ErrorKind::Fault,
            _ => ErrorKind::Invalid,
        }
    }
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
    /// Collects cosignatures, while a server runs whose policy names witnesses. Before the store, so that it ends first.
    cosigner: OnceLock<Cosigner>,
    /// Ledger, state, tokens.
    pub store: Arc<dyn Store>,
    /// The only way from a hospital's patients to subjects.
    pub registry: Arc<Registry>,
    /// Documents by digest.
    pub documents: Blobs,
    /// Datasets.
    pub catalog: Catalog,
    /// Release packages.
    pub releases: PathBuf,
    /// Beside the data folder: who was erased and is not to come back.
    pub erased: PathBuf,
    /// Areas that may be named.
    zip3: Arc<Zip3>,
    /// Who permits what, kept between calls.
    pub consents: ConsentIndex,
    /// The loaded vocabulary, kept until its folder changes.
    vocabulary: Mutex<Option<(SystemTime, Option<Arc<LoadedVocabulary>>)>>,
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
        make_root(folder)?;
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
            let keys = Keyring::from_root(&key);
            // A crash may have left the databases without the marker; the log keeps its name then.
            let origin = SqliteStore::origin(&folder.ledger())?.or_else(|| config.ledger.origin.clone());
            let marker = Marker {
                format: FORMAT.into(),
                key_fingerprint: keys.fingerprint().to_string(),
                origin: origin.unwrap_or_else(|| {
                    let digits = hex::encode(&entropy.bytes32()[..6]);
                    format!("almoner.local/{digits}")
                }),
                created: clock.now(),
            };
            // Made here and never again: a folder without its databases has lost them.
            let anchor = checkpoint_path(folder, config)?;
            SqliteStore::create(&folder.ledger(), &signing_keys(&marker.origin, &keys), anchor)?;
            drop(Registry::open(&folder.registry(), &keys)?);
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
        for database in [folder.ledger(), folder.registry()] {
            // An empty file is a lost database too: SQLite would fill it.
            if std::fs::metadata(&database).map_or(0, |file| file.len()) == 0 {
                return Err(OpenError::DatabaseMissing(database));
            }
        }
        let tables = Tables::embedded().expect("the embedded tables are checked by a test");
        let options =
            store_options(&folder, &config, &marker, &keys, Arc::clone(&clock), Arc::clone(&entropy))?;
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(options)?);
        let jobs =
            Jobs::start(Arc::clone(&store), Arc::clone(&clock), config.jobs.at_once, config.jobs.keep_days)?;
        let spool = folder.spool();
        let registry = Arc::new(Registry::open(&folder.registry(), &keys)?);
        let documents = Blobs::local(&folder.blobs())?;
        let catalog = Catalog::new(Blobs::local(&folder.datasets())?, Arc::clone(&store));
        // What a crash left of an ingest: versions that the ledger does not know, working files without a key.
        let orphans = catalog.remove_orphans()?;
        for version in &orphans.set_aside {
            tracing::warn!(
                %version,
                "a complete dataset version that the ledger does not know was set aside, in datasets/.orphaned: an \
                 ingest ended just before publishing, or the ledger is older than the datasets"
            );
        }
        ingest::remove_leftovers(&spool);
        let releases = folder.releases();
        let erased = checkpoint_path(&folder, &config)?.with_extension("erased");
        let zip3 = Arc::new(Zip3::current().expect("the embedded areas are checked by a test"));
        let app = Self {
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
            cosigner: OnceLock::new(),
            store,
            registry,
            documents,
            catalog,
            releases,
            erased,
            zip3,
            consents: ConsentIndex::default(),
            vocabulary: Mutex::default(),
            _lock: lock,
        };
        // What a crash left of a release: completed if the ledger has it, removed if not.
        app.with_data(release::recover)?;
        // What a crash left of an erasure, and whoever an older copy of the folder brought back.
        app.with_erase(erase::recover).map_err(OpenError::Erasure)?;
        Ok(app)
    }

    /// Runs `work` with what an ingest works on.
    ///
    /// # Errors
    /// What the work fails with, or if the loaded vocabulary is damaged.
    pub fn with_ingest<T>(
        &self,
        work: impl FnOnce(IngestContext<'_>) -> Result<T, IngestError>,
    ) -> Result<T, IngestError> {
        let vocabulary = vocabulary::open(&self.folder.vocabulary());
        let vocabulary = vocabulary.map_err(|e| IngestError::Internal(e.to_string()))?;
        let mut limits = Limits::default();
        if let Some(threads) = NonZeroUsize::new(self.config.ingest.threads) {
            limits.threads = threads;
        }
        work(IngestContext {
            tables: &self.tables,
            store: &*self.store,
            registry: &self.registry,
            keys: &self.keys,
            clock: &*self.clock,
            entropy: &*self.entropy,
            catalog: &self.catalog,
            vocabulary: vocabulary.as_ref(),
            spool: &self.spool,
            limits: &limits,
            consents: Some(self.access()),
        })
    }

    /// The loaded vocabulary. It is read once; loading another renames files into its folder, which then is newer.
    fn vocabulary(&self) -> Result<Option<Arc<LoadedVocabulary>>, LoadError> {
        let folder = self.folder.vocabulary();
        let changed = folder.metadata()?.modified()?;
        let mut kept = self.vocabulary.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, vocabulary)) = &*kept
            && *when == changed
        {
            return Ok(vocabulary.clone());
        }
        let vocabulary = vocabulary::open(&folder)?.map(Arc::new);
        *kept = Some((changed, vocabulary.clone()));
        Ok(vocabulary)
    }

    /// Runs `work` with what counts, releases and downloads work on.
    ///
    /// # Errors
    /// What the work fails with, or if registry or vocabulary cannot be read.
    pub fn with_data<T>(
        &self,
        work: impl FnOnce(&DataContext<'_>) -> Result<T, DataError>,
    ) -> Result<T, DataError> {
        let failed = |e: String| DataError::Access(AccessError::Failed(e));
        let offset_days = |subject: i64, epoch: u32| {
            SubjectId::new(subject).map_or(0, |subject| self.registry.offset_days(subject, epoch))
        };
        let vocabulary = self.vocabulary().map_err(|e| failed(e.to_string()))?;
        work(&DataContext {
            access: self.access(),
            catalog: &self.catalog,
            keys: &self.keys,
            tables: &self.tables,
            vocabulary: vocabulary.as_deref().map(|v| v as &dyn Concepts),
            zip3: &self.zip3,
            offset_days: &offset_days,
            releases: &self.releases,
            origin: &self.marker.origin,
        })
    }

    /// Runs `work` with what an erasure works on.
    ///
    /// # Errors
    /// What the work fails with, or if registry or vocabulary cannot be read.
    pub fn with_erase<T>(
        &self,
        work: impl FnOnce(&EraseContext<'_>) -> Result<T, DataError>,
    ) -> Result<T, DataError> {
        self.with_data(|data| {
            work(&EraseContext { data: *data, registry: &self.registry, known: &self.erased, faults: None })
        })
    }

    /// What flows of the access plane work on.
    pub fn access(&self) -> AccessContext<'_> {
        AccessContext {
            store: &*self.store,
            people: &*self.registry,
            documents: &self.documents,
            keys: &self.keys,
            index: &self.consents,
            clock: &*self.clock,
            entropy: &*self.entropy,
        }
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

    /// Starts asking the witnesses of the policy that the configuration names, if it names one.
    ///
    /// # Errors
    /// [`CosignError`]: the policy cannot be used.
    pub fn start_cosigning(&self) -> Result<(), CosignError> {
        let Some(file) = &self.config.ledger.policy else { return Ok(()) };
        if self.cosigner.get().is_some() {
            return Ok(());
        }
        let policy = cosign::read_policy(file, &self.store.verifier().map_err(CosignError::from)?)?;
        let timing = Timing::default();
        let endpoints = cosign::endpoints(&policy, self.config.ledger.witness_ca.as_deref(), &timing)?;
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        // Whoever came first has started it.
        let _ = self.cosigner.set(Cosigner::start(store, clock, policy, endpoints, timing)?);
        Ok(())
    }

    /// What collects cosignatures, where witnesses are asked.
    pub fn cosigner(&self) -> Option<&Cosigner> {
        self.cosigner.get()
    }

    /// Whether a job waits or runs.
    pub fn unfinished(&self, job: &str) -> bool {
        self.jobs.get(job).ok().flatten().is_some_and(|job| !job.state.is_final())
    }

    /// The keys that the ledger signs with.
    ///
    /// # Errors
    /// If the ledger's own key cannot be read.
    pub fn signing_keys(&self) -> Result<SigningKeys, StoreError> {
        Ok(signing_keys(self.store.verifier()?.name(), &self.keys))
    }

    /// API tokens.
    pub fn tokens(&self) -> Tokens<'_> {
        Tokens { store: &*self.store, clock: &*self.clock, entropy: &*self.entropy }
    }
}

/// Takes the ledger of a data folder for the one to go on with, though more had been published from it. `None` if there is
/// nothing to accept.
///
/// # Errors
/// As [`App::open`].
pub fn accept_rollback(
    folder: &Folder,
    config: &Config,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Option<Rollback>, OpenError> {
    let options = ledger_options(folder, config, clock, entropy)?;
    let _lock = lock(folder)?;
    Ok(SqliteStore::accept_rollback(&options)?)
}

/// Copies a data folder, also one that another process owns and works on; see [`crate::flows::backup`].
///
/// # Errors
/// [`restore::RestoreError`], of which this meets only what concerns the copy, the folder and its key.
pub fn backup(
    folder: &Folder,
    config: &Config,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    dest: &std::path::Path,
    progress: &dyn Progress,
) -> Result<Manifest, restore::RestoreError> {
    let marker = read_marker(folder)?;
    let keys = keys_of(folder, config, &marker)?;
    let options = || store_options(folder, config, &marker, &keys, clock.clone(), entropy.clone());
    let ledgers = (options()?, options()?);
    Ok(flows::backup::backup(folder.root(), ledgers, &keys.key(label::BACKUP), dest, progress)?)
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
    store_options(folder, config, &marker, &keys, clock, entropy)
}

/// The keys of a data folder, also where another process owns it.
///
/// # Errors
/// If it is none, or its root key is missing, exposed or another.
pub fn keyring(folder: &Folder, config: &Config) -> Result<Keyring, OpenError> {
    keys_of(folder, config, &read_marker(folder)?)
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

/// The keys of the log called `origin`: the first as it always was, those after it by their number.
fn signing_keys(origin: &str, keys: &Keyring) -> SigningKeys {
    let (origin, keys) = (origin.to_owned(), keys.clone());
    SigningKeys::new(move |epoch| {
        let secret = match epoch {
            0 => keys.key(label::LEDGER_SIGN),
            later => keys.scoped(label::LEDGER_SIGN, &later.to_string()),
        };
        LogKey::new(&origin, &secret)
    })
}

fn store_options(
    folder: &Folder,
    config: &Config,
    marker: &Marker,
    keys: &Keyring,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Options, OpenError> {
    Ok(Options {
        path: folder.ledger(),
        keys: signing_keys(&marker.origin, keys),
        wrapping_key: *keys.key(label::PAYLOAD_WRAP),
        anchor: Some(checkpoint_path(folder, config)?),
        clock,
        entropy,
        projector: Arc::new(Projections),
        faults: None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

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
    fn a_lost_database_is_named_and_costs_no_dataset() {
        for database in ["ledger.sqlite", "registry.sqlite"] {
            let place = Place::new();
            place.init(1).expect("made");
            drop(place.open().expect("opens"));
            let root = place.folder().root().to_owned();
            let version = root.join("datasets/north/v1");
            fs::create_dir_all(&version).expect("made");
            fs::write(version.join("manifest.json"), "{}").expect("written");
            fs::rename(root.join(database), root.join("elsewhere")).expect("lost");
            let refused = place.open().err().expect("refused");
            assert!(
                matches!(&refused, OpenError::DatabaseMissing(path) if path.ends_with(database)),
                "{refused}"
            );
            assert!(version.join("manifest.json").exists() && !root.join(database).exists());
            fs::rename(root.join("elsewhere"), root.join(database)).expect("found");
            // A ledger that is older than the datasets: they are set aside, not removed.
            place.open().expect("opens");
            assert!(root.join("datasets/.orphaned/north-v1-0/manifest.json").exists());
        }
    }

    #[test]
    fn an_empty_database_is_a_lost_one() {
        for database in ["ledger.sqlite", "registry.sqlite"] {
            let place = Place::new();
            place.init(1).expect("made");
            let path = place.folder().root().join(database);
            fs::write(&path, "").expect("emptied");
            assert!(matches!(place.open().err(), Some(OpenError::DatabaseMissing(p)) if p == path));
            assert_eq!(fs::metadata(&path).expect("there").len(), 0);
        }
    }

    #[test]
    fn an_older_ledger_is_refused_until_it_is_accepted_and_costs_no_dataset() {
        let place = Place::new();
        place.init(1).expect("made");
        let folder = place.folder();
        let version = folder.root().join("datasets/north/v1");
        let copy = folder.root().join("copy");
        fs::copy(folder.ledger(), &copy).expect("copied");
        let app = place.open().expect("opens");
        let act = crate::flows::Act::operator(&*app.entropy);
        let new = crate::flows::tokens::NewToken {
            role: "operator".into(),
            scope: Vec::new(),
            label: "first".into(),
            days: None,
        };
        app.tokens().issue(new, act).expect("issued");
        let published = app.store.size();
        assert!(published > 0);
        drop(app);
        fs::create_dir_all(&version).expect("made");
        fs::write(version.join("manifest.json"), "{}").expect("written");
        fs::rename(&copy, folder.ledger()).expect("put back");
        let refused = place.open().err().expect("refused");
        assert!(matches!(&refused, OpenError::Store(StoreError::RolledBack(_))), "{refused}");
        assert!(refused.to_string().contains("accept-rollback"), "{refused}");
        assert!(version.join("manifest.json").exists(), "nothing is touched");

        let (config, clock) = (Config::default(), Arc::new(ManualClock::at(Timestamp::from_millis(0))));
        let entropy = Arc::new(SeededEntropy::new(9));
        let options = ledger_options(&folder, &config, clock.clone(), entropy.clone()).expect("opens");
        let (datasets, releases, documents) = (folder.datasets(), folder.releases(), folder.blobs());
        let found = crate::flows::verify::verify(options, &datasets, &releases, &documents, false);
        let found = found.expect("readable");
        assert_eq!((found.intact, found.ledger.findings[0].class), (false, "checkpoint"));

        let accept = || accept_rollback(&folder, &config, clock.clone(), entropy.clone());
        let rollback = accept().expect("accepted").expect("there was something to accept");
        assert_eq!((rollback.entries, rollback.published), (0, Some(published)));
        assert!(rollback.kept.exists());
        assert_eq!(accept().expect("works"), None);
        let app = place.open().expect("opens");
        assert!(matches!(accept(), Err(OpenError::Owned(_))));
        drop(app);
        assert!(folder.root().join("datasets/.orphaned/north-v1-0/manifest.json").exists());
    }

    #[test]
    fn the_last_checkpoint_lies_outside_and_does_not_bar_a_new_folder() {
        let place = Place::new();
        place.init(1).expect("made");
        let folder = place.folder();
        let mode = fs::metadata(folder.default_checkpoint()).expect("kept").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut config = Config::default();
        config.ledger.checkpoint = Some(folder.root().join("last"));
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let inside = App::open(folder.clone(), config, clock, Arc::new(SeededEntropy::new(9)));
        assert!(matches!(inside.err(), Some(OpenError::CheckpointInside(_))));
        fs::remove_dir_all(folder.root()).expect("removed");
        place.init(2).expect("made anew, under another name");
        place.open().expect("opens");
    }

    #[test]
    fn a_folder_with_other_things_is_left_alone_and_an_empty_one_made_private() {
        let place = Place::new();
        let root = place.folder().root().to_owned();
        fs::create_dir_all(&root).expect("made");
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::write(root.join("letter.txt"), "dear").expect("written");
        assert!(matches!(place.init(1), Err(OpenError::Elsewhere(_))));
        let mode = || fs::metadata(&root).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(), 0o755);
        fs::remove_file(root.join("letter.txt")).expect("removed");
        place.init(1).expect("made");
        assert_eq!(mode(), 0o700);
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
