//! Finding the inputs of an export: a folder with folders in it, a single zip archive, or a list of spooled uploads.
//!
//! The start of the arrow `export → intake`. Every entry, an archive's members included, gets an ordinal: first inputs, in
//! the order of their paths, then archives that cannot be opened, then what else is left alone. So the same export is always
//! numbered alike, in a folder and pushed to a server, which is sent inputs and archives only and under other names. Reports
//! name files by ordinal and keyed digest, because bulk file names contain patients' names. What is not an input is left
//! alone and listed. Nothing is unpacked to disk.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use zip::{CompressionMethod, ZipArchive};

use super::kinds::{InputKind, Judged, TableFormat, judge, stranger};
use super::limits::Limits;
use super::source::{ByteSource, LocalFile, Packing, RawSource};
use crate::error::ErrorKind;
use crate::mapping::KeyedHasher;

/// The keyed digest of a file's name, written as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NameDigest(pub u64);

impl Serialize for NameDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

/// One input of an export.
#[derive(Clone, Debug)]
pub struct InputFile {
    /// Its place among all entries of the export, from 0.
    pub ordinal: u32,
    /// Keyed digest of its relative path.
    pub name: NameDigest,
    /// What it holds.
    pub kind: InputKind,
    /// Its bytes.
    pub source: ByteSource,
    /// Stored size in bytes (packed, where packed).
    pub bytes: u64,
}

/// An entry that was left alone.
#[derive(Clone, Debug, Serialize)]
pub struct Stranger {
    /// Its place among all entries of the export, from 0.
    pub ordinal: u32,
    /// Keyed digest of its relative path.
    pub name: NameDigest,
    /// Why: a word of [`stranger`].
    pub reason: &'static str,
}

/// What an export holds.
#[derive(Clone, Debug, Default)]
pub struct Export {
    /// The inputs, by ordinal.
    pub inputs: Vec<InputFile>,
    /// What was left alone, by ordinal.
    pub strangers: Vec<Stranger>,
}

impl Export {
    /// Stored bytes of all inputs.
    pub fn bytes(&self) -> u64 {
        self.inputs.iter().map(|input| input.bytes).sum()
    }

    /// The FHIR files, deletions left out.
    pub fn fhir(&self) -> impl Iterator<Item = &InputFile> {
        self.inputs.iter().filter(|input| matches!(input.kind, InputKind::Fhir(_)))
    }

    /// The files of one vocabulary table.
    pub fn vocabulary(&self, wanted: &str) -> impl Iterator<Item = &InputFile> {
        self.inputs
            .iter()
            .filter(move |i| matches!(i.kind, InputKind::Vocabulary { table, .. } if table == wanted))
    }
}

/// Why an export cannot be read at all. Neither a path nor a value is in it.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The folder or archive is not there or cannot be listed.
    #[error("the export cannot be listed ({0}): check that the path exists and may be read")]
    Listing(io::ErrorKind),
    /// There is nothing in it to ingest.
    #[error("the export holds no FHIR NDJSON and no OMOP table ({strangers} other entries were left alone)")]
    Empty {
        /// How many entries were left alone.
        strangers: usize,
    },
    /// More files than the limit.
    #[error("the export holds more than {0} files: split it")]
    TooManyFiles(usize),
    /// The store failed while an input was read.
    #[error("input file {file} could not be read ({kind})")]
    Read {
        /// Its ordinal.
        file: u32,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// The mapper could not go on.
    #[error("the run could not go on: {0}")]
    Mapping(#[from] crate::mapping::StageError),
    /// The list of quarantined records could not be written.
    #[error("the list of quarantined records could not be written ({0})")]
    Quarantine(io::ErrorKind),
}

impl IntakeError {
    /// Which kind of "no" this is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Listing(_) | Self::Empty { .. } | Self::TooManyFiles(_) => ErrorKind::Invalid,
            Self::Read { .. } | Self::Mapping(_) | Self::Quarantine(_) => ErrorKind::Fault,
        }
    }
}

