//! Building a [`VocabularyIndex`](super::VocabularyIndex) from the OHDSI vocabulary tables.
//!
//! Athena writes them with tabs and no quoting; others write them with commas and quotes. Headers are found by name in any
//! case. Of the codes only those of systems that source values can name are kept (`almoner_model::Vocabulary`); of the
//! concepts all, because maps lead anywhere. Reading is from any `Read`; files are somebody else's business.

use std::collections::HashMap;
use std::io::Read;

use almoner_model::Vocabulary;
use csv::{ByteRecord, ReaderBuilder, StringRecord};
use serde::Serialize;

use super::Domain;
use super::index::{MAGIC, STANDARD, code_hash};

/// Why vocabulary tables cannot be read. Vocabularies are public; still only positions are named.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    /// The file could not be read, or is no delimited text.
    #[error("vocabulary table {table}: cannot be read at row {row}")]
    Unreadable {
        /// CDM table.
        table: &'static str,
        /// Row, the header being 0.
        row: u64,
    },
    /// A needed column is not in the header.
    #[error("vocabulary table {table}: column {column} is missing")]
    Column {
        /// CDM table.
        table: &'static str,
        /// CDM column.
        column: &'static str,
    },
    /// There are no concepts: nothing was loaded.
    #[error(
        "there is no CONCEPT table with concepts: export the vocabulary from Athena with its CONCEPT.csv"
    )]
    Empty,
}

/// What was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VocabularyStats {
    /// Version of the vocabulary, as VOCABULARY says it.
    pub version: String,
    /// Concepts.
    pub concepts: u64,
    /// Codes that source values can name.
    pub codes: u64,
    /// `Maps to` between different concepts.
    pub maps: u64,
    /// Codes of local systems in SOURCE_TO_CONCEPT_MAP.
    pub local: u64,
    /// Rows that were passed over: invalid, or with ids beyond 32 bits.
    pub skipped: u64,
}

/// Collects rows of vocabulary tables, in any order of tables. About 30 bytes a concept are held.
#[derive(Default)]
pub struct VocabularyBuilder {
    codes: Vec<(u64, u32)>,
    concepts: Vec<(u32, u8)>,
    maps: Vec<(u32, u32)>,
    local: Vec<(u64, u32)>,
    version: String,
    skipped: u64,
}

/// Rows of a delimited table, by named columns.
pub(crate) struct Rows<R> {
    table: &'static str,
    reader: csv::Reader<R>,
    columns: Vec<usize>,
    record: ByteRecord,
    row: u64,
}

/// The delimiter of a header line: a tab if there is one, else a semicolon or comma, whichever is more frequent.
pub fn delimiter_of(header: &[u8]) -> u8 {
    let count = |wanted: u8| header.iter().filter(|b| **b == wanted).count();
    if count(b'\t') > 0 {
        b'\t'
    } else if count(b';') > count(b',') {
        b';'
    } else {
        b','
    }
}

impl<R: Read> Rows<std::io::Chain<std::io::Cursor<Vec<u8>>, R>> {
    pub(crate) fn open(
        table: &'static str,
        mut source: R,
        columns: &[&'static str],
    ) -> Result<Self, VocabularyError> {
        let mut head = vec![0; 4096];
        let mut filled = 0;
        while filled < head.len() && !head[..filled].contains(&b'\n') {
            match source.read(&mut head[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(_) => return Err(VocabularyError::Unreadable { table, row: 0 }),
            }
        }
        head.truncate(filled);
        if head.starts_with(b"\xef\xbb\xbf") {
            head.drain(..3);
        }
        let header = head.split(|b| *b == b'\n').next().unwrap_or_default();
        let delimiter = delimiter_of(header);
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .quoting(delimiter != b'\t')
            .flexible(true)
            .from_reader(std::io::Cursor::new(head).chain(source));
        let header: StringRecord =
            reader.headers().map_err(|_| VocabularyError::Unreadable { table, row: 0 })?.clone();
        let find = |column: &&'static str| {
            let at = header.iter().position(|name| name.trim().eq_ignore_ascii_case(column));
            at.ok_or(VocabularyError::Column { table, column })
        };
        let columns = columns.iter().map(find).collect::<Result<_, _>>()?;
        Ok(Self { table, reader, columns, record: ByteRecord::new(), row: 0 })
    }
}

impl<R: Read> Rows<R> {
    pub(crate) fn next(&mut self) -> Result<bool, VocabularyError> {
        self.row += 1;
        let unreadable = VocabularyError::Unreadable { table: self.table, row: self.row };
        self.reader.read_byte_record(&mut self.record).map_err(|_| unreadable)
    }

    pub(crate) fn text(&self, column: usize) -> &str {
        let field = self.record.get(self.columns[column]).unwrap_or_default();
        std::str::from_utf8(field).unwrap_or_default().trim_end_matches('\r')
    }

