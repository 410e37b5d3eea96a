//! What a client keeps of an unfinished push: the key of its upload, and the upload's id. One file for each push of the
//! same files to the same server, readable by its owner only.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use almoner_model::{Digest, Entropy as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{PushError, Server, at};
use crate::system::SystemEntropy;

#[derive(Serialize, Deserialize)]
struct Kept {
    key: String,
    once: String,
    upload: Option<String>,
}

/// The state of one push.
pub struct State {
    path: PathBuf,
    /// The key, in base64.
    pub key: Zeroizing<String>,
    /// The idempotency key of the declaration.
    pub once: String,
    /// The upload, once declared.
    pub upload: Option<String>,
}

impl State {
    /// The state of the push of exactly `declared` to `server`, or a new one.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn find_or_make(folder: &Path, server: &Server, declared: &Value) -> Result<Self, PushError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
        let name = Digest::of(format!("{}\n{declared}", server.base())).to_string();
        let path = folder.join(format!("push-{}.json", &name[..32]));
        let kept = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
        if let Some(kept) = kept {
            return Ok(Self { path, key: Zeroizing::new(kept.key), once: kept.once, upload: kept.upload });
        }
        let mut state = Self { path, key: Zeroizing::default(), once: String::new(), upload: None };
        state.renew()?;
        Ok(state)
    }

    /// Begins again with a new key.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn renew(&mut self) -> Result<(), PushError> {
        self.key = Zeroizing::new(STANDARD.encode(*Zeroizing::new(SystemEntropy.bytes32())));
        self.once = hex::encode(&SystemEntropy.bytes32()[..16]);
        self.upload = None;
        self.save()
    }

    /// Remembers the upload.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn opened(&mut self, upload: &str) -> Result<(), PushError> {
        self.upload = Some(upload.to_owned());
        self.save()
    }

    /// Forgets the push: it is published.
    pub fn remove(&self) {
        // A file that stays says only that a published upload was published.
        let _ = fs::remove_file(&self.path);
    }

    fn save(&self) -> Result<(), PushError> {
        let kept = Kept { key: self.key.to_string(), once: self.once.clone(), upload: self.upload.clone() };
        let text = Zeroizing::new(serde_json::to_vec(&kept).expect("plain text"));
        let beside = self.path.with_extension("new");
        let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside);
        let mut file = file.map_err(at(&beside))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(at(&beside))?;
        fs::rename(&beside, &self.path).map_err(at(&self.path))?;
        let parent = self.path.parent().unwrap_or(Path::new("."));
        File::open(parent).and_then(|d| d.sync_all()).map_err(at(parent))
    }
}