/// One entry as listed: its path relative to the export, and its stored bytes; `Err` says why it is left alone.
#[derive(Clone)]
pub struct Entry {
    /// Relative path, `/` separated.
    pub path: String,
    /// Stored bytes, or why there are none to read.
    pub raw: Result<Arc<dyn RawSource>, &'static str>,
}

/// Finds the inputs below `path`, a folder or a single file (a zip archive, a table, NDJSON).
///
/// # Errors
/// [`IntakeError::Listing`], [`IntakeError::TooManyFiles`], and [`IntakeError::Empty`] where there is nothing to ingest
/// or load, vocabulary tables included.
pub fn discover(path: &Path, limits: &Limits, names: &KeyedHasher) -> Result<Export, IntakeError> {
    classify(entries(path, limits)?, limits, names)
}

/// An entry of an export by name, for whoever holds the export: reports say ordinals only.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// Its place among all entries of the export, from 0.
    pub ordinal: u32,
    /// Its path below the export's own, an archive's members below the archive.
    pub path: String,
    /// The resource type or table that it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// Why it would be left alone: a word of [`stranger`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_alone: Option<&'static str>,
}

/// All entries below `path`, by ordinal.
///
/// # Errors
/// [`IntakeError::Listing`], [`IntakeError::TooManyFiles`].
pub fn list(path: &Path, limits: &Limits) -> Result<Vec<Listed>, IntakeError> {
    let listed = |(ordinal, (path, judged)): (u32, Found)| {
        let (kind, left_alone) = match judged {
            Ok((kind, _)) => (Some(kind.label()), None),
            Err(reason) => (None, Some(reason)),
        };
        Listed { ordinal, path, kind, left_alone }
    };
    Ok((0u32..).zip(judged(entries(path, limits)?, limits)?).map(listed).collect())
}

fn entries(path: &Path, limits: &Limits) -> Result<Vec<Entry>, IntakeError> {
    let listing = |error: io::Error| IntakeError::Listing(error.kind());
    let meta = fs::metadata(path).map_err(listing)?;
    let mut entries = Vec::new();
    if meta.is_dir() {
        walk(path, "", 0, limits, &mut entries).map_err(listing)?;
    } else {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        entries.push(Entry { path: name, raw: Ok(Arc::new(LocalFile::new(path.to_owned(), meta.len()))) });
    }
    Ok(entries)
}

fn walk(dir: &Path, prefix: &str, depth: usize, limits: &Limits, out: &mut Vec<Entry>) -> io::Result<()> {
    for item in fs::read_dir(dir)? {
        let item = item?;
        let path = format!("{prefix}{}", item.file_name().to_string_lossy());
        let kind = item.file_type()?;
        if kind.is_dir() {
            if depth < limits.depth_max {
                walk(&item.path(), &format!("{path}/"), depth + 1, limits, out)?;
            } else {
                out.push(Entry { path, raw: Err(stranger::TOO_DEEP) });
            }
        } else {
            let raw: Result<Arc<dyn RawSource>, _> = match fs::metadata(item.path()) {
                Ok(meta) if meta.is_file() => Ok(Arc::new(LocalFile::new(item.path(), meta.len()))),
                _ => Err(stranger::NOT_A_FILE),
            };
            out.push(Entry { path, raw });
        }
        if out.len() > limits.files_max {
            break;
        }
    }
    Ok(())
}

/// Judges a list of entries: what [`discover`] does after listing, open to uploads that are spooled under other names.
///
/// # Errors
/// [`IntakeError::TooManyFiles`], [`IntakeError::Empty`].
pub fn classify(entries: Vec<Entry>, limits: &Limits, names: &KeyedHasher) -> Result<Export, IntakeError> {
    let mut export = Export::default();
    for (ordinal, (path, judged)) in (0u32..).zip(judged(entries, limits)?) {
        let name = NameDigest(names.row_key("file", &path));
        match judged {
            Err(reason) => export.strangers.push(Stranger { ordinal, name, reason }),
            Ok((kind, source)) => {
                let bytes = source.stored_bytes();
                export.inputs.push(InputFile { ordinal, name, kind, source, bytes });
            }
        }
    }
    if export.inputs.is_empty() {
        return Err(IntakeError::Empty { strangers: export.strangers.len() });
    }
    Ok(export)
}

