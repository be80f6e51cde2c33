//! The files of one directory being staged: a new one before one grows too large.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;

use super::SegmentConfig;
use crate::output::error::OutputError;
use crate::output::file_entry::FileEntry;
use crate::output::names::access;
use crate::output::parquet_file::ParquetFile;
use crate::state::disk::{Disk, NewFile, Written};

/// Where and how the files of a segment's attempt are staged.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) config: SegmentConfig,
    /// What the names of the files start with.
    pub(super) stem: String,
    pub(super) created: u32,
}

impl Staging {
    /// The next free name in the staging directory.
    pub(super) fn next_name(&mut self, extension: &str) -> String {
        let name = format!("{}-{}.{extension}", self.stem, self.created);
        self.created += 1;
        name
    }

    /// Starts a file that will have this path in the output.
    pub(super) fn create(&mut self, path: String, schema: &SchemaRef) -> Result<StagedParquet, OutputError> {
        let staged = self.next_name("parquet");
        let file = Disk.create(&self.config.staging.join(&staged), access(&path))?;
        let file = ParquetFile::create(file, schema, &self.config.parquet)
            .map_err(|source| OutputError::Parquet { directory: path.clone(), source })?;
        Ok(StagedParquet { file, staged, path })
    }
}

#[derive(Debug)]
pub(super) struct StagedParquet {
    file: ParquetFile<NewFile>,
    /// Its name in the staging directory.
    staged: String,
    /// Its name in the output.
    path: String,
}

impl StagedParquet {
    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<(), OutputError> {
        self.file.write(rows).map_err(|source| OutputError::Parquet { directory: self.path.clone(), source })
    }

    fn end_group(&mut self) -> Result<(), OutputError> {
        self.file.flush().map_err(|source| OutputError::Parquet { directory: self.path.clone(), source })
    }

    pub(super) fn finish(self) -> Result<FileEntry, OutputError> {
        let Self { file, staged, path } = self;
        let finished = file.finish();
        let (sink, rows) = finished.map_err(|source| OutputError::Parquet { directory: path.clone(), source })?;
        let Written { bytes, sha256 } = sink.finish()?;
        Ok(FileEntry { path, staged, rows, bytes, sha256 })
    }
}

/// The files of one directory: the finished ones, and the one that takes rows.
#[derive(Debug, Default)]
pub(super) struct DirectoryFiles {
    whole: Vec<FileEntry>,
    open: Option<StagedParquet>,
}

impl DirectoryFiles {
    /// Adds rows, to several files where one would be too large.
    pub(super) fn write(
        &mut self,
        directory: &str,
        rows: &RecordBatch,
        staging: &mut Staging,
    ) -> Result<(), OutputError> {
        let mut rest = vec![rows.clone()];
        while let Some(rows) = rest.pop() {
            let mut file = match self.open.take() {
                Some(file) => file,
                None => Self::create(self.whole.len(), directory, staging)?,
            };
            let fits = file.file.bytes() + size(&rows)? <= staging.config.parquet.file_size;
            if !fits && file.file.rows > 0 {
                self.whole.push(file.finish()?);
                rest.push(rows);
                continue;
            }
            if fits || rows.num_rows() < 2 {
                file.write(&rows)?;
            } else {
                let half = rows.num_rows() / 2;
                rest.push(rows.slice(half, rows.num_rows() - half));
                rest.push(rows.slice(0, half));
            }
            self.open = Some(file);
        }
        Ok(())
    }

    pub(super) fn end_group(&mut self) -> Result<(), OutputError> {
        self.open.as_mut().map_or(Ok(()), StagedParquet::end_group)
    }

    pub(super) fn finish(self) -> Result<Vec<FileEntry>, OutputError> {
        let Self { mut whole, open } = self;
        whole.extend(open.map(StagedParquet::finish).transpose()?);
        Ok(whole)
    }

    fn create(number: usize, directory: &str, staging: &mut Staging) -> Result<StagedParquet, OutputError> {
        let name = format!("{directory}/{}-{number}.parquet", staging.stem);
        let schema = Arc::clone(&staging.config.schema);
        staging.create(name, &schema)
    }
}

/// Bytes of these rows as they are, which is more than they take when they are encoded.
fn size(rows: &RecordBatch) -> Result<usize, OutputError> {
    let sizes = rows.columns().iter().map(|column| column.to_data().get_slice_memory_size());
    Ok(sizes.sum::<Result<usize, _>>()?)
}
