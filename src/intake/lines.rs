//! Reading lines in parallel with exact line numbers and bounded memory.
//!
//! The arrow `export → intake → mapping`. Readers take one file at a time, cut it into blocks of whole lines and know
//! each block's first line number; mappers take blocks from a bounded channel and give the buffers back. A block that no
//! mapper has room for stops its reader, so memory does not grow with the export. Lines longer than the limit are passed
//! over while they are read. What the line says is the mapper's business; that it is UTF-8, has no NUL byte and is not
//! blank is decided here.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::discover::{InputFile, IntakeError};
use super::limits::Limits;
use super::report::{Quarantine, Tally};
use super::source::SourceFault;
use crate::mapping::StageError;
use crate::mapping::outcome::{Locator, Outcome, Rule, reason, rule};

/// Maps lines, one worker a thread.
pub trait LineWorker: Send {
    /// What became of one line, and the type that it counts as. `line` has no line end and is not blank.
    ///
    /// # Errors
    /// [`StageError`] where the run cannot go on.
    fn line(
        &mut self,
        input: &InputFile,
        at: Locator,
        line: &str,
    ) -> Result<(&'static str, Outcome), StageError>;
}

/// What one run over files gives.
#[derive(Clone, Debug, Default)]
pub struct LinesRead {
    /// Lines and outcomes.
    pub tally: Tally,
    /// For each file, in the order given: lines read, and why reading stopped early.
    pub files: Vec<FileRead>,
}

/// How far one file was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileRead {
    /// Lines, the broken last one included.
    pub lines: u64,
    /// Why reading stopped before the end.
    pub stopped: Option<Rule>,
}

/// Reads every line of `files` once, in blocks, on as many threads as there are workers. With one worker and one reader,
/// lines come in file order.
///
/// `progress` is told stored bytes as they are read (unpacked bytes of packed inputs count nothing).
///
/// # Errors
/// [`IntakeError`] where the machine fails, a worker cannot go on, or the quarantine cannot be written. Faults of the data
/// are outcomes, not errors.
pub fn read_lines<W: LineWorker>(
    files: &[&InputFile],
    limits: &Limits,
    workers: &mut [W],
    quarantine: &Quarantine<'_>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<LinesRead, IntakeError> {
    let readers = workers.len().div_ceil(4).clamp(1, files.len().max(1));
    let (full, blocks) = bounded::<Block>(workers.len() + readers);
    let (back, empty) = unbounded::<Vec<u8>>();
    let run = Run {
        files,
        limits,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        read: Mutex::new(vec![FileRead::default(); files.len()]),
        fault: Mutex::new(None),
        progress,
    };
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        for _ in 0..readers {
            let (full, empty, run) = (full.clone(), empty.clone(), &run);
            scope.spawn(move || run.read_files(&full, &empty));
        }
        drop(full);
        let mut mapping = Vec::new();
        for worker in workers {
            let (blocks, back, run) = (blocks.clone(), back.clone(), &run);
            mapping.push(scope.spawn(move || run.map_blocks(worker, &blocks, &back, quarantine)));
        }
        drop(blocks);
        for thread in mapping {
            match thread.join() {
                Ok(counts) => tally.add(&counts),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    if let Some(error) = run.fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    Ok(LinesRead { tally, files: run.read.into_inner().unwrap_or_else(PoisonError::into_inner) })
}

/// Whole lines of one file, or one line that its reader already knows to be broken.
struct Block {
    file: usize,
    first_line: u64,
    bytes: Vec<u8>,
    broken: Option<Rule>,
}

struct Run<'a> {
    files: &'a [&'a InputFile],
    limits: &'a Limits,
    next: AtomicUsize,
    stop: AtomicBool,
    read: Mutex<Vec<FileRead>>,
    fault: Mutex<Option<IntakeError>>,
    progress: &'a (dyn Fn(u64) + Sync),
}

/// The mappers are gone: the run has failed.
struct Stopped;

