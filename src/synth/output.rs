//! The files of an export: one open file for each type, a new part when one is full.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Lines of one type, in files of at most about `limit` bytes.
#[derive(Debug)]
pub struct Sheet {
    dir: PathBuf,
    name: Name,
    out: Option<BufWriter<File>>,
    part: u32,
    in_part: u64,
    limit: u64,
    ending: &'static [u8],
    head: Vec<u8>,
    /// Lines written.
    pub lines: u64,
    /// Bytes written.
    pub bytes: u64,
}

#[derive(Debug)]
enum Name {
    /// `Type.000.ndjson`, `Type.001.ndjson`, …
    Parts(&'static str),
    /// One file.
    Whole(String),
}

/// A part of a bulk export holds about this many bytes.
const PART_BYTES: u64 = 96 << 20;

impl Sheet {
    /// Bulk export files of one resource type; nothing is made before the first line.
    pub fn bulk(dir: &Path, resource: &'static str, ending: &'static [u8]) -> Self {
        Self::new(dir, Name::Parts(resource), PART_BYTES, ending, Vec::new())
    }

    /// One file called `name` that begins with `head`, made even if nothing follows.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn whole(dir: &Path, name: &str, head: &str) -> io::Result<Self> {
        let head = format!("{head}\n").into_bytes();
        let mut sheet = Self::new(dir, Name::Whole(name.to_owned()), u64::MAX, b"\n", head);
        sheet.open()?;
        Ok(sheet)
    }

    fn new(dir: &Path, name: Name, limit: u64, ending: &'static [u8], head: Vec<u8>) -> Self {
        let dir = dir.to_owned();
        Self { dir, name, out: None, part: 0, in_part: 0, limit, ending, head, lines: 0, bytes: 0 }
    }

    /// What every file of it begins with.
    pub fn begin_with(&mut self, head: &[u8]) {
        self.head = head.to_vec();
    }

    fn open(&mut self) -> io::Result<&mut BufWriter<File>> {
        if self.in_part >= self.limit {
            if let Some(mut full) = self.out.take() {
                full.flush()?;
            }
            self.part += 1;
        }
        match &mut self.out {
            Some(_) => {}
            none => {
                let path = match &self.name {
                    Name::Parts(resource) => self.dir.join(format!("{resource}.{:03}.ndjson", self.part)),
                    Name::Whole(name) => self.dir.join(name),
                };
                let mut out = BufWriter::with_capacity(1 << 18, File::create(path)?);
                out.write_all(&self.head)?;
                self.bytes += self.head.len() as u64;
                self.in_part = 0;
                *none = Some(out);
            }
        }
        self.out.as_mut().ok_or_else(|| io::Error::other("no open file"))
    }

    /// Appends a line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn line(&mut self, line: &[u8]) -> io::Result<()> {
        let ending = self.ending;
        let out = self.open()?;
        out.write_all(line)?;
        out.write_all(ending)?;
        let written = (line.len() + ending.len()) as u64;
        self.lines += 1;
        self.bytes += written;
        self.in_part += written;
        Ok(())
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), Write::flush)
    }
}

/// A small file of its own.
///
/// # Errors
/// If it cannot be written.
pub fn small(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    fs::write(dir.join(name), content)
}
