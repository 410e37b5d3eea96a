//! Searches everything that the line left behind for planted identifiers: bytes of every file, decoded Parquet values,
//! every cell of every SQLite table, and texts that tests hand over (answers of the API, standard output).
//!
//! In text a needle must stand as a whole token (no letter or digit before or after it), in any case of ASCII letters. In
//! binary bytes, where cells touch each other, needles of eight bytes or more are found anywhere. Needles are also
//! searched as JSON escapes, UTF-16, hexadecimal, base64 at each of its three alignments, and, where they are numbers, as
//! IEEE 754 or 64-bit integers. What cannot be told apart from an ordinary number or word is not searched in raw bytes:
//! see [`Needle::plain_only`]. Findings name the place and the kind, never the value.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use aho_corasick::{AhoCorasick, MatchKind};
use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// One identifier that must not be found.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Needle {
    /// `family`, `identifier_SS`, `telecom_phone`, …
    pub kind: String,
    /// The value.
    pub value: String,
}

impl Needle {
    /// A needle.
    pub fn new(kind: &str, value: &str) -> Self {
        Self { kind: kind.to_owned(), value: value.to_owned() }
    }

    /// Whether it is so short or common that it counts only where a text says exactly this: a ZIP code, a birth date.
    fn plain_only(&self) -> bool {
        matches!(self.kind.as_str(), "postalCode" | "birthDate" | "ZIP" | "BIRTHDATE")
    }
}

/// Where an identifier was found.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Finding {
    /// The file (relative) and the place in it.
    pub place: String,
    /// Kind of the identifier.
    pub kind: String,
    /// How it was written.
    pub form: &'static str,
}

