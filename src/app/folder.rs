//! Where the parts of a data folder are.

use std::path::{Path, PathBuf};

/// Folders made inside the data folder.
pub(super) const FOLDERS: &[&str] = &["blobs", "datasets", "releases", "spool", "vocabulary"];

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
        self.beside(".key")
    }

    /// The last published checkpoint where the configuration names no other place: beside the folder, so that it is not
    /// put back with an older copy of it.
    pub fn default_checkpoint(&self) -> PathBuf {
        self.beside(".checkpoint")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.root.as_os_str().to_owned();
        while name.as_encoded_bytes().ends_with(b"/") {
            let text = name.to_string_lossy().trim_end_matches('/').to_owned();
            name = text.into();
        }
        name.push(suffix);
        PathBuf::from(name)
    }
}
