//! Bytes by name: dataset files, release files and documents, through `object_store`.
//!
//! Layer 2, the only module that names `object_store`. A local folder is the default. What [`Blobs::put`] has returned
//! for is durable: the object is written under another name and renamed by the store, then file and folder are synced.
//! Names are `/`-separated slugs that callers make; they never hold what an export said. Calls block.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use almoner_model::Digest;
use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::executor::block_on;
use object_store::local::LocalFileSystem;
use object_store::{MultipartUpload as _, ObjectStore, ObjectStoreExt as _, PutPayload};
use sha2::{Digest as _, Sha256};

use crate::error::ErrorKind;

/// Bytes that are in memory at a time where an object is written from a reader.
const PIECE_BYTES: u64 = 8 << 20;

/// Why bytes could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no such object.
    #[error("{0} is not there")]
    Absent(String),
    /// A document's bytes are not those that its name promises.
    #[error("{0} is not what its digest says: it was altered")]
    Altered(String),
    /// The store failed.
    #[error("{name} could not be read or written ({reason})")]
    Store {
        /// Which object.
        name: String,
        /// What the store said.
        reason: String,
    },
}

impl BlobError {
    /// Which kind of "no" this is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Absent(_) => ErrorKind::Invalid,
            Self::Altered(_) | Self::Store { .. } => ErrorKind::Fault,
        }
    }

    fn of(name: &str, error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Absent(name.to_owned()),
            object_store::Error::Generic { source, .. } => {
                Self::Store { name: name.to_owned(), reason: source.to_string() }
            }
            other => Self::Store { name: name.to_owned(), reason: other.to_string() },
        }
    }

    fn io(name: &str, error: &std::io::Error) -> Self {
        Self::Store { name: name.to_owned(), reason: error.kind().to_string() }
    }
}

/// A place for bytes.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    root: PathBuf,
}

impl Blobs {
    /// In a local folder, which exists.
    ///
    /// # Errors
    /// [`BlobError::Store`] if it does not.
    pub fn local(root: &Path) -> Result<Self, BlobError> {
        let store = LocalFileSystem::new_with_prefix(root).map_err(|e| BlobError::of("the folder", e))?;
        let root = root.canonicalize().map_err(|e| BlobError::io("the folder", &e))?;
        Ok(Self { store: Arc::new(store), root })
    }

    /// Where an object lies on the local disk.
    pub fn path(&self, name: &str) -> PathBuf {
        name.split('/').fold(self.root.clone(), |path, part| path.join(part))
    }

