//! Record batches to Parquet bytes and back.
//!
//! The same rows give the same bytes: no time and no version of this program stands in a file.

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::ChunkReader;
use parquet::schema::types::ColumnPath;

use almoner_deid::ROW_KEY;
use almoner_model::TableSpec;

/// Rows of a row group: what a reader skips or reads as one.
const ROWS_PER_GROUP: usize = 128 << 10;

/// How tables are written.
pub(super) fn properties(spec: &TableSpec) -> Result<WriterProperties, ParquetError> {
    let mut builder = WriterProperties::builder()
        .set_created_by("almoner".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP));
    if let Some(person) = spec.index_of("person_id") {
        let by_person = SortingColumn { column_idx: person as i32, descending: false, nulls_first: false };
        builder = builder.set_sorting_columns(Some(vec![by_person]));
    }
    // Values that hardly repeat: a dictionary would only cost.
    for unique in [Some(ROW_KEY), spec.event_id.as_deref()].into_iter().flatten() {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(unique), false);
    }
    Ok(builder.build())
}

/// The bytes of one file.
pub(super) fn write(spec: &TableSpec, rows: &RecordBatch) -> Result<Bytes, ParquetError> {
    let mut buffer = Vec::with_capacity(rows.get_array_memory_size() / 4 + 8192);
    let mut writer = ArrowWriter::try_new(&mut buffer, rows.schema(), Some(properties(spec)?))?;
    writer.write(rows)?;
    writer.close()?;
    Ok(buffer.into())
}

/// The rows of one file, in batches; of `columns` only, where given (in the order of the file).
pub(super) fn read<R: ChunkReader + 'static>(
    source: R,
    columns: Option<&[&str]>,
) -> Result<ParquetRecordBatchReader, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(source)?.with_batch_size(64 << 10);
    let builder = match columns {
        None => builder,
        Some(columns) => {
            let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
            builder.with_projection(mask)
        }
    };
    builder.build()
}
