//! The vocabulary index: one block of bytes, read where it lies.
//!
//! Layout, all numbers little-endian: the magic `ALMVOC01`; five section lengths in records (u64); then the sections,
//! each sorted, so that every question is a binary search:
//!
//! | section | record | sorted by |
//! |---|---|---|
//! | codes | hash of (vocabulary_id, code): u64, concept: u32 | hash |
//! | concepts | concept: u32, domain and standard flag: u8 | concept |
//! | maps | from: u32, to: u32 (`Maps to` between different concepts) | from, to |
//! | local | hash of (source_vocabulary_id, source_code): u64, concept: u32 | hash |
//! | version | UTF-8 bytes: u8 | |
//!
//! Hashes are SipHash-2-4 under a fixed key. Among ten million codes, two share a hash with a probability of 3 in a
//! million; a code that is in no vocabulary meets another's hash less than once in 10¹² questions.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use super::{ConceptLookup, Domain, Found, Standard};

pub(super) const MAGIC: &[u8; 8] = b"ALMVOC01";
pub(super) const STANDARD: u8 = 0x80;
const HEADER: usize = 8 + 5 * 8;
const WIDTHS: [usize; 5] = [12, 5, 8, 12, 1];

/// The bytes are no vocabulary index of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the vocabulary index is damaged or of another version: load the vocabulary again")]
pub struct BadIndex;

/// The hash of a code of a vocabulary.
pub(super) fn code_hash(vocabulary_id: &str, code: &str) -> u64 {
    let mut hasher = SipHasher24::new_with_key(b"almoner-vocab/v1");
    hasher.write(vocabulary_id.as_bytes());
    hasher.write(&[0]);
    hasher.write(code.as_bytes());
    hasher.finish()
}

/// A loaded vocabulary.
pub struct VocabularyIndex {
    bytes: Vec<u8>,
    starts: [usize; 5],
    lengths: [usize; 5],
}

impl fmt::Debug for VocabularyIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VocabularyIndex({}, {} codes)", self.version(), self.lengths[0])
    }
}

#[derive(Clone, Copy)]
enum Section {
    Codes,
    Concepts,
    Maps,
    Local,
    Version,
}

impl VocabularyIndex {
    /// Takes the bytes of an index.
    ///
    /// # Errors
    /// [`BadIndex`] if the sections do not fill the bytes exactly.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, BadIndex> {
        if bytes.len() < HEADER || !bytes.starts_with(MAGIC) {
            return Err(BadIndex);
        }
        let (mut starts, mut lengths, mut at) = ([0; 5], [0; 5], HEADER);
        for i in 0..5 {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[8 + 8 * i..16 + 8 * i]);
            let length = usize::try_from(u64::from_le_bytes(word)).map_err(|_| BadIndex)?;
            starts[i] = at;
            lengths[i] = length;
            at = length.checked_mul(WIDTHS[i]).and_then(|n| n.checked_add(at)).ok_or(BadIndex)?;
        }
        if at != bytes.len() { Err(BadIndex) } else { Ok(Self { bytes, starts, lengths }) }
    }

    /// The version that the vocabulary gives itself, empty if it gives none.
    pub fn version(&self) -> String {
        let start = self.starts[Section::Version as usize];
        String::from_utf8_lossy(&self.bytes[start..]).into_owned()
    }

    /// How many codes it knows.
    pub const fn codes(&self) -> usize {
        self.lengths[Section::Codes as usize]
    }

    fn record(&self, section: Section, i: usize) -> &[u8] {
        let width = WIDTHS[section as usize];
        let start = self.starts[section as usize] + i * width;
        &self.bytes[start..start + width]
    }

    fn u32_at(record: &[u8], at: usize) -> u32 {
        let mut word = [0; 4];
        word.copy_from_slice(&record[at..at + 4]);
        u32::from_le_bytes(word)
    }

    fn u64_at(record: &[u8]) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&record[..8]);
        u64::from_le_bytes(word)
    }

    /// The first record of `section` whose key is not less than `key`.
    fn lower_bound(&self, section: Section, key: u64, key_of: fn(&[u8]) -> u64) -> usize {
        let (mut low, mut high) = (0, self.lengths[section as usize]);
        while low < high {
            let middle = low + (high - low) / 2;
            if key_of(self.record(section, middle)) < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn by_hash(&self, section: Section, hash: u64) -> Option<u32> {
        let i = self.lower_bound(section, hash, Self::u64_at);
        let record = (i < self.lengths[section as usize]).then(|| self.record(section, i))?;
        (Self::u64_at(record) == hash).then(|| Self::u32_at(record, 8))
    }

    fn concept(&self, concept: u32) -> Option<u8> {
        let key = |record: &[u8]| u64::from(Self::u32_at(record, 0));
        let i = self.lower_bound(Section::Concepts, u64::from(concept), key);
        let record =
            (i < self.lengths[Section::Concepts as usize]).then(|| self.record(Section::Concepts, i))?;
        (Self::u32_at(record, 0) == concept).then(|| record[4])
    }

    /// The domain of a concept.
    pub fn domain(&self, concept: i64) -> Option<Domain> {
        let flags = self.concept(u32::try_from(concept).ok()?)?;
        Domain::ALL.get(usize::from(flags & !STANDARD)).copied()
    }

    /// Whether a concept is standard.
    pub fn is_standard(&self, concept: i64) -> bool {
        u32::try_from(concept).ok().and_then(|c| self.concept(c)).is_some_and(|flags| flags & STANDARD != 0)
    }

    /// The standard concepts that a concept maps to, itself if it is standard, ascending.
    pub fn standard(&self, concept: i64) -> Vec<Standard> {
        let Ok(from) = u32::try_from(concept) else { return Vec::new() };
        if self.is_standard(concept) {
            let domain = self.domain(concept).unwrap_or(Domain::Other);
            return vec![Standard { concept, domain }];
        }
        let key = |record: &[u8]| u64::from(Self::u32_at(record, 0));
        let first = self.lower_bound(Section::Maps, u64::from(from), key);
        (first..self.lengths[Section::Maps as usize])
            .map(|i| self.record(Section::Maps, i))
            .take_while(|record| Self::u32_at(record, 0) == from)
            .map(|record| {
                let concept = i64::from(Self::u32_at(record, 4));
                Standard { concept, domain: self.domain(concept).unwrap_or(Domain::Other) }
            })
            .collect()
    }
}

impl ConceptLookup for VocabularyIndex {
    fn find(&self, vocabulary_id: &str, code: &str) -> Option<Found> {
        let source = i64::from(self.by_hash(Section::Codes, code_hash(vocabulary_id, code))?);
        Some(Found { source, standard: self.standard(source) })
    }

    fn knows(&self, vocabulary_id: &str, code: &str) -> bool {
        self.by_hash(Section::Codes, code_hash(vocabulary_id, code)).is_some()
    }

    fn local(&self, system: &str, code: &str) -> Option<i64> {
        self.by_hash(Section::Local, code_hash(system, code)).map(i64::from)
    }
}
