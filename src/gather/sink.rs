//! The sinks of the mapping threads: batches sorted by bucket, in memory up to a limit, then spilled.
//!
//! Part of the arrow `mapping → gather`. A sink belongs to one thread, so nothing is contended. Rows of people without a
//! subject id (suppressed after an erasure) go nowhere; their lines are reported.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use almoner_deid::Plausible;
use almoner_model::Tables;
use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{UInt32Type, UInt64Type};
use roaring::RoaringTreemap;

use super::spill::SpillFile;
use super::{GatherError, Layout, SpillKey, versions};
use crate::mapping::{ORDINAL, PERSON, PersonIndex, StageError, StagedBatch, StagedSink, Stated};

/// No bucket: the person has no subject id.
const NOWHERE: u32 = u32::MAX;

/// All that is gathered in one run.
pub struct Gathering<'p> {
    pub(super) tables: Tables,
    pub(super) persons: &'p PersonIndex,
    pub(super) layout: Layout,
    buckets: Arc<Vec<u32>>,
    folder: PathBuf,
    key: SpillKey,
    /// Bytes that each sink keeps in memory.
    bytes_max: usize,
    /// Which dates can be the date of something.
    pub(super) dates: Plausible,
    pub(super) superseded: RoaringTreemap,
    pub(super) left_out: HashSet<u64>,
    parts: Vec<Arc<RwLock<Part>>>,
}

/// What one sink has.
struct Part {
    blocks: Vec<Block>,
    bytes: usize,
    spill: Option<SpillFile>,
    suppressed: RoaringTreemap,
}

/// Rows of one table, sorted by bucket.
struct Block {
    table: usize,
    rows: RecordBatch,
    /// Where each bucket starts; one more at the end.
    starts: Vec<u32>,
}

fn read(part: &RwLock<Part>) -> RwLockReadGuard<'_, Part> {
    part.read().unwrap_or_else(PoisonError::into_inner)
}

impl<'p> Gathering<'p> {
    /// Prepares to gather rows of `persons`. Each sink keeps up to `bytes_max` in memory and spills into `folder`, which
    /// exists, under `key`. Rows are judged by `dates`.
    pub fn new(
        tables: &Tables,
        persons: &'p PersonIndex,
        layout: Layout,
        folder: PathBuf,
        key: SpillKey,
        bytes_max: usize,
        dates: Plausible,
    ) -> Self {
        let bucket = |ordinal| persons.subject(ordinal).map_or(NOWHERE, |s| layout.bucket(s));
        let buckets = Arc::new((0..persons.named() as u32).map(bucket).collect());
        Self {
            tables: tables.clone(),
            persons,
            layout,
            buckets,
            folder,
            key,
            bytes_max,
            dates,
            superseded: RoaringTreemap::new(),
            left_out: HashSet::new(),
            parts: Vec::new(),
        }
    }

    /// The layout in use.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A sink for one more thread.
    pub fn sink(&mut self) -> GatherSink<'p> {
        let part = Part { blocks: Vec::new(), bytes: 0, spill: None, suppressed: RoaringTreemap::new() };
        let part = Arc::new(RwLock::new(part));
        let number = self.parts.len() as u32;
        self.parts.push(Arc::clone(&part));
        GatherSink {
            persons: self.persons,
            layout: self.layout.clone(),
            buckets: Arc::clone(&self.buckets),
            folder: self.folder.clone(),
            key: self.key.clone(),
            bytes_max: self.bytes_max,
            number,
            stated: self.stated_table(),
            part,
        }
    }

    /// Locators of lines whose person is suppressed: they were not kept. Without superseded ones.
    pub fn suppressed(&self) -> RoaringTreemap {
        let mut all = RoaringTreemap::new();
        for part in &self.parts {
            all |= &read(part).suppressed;
        }
        all - &self.superseded
    }

    /// Sets lines aside that state versions of records which do not count. Their rows go without a word.
    pub fn supersede(&mut self, lines: RoaringTreemap) {
        self.superseded = lines;
    }

    /// Whether a line states a version that does not count.
    pub fn is_superseded(&self, line: u64) -> bool {
        self.superseded.contains(line)
    }

    /// Leaves out all rows of these records, whose lines are quarantined for want of their medication.
    pub fn leave_out(&mut self, records: HashSet<u64>) {
        self.left_out = records;
    }

    /// The place of records that were stated among the tables.
    pub(super) fn stated_table(&self) -> usize {
        self.tables.iter().len()
    }

    /// Whether anything was spilled.
    pub fn spilled(&self) -> bool {
        self.parts.iter().any(|part| read(part).spill.is_some())
    }

    /// All rows of one bucket: by table, in no particular order. Records that were stated are the last.
    pub(super) fn load(
        &self,
        bucket: u32,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<Vec<Option<RecordBatch>>, GatherError> {
        let mut found: Vec<Vec<RecordBatch>> = vec![Vec::new(); self.stated_table() + 1];
        for part in &self.parts {
            let part = read(part);
            for block in part.blocks.iter().filter(|block| wanted(block.table)) {
                if let Some(rows) = block.slice(bucket) {
                    found[block.table].push(rows);
                }
            }
            if let Some(spill) = &part.spill {
                for piece in spill.pieces.iter().filter(|p| p.bucket == bucket && wanted(p.table)) {
                    found[piece.table].extend(spill.read(piece)?);
                }
            }
        }
        let join = |rows: Vec<RecordBatch>| match rows.as_slice() {
            [] => Ok(None),
            [first, ..] => concat_batches(&first.schema(), &rows).map(Some),
        };
        Ok(found.into_iter().map(join).collect::<Result<_, _>>()?)
    }
}

