//! Reading tables row by row: delimited text and Parquet, each row as text cells with its locator.
//!
//! The arrow `export → intake → mapping` for OMOP. A delimiter is found in the header; quotes, CRLF, a byte order mark and
//! empty tables are taken as they come. Memory is one batch of rows a thread. What a cell means is the mapper's business;
//! that a record is UTF-8, has no NUL byte and is not beyond the line limit is decided here. A Parquet file is read from its
//! end: where it is stored or spooled as it is, at any position; where it is packed (zip, gzip) it is held in memory, one such
//! file at a time.

use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchReader, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::{ChunkReader, Length};

use super::discover::{InputFile, IntakeError};
use super::kinds::{InputKind, TableFormat};
use super::limits::Limits;
use super::lines::{FileRead, LinesRead};
use super::records::{Next, Records};
use super::report::{Quarantine, Tally};
use super::source::{ByteSource, ReadSeek, SourceFault};
use crate::mapping::StageError;
use crate::mapping::omop::Cells;
use crate::mapping::outcome::{Locator, Outcome, Rule, rule};

/// Takes the rows of tables, one worker a thread.
pub trait RowWorker: Send {
    /// A file begins; these are its column names as written.
    fn header(&mut self, input: &InputFile, names: &[&str]);

    /// What became of one row.
    ///
    /// # Errors
    /// [`StageError`] where the run cannot go on.
    fn row(&mut self, input: &InputFile, at: Locator, cells: Cells<'_>) -> Result<Outcome, StageError>;
}

/// Reads every row of `files` once, one file at a time on each worker's thread. The header of delimited text is not a
/// row. `progress` is told stored bytes.
///
/// # Errors
/// As [`super::read_lines`].
pub fn read_tables<W: RowWorker>(
    files: &[&InputFile],
    limits: &Limits,
    workers: &mut [W],
    quarantine: &Quarantine<'_>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<LinesRead, IntakeError> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let read = Mutex::new(vec![FileRead::default(); files.len()]);
    let fault = Mutex::new(None);
    let packed = Mutex::new(());
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for worker in workers {
            let (next, stop, read, fault, packed) = (&next, &stop, &read, &fault, &packed);
            threads.push(scope.spawn(move || {
                let mut tally = Tally::default();
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    let Some(input) = files.get(index) else { break };
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let tally = &mut tally;
                    let mut table =
                        Table { input, limits, quarantine, progress, stop, packed, worker, tally };
                    match table.read() {
                        Ok(done) => read.lock().unwrap_or_else(PoisonError::into_inner)[index] = done,
                        Err(error) => {
                            stop.store(true, Ordering::SeqCst);
                            fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        }
                    }
                }
                tally
            }));
        }
        for thread in threads {
            match thread.join() {
                Ok(counts) => tally.add(&counts),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    match fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(LinesRead { tally, files: read.into_inner().unwrap_or_else(PoisonError::into_inner) }),
    }
}

/// One file while it is read.
struct Table<'t, 'q, W> {
    input: &'t InputFile,
    limits: &'t Limits,
    quarantine: &'t Quarantine<'q>,
    progress: &'t (dyn Fn(u64) + Sync),
    stop: &'t AtomicBool,
    /// Held while a packed Parquet file is in memory.
    packed: &'t Mutex<()>,
    worker: &'t mut W,
    tally: &'t mut Tally,
}

/// Tells how many bytes were read.
struct Counted<'p> {
    inner: Box<dyn Read + Send>,
    progress: Option<&'p (dyn Fn(u64) + Sync)>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if let Some(progress) = self.progress {
            progress(n as u64);
        }
        Ok(n)
    }
}

impl<W: RowWorker> Table<'_, '_, W> {
    fn read(&mut self) -> Result<FileRead, IntakeError> {
        let format = match self.input.kind {
            InputKind::Omop { format, .. } | InputKind::Vocabulary { format, .. } => format,
            _ => return Ok(FileRead::default()),
        };
        let plain_text = self.input.source.is_plain() && format == TableFormat::Csv;
        let mut done = FileRead::default();
        let result = match format {
            TableFormat::Csv => self.text(plain_text, &mut done),
            TableFormat::Parquet => self.parquet(&mut done),
        };
        if !plain_text {
            (self.progress)(self.input.bytes);
        }
        match result {
            Ok(()) => Ok(done),
            Err(Ended::Machine(error)) => Err(error),
            Err(Ended::Container(rule)) => {
                done.lines += 1;
                done.stopped = Some(rule);
                self.count(Locator::line(self.input.ordinal, done.lines), Outcome::broken(rule))?;
                Ok(done)
            }
        }
    }