/// A set of identifiers ready to be searched for.
pub struct Scanner {
    needles: Vec<Needle>,
    /// Any case of letters; whole tokens.
    text: AhoCorasick,
    text_of: Vec<(usize, &'static str)>,
    /// Exact bytes.
    exact: AhoCorasick,
    exact_of: Vec<(usize, &'static str)>,
}

/// Shorter values than this are not searched at all: they are initials.
const SHORTEST: usize = 3;
/// From this length on a value is searched in binary bytes too.
const LONG: usize = 8;

impl Scanner {
    /// A scanner for `needles`.
    ///
    /// # Panics
    /// If there are none: a search for nothing proves nothing.
    pub fn new(needles: impl IntoIterator<Item = Needle>) -> Self {
        let unique: HashSet<Needle> = needles.into_iter().filter(|n| n.value.len() >= SHORTEST).collect();
        assert!(!unique.is_empty(), "no needles to search for");
        let mut needles: Vec<Needle> = unique.into_iter().collect();
        needles.sort_by(|a, b| (&a.kind, &a.value).cmp(&(&b.kind, &b.value)));
        let (mut text, mut text_of) = (Vec::<Vec<u8>>::new(), Vec::new());
        let (mut exact, mut exact_of) = (Vec::<Vec<u8>>::new(), Vec::new());
        for (at, needle) in needles.iter().enumerate() {
            let value = needle.value.as_bytes();
            text.push(value.to_vec());
            text_of.push((at, "text"));
            if let Some(escaped) = escaped(&needle.value) {
                text.push(escaped);
                text_of.push((at, "JSON escapes"));
            }
            if needle.plain_only() || value.len() < LONG {
                continue;
            }
            text.push(hex::encode(value).into_bytes());
            text_of.push((at, "hexadecimal"));
            for coded in base64_cores(value) {
                exact.push(coded);
                exact_of.push((at, "base64"));
            }
            exact.push(needle.value.encode_utf16().flat_map(u16::to_le_bytes).collect());
            exact_of.push((at, "UTF-16"));
            if let (true, Ok(number)) = (needle.value.contains('.'), needle.value.parse::<f64>()) {
                exact.push(number.to_le_bytes().to_vec());
                exact_of.push((at, "IEEE 754"));
            }
            if let Ok(number) = needle.value.parse::<i64>() {
                exact.push(number.to_le_bytes().to_vec());
                exact_of.push((at, "integer"));
                exact.push(number.to_be_bytes().to_vec());
                exact_of.push((at, "integer"));
            }
        }
        let build = |patterns: &[Vec<u8>], any_case| {
            AhoCorasick::builder()
                .ascii_case_insensitive(any_case)
                .match_kind(MatchKind::Standard)
                .build(patterns)
                .expect("an automaton of a few thousand short patterns")
        };
        let (text, exact) = (build(&text, true), build(&exact, false));
        Self { needles, text, text_of, exact, exact_of }
    }

    /// How many identifiers are searched for.
    pub fn len(&self) -> usize {
        self.needles.len()
    }

    /// Searches a text or bytes that are called `place` in findings.
    pub fn bytes(&self, place: &str, bytes: &[u8], found: &mut Vec<Finding>) {
        let is_text = std::str::from_utf8(bytes).is_ok_and(|t| !t.contains('\0'));
        let mut add = |at: usize, form| {
            let kind = self.needles[at].kind.clone();
            found.push(Finding { place: place.to_owned(), kind, form });
        };
        for hit in self.text.find_overlapping_iter(bytes) {
            let (at, form) = self.text_of[hit.pattern().as_usize()];
            let needle = &self.needles[at];
            let whole = whole_token(bytes, hit.start(), hit.end());
            let counts = if needle.plain_only() {
                // A number of five digits is a ZIP code only where a text quotes it.
                is_text && whole && quoted(bytes, hit.start(), hit.end())
            } else if is_text {
                whole || form == "hexadecimal"
            } else {
                needle.value.len() >= LONG
            };
            if counts {
                add(at, form);
            }
        }
        for hit in self.exact.find_overlapping_iter(bytes) {
            let (at, form) = self.exact_of[hit.pattern().as_usize()];
            add(at, form);
        }
    }

    /// Searches one file: its name, its bytes, and what is inside if it is Parquet, SQLite or gzip.
    pub fn file(&self, root: &Path, path: &Path, found: &mut Vec<Finding>) {
        let place = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        self.bytes(&format!("name of {place}"), place.as_bytes(), found);
        let bytes = fs::read(path).unwrap_or_default();
        self.bytes(&place, &bytes, found);
        if bytes.starts_with(b"PAR1") {
            self.parquet(&place, bytes, found);
        } else if bytes.starts_with(b"SQLite format 3\0") {
            self.sqlite(&place, path, found);
        } else if bytes.starts_with(b"\x1f\x8b") {
            let mut inner = Vec::new();
            let mut reader = flate2::read::MultiGzDecoder::new(&bytes[..]);
            std::io::Read::read_to_end(&mut reader, &mut inner).expect("a gzip file of ours can be read");
            self.bytes(&format!("{place} (unpacked)"), &inner, found);
        }
    }

    /// Searches every file under `dir`; returns the findings, sorted and without repetition.
    pub fn folder(&self, dir: &Path) -> Vec<Finding> {
        let mut found = Vec::new();
        for path in files(dir) {
            self.file(dir, &path, &mut found);
        }
        found.sort();
        found.dedup();
        found
    }

    fn parquet(&self, place: &str, bytes: Vec<u8>, found: &mut Vec<Finding>) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes))
            .and_then(ParquetRecordBatchReaderBuilder::build)
            .expect("a Parquet file of ours can be opened");
        for batch in reader {
            let batch = batch.expect("a Parquet file of ours can be read");
            for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
                let place = format!("{place}, column {}", field.name());
                let birth = field.name().contains("birth");
                self.column(&place, column.as_ref(), birth, found);
            }
        }
    }

    fn column(&self, place: &str, column: &dyn Array, birth: bool, found: &mut Vec<Finding>) {
        let options = FormatOptions::default().with_null("");
        let cells = ArrayFormatter::try_new(column, &options).expect("a type that can be shown");
        let words = matches!(column.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let mut text = String::new();
        for row in 0..column.len() {
            // Quoted, so that ZIP codes and birth dates count where the column is a text or a birth date.
            let quote = if words || birth { "\"" } else { "" };
            text.push_str(quote);
            text.push_str(&cells.value(row).to_string());
            text.push_str(quote);
            text.push('\n');
        }
        self.bytes(place, text.as_bytes(), found);
        if let Some(floats) = column.as_primitive_opt::<arrow::datatypes::Float64Type>() {
            let raw: Vec<u8> = floats.values().iter().flat_map(|v| v.to_le_bytes()).collect();
            self.bytes(place, &raw, found);
        }
    }

    fn sqlite(&self, place: &str, path: &Path, found: &mut Vec<Finding>) {
        let copy = tempfile::tempdir().expect("a folder for copies");
        for suffix in ["", "-wal", "-shm"] {
            let mut from = path.as_os_str().to_owned();
            from.push(suffix);
            if Path::new(&from).exists() {
                fs::copy(&from, copy.path().join(format!("db{suffix}"))).expect("a file can be copied");
            }
        }
        let db = rusqlite::Connection::open(copy.path().join("db")).expect("a database of ours opens");
        let mut tables = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").expect("reads");
        let tables: Vec<String> =
            tables.query_map([], |r| r.get(0)).expect("reads").map(|t| t.expect("a name")).collect();
        for table in tables {
            let mut rows = db.prepare(&format!("SELECT * FROM \"{table}\"")).expect("reads");
            let columns: Vec<String> = rows.column_names().map(str::to_owned).collect();
            let mut cells: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
            let mut rows = rows.query([]).expect("reads");
            while let Some(row) = rows.next().expect("reads") {
                for (at, column) in columns.iter().enumerate() {
                    use rusqlite::types::ValueRef;
                    let cell = cells.entry(at).or_default();
                    match row.get_ref(at).expect("a cell") {
                        ValueRef::Null => continue,
                        ValueRef::Integer(n) => cell.extend_from_slice(n.to_string().as_bytes()),
                        ValueRef::Real(n) => cell.extend_from_slice(n.to_string().as_bytes()),
                        ValueRef::Text(text) => cell.extend_from_slice(text),
                        ValueRef::Blob(blob) => match std::str::from_utf8(blob) {
                            Ok(_) => cell.extend_from_slice(blob),
                            Err(_) => {
                                self.bytes(&format!("{place}, {table}.{column}"), blob, found);
                            }
                        },
                    }
                    cell.push(b'\n');
                }
            }
            for (at, text) in cells {
                self.bytes(&format!("{place}, {table}.{}", columns[at]), &text, found);
            }
        }
    }
}