impl Block {
    fn slice(&self, bucket: u32) -> Option<RecordBatch> {
        let (from, to) = (self.starts[bucket as usize], self.starts[bucket as usize + 1]);
        (from < to).then(|| self.rows.slice(from as usize, (to - from) as usize))
    }
}

/// Takes staged batches of one mapping thread.
pub struct GatherSink<'p> {
    persons: &'p PersonIndex,
    layout: Layout,
    buckets: Arc<Vec<u32>>,
    folder: PathBuf,
    key: SpillKey,
    bytes_max: usize,
    number: u32,
    /// The place of records that were stated among the tables: after the last.
    stated: usize,
    part: Arc<RwLock<Part>>,
}

impl StagedSink for GatherSink<'_> {
    fn push(&mut self, batch: StagedBatch) -> Result<(), StageError> {
        self.keep(&batch).map_err(|error| StageError::Sink(Box::new(error)))
    }

    fn stated(&mut self, records: &[Stated]) -> Result<(), StageError> {
        self.keep_stated(records).map_err(|error| StageError::Sink(Box::new(error)))
    }
}

impl GatherSink<'_> {
    fn bucket_of(&self, person: u32) -> u32 {
        match self.buckets.get(person as usize) {
            Some(bucket) => *bucket,
            None => self.persons.subject(person).map_or(NOWHERE, |s| self.layout.bucket(s)),
        }
    }

    fn keep(&self, staged: &StagedBatch) -> Result<(), GatherError> {
        let persons = staged.batch.column(PERSON).as_primitive::<UInt32Type>().values();
        let ordinals = staged.batch.column(ORDINAL).as_primitive::<UInt64Type>().values();
        let targets: Vec<u32> = persons.iter().map(|person| self.bucket_of(*person)).collect();
        let mut part = self.part.write().unwrap_or_else(PoisonError::into_inner);
        let nowhere = targets.iter().zip(ordinals).filter(|(target, _)| **target == NOWHERE);
        part.suppressed.extend(nowhere.map(|(_, ordinal)| *ordinal));
        self.add(&mut part, staged.table, &staged.batch, &targets)
    }

    /// Keeps which records were stated, by the first bits of their keys.
    fn keep_stated(&self, records: &[Stated]) -> Result<(), GatherError> {
        let targets: Vec<u32> = records.iter().map(|r| self.layout.part(r.key)).collect();
        let mut part = self.part.write().unwrap_or_else(PoisonError::into_inner);
        self.add(&mut part, self.stated, &versions::batch(records)?, &targets)
    }

    /// Adds rows of one table, of which each goes to its target.
    fn add(
        &self,
        part: &mut Part,
        table: usize,
        rows: &RecordBatch,
        targets: &[u32],
    ) -> Result<(), GatherError> {
        let buckets = self.layout.buckets() as usize;
        let (starts, order) = scatter(targets, buckets);
        if order.is_empty() {
            return Ok(());
        }
        let rows = if buckets == 1 && order.len() == targets.len() {
            rows.clone()
        } else {
            take_record_batch(rows, &UInt32Array::from(order))?
        };
        part.bytes += rows.get_array_memory_size();
        part.blocks.push(Block { table, rows, starts });
        if part.bytes > self.bytes_max { self.spill(part) } else { Ok(()) }
    }

    /// Moves all that is in memory to the spill file, in one piece for each bucket and table.
    fn spill(&self, part: &mut Part) -> Result<(), GatherError> {
        if part.spill.is_none() {
            part.spill = Some(SpillFile::create(&self.folder, self.number, &self.key)?);
        }
        let mut blocks = std::mem::take(&mut part.blocks);
        part.bytes = 0;
        let Some(spill) = &mut part.spill else { return Ok(()) };
        blocks.sort_by_key(|block| block.table);
        for of_table in blocks.chunk_by(|a, b| a.table == b.table) {
            for bucket in 0..self.layout.buckets() {
                let rows: Vec<RecordBatch> = of_table.iter().filter_map(|b| b.slice(bucket)).collect();
                if let Some(first) = rows.first() {
                    spill.append(bucket, of_table[0].table, &concat_batches(&first.schema(), &rows)?)?;
                }
            }
        }
        Ok(())
    }
}

/// Where the rows of each bucket start when they are put in the order of buckets, and that order. Rows that go nowhere are
/// not in it.
fn scatter(targets: &[u32], buckets: usize) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0u32; buckets + 1];
    for target in targets.iter().filter(|t| **t != NOWHERE) {
        starts[*target as usize + 1] += 1;
    }
    for bucket in 0..buckets {
        starts[bucket + 1] += starts[bucket];
    }
    let mut next = starts.clone();
    let mut order = vec![0u32; starts[buckets] as usize];
    for (row, target) in targets.iter().enumerate().filter(|(_, t)| **t != NOWHERE) {
        let slot = &mut next[*target as usize];
        order[*slot as usize] = row as u32;
        *slot += 1;
    }
    (starts, order)
}