    fn text(&mut self, plain: bool, done: &mut FileRead) -> Result<(), Ended> {
        let inner = self.input.source.open(self.limits).map_err(|e| self.ended(&e))?;
        let counted = Counted { inner, progress: plain.then_some(self.progress) };
        let mut source = BufReader::with_capacity(1 << 17, counted);
        let first = source.fill_buf().map_err(|e| self.ended(&e))?;
        let delimiter = delimiter(first);
        let mut records = Records::new(source, delimiter, self.limits.line_bytes);
        match records.next().map_err(|e| self.ended(&e))? {
            Next::End => return Ok(()),
            Next::Broken(_, rule) => return Err(Ended::Container(rule)),
            Next::Record(_) => {}
        }
        let (text, ends) = records.fields();
        let text = String::from_utf8_lossy(text);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let names: Vec<&str> =
            starts.zip(ends).map(|(from, to)| text.get(from..*to).unwrap_or_default()).collect();
        self.worker.header(self.input, &names);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let (line, outcome) = match records.next().map_err(|e| self.ended(&e))? {
                Next::End => break,
                Next::Broken(line, rule) => (line, Outcome::broken(rule)),
                Next::Record(line) => {
                    let (bytes, ends) = records.fields();
                    let at = Locator::line(self.input.ordinal, line);
                    let outcome = match readable(bytes) {
                        Err(outcome) => outcome,
                        Ok(text) => {
                            let row = self.worker.row(self.input, at, Cells::Text { text, ends });
                            row.map_err(|e| Ended::Machine(e.into()))?
                        }
                    };
                    (line, outcome)
                }
            };
            let at = Locator::line(self.input.ordinal, line);
            done.lines += 1;
            self.count(at, outcome).map_err(Ended::Machine)?;
        }
        Ok(())
    }

    fn parquet(&mut self, done: &mut FileRead) -> Result<(), Ended> {
        let _one = match self.input.source.is_plain() {
            true => None,
            false => Some(self.packed.lock().unwrap_or_else(PoisonError::into_inner)),
        };
        let reader = self.open_parquet()?;
        let schema = RecordBatchReader::schema(&reader);
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        self.worker.header(self.input, &names);
        for batch in reader {
            let columns = as_text(&batch.map_err(|_| Ended::Container(rule::CORRUPT_CONTAINER))?);
            for row in 0..columns.first().map_or(0, arrow::array::Array::len) {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                done.lines += 1;
                let at = Locator::line(self.input.ordinal, done.lines);
                let cells = Cells::Columns { columns: &columns, row };
                let outcome = self.worker.row(self.input, at, cells).map_err(|e| Ended::Machine(e.into()))?;
                self.count(at, outcome).map_err(Ended::Machine)?;
            }
        }
        Ok(())
    }

    fn open_parquet(&self) -> Result<ParquetRecordBatchReader, Ended> {
        let source = &self.input.source;
        if let Some(path) = source.local_path() {
            return built(std::fs::File::open(path).map_err(|e| self.ended(&e))?);
        }
        match source.open_seekable().map_err(|e| self.ended(&e))? {
            Some(open) => built(Sought { source: source.clone(), open: Mutex::new(open) }),
            None => built(source.read_all(self.limits).map_err(|e| self.ended(&e))?),
        }
    }

    fn count(&mut self, at: Locator, outcome: Outcome) -> Result<(), IntakeError> {
        self.tally.count(self.input.kind.label(), outcome);
        if let Outcome::Quarantined { rule, column } = outcome {
            let recorded = self.quarantine.record(at.at_column(column), rule);
            recorded.map_err(|e| IntakeError::Quarantine(e.kind()))?;
        }
        Ok(())
    }

    fn ended(&self, error: &io::Error) -> Ended {
        match SourceFault::rule_of(error) {
            Some(rule) => Ended::Container(rule),
            None => Ended::Machine(IntakeError::Read { file: self.input.ordinal, kind: error.kind() }),
        }
    }
}

fn built<R: ChunkReader + 'static>(file: R) -> Result<ParquetRecordBatchReader, Ended> {
    let corrupt = |_| Ended::Container(rule::CORRUPT_CONTAINER);
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(corrupt)?;
    builder.with_batch_size(8192).build().map_err(corrupt)
}

/// A source that is read at any position.
struct Sought {
    source: ByteSource,
    open: Mutex<Box<dyn ReadSeek>>,
}

impl Length for Sought {
    fn len(&self) -> u64 {
        self.source.stored_bytes()
    }
}

impl ChunkReader for Sought {
    type T = Box<dyn ReadSeek>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let mut open = self.source.open_seekable()?.ok_or_else(|| io::Error::from(io::ErrorKind::Other))?;
        open.seek(SeekFrom::Start(start))?;
        Ok(open)
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.seek(SeekFrom::Start(start))?;
        // A file that is shorter than it says is not worth the memory that it asks for.
        let mut bytes = Vec::new();
        open.by_ref().take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() < length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(bytes.into())
    }
}

