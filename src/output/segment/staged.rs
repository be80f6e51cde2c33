//! The files of one directory being staged: a new one before one grows too large.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;

use super::StagedFile;
use crate::output::error::OutputError;
use crate::output::names::access;
use crate::output::parquet_file::{ParquetFile, ParquetOptions};
use crate::state::disk::{Disk, NewFile};

/// Where files of a segment's attempt are staged, and in which format.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) directory: PathBuf,
    /// What the names of the files begin with.
    pub(super) stem: String,
    pub(super) schema: SchemaRef,
    pub(super) parquet: ParquetOptions,
    created: u32,
}

impl Staging {
    pub(super) fn new(directory: PathBuf, stem: String, schema: SchemaRef, parquet: ParquetOptions) -> Self {
        Self { directory, stem, schema, parquet, created: 0 }
    }

    /// The next free name in the staging directory.
    pub(super) fn next_path(&mut self, extension: &str) -> PathBuf {
        let path = self.directory.join(format!("{}-{}.{extension}", self.stem, self.created));
        self.created += 1;
        path
    }

    /// Starts a file that will get this name when it is published.
    pub(super) fn create(&mut self, name: String, schema: &SchemaRef) -> Result<StagedParquet, OutputError> {
        let path = self.next_path("parquet");
        let file = ParquetFile::create(Disk.create(&path, access(&name))?, schema, &self.parquet)
            .map_err(|source| OutputError::Parquet { directory: name.clone(), source })?;
        Ok(StagedParquet { file, path, name })
    }
}

/// A file being written.
#[derive(Debug)]
pub(super) struct StagedParquet {
    file: ParquetFile<NewFile>,
    path: PathBuf,
    name: String,
}

impl StagedParquet {
    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<(), OutputError> {
        self.file.write(rows).map_err(|source| OutputError::Parquet { directory: self.name.clone(), source })
    }

    fn end_group(&mut self) -> Result<(), OutputError> {
        self.file.flush().map_err(|source| OutputError::Parquet { directory: self.name.clone(), source })
    }

    pub(super) fn finish(self) -> Result<StagedFile, OutputError> {
        let Self { file, path, name } = self;
        let finished = file.finish();
        let (sink, rows) = finished.map_err(|source| OutputError::Parquet { directory: name.clone(), source })?;
        let written = sink.finish()?;
        Ok(StagedFile { staged: path, name, rows, bytes: written.bytes, sha256: written.sha256 })
    }
}

/// The files of one directory: the finished ones, and the one that takes rows.
#[derive(Debug, Default)]
pub(super) struct DirectoryFiles {
    whole: Vec<StagedFile>,
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
            let fits = file.file.bytes() + size(&rows)? <= staging.parquet.file_size;
            if !fits && file.file.rows() > 0 {
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

    pub(super) fn finish(self) -> Result<Vec<StagedFile>, OutputError> {
        let Self { mut whole, open } = self;
        whole.extend(open.map(StagedParquet::finish).transpose()?);
        Ok(whole)
    }

    fn create(number: usize, directory: &str, staging: &mut Staging) -> Result<StagedParquet, OutputError> {
        let name = format!("{directory}/{}-{number}.parquet", staging.stem);
        let schema = Arc::clone(&staging.schema);
        staging.create(name, &schema)
    }
}

/// Bytes of these rows as they are, which is more than they take when they are encoded.
fn size(rows: &RecordBatch) -> Result<usize, OutputError> {
    let mut bytes = 0;
    for column in rows.columns() {
        bytes += column.to_data().get_slice_memory_size()?;
    }
    Ok(bytes)
}