/// What each entry is, archives' members included, by ordinal. An archive's members stand where the archive does.
fn judged(mut entries: Vec<Entry>, limits: &Limits) -> Result<Vec<Found>, IntakeError> {
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let mut found = Vec::new();
    for entry in entries {
        match entry.raw {
            Err(reason) => found.push((entry.path, Err(reason))),
            Ok(raw) => match judge(&entry.path) {
                (Judged::Stranger(reason), _) => found.push((entry.path, Err(reason))),
                (Judged::Zip, _) => {
                    let first = found.len();
                    members(&entry.path, &raw, limits, &mut found);
                    found[first..].sort_by(|a, b| a.0.cmp(&b.0));
                }
                (Judged::Input(kind), gzip) => {
                    let packing = if gzip { Packing::Gzip } else { Packing::Plain };
                    found.push((entry.path, Ok((kind, ByteSource::new(raw, packing)))));
                }
            },
        }
        if found.len() > limits.files_max {
            return Err(IntakeError::TooManyFiles(limits.files_max));
        }
    }
    prefer_one_form(&mut found);
    found.sort_by_key(|(_, judged)| match judged {
        Ok(_) => 0,
        Err(stranger::ARCHIVE_DAMAGED) => 1,
        Err(_) => 2,
    });
    Ok(found)
}

type Found = (String, Result<(InputKind, ByteSource), &'static str>);

fn members(archive_path: &str, raw: &Arc<dyn RawSource>, limits: &Limits, found: &mut Vec<Found>) {
    let damaged = |found: &mut Vec<Found>| {
        found.push((archive_path.to_owned(), Err(stranger::ARCHIVE_DAMAGED)));
    };
    let Ok(Ok(mut archive)) = raw.open().map(ZipArchive::new) else { return damaged(found) };
    for i in 0..archive.len().min(limits.files_max + 1) {
        let Ok(member) = archive.by_index_raw(i) else { return damaged(found) };
        if member.is_dir() {
            continue;
        }
        let path = format!("{archive_path}/{}", member.name());
        let deflated = match member.compression() {
            CompressionMethod::Stored => Some(false),
            CompressionMethod::Deflated => Some(true),
            _ => None,
        };
        let judged = match (judge(member.name()), deflated) {
            ((Judged::Stranger(reason), _), _) => Err(reason),
            ((Judged::Zip, _), _) | (_, None) => Err(stranger::ARCHIVE_NOT_READ),
            _ if member.encrypted() => Err(stranger::ARCHIVE_NOT_READ),
            ((Judged::Input(kind), gzip), Some(deflated)) => {
                let packing = Packing::Member {
                    start: member.data_start(),
                    stored: member.compressed_size(),
                    deflated,
                    gzip,
                    crc: member.crc32(),
                };
                Ok((kind, ByteSource::new(Arc::clone(raw), packing)))
            }
        };
        found.push((path, judged));
    }
}

/// A data table that is there as Parquet and as text is taken as Parquet; a vocabulary table as text.
fn prefer_one_form(found: &mut [Found]) {
    let mut forms: BTreeSet<(&'static str, bool)> = BTreeSet::new();
    for (_, judged) in found.iter() {
        if let Ok((InputKind::Omop { table, format } | InputKind::Vocabulary { table, format }, _)) = judged {
            forms.insert((table, *format == TableFormat::Parquet));
        }
    }
    for (_, judged) in found.iter_mut() {
        let drop = match judged {
            Ok((InputKind::Omop { table, format: TableFormat::Csv }, _)) => forms.contains(&(*table, true)),
            Ok((InputKind::Vocabulary { table, format: TableFormat::Parquet }, _)) => {
                forms.contains(&(*table, false))
            }
            _ => false,
        };
        if drop {
            *judged = Err(stranger::OTHER_FORM_TAKEN);
        }
    }
}