/// Every file under `dir`, sorted.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => todo.push(path),
                Ok(kind) if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Reads a list in the style of `planted.tsv`: the last two of four columns are kind and value.
pub fn list(path: &Path, wanted: impl Fn(&str) -> bool) -> Vec<Needle> {
    let text = fs::read_to_string(path).expect("a list of identifiers");
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.splitn(4, '\t').skip(2);
            let (kind, value) = (columns.next()?, columns.next()?);
            wanted(kind).then(|| Needle::new(kind, value))
        })
        .collect()
}

/// Whether nothing that belongs to a word touches `start..end`.
fn whole_token(bytes: &[u8], start: usize, end: usize) -> bool {
    let in_word = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b >= 0x80);
    let before = start.checked_sub(1).and_then(|at| bytes.get(at));
    !in_word(before) && !in_word(bytes.get(end))
}

/// Whether a text says `start..end` by itself: between quotes, blanks or tabs. A number of a JSON document is a size or a
/// count, as a column of numbers is.
fn quoted(bytes: &[u8], start: usize, end: usize) -> bool {
    let before = bytes[..start].trim_ascii_end();
    if before.ends_with(b"\":") {
        return false;
    }
    let quote = |b: Option<&u8>| matches!(b, Some(b'"' | b'\'' | b'\t' | b'>' | b'<' | b' ' | b',' | b'T'));
    quote(start.checked_sub(1).and_then(|at| bytes.get(at))) && quote(bytes.get(end))
}

/// `value` with `\uXXXX` for what is not ASCII, if anything is.
fn escaped(value: &str) -> Option<Vec<u8>> {
    if value.is_ascii() {
        return None;
    }
    let mut out = Vec::new();
    for c in value.chars() {
        if c.is_ascii() {
            out.push(c as u8);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
            }
        }
    }
    Some(out)
}

/// The characters that base64 of any text with `value` in it must contain, for each of the three alignments.
fn base64_cores(value: &[u8]) -> Vec<Vec<u8>> {
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    (0..3)
        .map(|shift| {
            let mut padded = vec![0_u8; shift];
            padded.extend_from_slice(value);
            let coded = engine.encode(&padded).into_bytes();
            // Characters that also depend on what stands before or after the value are left out.
            let head = (shift * 8).div_ceil(6);
            let tail = if padded.len().is_multiple_of(3) { 0 } else { 1 };
            coded[head..coded.len() - tail].to_vec()
        })
        .filter(|core| core.len() >= 9)
        .collect()
}
