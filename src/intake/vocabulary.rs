//! Vocabularies on disk: loading the OHDSI tables into the data folder, opening them again, and walking down hierarchies.
//!
//! Two files of ours: `vocabulary.idx` (codes, concepts, maps; see `mapping::vocabulary`), held in memory while in use, and
//! `ancestors.idx` (CONCEPT_ANCESTOR as sorted pairs of u32), read where it lies. Both are written beside and renamed, the
//! index last: a crash leaves the vocabulary that was there before, or none.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use almoner_model::Digest;
use serde::Serialize;

use super::discover::{Export, InputFile};
use super::kinds::{InputKind, TableFormat};
use super::limits::Limits;
use crate::error::ErrorKind;
use crate::mapping::vocabulary::{
    BadIndex, VocabularyBuilder, VocabularyError, VocabularyIndex, VocabularyStats,
};

const INDEX: &str = "vocabulary.idx";
const ANCESTORS: &str = "ancestors.idx";

/// Why a vocabulary cannot be loaded or opened.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The tables are not what they should be.
    #[error(transparent)]
    Tables(#[from] VocabularyError),
    /// A table is there as Parquet only.
    #[error("vocabulary table {0} is there as Parquet only: load the CSV files that Athena gives")]
    NotText(&'static str),
    /// The index is damaged.
    #[error(transparent)]
    Index(#[from] BadIndex),
    /// The machine failed.
    #[error("the vocabulary could not be read or written ({0})")]
    Io(io::ErrorKind),
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

impl LoadError {
    /// Which kind of "no" this is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Tables(_) | Self::NotText(_) => ErrorKind::Invalid,
            Self::Index(_) | Self::Io(_) => ErrorKind::Fault,
        }
    }
}

/// What was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// Counts and version.
    #[serde(flatten)]
    pub stats: VocabularyStats,
    /// Ancestor pairs of different concepts.
    pub ancestors: u64,
    /// SHA-256 of the index: names this vocabulary in manifests.
    pub sha256: Digest,
}

/// Loads the vocabulary tables of `export` into the folder `into`, replacing what was there.
///
/// # Errors
/// [`LoadError`]; then what was there before still is.
pub fn load(export: &Export, limits: &Limits, into: &Path) -> Result<LoadReport, LoadError> {
    let mut builder = VocabularyBuilder::default();
    for input in text_files(export, "concept")? {
        builder.concepts(input.source.open(limits)?)?;
    }
    for input in text_files(export, "concept_relationship")? {
        builder.relationships(input.source.open(limits)?)?;
    }
    for input in text_files(export, "source_to_concept_map")? {
        builder.source_map(input.source.open(limits)?)?;
    }
    for input in text_files(export, "vocabulary")? {
        builder.vocabularies(input.source.open(limits)?)?;
    }
    let (bytes, stats) = builder.finish()?;
    let mut pairs = Vec::new();
    for input in text_files(export, "concept_ancestor")? {
        pairs.extend(VocabularyBuilder::ancestors(input.source.open(limits)?)?);
    }
    pairs.sort_unstable();
    pairs.dedup();
    fs::create_dir_all(into)?;
    replace(into, ANCESTORS, |out| {
        pairs.iter().try_for_each(|(above, below)| {
            out.write_all(&above.to_le_bytes())?;
            out.write_all(&below.to_le_bytes())
        })
    })?;
    replace(into, INDEX, |out| out.write_all(&bytes))?;
    Ok(LoadReport { stats, ancestors: pairs.len() as u64, sha256: Digest::of(&bytes) })
}

fn text_files<'e>(export: &'e Export, table: &'static str) -> Result<Vec<&'e InputFile>, LoadError> {
    let files: Vec<&InputFile> = export.vocabulary(table).collect();
    let text =
        |input: &&InputFile| matches!(input.kind, InputKind::Vocabulary { format: TableFormat::Csv, .. });
    if files.iter().all(text) { Ok(files) } else { Err(LoadError::NotText(table)) }
}

/// Writes a file beside and renames it into place, durably.
fn replace(
    dir: &Path,
    name: &str,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let beside = dir.join(format!("{name}.new"));
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&beside)?);
    write(&mut out)?;
    out.into_inner().map_err(|e| e.into_error())?.sync_all()?;
    fs::rename(&beside, dir.join(name))?;
    File::open(dir)?.sync_all()
}

/// A loaded vocabulary: answers about codes, and descendants of concepts.
pub struct LoadedVocabulary {
    /// Codes, concepts and maps.
    pub index: VocabularyIndex,
    /// Concept hierarchies.
    pub ancestors: Ancestors,
    /// SHA-256 of the index.
    pub sha256: Digest,
}

impl fmt::Debug for LoadedVocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.index, f)
    }
}

/// Opens the vocabulary in `dir`; `None` if none was loaded.
///
/// # Errors
/// [`LoadError::Index`] if it is damaged, [`LoadError::Io`].
pub fn open(dir: &Path) -> Result<Option<LoadedVocabulary>, LoadError> {
    let mut file = match File::open(dir.join(INDEX)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let sha256 = Digest::of(&bytes);
    let index = VocabularyIndex::from_bytes(bytes)?;
    Ok(Some(LoadedVocabulary { index, ancestors: Ancestors::open(&dir.join(ANCESTORS))?, sha256 }))
}

/// CONCEPT_ANCESTOR, read where it lies.
#[derive(Debug)]
pub struct Ancestors {
    file: File,
    pairs: u64,
}

const PAIR: u64 = 8;

impl Ancestors {
    fn open(path: &Path) -> Result<Self, LoadError> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        if !bytes.is_multiple_of(PAIR) {
            return Err(BadIndex.into());
        }
        Ok(Self { file, pairs: bytes / PAIR })
    }

    fn pair(&self, i: u64) -> io::Result<(u32, u32)> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, i * PAIR)?;
        let [a, b, c, d, e, f, g, h] = bytes;
        Ok((u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])))
    }

    /// Whether there is a hierarchy at all.
    pub const fn is_empty(&self) -> bool {
        self.pairs == 0
    }

    /// The concept itself and all its descendants, ascending.
    ///
    /// # Errors
    /// [`LoadError::Io`].
    pub fn descendants(&self, concept: i64) -> Result<Vec<i64>, LoadError> {
        let mut found = vec![concept];
        let Ok(above) = u32::try_from(concept) else { return Ok(found) };
        let (mut low, mut high) = (0, self.pairs);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.pair(middle)?.0 < above { low = middle + 1 } else { high = middle }
        }
        for i in low..self.pairs {
            let (ancestor, descendant) = self.pair(i)?;
            if ancestor != above {
                break;
            }
            found.push(i64::from(descendant));
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}
