//! The spool: uploaded files at rest, encrypted under a key that only the pushing client keeps.
//!
//! A file is a row of sealed chunks: 12 bytes nonce, ciphertext of 1 MiB (the last may be shorter), 16 bytes tag, by
//! AES-256-GCM under a key of this file (HKDF-SHA256 of the client's key, upload and ordinal), with the chunk's index and
//! the file's declared size as associated data. So a chunk cannot stand in another place, in another file, or in a file of
//! another length, and a file that lacks its end does not read as whole.
//!
//! Crash story: only whole chunks count. If the process dies while a chunk is written, its partial bytes are cut off when
//! the upload goes on, and the client sends that chunk again. What a request acknowledged was synced first. A tail that
//! power loss left damaged fails its tag when the upload is verified, and the file starts again.
//!
//! It does not know what the bytes are, and it never sees a key that it could keep.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use almoner_model::{Digest, Entropy};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::intake::source::{RawSource, ReadSeek};

/// Bytes of an upload in one sealed chunk.
pub const CHUNK: u64 = 1 << 20;
const OVERHEAD: u64 = 12 + 16;
const SEALED: u64 = CHUNK + OVERHEAD;

/// A client's key. Wiped when dropped; never stored, never printed.
#[derive(Clone)]
pub struct UploadKey(Zeroizing<[u8; 32]>);

impl UploadKey {
    /// From its bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// What the server keeps, to tell a wrong key before anything is written.
    pub fn check(&self, upload: &str) -> Digest {
        Digest::of(*self.derive(&["check", upload]))
    }

    fn derive(&self, info: &[&str]) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0; 32]);
        let info = info.join("\0");
        Hkdf::<Sha256>::new(Some(b"almoner/spool/v1"), &*self.0)
            .expand(info.as_bytes(), out.as_mut_slice())
            .expect("32 bytes are within HKDF-SHA256's limit");
        out
    }
}

/// One file of an upload.
#[derive(Clone)]
pub struct SpoolFile {
    path: PathBuf,
    cipher: Aes256Gcm,
    size: u64,
}

impl SpoolFile {
    /// The file at `path` that will have `size` bytes.
    pub fn new(path: PathBuf, key: &UploadKey, upload: &str, ordinal: u32, size: u64) -> Self {
        let key = key.derive(&["file", upload, &ordinal.to_string()]);
        Self { path, cipher: Aes256Gcm::new(key.as_slice().into()), size }
    }

    /// Declared bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are here.
    ///
    /// # Errors
    /// If the file cannot be looked at.
    pub fn received(&self) -> io::Result<u64> {
        received(&self.path, self.size)
    }

    /// Goes on writing at `offset`, which must be what [`SpoolFile::received`] says.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] at another offset; whatever the disk says.
    pub fn write_at(&self, offset: u64) -> io::Result<SpoolWriter> {
        if self.received()? != offset {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&self.path)?;
        if offset < self.size {
            file.set_len(offset / CHUNK * SEALED)?;
        }
        Ok(SpoolWriter { of: self.clone(), file, offset, buffer: Zeroizing::new(Vec::new()) })
    }

    /// Forgets what is here.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn reset(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Whether all bytes are here, authentic, and have this digest. `advance` hears how many were read.
    ///
    /// # Errors
    /// Whatever the disk says; damage is `false`, not an error.
    pub fn verify(&self, expected: &Digest, mut advance: impl FnMut(u64)) -> io::Result<bool> {
        if self.received()? != self.size {
            return Ok(false);
        }
        let mut reader = SpoolReader::open(self.clone())?;
        let mut hash = Sha256::new();
        let mut buffer = Zeroizing::new(vec![0; CHUNK as usize]);
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(*expected.as_bytes() == <[u8; 32]>::from(hash.finalize())),
                Ok(n) => {
                    hash.update(&buffer[..n]);
                    advance(n as u64);
                }
                Err(e) if e.kind() == io::ErrorKind::InvalidData => return Ok(false),
                Err(e) => return Err(e),
            }
        }
    }

    fn associated(&self, chunk: u64) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&chunk.to_be_bytes());
        out[8..].copy_from_slice(&self.size.to_be_bytes());
        out
    }
}

