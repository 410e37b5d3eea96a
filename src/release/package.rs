//! Package: re-keyed tables, sorted by pseudonym, as Parquet files with the declared types.
//!
//! Rows come in one group of buckets after another and go, re-keyed, into one spill file for each table and range of
//! pseudonyms; [`Writer::finish`] then sorts one range at a time, so memory follows the range and not the release. What is
//! spilled is de-identified and re-keyed already; the folder is a temporary one that is renamed when all is written, and
//! removed at the next start if it was not.
//!
//! Same input, same output: row order is (pseudonym, start date, order in the sources), Parquet files carry no time, and
//! spill order is the order of groups.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use almoner_deid::{Ages, arrow_schema};
use almoner_model::{Code, IdentifierClass, SubjectId, TableSpec, Tables};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Date32Type, Int64Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::ReleaseError;
use super::manifest::{Change, ColumnEntry, FileEntry};
use super::references::{self, Leaving, referred};
use super::rekey::{Rekey, Space};
use super::restating::Restating;
use crate::risk::Gated;

/// Rows that one range of pseudonyms should have at most.
const RANGE_ROWS: u64 = 2 << 20;
/// Ranges at most.
const RANGES_MAX: u64 = 32;
/// Rows in a row group.
const ROW_GROUP_ROWS: usize = 128 * 1024;

/// The tables of a package as they were written.
#[derive(Debug, Default)]
pub struct Written {
    /// Their files.
    pub files: Vec<FileEntry>,
    /// By table, the rows of people whom the gate left out.
    pub left_out: BTreeMap<String, u64>,
}

/// Writes the tables of one package.
pub struct Writer<'a> {
    tables: &'a Tables,
    rekey: &'a Rekey,
    spill: PathBuf,
    range_bits: u32,
    open: BTreeMap<(usize, u32), StreamWriter<BufWriter<File>>>,
}

impl<'a> Writer<'a> {
    /// A writer that spills below `dir`, which exists, for about `rows_expected` rows.
    ///
    /// # Errors
    /// [`ReleaseError::Write`].
    pub fn new(
        tables: &'a Tables,
        rekey: &'a Rekey,
        dir: &Path,
        rows_expected: u64,
    ) -> Result<Self, ReleaseError> {
        let spill = dir.join("spill");
        fs::create_dir_all(&spill)?;
        let ranges = (rows_expected / RANGE_ROWS + 1).next_power_of_two().min(RANGES_MAX);
        Ok(Self { tables, rekey, spill, range_bits: ranges.trailing_zeros(), open: BTreeMap::new() })
    }

