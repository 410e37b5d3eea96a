//! A version without some people: for erasures.
//!
//! The folder is made whole beside the version, with new files for the buckets that had rows of these people and the other
//! files shared, and then takes its place. Rows are filtered and nothing else: ids and order stay, so that the rest is what
//! was published. What is filtered was written from de-identified rows.

use std::collections::{BTreeMap, BTreeSet};

use almoner_model::{Digest, Tables};
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use bytes::Bytes;

use super::manifest::{FileEntry, Manifest};
use super::verify::hash;
use super::{DatasetError, DatasetVersion, parquet};
use crate::blob::Blobs;

/// Makes a version without some people, in a folder beside it.
pub struct Rewrite<'a> {
    blobs: &'a Blobs,
    tables: &'a Tables,
    /// The version's folder.
    from: String,
    /// The new folder.
    to: String,
    /// What the version is without them; `files`, `tables` and `persons` are right.
    pub manifest: Manifest,
    /// Who is not in it any more.
    pub left_out: BTreeSet<i64>,
}

impl<'a> Rewrite<'a> {
    /// Writes the files of `version`, which lies in the folder `from`, without `people`, into the folder `to`; only buckets
    /// of which `concerned` holds are looked at. `None`, and nothing is written, if it has no rows of theirs.
    ///
    /// # Errors
    /// [`DatasetError`].
    pub fn new(
        blobs: &'a Blobs,
        tables: &'a Tables,
        version: &DatasetVersion,
        (from, to): (&str, &str),
        people: &BTreeSet<i64>,
        concerned: impl Fn(u32) -> bool,
    ) -> Result<Option<Self>, DatasetError> {
        blobs.delete_all(to)?;
        let mut made = Self {
            blobs,
            tables,
            from: from.to_owned(),
            to: to.to_owned(),
            manifest: version.manifest.clone(),
            left_out: BTreeSet::new(),
        };
        let mut written = BTreeMap::new();
        for file in version.manifest.files.iter().filter(|f| concerned(f.bucket)) {
            if let Some(new) = made.file(version, file, people)? {
                written.insert(file.path.clone(), new);
            }
        }
        if written.is_empty() {
            return Ok(None);
        }
        made.manifest.files.clear();
        for file in &version.manifest.files {
            match written.remove(&file.path) {
                Some(new) => made.manifest.files.extend(new),
                None => {
                    made.share(&file.path)?;
                    made.manifest.files.push(file.clone());
                }
            }
        }
        for report in &version.manifest.report_files {
            made.share(&report.path)?;
        }
        made.count();
        Ok(Some(made))
    }

    /// One file without `people`: `None` if it has none of them, `Some(None)` if nothing of it is left.
    fn file(
        &mut self,
        version: &DatasetVersion,
        file: &FileEntry,
        people: &BTreeSet<i64>,
    ) -> Result<Option<Option<FileEntry>>, DatasetError> {
        // What is written again is what was published.
        let differs = |_| DatasetError::Differs { file: file.path.clone() };
        if hash(&version.path(file)).map_err(differs)? != (file.sha256, file.bytes) {
            return Err(DatasetError::Differs { file: file.path.clone() });
        }
        let unreadable = || DatasetError::Parquet { file: file.path.clone() };
        let spec = self.tables.get(&file.table).ok_or_else(unreadable)?;
        let mut rows = Vec::new();
        let mut found = false;
        for batch in version.stream(file, None)? {
            let batch = batch?;
            let persons = batch.column_by_name("person_id").and_then(|c| c.as_primitive_opt::<Int64Type>());
            let persons = persons.ok_or_else(unreadable)?;
            let of: BTreeSet<i64> =
                persons.values().iter().filter(|id| people.contains(id)).copied().collect();
            if of.is_empty() {
                rows.push(batch);
                continue;
            }
            let stays: BooleanArray = persons.values().iter().map(|id| Some(!of.contains(id))).collect();
            rows.push(filter_record_batch(&batch, &stays).map_err(|_| unreadable())?);
            self.left_out.extend(of);
            found = true;
        }
        if !found {
            return Ok(None);
        }
        let schema = rows.first().map(RecordBatch::schema).ok_or_else(unreadable)?;
        let rows = arrow::compute::concat_batches(&schema, &rows).map_err(|_| unreadable())?;
        if rows.num_rows() == 0 {
            return Ok(Some(None));
        }
        let bytes: Bytes = parquet::write(spec, &rows).map_err(|_| unreadable())?;
        let (sha256, size) = (Digest::of(&bytes), bytes.len() as u64);
        self.blobs.put_part(&format!("{}/{}", self.to, file.path), bytes)?;
        Ok(Some(Some(FileEntry { sha256, bytes: size, rows: rows.num_rows() as u64, ..file.clone() })))
    }

    fn share(&self, path: &str) -> Result<(), DatasetError> {
        Ok(self.blobs.share(&format!("{}/{path}", self.from), &format!("{}/{path}", self.to))?)
    }

    /// Counts anew what is left.
    fn count(&mut self) {
        let mut rows: BTreeMap<&str, u64> = BTreeMap::new();
        for file in &self.manifest.files {
            *rows.entry(&file.table).or_default() += file.rows;
        }
        for (name, table) in &mut self.manifest.tables {
            table.rows = rows.get(name.as_str()).copied().unwrap_or(0);
        }
        self.manifest.persons = rows.get("person").copied().unwrap_or(0);
    }

    /// The version as it will be, to count what it holds.
    pub fn version(&self) -> DatasetVersion {
        DatasetVersion::within(self.manifest.clone(), self.blobs.path(&self.to))
    }

    /// Makes all durable and writes the manifest. Gives its digest.
    ///
    /// # Errors
    /// [`DatasetError`].
    pub fn seal(&self) -> Result<Digest, DatasetError> {
        self.blobs.settle(&self.to)?;
        let bytes: Bytes = self.manifest.to_bytes().into();
        let digest = Digest::of(&bytes);
        self.blobs.put(&format!("{}/manifest.json", self.to), bytes)?;
        Ok(digest)
    }
}
