//! Reading tables row by row: delimited text and Parquet, each row as text cells with its locator.
//!
//! The arrow `export → intake → mapping` for OMOP. A delimiter is found in the header; quotes, CRLF, a byte order mark and
//! empty tables are taken as they come. Memory is one batch of rows a thread. What a cell means is the mapper's business;
//! that a record is UTF-8, has no NUL byte and is not beyond the line limit is decided here. A Parquet file that is packed
//! (zip, gzip) or encrypted is held in memory while it is read, because Parquet is read from its end.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchReader, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::discover::{InputFile, IntakeError};
use super::kinds::{InputKind, TableFormat};
use super::limits::Limits;
use super::lines::{FileRead, LinesRead};
use super::records::{Next, Records};
use super::report::{Quarantine, Tally};
use super::source::SourceFault;
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
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for worker in workers {
            let (next, stop, read, fault) = (&next, &stop, &read, &fault);
            threads.push(scope.spawn(move || {
                let mut tally = Tally::default();
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    let Some(input) = files.get(index) else { break };
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let mut table =
                        Table { input, limits, quarantine, progress, stop, worker, tally: &mut tally };
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
        let corrupt = |_| Ended::Container(rule::CORRUPT_CONTAINER);
        let built = match self.input.source.local_path() {
            Some(path) => {
                let file = std::fs::File::open(path).map_err(|e| self.ended(&e))?;
                ParquetRecordBatchReaderBuilder::try_new(file).map_err(corrupt)?.with_batch_size(8192).build()
            }
            None => {
                let bytes: Bytes = self.input.source.read_all(self.limits).map_err(|e| self.ended(&e))?;
                ParquetRecordBatchReaderBuilder::try_new(bytes)
                    .map_err(corrupt)?
                    .with_batch_size(8192)
                    .build()
            }
        };
        built.map_err(corrupt)
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
    use super::*;

    #[test]
    fn the_header_tells_the_delimiter() {
        assert_eq!(delimiter(b"a\tb\tc\n1,2,3,4,5"), b'\t');
        assert_eq!(delimiter(b"a,b\n"), b',');
        assert_eq!(delimiter(b"a;b"), b';');
        assert_eq!(delimiter(b""), b',');
    }
}
