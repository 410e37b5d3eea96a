//! What a finished release told of its people: its person and death tables, read back from the package.

use std::fs::File;
use std::path::Path;

use almoner_model::{DatePrecision, Tables};
use arrow::array::{RecordBatch, RecordBatchReader as _};
use arrow::compute::concat_batches;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::ReleaseError;
use super::manifest::{Manifest, digest_file};
use crate::risk::People;

/// People that are read at once.
const PEOPLE_AT_ONCE: usize = 1 << 18;

/// The people of the release in `package`, as its recipient has them: by their pseudonyms.
///
/// # Errors
/// [`ReleaseError::Earlier`] if a table is not the file that the manifest lists or does not read.
pub fn people(package: &Path, manifest: &Manifest, tables: &Tables) -> Result<People, ReleaseError> {
    let wrong = || ReleaseError::Earlier(manifest.release.clone());
    let by_day = manifest.declares.date_precision == DatePrecision::Day && !manifest.declares.shifted;
    let mut people = People::new(tables, by_day).map_err(ReleaseError::risk)?;
    let open = |table: &str| -> Result<Option<ParquetRecordBatchReader>, ReleaseError> {
        let path = format!("tables/{table}.parquet");
        let Some(entry) = manifest.files.iter().find(|f| f.path == path) else { return Ok(None) };
        let path = package.join(path);
        if digest_file(&path).ok() != Some((entry.sha256, entry.bytes)) {
            return Err(wrong());
        }
        let builder = File::open(path)
            .map_err(|_| wrong())
            .and_then(|file| ParquetRecordBatchReaderBuilder::try_new(file).map_err(|_| wrong()))?;
        builder.with_batch_size(PEOPLE_AT_ONCE).build().map(Some).map_err(|_| wrong())
    };
    let death = match open("death")? {
        Some(reader) => {
            let schema = reader.schema();
            let parts = reader.collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?;
            Some(concat_batches(&schema, &parts).map_err(|_| wrong())?)
        }
        None => None,
    };
    for batch in open("person")?.ok_or_else(wrong)? {
        let batch: RecordBatch = batch.map_err(|_| wrong())?;
        people.add(&batch, death.as_ref()).map_err(|_| wrong())?;
    }
    Ok(people)
}