    pub(crate) fn id(&self, column: usize) -> Option<u32> {
        self.text(column).parse().ok()
    }
}

impl VocabularyBuilder {
    /// Takes a CONCEPT table.
    ///
    /// # Errors
    /// [`VocabularyError`].
    pub fn concepts(&mut self, source: impl Read) -> Result<(), VocabularyError> {
        let columns = [
            "concept_id",
            "domain_id",
            "vocabulary_id",
            "standard_concept",
            "concept_code",
            "invalid_reason",
        ];
        let mut rows = Rows::open("concept", source, &columns)?;
        // Where a code was reused, the valid concept has it, then the lower id.
        let mut claimed: HashMap<u64, (bool, u32)> = HashMap::new();
        while rows.next()? {
            let Some(concept) = rows.id(0) else {
                self.skipped += 1;
                continue;
            };
            let domain = Domain::from_id(rows.text(1)) as u8;
            let standard = if rows.text(3) == "S" { STANDARD } else { 0 };
            self.concepts.push((concept, domain | standard));
            if Vocabulary::from_id(rows.text(2)).is_some() && concept != 0 {
                let hash = code_hash(rows.text(2), rows.text(4));
                let claim = (!rows.text(5).is_empty(), concept);
                claimed.entry(hash).and_modify(|held| *held = claim.min(*held)).or_insert(claim);
            }
        }
        self.codes.extend(claimed.into_iter().map(|(hash, (_, concept))| (hash, concept)));
        Ok(())
    }

    /// Takes a CONCEPT_RELATIONSHIP table: its valid `Maps to` rows.
    ///
    /// # Errors
    /// [`VocabularyError`].
    pub fn relationships(&mut self, source: impl Read) -> Result<(), VocabularyError> {
        let columns = ["relationship_id", "concept_id_1", "concept_id_2", "invalid_reason"];
        let mut rows = Rows::open("concept_relationship", source, &columns)?;
        while rows.next()? {
            if rows.text(0) != "Maps to" || !rows.text(3).is_empty() {
                continue;
            }
            match (rows.id(1), rows.id(2)) {
                (Some(from), Some(to)) if from != to => self.maps.push((from, to)),
                (Some(_), Some(_)) => {}
                _ => self.skipped += 1,
            }
        }
        Ok(())
    }

    /// Takes a SOURCE_TO_CONCEPT_MAP table: its valid rows.
    ///
    /// # Errors
    /// [`VocabularyError`].
    pub fn source_map(&mut self, source: impl Read) -> Result<(), VocabularyError> {
        let columns = ["source_code", "source_vocabulary_id", "target_concept_id", "invalid_reason"];
        let mut rows = Rows::open("source_to_concept_map", source, &columns)?;
        while rows.next()? {
            match rows.id(2) {
                Some(target) if target != 0 && rows.text(3).is_empty() => {
                    self.local.push((code_hash(rows.text(1), rows.text(0)), target));
                }
                _ => self.skipped += 1,
            }
        }
        Ok(())
    }

    /// Takes a VOCABULARY table, for the version.
    ///
    /// # Errors
    /// [`VocabularyError`].
    pub fn vocabularies(&mut self, source: impl Read) -> Result<(), VocabularyError> {
        let mut rows = Rows::open("vocabulary", source, &["vocabulary_id", "vocabulary_version"])?;
        while rows.next()? {
            if rows.text(0) == "None" {
                self.version = rows.text(1).chars().take(100).collect();
            }
        }
        Ok(())
    }

    /// The pairs of a CONCEPT_ANCESTOR table: ancestor, descendant. A concept is not its own descendant here.
    ///
    /// # Errors
    /// [`VocabularyError`].
    pub fn ancestors(source: impl Read) -> Result<Vec<(u32, u32)>, VocabularyError> {
        let columns = ["ancestor_concept_id", "descendant_concept_id"];
        let mut rows = Rows::open("concept_ancestor", source, &columns)?;
        let mut pairs = Vec::new();
        while rows.next()? {
            if let (Some(above), Some(below)) = (rows.id(0), rows.id(1))
                && above != below
            {
                pairs.push((above, below));
            }
        }
        Ok(pairs)
    }

    /// The index and what is in it. The same tables give the same bytes.
    ///
    /// # Errors
    /// [`VocabularyError::Empty`].
    pub fn finish(mut self) -> Result<(Vec<u8>, VocabularyStats), VocabularyError> {
        if self.concepts.iter().all(|(concept, _)| *concept == 0) {
            return Err(VocabularyError::Empty);
        }
        sort(&mut self.codes, |record| record.0);
        sort(&mut self.concepts, |record| record.0);
        sort(&mut self.maps, |record| *record);
        sort(&mut self.local, |record| record.0);
        let lengths =
            [self.codes.len(), self.concepts.len(), self.maps.len(), self.local.len(), self.version.len()];
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        for length in lengths {
            out.extend_from_slice(&(length as u64).to_le_bytes());
        }
        let hashed = |out: &mut Vec<u8>, records: &[(u64, u32)]| {
            for (hash, concept) in records {
                out.extend_from_slice(&hash.to_le_bytes());
                out.extend_from_slice(&concept.to_le_bytes());
            }
        };
        hashed(&mut out, &self.codes);
        for (concept, flags) in &self.concepts {
            out.extend_from_slice(&concept.to_le_bytes());
            out.push(*flags);
        }
        for (from, to) in &self.maps {
            out.extend_from_slice(&from.to_le_bytes());
            out.extend_from_slice(&to.to_le_bytes());
        }
        hashed(&mut out, &self.local);
        out.extend_from_slice(self.version.as_bytes());
        let stats = VocabularyStats {
            version: self.version,
            concepts: lengths[1] as u64,
            codes: lengths[0] as u64,
            maps: lengths[2] as u64,
            local: lengths[3] as u64,
            skipped: self.skipped,
        };
        Ok((out, stats))
    }
}

/// Sorts and keeps the first record of each key.
fn sort<T: Ord + Copy, K: Ord>(records: &mut Vec<T>, key: impl Fn(&T) -> K) {
    records.sort_unstable();
    records.dedup_by(|a, b| key(a) == key(b));
}