/// Why reading a file ended early.
enum Ended {
    /// The machine's fault; the run ends.
    Machine(IntakeError),
    /// The container's; the rest of it is lost.
    Container(Rule),
}

/// The delimiter that the header has most of.
fn delimiter(start: &[u8]) -> u8 {
    let header = &start[..memchr::memchr(b'\n', start).unwrap_or(start.len())];
    let count = |d: &u8| header.iter().filter(|b| *b == d).count();
    // Of equals the last is the greatest, and the comma wins.
    *[b'|', b';', b'\t', b','].iter().max_by_key(|d| count(d)).unwrap_or(&b',')
}

fn readable(bytes: &[u8]) -> Result<&str, Outcome> {
    let text = std::str::from_utf8(bytes).map_err(|_| Outcome::broken(rule::INVALID_UTF8))?;
    match memchr::memchr(0, bytes) {
        Some(_) => Err(Outcome::broken(rule::NUL_BYTE)),
        None => Ok(text),
    }
}

/// The columns as text. A column of a type that has no text (a list, a structure) is empty.
fn as_text(batch: &RecordBatch) -> Vec<StringArray> {
    let text = |column: &ArrayRef| match cast(column, &DataType::Utf8) {
        Ok(column) => column.as_string::<i32>().clone(),
        Err(_) => StringArray::new_null(batch.num_rows()),
    };
    batch.columns().iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::super::discover::NameDigest;
    use super::super::source::{Packing, RawSource};
    use super::*;

    #[test]
    fn the_header_tells_the_delimiter() {
        assert_eq!(delimiter(b"a\tb\tc\n1,2,3,4,5"), b'\t');
        assert_eq!(delimiter(b"a,b\n"), b',');
        assert_eq!(delimiter(b"a;b"), b';');
        assert_eq!(delimiter(b""), b',');
    }

    /// Stored somewhere that is no local file, as a spooled upload is.
    struct Elsewhere(Vec<u8>);

    impl RawSource for Elsewhere {
        fn open(&self) -> io::Result<Box<dyn ReadSeek>> {
            Ok(Box::new(io::Cursor::new(self.0.clone())))
        }

        fn bytes(&self) -> u64 {
            self.0.len() as u64
        }
    }

    /// Sums the first column.
    #[derive(Default)]
    struct Sum(i64);

    impl RowWorker for Sum {
        fn header(&mut self, _: &InputFile, names: &[&str]) {
            assert_eq!(names, ["person_id", "year_of_birth"]);
        }

        fn row(&mut self, _: &InputFile, _: Locator, cells: Cells<'_>) -> Result<Outcome, StageError> {
            let Cells::Columns { columns, row } = cells else { panic!("a table of columns") };
            self.0 += columns[0].value(row).parse::<i64>().expect("a number");
            Ok(Outcome::Mapped)
        }
    }

    fn read(bytes: Vec<u8>) -> (i64, FileRead) {
        let input = InputFile {
            ordinal: 0,
            name: NameDigest(0),
            kind: InputKind::Omop { table: "person", format: TableFormat::Parquet },
            bytes: bytes.len() as u64,
            source: ByteSource::new(Arc::new(Elsewhere(bytes)), Packing::Plain),
        };
        let mut workers = [Sum::default()];
        let unheard = Quarantine::new(0, Box::new(io::sink()));
        let done = read_tables(&[&input], &Limits::default(), &mut workers, &unheard, &|_| ()).expect("read");
        (workers[0].0, done.files[0])
    }

    #[test]
    fn parquet_that_is_no_local_file_is_read_where_it_is() {
        let ids = Int64Array::from_iter_values(0..50_000);
        let years = Int64Array::from_iter_values((0..50_000).map(|n| 1930 + n % 90));
        let columns: [(&str, ArrayRef); 2] =
            [("person_id", Arc::new(ids)), ("year_of_birth", Arc::new(years))];
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let groups = WriterProperties::builder().set_max_row_group_row_count(Some(7_000)).build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(groups)).expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        let (sum, done) = read(bytes.clone());
        assert_eq!((sum, done.lines, done.stopped), ((0..50_000).sum(), 50_000, None));
        // Without its end it is no table.
        bytes.truncate(bytes.len() - 9);
        assert_eq!(read(bytes.clone()).1.stopped, Some(rule::CORRUPT_CONTAINER));
        assert_eq!(read(Vec::new()).1.stopped, Some(rule::CORRUPT_CONTAINER));
    }
}
