//! Rows that wait on the disk until they are a row group: as they are, because they are read again soon, and never synced,
//! because after a crash the journal has them.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::ipc::writer::{FileWriter, StreamWriter};

use super::staged::Staging;
use crate::output::error::OutputError;
use crate::state::disk::{Disk, Doing, ScratchFile};

/// What goes to the disk, or comes from it, in one call.
const BUFFER: usize = 1 << 17;

/// The rows of one region, in a file of their own that is used again for every row group.
pub(super) struct Waiting {
    writer: StreamWriter<BufWriter<ScratchFile>>,
    path: PathBuf,
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl Waiting {
    pub(super) fn begin(staging: &mut Staging) -> Result<Self, OutputError> {
        let path = staging.next_path("waiting");
        let file = staging.disk.create_scratch(&path)?;
        Self::over(file, path, &staging.schema)
    }

    fn over(file: ScratchFile, path: PathBuf, schema: &SchemaRef) -> Result<Self, OutputError> {
        let writer = StreamWriter::try_new(BufWriter::with_capacity(BUFFER, file), schema)?;
        Ok(Self { writer, path, rows: 0, bytes: 0 })
    }

    /// Adds rows.
    pub(super) fn push(&mut self, rows: &RecordBatch) -> Result<(), OutputError> {
        self.writer.write(rows)?;
        self.rows += rows.num_rows();
        self.bytes += rows.get_array_memory_size();
        Ok(())
    }

    /// Hands out all rows in their order; gives the file back, to begin again or to be removed.
    pub(super) fn drain(
        self,
        mut take: impl FnMut(&RecordBatch) -> Result<(), OutputError>,
    ) -> Result<Drained, OutputError> {
        let Self { mut writer, path, .. } = self;
        writer.finish()?;
        let buffered = writer.into_inner()?;
        let mut file = buffered.into_inner().map_err(std::io::IntoInnerError::into_error).doing("write", &path)?;
        file.rewind()?;
        for rows in StreamReader::try_new(BufReader::with_capacity(BUFFER, &mut file), None)? {
            take(&rows?)?;
        }
        Ok(Drained { file, path })
    }
}

/// A file whose rows were handed out.
pub(super) struct Drained {
    file: ScratchFile,
    path: PathBuf,
}

impl Drained {
    /// Begins again, with an empty file.
    pub(super) fn again(mut self, schema: &SchemaRef) -> Result<Waiting, OutputError> {
        self.file.clear()?;
        Waiting::over(self.file, self.path, schema)
    }

    /// Removes the file.
    pub(super) fn remove(self, disk: Disk) -> Result<(), OutputError> {
        Ok(disk.remove(&self.path)?)
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("path", &self.path).field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// The rows of regions without a file of their own, in blocks of one file for all of them.
pub(super) struct Spill {
    writer: FileWriter<BufWriter<ScratchFile>>,
    path: PathBuf,
    blocks: usize,
}

impl Spill {
    pub(super) fn begin(staging: &mut Staging) -> Result<Self, OutputError> {
        let path = staging.next_path("waiting");
        let file = BufWriter::with_capacity(BUFFER, staging.disk.create_scratch(&path)?);
        Ok(Self { writer: FileWriter::try_new(file, &staging.schema)?, path, blocks: 0 })
    }

    /// Adds a block; gives its number.
    pub(super) fn push(&mut self, rows: &RecordBatch) -> Result<usize, OutputError> {
        self.writer.write(rows)?;
        self.blocks += 1;
        Ok(self.blocks - 1)
    }

    /// Ends the file, so that its blocks can be read.
    pub(super) fn end(mut self) -> Result<Spilled, OutputError> {
        self.writer.finish()?;
        let buffered = self.writer.into_inner()?;
        buffered.into_inner().map_err(std::io::IntoInnerError::into_error).doing("write", &self.path)?;
        let reader = FileReader::try_new(File::open(&self.path).doing("open", &self.path)?, None)?;
        Ok(Spilled { reader, path: self.path })
    }
}

impl std::fmt::Debug for Spill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spill").field("path", &self.path).field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

/// Blocks to be read.
pub(super) struct Spilled {
    reader: FileReader<File>,
    path: PathBuf,
}

impl Spilled {
    pub(super) fn block(&mut self, number: usize) -> Result<Option<RecordBatch>, OutputError> {
        self.reader.set_index(number)?;
        Ok(self.reader.next().transpose()?)
    }

    /// Removes the file.
    pub(super) fn remove(self, disk: Disk) -> Result<(), OutputError> {
        let Self { reader, path } = self;
        drop(reader);
        Ok(disk.remove(&path)?)
    }
}