    /// Takes rows of one table, in the schema of `schemas/tables`, ids not yet replaced.
    ///
    /// # Errors
    /// [`ReleaseError`] if an id cannot be carried or a file not be written.
    pub fn push(&mut self, table: usize, batch: &RecordBatch) -> Result<(), ReleaseError> {
        let spec = spec(self.tables, table)?;
        let batch = rekeyed(self.tables, self.rekey, table, batch)?;
        let persons = persons(spec, &batch)?;
        let mut rows: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (row, id) in persons.values().iter().enumerate() {
            let range = (*id as u64 >> (53 - self.range_bits)) as u32;
            rows.entry(range).or_default().push(row as u32);
        }
        for (range, rows) in rows {
            let part =
                take_record_batch(&batch, &UInt32Array::from(rows)).map_err(|_| ReleaseError::Tables)?;
            let writer = match self.open.entry((table, range)) {
                std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    let file = BufWriter::new(File::create(self.spill.join(format!("{table}-{range}")))?);
                    place.insert(
                        StreamWriter::try_new(file, &part.schema()).map_err(|_| ReleaseError::Tables)?,
                    )
                }
            };
            writer.write(&part).map_err(|_| ReleaseError::Write(std::io::ErrorKind::Other))?;
        }
        Ok(())
    }

    /// Sorts, recodes as the gate says, nulls references to what does not leave, and writes `tables/<table>.parquet` below
    /// `dir` for each wanted table (also without rows) that the gate does not withhold, and removes the spill files.
    /// `gated` knows people by their pseudonyms. Rows that restate what the gate changed stay behind: `ages` tell a birth, and
    /// `concepts` gives those of another code, where a vocabulary knows it.
    ///
    /// # Errors
    /// [`ReleaseError`] if a file cannot be written.
    pub fn finish(
        mut self,
        dir: &Path,
        wanted: &BTreeSet<usize>,
        gated: &Gated,
        ages: &Ages,
        concepts: &dyn Fn(&Code) -> Vec<i64>,
    ) -> Result<Written, ReleaseError> {
        for (_, mut writer) in std::mem::take(&mut self.open) {
            writer.finish().map_err(|_| ReleaseError::Write(std::io::ErrorKind::Other))?;
        }
        fs::create_dir_all(dir.join("tables"))?;
        let restating = Restating::new(&gated.recoding, ages, concepts);
        let mut outputs = Vec::new();
        for &table in wanted {
            let spec = spec(self.tables, table)?;
            if spec.table != "death" || gated.recoding.death {
                outputs.push(Output::new(table, spec, dir)?);
            }
        }
        for range in 0..1u32 << self.range_bits {
            let leaving = self.leaving(range, gated)?;
            for output in &mut outputs {
                if let Some(rows) = self.spilled(output.table, range)? {
                    output.write(self.tables, &rows, gated, &leaving, &restating)?;
                }
            }
        }
        fs::remove_dir_all(&self.spill)?;
        let mut written = Written::default();
        for output in outputs {
            written.left_out.insert(output.spec.table.clone(), output.left_out);
            written.files.push(output.finish(dir, gated)?);
        }
        Ok(written)
    }

    /// The rows of a table in one range of pseudonyms, in the order they came; `None` without rows.
    fn spilled(&self, table: usize, range: u32) -> Result<Option<RecordBatch>, ReleaseError> {
        let Ok(file) = File::open(self.spill.join(format!("{table}-{range}"))) else { return Ok(None) };
        let reader = StreamReader::try_new(BufReader::new(file), None).map_err(|_| ReleaseError::Tables)?;
        let parts = reader.collect::<Result<Vec<_>, _>>().map_err(|_| ReleaseError::Tables)?;
        let schema = arrow_schema(spec(self.tables, table)?, false);
        concat_batches(&schema, &parts).map(Some).map_err(|_| ReleaseError::Tables)
    }

    /// What references can name in one range.
    fn leaving(&self, range: u32, gated: &Gated) -> Result<Leaving, ReleaseError> {
        let mut out = Leaving::default();
        for table in references::named(self.tables) {
            if let Some(rows) = self.spilled(table, range)? {
                out.add(table, spec(self.tables, table)?, &rows, &gated.suppressed)?;
            }
        }
        Ok(out)
    }
}

/// One table being written.
struct Output<'a> {
    table: usize,
    spec: &'a TableSpec,
    path: String,
    writer: ArrowWriter<File>,
    rows: u64,
    /// Rows of people whom the gate leaves out.
    left_out: u64,
    /// Rows that restate what the gate changed.
    restating: u64,
    /// Values that the gate changed, by column.
    recoded: BTreeMap<String, u64>,
    /// References that were nulled, by column.
    nulled: BTreeMap<String, u64>,
}

impl<'a> Output<'a> {
    fn new(table: usize, spec: &'a TableSpec, dir: &Path) -> Result<Self, ReleaseError> {
        let path = format!("tables/{}.parquet", spec.table);
        let file = File::create(dir.join(&path))?;
        let writer =
            ArrowWriter::try_new(file, arrow_schema(spec, false), Some(properties()?)).map_err(unwritten)?;
        let (recoded, nulled) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { table, spec, path, writer, rows: 0, left_out: 0, restating: 0, recoded, nulled })
    }

    fn write(
        &mut self,
        tables: &Tables,
        rows: &RecordBatch,
        gated: &Gated,
        leaving: &Leaving,
        restating: &Restating<'_>,
    ) -> Result<(), ReleaseError> {
        let sorted = sorted(self.spec, rows)?;
        let all = sorted.num_rows();
        let sorted = restating.without(self.spec, &sorted)?;
        self.restating += (all - sorted.num_rows()) as u64;
        let Some(kept) = gated.apply(self.spec, &sorted).map_err(|_| ReleaseError::Tables)? else {
            return Ok(());
        };
        let (resolved, nulled) = leaving.resolve(tables, self.spec, &kept)?;
        add(&mut self.nulled, nulled);
        add(&mut self.recoded, gated.changed(self.spec, &sorted).map_err(|_| ReleaseError::Tables)?);
        self.rows += resolved.num_rows() as u64;
        self.left_out += (sorted.num_rows() - resolved.num_rows()) as u64;
        self.writer.write(&resolved).map_err(unwritten)
    }

    fn finish(self, dir: &Path, gated: &Gated) -> Result<FileEntry, ReleaseError> {
        self.writer.into_inner().map_err(unwritten)?.sync_all()?;
        let columns = self.spec.columns.iter().map(|c| {
            let by_gate = gated.recoding.of_column(&self.spec.table, &c.name);
            let gate = by_gate
                .map(|what| Change { what, values: self.recoded.get(&c.name).copied().unwrap_or_default() });
            let references = self.nulled.get(&c.name).copied().unwrap_or_default();
            ColumnEntry { gate, references_nulled: references, ..ColumnEntry::of(c) }
        });
        let columns = columns.collect();
        let file = FileEntry::of(dir, self.path, Some(self.rows), columns)?;
        Ok(FileEntry { rows_restating: self.restating, ..file })
    }
}

