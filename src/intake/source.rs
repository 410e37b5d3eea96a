//! Where an input's bytes come from: a plain file, gzip, a zip member, or whatever an upload was spooled to.
//!
//! The first step of the arrow `export → intake`. A [`ByteSource`] can be opened any number of times and always streams;
//! expansion is watched while it goes on (a bomb is stopped, not sized up beforehand), and an archive member's CRC is
//! checked at its end. It does not know what the bytes mean.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Crc;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder};

use super::limits::Limits;
use crate::mapping::outcome::{Rule, rule};

/// Bytes that can be read and sought in.
pub trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// Stored bytes of one input: a file on disk, or a spooled upload that is decrypted as it is read.
pub trait RawSource: Send + Sync {
    /// Opens from the start.
    ///
    /// # Errors
    /// Whatever the store says. An error here is the machine's fault, not the data's.
    fn open(&self) -> io::Result<Box<dyn ReadSeek>>;

    /// Stored size in bytes.
    fn bytes(&self) -> u64;

    /// The path, where this is a plain local file.
    fn local_path(&self) -> Option<&Path> {
        None
    }
}

/// A plain local file.
#[derive(Debug)]
pub struct LocalFile {
    path: PathBuf,
    bytes: u64,
}

impl LocalFile {
    /// The file at `path`, of `bytes` bytes.
    pub const fn new(path: PathBuf, bytes: u64) -> Self {
        Self { path, bytes }
    }
}

impl RawSource for LocalFile {
    fn open(&self) -> io::Result<Box<dyn ReadSeek>> {
        Ok(Box::new(File::open(&self.path)?))
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn local_path(&self) -> Option<&Path> {
        Some(&self.path)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Member { start: u64, stored: u64, deflated: bool, gzip: bool, crc: u32 },
}

/// An input's bytes, unpacked as they are read. Cheap to clone.
#[derive(Clone)]
pub struct ByteSource {
    raw: Arc<dyn RawSource>,
    packing: Packing,
}

impl fmt::Debug for ByteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByteSource({:?}, …)", self.packing)
    }
}

impl ByteSource {
    pub(super) fn new(raw: Arc<dyn RawSource>, packing: Packing) -> Self {
        Self { raw, packing }
    }

    /// Stored size in bytes (packed, where packed).
    pub fn stored_bytes(&self) -> u64 {
        match self.packing {
            Packing::Member { stored, .. } => stored,
            _ => self.raw.bytes(),
        }
    }

    /// Opens for streaming.
    ///
    /// # Errors
    /// An error of the store. Faults of the container come later, as [`SourceFault`]s inside the read errors.
    pub fn open(&self, limits: &Limits) -> io::Result<Box<dyn Read + Send>> {
        let mut raw = self.raw.open()?;
        let guard = Guard {
            stored: self.stored_bytes().max(1),
            free: limits.expansion_free_bytes,
            ratio: limits.expansion_ratio_max,
        };
        Ok(match self.packing {
            Packing::Plain => Box::new(raw),
            Packing::Gzip => {
                Box::new(Unpacked::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 17, raw)), guard))
            }
            Packing::Member { start, stored, deflated, gzip, crc } => {
                raw.seek(SeekFrom::Start(start))?;
                let stored = BufReader::with_capacity(1 << 17, raw.take(stored));
                let member: Box<dyn Read + Send> =
                    if deflated { Box::new(DeflateDecoder::new(stored)) } else { Box::new(stored) };
                let member = Checked { inner: member, crc: Crc::new(), expected: crc };
                if gzip {
                    let member = Unpacked::new(member, guard);
                    let inner = MultiGzDecoder::new(BufReader::with_capacity(1 << 17, member));
                    Box::new(Unpacked::new(inner, guard))
                } else {
                    Box::new(Unpacked::new(member, guard))
                }
            }
        })
    }

    /// Whether the bytes are stored as they are.
    pub fn is_plain(&self) -> bool {
        self.packing == Packing::Plain
    }

    /// The plain local file behind this source, if it is one.
    pub fn local_path(&self) -> Option<&Path> {
        if self.packing == Packing::Plain { self.raw.local_path() } else { None }
    }

    /// Opens for reading at any position, where the bytes are stored as they are. `None` for packed inputs.
    ///
    /// # Errors
    /// An error of the store.
    pub fn open_seekable(&self) -> io::Result<Option<Box<dyn ReadSeek>>> {
        if self.packing == Packing::Plain { self.raw.open().map(Some) } else { Ok(None) }
    }

    /// All bytes at once: for formats that are read from their end.
    ///
    /// # Errors
    /// An error of the store, or a [`SourceFault`] where the container is broken or holds more than
    /// [`Limits::member_bytes_max`].
    pub fn read_all(&self, limits: &Limits) -> io::Result<Bytes> {
        let mut out = Vec::new();
        self.open(limits)?.take(limits.member_bytes_max + 1).read_to_end(&mut out)?;
        if out.len() as u64 > limits.member_bytes_max {
            return Err(SourceFault(rule::EXPANSION_LIMIT).into());
        }
        Ok(out.into())
    }
}

/// A fault of the data's container, carried inside an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceFault(pub Rule);

impl From<SourceFault> for io::Error {
    fn from(fault: SourceFault) -> Self {
        Self::new(io::ErrorKind::InvalidData, fault)
    }
}

impl SourceFault {
    /// The rule that the container broke; `None` if the error is the machine's.
    pub fn rule_of(error: &io::Error) -> Option<Rule> {
        error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()).map(|fault| fault.0)
    }
}

#[derive(Clone, Copy)]
struct Guard {
    stored: u64,
    free: u64,
    ratio: u64,
}

/// Watches expansion and turns a decoder's complaints into [`SourceFault`]s.
struct Unpacked<R> {
    inner: R,
    guard: Guard,
    expanded: u64,
}

impl<R> Unpacked<R> {
    const fn new(inner: R, guard: Guard) -> Self {
        Self { inner, guard, expanded: 0 }
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer).map_err(|error| {
            if SourceFault::rule_of(&error).is_some() {
                return error;
            }
            match error.kind() {
                io::ErrorKind::UnexpectedEof => SourceFault(rule::TRUNCATED).into(),
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                    SourceFault(rule::CORRUPT_CONTAINER).into()
                }
                _ => error,
            }
        })?;
        self.expanded += n as u64;
        let over = self.expanded > self.guard.free && self.expanded / self.guard.ratio > self.guard.stored;
        if over { Err(SourceFault(rule::EXPANSION_LIMIT).into()) } else { Ok(n) }
    }
}

/// An archive member whose CRC-32 is compared at its end.
struct Checked<R> {
    inner: R,
    crc: Crc,
    expected: u32,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.crc.update(&buffer[..n]);
        if n == 0 && !buffer.is_empty() && self.crc.sum() != self.expected {
            return Err(SourceFault(rule::CORRUPT_CONTAINER).into());
        }
        Ok(n)
    }
}
