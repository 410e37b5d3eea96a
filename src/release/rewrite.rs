//! A package without some people: for erasures.
//!
//! Rows are filtered and nothing else, so that the rest is what was delivered. The dictionary stays as it is: what it counts
//! is what the gate did when the release was built.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;

use almoner_model::Digest;
use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::ReleaseError;
use super::manifest::{FileEntry, Manifest, digest_file};
use super::package::{properties, unwritten, write_file};

/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 1 << 16;

/// Writes the package at `from` without the people with these pseudonyms to the folder `to`, which is new: tables, manifest,
/// sums, and the ledger's files as they are. Gives the manifest and its digest.
///
/// # Errors
/// [`ReleaseError`] if a file cannot be read or written.
pub fn without(
    from: &Path,
    to: &Path,
    manifest: &Manifest,
    people: &BTreeSet<i64>,
) -> Result<(Manifest, Digest), ReleaseError> {
    let mut new = manifest.clone();
    for file in &mut new.files {
        let target = to.join(&file.path);
        target.parent().map_or(Ok(()), fs::create_dir_all)?;
        // What is written again is what was delivered.
        if digest_file(&from.join(&file.path))? != (file.sha256, file.bytes) {
            return Err(ReleaseError::Differs { release: manifest.release.clone(), file: file.path.clone() });
        }
        if file.rows.is_some() {
            let rows = table(&from.join(&file.path), &target, people)?;
            let written = FileEntry::of(to, file.path.clone(), Some(rows), Vec::new())?;
            (file.sha256, file.bytes, file.rows) = (written.sha256, written.bytes, written.rows);
        } else {
            copy(&from.join(&file.path), &target)?;
        }
    }
    fs::create_dir_all(to.join("ledger"))?;
    for item in fs::read_dir(from.join("ledger"))? {
        let item = item?;
        copy(&item.path(), &to.join("ledger").join(item.file_name()))?;
    }
    new.persons = manifest.persons.checked_sub(people.len() as u64).ok_or(ReleaseError::Tables)?;
    new.persons_erased += people.len() as u64;
    let bytes = new.to_bytes()?;
    let digest = Digest::of(&bytes);
    write_file(&to.join("release.json"), &bytes)?;
    write_file(&to.join("SHA256SUMS"), new.sums(digest).as_bytes())?;
    Ok((new, digest))
}

fn copy(from: &Path, to: &Path) -> Result<(), ReleaseError> {
    write_file(to, &fs::read(from)?)
}

/// Writes a table without the rows of `people`. Gives the number of rows.
fn table(from: &Path, to: &Path, people: &BTreeSet<i64>) -> Result<u64, ReleaseError> {
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(File::open(from)?).map_err(|_| ReleaseError::Tables)?;
    let schema = builder.schema().clone();
    let reader = builder.with_batch_size(ROWS_AT_ONCE).build().map_err(|_| ReleaseError::Tables)?;
    let mut writer =
        ArrowWriter::try_new(File::create(to)?, schema, Some(properties()?)).map_err(unwritten)?;
    let mut rows = 0;
    for batch in reader {
        let batch = batch.map_err(|_| ReleaseError::Tables)?;
        let persons = batch.column_by_name("person_id").and_then(|c| c.as_primitive_opt::<Int64Type>());
        let persons = persons.ok_or(ReleaseError::Tables)?;
        let stays: BooleanArray = persons.values().iter().map(|id| Some(!people.contains(id))).collect();
        let left = filter_record_batch(&batch, &stays).map_err(|_| ReleaseError::Tables)?;
        rows += left.num_rows() as u64;
        writer.write(&left).map_err(unwritten)?;
    }
    writer.into_inner().map_err(unwritten)?.sync_all()?;
    Ok(rows)
}