    /// Writes an object, or replaces it. Durable on return.
    ///
    /// # Errors
    /// [`BlobError::Store`]; the object is then as it was, or whole.
    pub fn put(&self, name: &str, bytes: Bytes) -> Result<(), BlobError> {
        self.put_part(name, bytes)?;
        // Folders between the object and the root may be new with it.
        let path = self.path(name);
        let folders = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root));
        folders.into_iter().try_for_each(|folder| sync(folder).map_err(|e| BlobError::io(name, &e)))
    }

    /// Writes one of many objects: its bytes are durable on return, its name after [`Self::settle`].
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub fn put_part(&self, name: &str, bytes: Bytes) -> Result<(), BlobError> {
        let at = object_store::path::Path::from(name);
        block_on(self.store.put(&at, PutPayload::from_bytes(bytes))).map_err(|e| BlobError::of(name, e))?;
        sync(&self.path(name)).map_err(|e| BlobError::io(name, &e))
    }

    /// Writes one of many objects from a reader, a piece at a time; gives its digest and length. As [`Self::put_part`].
    ///
    /// # Errors
    /// [`BlobError::Store`], also where the reader fails; the object is then not there.
    pub fn put_part_from(&self, name: &str, mut from: impl Read) -> Result<(Digest, u64), BlobError> {
        let at = object_store::path::Path::from(name);
        let failed = |e| BlobError::of(name, e);
        let mut upload = block_on(self.store.put_multipart(&at)).map_err(failed)?;
        let (mut hash, mut length) = (Sha256::new(), 0);
        let mut write = || -> Result<(), BlobError> {
            loop {
                let mut piece = Vec::with_capacity(PIECE_BYTES as usize);
                let read = from.by_ref().take(PIECE_BYTES).read_to_end(&mut piece);
                match read.map_err(|e| BlobError::io(name, &e))? {
                    0 => return block_on(upload.complete()).map(|_| ()).map_err(failed),
                    read => length += read as u64,
                }
                hash.update(&piece);
                block_on(upload.put_part(PutPayload::from(piece))).map_err(failed)?;
            }
        };
        if let Err(error) = write() {
            // Pieces that stay belong to no object.
            let _ = block_on(upload.abort());
            return Err(error);
        }
        sync(&self.path(name)).map_err(|e| BlobError::io(name, &e))?;
        Ok((Digest(hash.finalize().into()), length))
    }

    /// Makes the names of all objects below `prefix` durable.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub fn settle(&self, prefix: &str) -> Result<(), BlobError> {
        let failed = |e: std::io::Error| BlobError::io(prefix, &e);
        let mut folders = vec![self.path(prefix)];
        while let Some(folder) = folders.pop() {
            for item in std::fs::read_dir(&folder).map_err(failed)? {
                let item = item.map_err(failed)?;
                if item.file_type().map_err(failed)?.is_dir() {
                    folders.push(item.path());
                }
            }
            sync(&folder).map_err(failed)?;
        }
        Ok(())
    }

    /// Reads an object.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn get(&self, name: &str) -> Result<Bytes, BlobError> {
        let at = object_store::path::Path::from(name);
        block_on(async { self.store.get(&at).await?.bytes().await }).map_err(|e| BlobError::of(name, e))
    }

    /// Reads `range` of an object.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn get_range(&self, name: &str, range: std::ops::Range<u64>) -> Result<Bytes, BlobError> {
        let at = object_store::path::Path::from(name);
        block_on(self.store.get_range(&at, range)).map_err(|e| BlobError::of(name, e))
    }

    /// Its size in bytes; `None` if it is not there.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub fn size(&self, name: &str) -> Result<Option<u64>, BlobError> {
        let at = object_store::path::Path::from(name);
        match block_on(self.store.head(&at)) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(BlobError::of(name, error)),
        }
    }

    /// The names below `prefix`, sorted.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub fn list(&self, prefix: &str) -> Result<Vec<String>, BlobError> {
        let at = object_store::path::Path::from(prefix);
        let listed: Vec<_> =
            block_on(self.store.list(Some(&at)).try_collect()).map_err(|e| BlobError::of(prefix, e))?;
        let mut names: Vec<String> = listed.into_iter().map(|meta| meta.location.to_string()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Makes `to` an object with the bytes of `from`, without a second copy where the disk allows it. Objects are never
    /// written in place, so sharing them is safe. Durable after [`Self::settle`].
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn share(&self, from: &str, to: &str) -> Result<(), BlobError> {
        let (source, target) = (self.path(from), self.path(to));
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder).map_err(|e| BlobError::io(to, &e))?;
        }
        match std::fs::remove_file(&target) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(BlobError::io(to, &error));
            }
            _ => {}
        }
        if std::fs::hard_link(&source, &target).is_err() {
            std::fs::copy(&source, &target).map_err(|e| BlobError::io(from, &e))?;
        }
        sync(&target).map_err(|e| BlobError::io(to, &e))
    }

    /// Removes an object; one that is not there is removed already.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub fn delete(&self, name: &str) -> Result<(), BlobError> {
        let at = object_store::path::Path::from(name);
        match block_on(self.store.delete(&at)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BlobError::of(name, error)),
        }
    }

    /// Removes all below `prefix`, half-written objects of a process that was killed included.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub fn delete_all(&self, prefix: &str) -> Result<(), BlobError> {
        match std::fs::remove_dir_all(self.path(prefix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(BlobError::io(prefix, &error)),
            _ => Ok(()),
        }
    }

    /// Moves a folder, with everything in it.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub fn rename(&self, from: &str, to: &str) -> Result<(), BlobError> {
        let (source, target) = (self.path(from), self.path(to));
        let parents = target.parent().map_or(Ok(()), std::fs::create_dir_all);
        parents.and_then(|()| std::fs::rename(source, target)).map_err(|e| BlobError::io(from, &e))
    }

    /// Puts the folder `new` in the place of `at`, which is moved to `aside` and then removed. After a crash in between,
    /// repeating it completes it. Durable on return.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub fn replace(&self, new: &str, at: &str, aside: &str) -> Result<(), BlobError> {
        self.delete_all(aside)?;
        if self.path(at).exists() {
            self.rename(at, aside)?;
        }
        self.rename(new, at)?;
        for folder in [new, at].into_iter().filter_map(|name| self.path(name).parent().map(Path::to_owned)) {
            sync(&folder).map_err(|e| BlobError::io(at, &e))?;
        }
        self.delete_all(aside)
    }

    /// The names of folders directly below `prefix`, sorted.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub fn folders(&self, prefix: &str) -> Result<Vec<String>, BlobError> {
        let listed = match std::fs::read_dir(self.path(prefix)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| BlobError::io(prefix, &e))?,
        };
        let mut names = Vec::new();
        for item in listed {
            let item = item.map_err(|e| BlobError::io(prefix, &e))?;
            if item.file_type().is_ok_and(|kind| kind.is_dir()) {
                names.push(item.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Keeps a document under the SHA-256 of its exact bytes.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub fn put_document(&self, bytes: impl Into<Bytes>) -> Result<Digest, BlobError> {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        let name = document(&digest);
        if self.size(&name)?.is_none() {
            self.put(&name, bytes)?;
        }
        Ok(digest)
    }

    /// The document with this digest, checked.
    ///
    /// # Errors
    /// [`BlobError::Absent`], [`BlobError::Altered`], [`BlobError::Store`].
    pub fn document(&self, digest: &Digest) -> Result<Bytes, BlobError> {
        let name = document(digest);
        let bytes = self.get(&name)?;
        if Digest::of(&bytes) == *digest { Ok(bytes) } else { Err(BlobError::Altered(name)) }
    }
}

fn sync(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

fn document(digest: &Digest) -> String {
    let hex = digest.to_string();
    format!("{}/{}", &hex[..2], hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_kept_listed_shared_and_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let blobs = Blobs::local(folder.path()).expect("opens");
        blobs.put("a/b/1", Bytes::from_static(b"one")).expect("put");
        blobs.put("a/2", Bytes::from_static(b"two")).expect("put");
        blobs.share("a/b/1", "c/3").expect("shared");
        assert_eq!(blobs.list("a").expect("listed"), ["a/2", "a/b/1"]);
        assert_eq!(blobs.get("c/3").expect("there"), "one");
        assert_eq!(blobs.get_range("a/2", 1..3).expect("there"), "wo");
        assert_eq!(blobs.folders("a").expect("listed"), ["b"]);
        blobs.put("a/b/1", Bytes::from_static(b"new")).expect("replaced");
        assert_eq!(
            blobs.get("c/3").expect("there"),
            "one",
            "a shared object does not change with its origin"
        );
        blobs.delete_all("a").expect("removed");
        assert!(matches!(blobs.get("a/2"), Err(BlobError::Absent(_))));
        assert_eq!(blobs.size("a/2").expect("asked"), None);
    }

    #[test]
    fn a_document_is_what_its_digest_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let blobs = Blobs::local(folder.path()).expect("opens");
        let digest = blobs.put_document("a protocol").expect("kept");
        assert_eq!(blobs.document(&digest).expect("there"), "a protocol");
        std::fs::write(blobs.path(&document(&digest)), "a protocoi").expect("written");
        assert!(matches!(blobs.document(&digest), Err(BlobError::Altered(_))));
    }
}