impl Run<'_> {
    fn fail(&self, error: IntakeError) {
        self.stop.store(true, Ordering::SeqCst);
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn read_files(&self, full: &Sender<Block>, empty: &Receiver<Vec<u8>>) {
        loop {
            let file = self.next.fetch_add(1, Ordering::SeqCst);
            if file >= self.files.len() || self.stop.load(Ordering::SeqCst) {
                return;
            }
            let mut cutter = Cutter { run: self, file, line: 1, full, empty };
            match cutter.cut() {
                Ok(stopped) => {
                    let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
                    read[file] = FileRead { lines: cutter.line - 1, stopped };
                }
                Err(CutError::Stopped) => return,
                Err(CutError::Io(error)) => {
                    return self
                        .fail(IntakeError::Read { file: self.files[file].ordinal, kind: error.kind() });
                }
            }
        }
    }

    fn map_blocks<W: LineWorker>(
        &self,
        worker: &mut W,
        blocks: &Receiver<Block>,
        back: &Sender<Vec<u8>>,
        quarantine: &Quarantine<'_>,
    ) -> Tally {
        let mut tally = Tally::default();
        for block in blocks {
            if self.stop.load(Ordering::SeqCst) {
                continue;
            }
            if let Err(error) = self.map_block(worker, &block, quarantine, &mut tally) {
                self.fail(error);
                continue;
            }
            let mut bytes = block.bytes;
            bytes.clear();
            if bytes.capacity() <= 2 * self.limits.block_bytes {
                back.send(bytes).ok();
            }
        }
        tally
    }

    fn map_block<W: LineWorker>(
        &self,
        worker: &mut W,
        block: &Block,
        quarantine: &Quarantine<'_>,
        tally: &mut Tally,
    ) -> Result<(), IntakeError> {
        let input = self.files[block.file];
        let mut record = |type_name, outcome, at: Locator| {
            tally.count(type_name, outcome);
            if let Outcome::Quarantined { rule, column } = outcome {
                quarantine
                    .record(at.at_column(column), rule)
                    .map_err(|e| IntakeError::Quarantine(e.kind()))?;
            }
            Ok::<_, IntakeError>(())
        };
        let mut at = Locator::line(input.ordinal, block.first_line);
        if let Some(rule) = block.broken {
            return record(input.kind.label(), Outcome::broken(rule), at);
        }
        let mut start = 0;
        while start < block.bytes.len() {
            let rest = &block.bytes[start..];
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            start += end + 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let (type_name, outcome) = match readable(line) {
                Ok("") => (input.kind.label(), Outcome::Unmapped(reason::BLANK_LINE)),
                Ok(text) => worker.line(input, at, text)?,
                Err(outcome) => (input.kind.label(), outcome),
            };
            record(type_name, outcome, at)?;
            at.line += 1;
        }
        Ok(())
    }
}

/// The line as text, without surrounding white space.
fn readable(line: &[u8]) -> Result<&str, Outcome> {
    let text = std::str::from_utf8(line).map_err(|error| Outcome::Quarantined {
        rule: rule::INVALID_UTF8,
        column: u32::try_from(error.valid_up_to() + 1).ok(),
    })?;
    if let Some(position) = memchr::memchr(0, line) {
        return Err(Outcome::Quarantined { rule: rule::NUL_BYTE, column: u32::try_from(position + 1).ok() });
    }
    Ok(text.trim_ascii_end())
}

enum CutError {
    Stopped,
    Io(io::Error),
}

impl From<Stopped> for CutError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// Cuts one file into blocks.
struct Cutter<'r> {
    run: &'r Run<'r>,
    file: usize,
    line: u64,
    full: &'r Sender<Block>,
    empty: &'r Receiver<Vec<u8>>,
}