/// How tables are written.
pub(super) fn properties() -> Result<WriterProperties, ReleaseError> {
    let level = ZstdLevel::try_new(3).map_err(|_| ReleaseError::Tables)?;
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_created_by("almoner-release/1".into())
        .build())
}

pub(super) fn unwritten(_: parquet::errors::ParquetError) -> ReleaseError {
    ReleaseError::Write(std::io::ErrorKind::Other)
}

fn add(to: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>) {
    for (column, n) in more {
        *to.entry(column).or_default() += n;
    }
}

fn spec(tables: &Tables, table: usize) -> Result<&TableSpec, ReleaseError> {
    tables.iter().nth(table).ok_or(ReleaseError::Tables)
}

fn persons<'b>(spec: &TableSpec, batch: &'b RecordBatch) -> Result<&'b Int64Array, ReleaseError> {
    let at = spec.index_of("person_id").ok_or(ReleaseError::Tables)?;
    batch.column(at).as_primitive_opt::<Int64Type>().ok_or(ReleaseError::Tables)
}

/// The rows by (person, start), otherwise in the order they came.
fn sorted(spec: &TableSpec, batch: &RecordBatch) -> Result<RecordBatch, ReleaseError> {
    let ids = persons(spec, batch)?.values();
    let start = spec.start.as_deref().and_then(|c| spec.index_of(c));
    let start = start.and_then(|at| batch.column(at).as_primitive_opt::<Date32Type>());
    let day = |row: usize| start.filter(|d| d.is_valid(row)).map(|d| d.value(row));
    let mut order: Vec<u32> = (0..batch.num_rows() as u32).collect();
    order.sort_by_key(|row| (ids[*row as usize], day(*row as usize)));
    take_record_batch(batch, &UInt32Array::from(order)).map_err(|_| ReleaseError::Tables)
}

/// Replaces every id column and drops internal ones. A reference to rows of a table that its name does not tell is nulled.
///
/// # Errors
/// [`ReleaseError`] if the batch is not of the table or an id cannot be carried.
pub fn rekeyed(
    tables: &Tables,
    rekey: &Rekey,
    table: usize,
    batch: &RecordBatch,
) -> Result<RecordBatch, ReleaseError> {
    let spec = spec(tables, table)?;
    let mut columns: Vec<ArrayRef> = batch.columns()[..spec.columns.len()].to_vec();
    for (i, c) in spec.columns.iter().enumerate() {
        let space = match c.class {
            IdentifierClass::SubjectId => Some(Space::Person),
            IdentifierClass::EventId => Some(Space::Table(table)),
            IdentifierClass::EventRef => referred(tables, &c.name).map(Space::Table),
            _ => continue,
        };
        let old = columns[i].as_primitive_opt::<Int64Type>().ok_or(ReleaseError::Tables)?;
        let new: Int64Array = match space {
            Some(space) => {
                // Ids of people repeat in runs.
                let mut last = (0, 0);
                old.iter()
                    .map(|id| {
                        let Some(id) = id else { return Ok(None) };
                        if last.0 != id {
                            last = (id, rekey.id(space, id)?);
                        }
                        Ok(Some(last.1))
                    })
                    .collect::<Result<_, super::rekey::OutOfRange>>()?
            }
            None => Int64Array::new_null(old.len()),
        };
        columns[i] = Arc::new(new);
    }
    RecordBatch::try_new(arrow_schema(spec, false), columns).map_err(|_| ReleaseError::Tables)
}

/// The pseudonym of a person.
///
/// # Errors
/// [`ReleaseError::Id`] if the id is not a subject id.
pub fn pseudonym(rekey: &Rekey, subject: SubjectId) -> Result<i64, ReleaseError> {
    Ok(rekey.id(Space::Person, subject.get())?)
}

/// Writes a text file and syncs it.
///
/// # Errors
/// [`ReleaseError::Write`].
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ReleaseError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(())
}
