//! Writing a version: bucket by bucket, then the manifest.

use std::collections::BTreeMap;

use almoner_deid::{DeidBatch, Profile};
use almoner_model::{DatasetId, Digest, Tables};
use bytes::Bytes;

use super::manifest::{ColumnEntry, FileEntry, Manifest, ReportEntry, TableEntry};
use super::{DatasetError, parquet, version_folder};
use crate::blob::Blobs;

/// Writes the files of one version that is not visible yet. May be used from several threads.
#[derive(Clone, Debug)]
pub struct VersionWriter<'w> {
    blobs: &'w Blobs,
    tables: &'w Tables,
    folder: String,
}

impl<'w> VersionWriter<'w> {
    /// Begins a version. Whatever an earlier attempt left under its name is removed.
    ///
    /// # Errors
    /// [`DatasetError::Blob`].
    pub fn begin(
        blobs: &'w Blobs,
        tables: &'w Tables,
        dataset: &DatasetId,
        version: u32,
    ) -> Result<Self, DatasetError> {
        let folder = version_folder(dataset, version);
        blobs.delete_all(&folder)?;
        Ok(Self { blobs, tables, folder })
    }

    /// Writes the tables of one bucket; durable when the version is sealed.
    ///
    /// # Errors
    /// [`DatasetError`]; the version cannot be completed then.
    pub fn write(&self, bucket: u32, batch: &DeidBatch) -> Result<Vec<FileEntry>, DatasetError> {
        let mut files = Vec::new();
        for (spec, rows) in self.tables.iter().enumerate().filter_map(|(i, s)| Some((s, batch.get(i)?))) {
            if rows.num_rows() == 0 {
                continue;
            }
            let path = format!("{}/bucket={bucket}/part-0.parquet", spec.table);
            let bytes =
                parquet::write(spec, rows).map_err(|_| DatasetError::Parquet { file: path.clone() })?;
            let (sha256, size) = self.put(&path, bytes)?;
            let rows = rows.num_rows() as u64;
            files.push(FileEntry { path, table: spec.table.clone(), bucket, sha256, bytes: size, rows });
        }
        Ok(files)
    }

    /// Takes a file of an earlier version over as it is.
    ///
    /// # Errors
    /// [`DatasetError`].
    pub fn carry(&self, from_folder: &str, file: &FileEntry) -> Result<FileEntry, DatasetError> {
        let from = format!("{from_folder}/{}", file.path);
        self.blobs.share(&from, &format!("{}/{}", self.folder, file.path))?;
        Ok(file.clone())
    }

    /// Writes a report for people.
    ///
    /// # Errors
    /// [`DatasetError`].
    pub fn report(&self, name: &str, bytes: impl Into<Bytes>) -> Result<ReportEntry, DatasetError> {
        let path = format!("reports/{name}");
        let (sha256, bytes) = self.put(&path, bytes.into())?;
        Ok(ReportEntry { path, sha256, bytes })
    }

    /// Writes a report that may be longer than memory.
    ///
    /// # Errors
    /// [`DatasetError`].
    pub fn report_from(&self, name: &str, from: impl std::io::Read) -> Result<ReportEntry, DatasetError> {
        let path = format!("reports/{name}");
        let (sha256, bytes) = self.blobs.put_part_from(&format!("{}/{path}", self.folder), from)?;
        Ok(ReportEntry { path, sha256, bytes })
    }

    /// Makes all files durable, then writes the manifest, which makes the version complete, though not yet visible. Gives its digest.
    ///
    /// # Errors
    /// [`DatasetError`].
    pub fn seal(&self, manifest: &Manifest) -> Result<Digest, DatasetError> {
        self.blobs.settle(&self.folder)?;
        let bytes: Bytes = manifest.to_bytes().into();
        let digest = Digest::of(&bytes);
        self.blobs.put(&format!("{}/manifest.json", self.folder), bytes)?;
        Ok(digest)
    }

    /// Removes what was written.
    ///
    /// # Errors
    /// [`DatasetError`].
    pub fn abandon(&self) -> Result<(), DatasetError> {
        Ok(self.blobs.delete_all(&self.folder)?)
    }

    fn put(&self, path: &str, bytes: Bytes) -> Result<(Digest, u64), DatasetError> {
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        self.blobs.put_part(&format!("{}/{path}", self.folder), bytes)?;
        Ok((digest, size))
    }
}

impl TableEntry {
    /// All tables with their columns as `profile` leaves them, and rows from `files`.
    pub fn of(tables: &Tables, profile: &Profile, files: &[FileEntry]) -> BTreeMap<String, Self> {
        let mut rows: BTreeMap<&str, u64> = BTreeMap::new();
        for file in files {
            *rows.entry(&file.table).or_default() += file.rows;
        }
        let column = |c: &almoner_model::ColumnSpec| ColumnEntry {
            name: c.name.clone(),
            kind: c.kind,
            class: c.class,
            action: profile.rule(c.class).action,
        };
        tables
            .iter()
            .map(|spec| {
                let columns = spec.columns.iter().map(column).collect();
                let rows = rows.get(spec.table.as_str()).copied().unwrap_or(0);
                (spec.table.clone(), Self { rows, columns })
            })
            .collect()
    }
}