impl Cutter<'_> {
    fn buffer(&self) -> Vec<u8> {
        self.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(self.run.limits.block_bytes))
    }

    fn send(&mut self, bytes: Vec<u8>, lines: u64) -> Result<(), Stopped> {
        let block = Block { file: self.file, first_line: self.line, bytes, broken: None };
        self.line += lines;
        self.full.send(block).map_err(|_| Stopped)
    }

    fn send_broken(&mut self, rule: Rule) -> Result<(), Stopped> {
        let block = Block { file: self.file, first_line: self.line, bytes: Vec::new(), broken: Some(rule) };
        self.line += 1;
        self.full.send(block).map_err(|_| Stopped)
    }

    /// Reads the file to its end, or to where its container breaks.
    fn cut(&mut self) -> Result<Option<Rule>, CutError> {
        let input = self.run.files[self.file];
        let mut source = input.source.open(self.run.limits).map_err(CutError::Io)?;
        let plain = input.source.is_plain();
        let mut pending = self.buffer();
        let mut passing_over = false;
        let mut at_start = true;
        loop {
            if self.run.stop.load(Ordering::SeqCst) {
                return Err(CutError::Stopped);
            }
            let had = pending.len();
            let filled = fill(&mut source, &mut pending, self.run.limits.block_bytes);
            if plain {
                (self.run.progress)((pending.len() - had) as u64);
            }
            if at_start && pending.starts_with(b"\xef\xbb\xbf") {
                pending.drain(..3);
            }
            at_start &= pending.is_empty();
            if passing_over {
                match memchr::memchr(b'\n', &pending) {
                    Some(end) => {
                        pending.drain(..=end);
                        passing_over = false;
                        self.send_broken(rule::LINE_TOO_LONG)?;
                    }
                    None => pending.clear(),
                }
            }
            match filled {
                Err(error) => {
                    let rule = SourceFault::rule_of(&error).ok_or(CutError::Io(error))?;
                    return self.stopped(pending, passing_over, rule).map(Some);
                }
                Ok(true) => {
                    if !plain {
                        (self.run.progress)(input.bytes);
                    }
                    return self.last(pending, passing_over).map(|()| None);
                }
                Ok(false) if !passing_over => (pending, passing_over) = self.hand_over(pending)?,
                Ok(false) => {}
            }
        }
    }

    /// Sends the whole lines of `pending` and gives back what follows the last of them.
    fn hand_over(&mut self, mut pending: Vec<u8>) -> Result<(Vec<u8>, bool), Stopped> {
        let Some(end) = memchr::memrchr(b'\n', &pending) else {
            if pending.len() > self.run.limits.line_bytes {
                pending = self.buffer();
                return Ok((pending, true));
            }
            return Ok((pending, false));
        };
        let mut rest = self.buffer();
        rest.extend_from_slice(&pending[end + 1..]);
        pending.truncate(end + 1);
        self.send_checked(pending)?;
        Ok((rest, false))
    }

    /// Sends whole lines; a line that is too long although it fitted into the block goes alone.
    fn send_checked(&mut self, bytes: Vec<u8>) -> Result<(), Stopped> {
        let limit = self.run.limits.line_bytes;
        if bytes.len() <= limit {
            let lines = count_lines(&bytes);
            return self.send(bytes, lines);
        }
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            if line.len() > limit + 1 {
                self.send_broken(rule::LINE_TOO_LONG)?;
            } else {
                self.send(line.to_vec(), 1)?;
            }
        }
        Ok(())
    }

    /// The end of the file: the last line needs no line end.
    fn last(&mut self, pending: Vec<u8>, passing_over: bool) -> Result<(), CutError> {
        if passing_over {
            return Ok(self.send_broken(rule::LINE_TOO_LONG)?);
        }
        if !pending.is_empty() {
            self.send_checked(pending)?;
        }
        Ok(())
    }

    /// The container broke: whole lines before that count, and the one in the middle is quarantined.
    fn stopped(&mut self, mut pending: Vec<u8>, passing_over: bool, rule: Rule) -> Result<Rule, CutError> {
        let whole = if passing_over { 0 } else { memchr::memrchr(b'\n', &pending).map_or(0, |end| end + 1) };
        let partial = passing_over || whole < pending.len();
        pending.truncate(whole);
        if !pending.is_empty() {
            self.send_checked(pending)?;
        }
        if partial {
            self.send_broken(rule)?;
        }
        Ok(rule)
    }
}

/// Lines in `bytes`, the last one with or without its line end.
fn count_lines(bytes: &[u8]) -> u64 {
    let ends = memchr::memchr_iter(b'\n', bytes).count() as u64;
    ends + u64::from(bytes.last().is_some_and(|b| *b != b'\n'))
}

/// Reads about `more` bytes to the end of `buffer`; `true` at the end of the source.
fn fill(source: &mut dyn Read, buffer: &mut Vec<u8>, more: usize) -> io::Result<bool> {
    Ok(source.take(more.max(1) as u64).read_to_end(buffer)? == 0)
}