/// Bytes that are at `path` of a file that will have `size`.
///
/// # Errors
/// If the file cannot be looked at.
pub fn received(path: &std::path::Path, size: u64) -> io::Result<u64> {
    let stored = match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
        other => other?.len(),
    };
    let tail = size % CHUNK;
    let whole = size / CHUNK * SEALED + if tail == 0 { 0 } else { tail + OVERHEAD };
    Ok(if stored >= whole { size } else { (stored / SEALED * CHUNK).min(size / CHUNK * CHUNK) })
}

/// Writes an upload's bytes as they come.
pub struct SpoolWriter {
    of: SpoolFile,
    file: File,
    offset: u64,
    buffer: Zeroizing<Vec<u8>>,
}

impl SpoolWriter {
    /// Takes more bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] beyond the declared size; whatever the disk says.
    pub fn push(&mut self, mut bytes: &[u8], entropy: &dyn Entropy) -> io::Result<()> {
        while !bytes.is_empty() {
            let chunk_bytes = CHUNK.min(self.of.size - self.offset);
            if chunk_bytes == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let wanted = chunk_bytes as usize - self.buffer.len();
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() as u64 == chunk_bytes {
                self.seal(entropy)?;
            }
        }
        Ok(())
    }

    /// Makes what was taken durable; bytes of an unfinished chunk are dropped. Returns the bytes that are here now.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn finish(self) -> io::Result<u64> {
        self.file.sync_data()?;
        Ok(self.offset)
    }

    fn seal(&mut self, entropy: &dyn Entropy) -> io::Result<()> {
        let chunk = self.offset / CHUNK;
        let mut nonce = [0; 12];
        entropy.fill(&mut nonce);
        let aad = self.of.associated(chunk);
        let sealed = self
            .of
            .cipher
            .encrypt(Nonce::from_slice(&nonce), Payload { msg: &self.buffer, aad: &aad })
            .map_err(|_| io::Error::other("a chunk could not be sealed"))?;
        let at = chunk * SEALED;
        self.file.write_all_at(&nonce, at)?;
        self.file.write_all_at(&sealed, at + 12)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.zeroize();
        Ok(())
    }
}

/// Reads an upload back, from any position.
pub struct SpoolReader {
    of: SpoolFile,
    file: File,
    position: u64,
    chunk: Option<u64>,
    open: Zeroizing<Vec<u8>>,
}

impl SpoolReader {
    /// From the start.
    ///
    /// # Errors
    /// If the file is not there.
    pub fn open(of: SpoolFile) -> io::Result<Self> {
        let file = if of.size == 0 && !of.path.exists() {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&of.path)?
        } else {
            File::open(&of.path)?
        };
        Ok(Self { of, file, position: 0, chunk: None, open: Zeroizing::new(Vec::new()) })
    }

    fn load(&mut self, chunk: u64) -> io::Result<()> {
        if self.chunk == Some(chunk) {
            return Ok(());
        }
        let bytes = CHUNK.min(self.of.size - chunk * CHUNK) + OVERHEAD;
        let mut sealed = vec![0; bytes as usize];
        self.file.read_exact_at(&mut sealed, chunk * SEALED)?;
        let (nonce, text) = sealed.split_at(12);
        let aad = self.of.associated(chunk);
        let open = self.of.cipher.decrypt(Nonce::from_slice(nonce), Payload { msg: text, aad: &aad });
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a spooled chunk is damaged");
        self.open = Zeroizing::new(open.map_err(|_| damaged())?);
        self.chunk = Some(chunk);
        Ok(())
    }
}

impl Read for SpoolReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.of.size || buffer.is_empty() {
            return Ok(0);
        }
        self.load(self.position / CHUNK)?;
        let from = (self.position % CHUNK) as usize;
        let n = buffer.len().min(self.open.len() - from);
        buffer[..n].copy_from_slice(&self.open[from..from + n]);
        self.position += n as u64;
        Ok(n)
    }
}

impl Seek for SpoolReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::End(by) => (self.of.size, by),
            SeekFrom::Current(by) => (self.position, by),
        };
        self.position = base.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl RawSource for SpoolFile {
    fn open(&self) -> io::Result<Box<dyn ReadSeek>> {
        Ok(Box::new(SpoolReader::open(self.clone())?))
    }

    fn bytes(&self) -> u64 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use almoner_model::SeededEntropy;
    use std::io::Write as _;

    fn bytes(n: usize) -> Vec<u8> {
        (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    fn file(dir: &tempfile::TempDir, key: u8, size: u64) -> SpoolFile {
        SpoolFile::new(dir.path().join("0"), &UploadKey::new([key; 32]), "upl_1", 0, size)
    }

    fn write(file: &SpoolFile, offset: u64, bytes: &[u8]) -> io::Result<u64> {
        let entropy = SeededEntropy::new(offset);
        let mut writer = file.write_at(offset)?;
        for piece in bytes.chunks(70_001) {
            writer.push(piece, &entropy)?;
        }
        writer.finish()
    }

    #[test]
    fn what_was_pushed_in_pieces_reads_back_and_nothing_is_in_clear() {
        for size in [0, 1, CHUNK as usize - 1, CHUNK as usize, 3 * CHUNK as usize + 12_345] {
            let dir = tempfile::tempdir().expect("folder");
            let (file, data) = (file(&dir, 1, size as u64), bytes(size));
            let mut at = 0;
            while at < size as u64 {
                // Each request ends in the middle of a chunk, as when a connection breaks.
                let end = (at as usize + CHUNK as usize + 500_000).min(size);
                at = write(&file, at, &data[at as usize..end]).expect("written");
                assert_eq!(file.received().expect("length"), at);
            }
            let mut read = Vec::new();
            file.open().expect("opens").read_to_end(&mut read).expect("reads");
            assert!(read == data, "size {size}");
            assert!(file.verify(&Digest::of(&data), |_| {}).expect("verifies"));
            assert!(!file.verify(&Digest::of(b"other"), |_| {}).expect("verifies"));
            if size > 100 {
                let stored = fs::read(dir.path().join("0")).expect("stored");
                assert!(memchr::memmem::find(&stored, &data[..64]).is_none(), "no clear text at rest");
            }
        }
    }

    #[test]
    fn a_torn_chunk_is_cut_off_and_sent_again() {
        let dir = tempfile::tempdir().expect("folder");
        let data = bytes(2 * CHUNK as usize + 77);
        let file = file(&dir, 1, data.len() as u64);
        write(&file, 0, &data[..CHUNK as usize]).expect("written");
        let path = dir.path().join("0");
        let torn = File::options().append(true).open(&path).expect("file");
        (&torn).write_all(&[9; 5_000]).expect("as a kill leaves it");
        assert_eq!(file.received().expect("length"), CHUNK);
        assert!(file.write_at(0).is_err(), "only at what is here");
        write(&file, CHUNK, &data[CHUNK as usize..]).expect("goes on");
        assert!(file.verify(&Digest::of(&data), |_| {}).expect("verifies"));
        assert!(write(&file, data.len() as u64, b"more").is_err(), "not beyond the declared size");
    }

    #[test]
    fn another_key_or_a_flipped_bit_does_not_read() {
        let dir = tempfile::tempdir().expect("folder");
        let data = bytes(CHUNK as usize + 9);
        let right = file(&dir, 1, data.len() as u64);
        write(&right, 0, &data).expect("written");
        assert!(!file(&dir, 2, data.len() as u64).verify(&Digest::of(&data), |_| {}).expect("looked"));
        let path = dir.path().join("0");
        let mut stored = fs::read(&path).expect("stored");
        let last = stored.len() - 1;
        stored[last] ^= 1;
        fs::write(&path, &stored).expect("tampered");
        assert!(!right.verify(&Digest::of(&data), |_| {}).expect("looked"));
        right.reset().expect("reset");
        assert_eq!(right.received().expect("length"), 0);
    }

    #[test]
    fn reading_seeks() {
        let dir = tempfile::tempdir().expect("folder");
        let data = bytes(2 * CHUNK as usize);
        let file = file(&dir, 1, data.len() as u64);
        write(&file, 0, &data).expect("written");
        let mut reader = file.open().expect("opens");
        let mut four = [0; 4];
        reader.seek(SeekFrom::End(-4)).expect("seeks");
        reader.read_exact(&mut four).expect("reads");
        assert_eq!(four, data[data.len() - 4..]);
        reader.seek(SeekFrom::Start(CHUNK - 2)).expect("seeks");
        reader.read_exact(&mut four).expect("reads over the border");
        assert_eq!(four, data[CHUNK as usize - 2..CHUNK as usize + 2]);
    }
}
