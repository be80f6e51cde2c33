//! Rows of one region that wait on the disk until they are a row group.
//!
//! They are stored as Arrow lays them out, because they are read again soon, and never synced, because the journal has them
//! after a crash. The file is open only while rows are added or read, so that the number of regions needs no descriptors.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message};

use crate::output::error::OutputError;
use crate::state::disk::{Disk, Doing};

/// Bytes that go to the disk, or come from it, in one call.
const BUFFER: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct SpillFile {
    path: PathBuf,
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl SpillFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, rows: 0, bytes: 0 }
    }

    pub(super) fn push(&mut self, rows: &RecordBatch, schema: &SchemaRef) -> Result<(), OutputError> {
        let mut file = BufWriter::with_capacity(BUFFER, Disk.append_scratch(&self.path, self.rows == 0)?);
        let (generator, options) = (IpcDataGenerator::default(), IpcWriteOptions::default());
        let mut dictionaries = DictionaryTracker::new(false);
        if self.rows == 0 {
            let schema = generator.schema_to_bytes_with_dictionary_tracker(schema, &mut dictionaries, &options);
            write_message(&mut file, schema, &options)?;
        }
        let (_, encoded) = generator.encode(rows, &mut dictionaries, &options, &mut IpcWriteContext::default())?;
        write_message(&mut file, encoded, &options)?;
        file.into_inner().map_err(std::io::IntoInnerError::into_error).doing("write", &self.path)?;
        self.rows += rows.num_rows();
        self.bytes += rows.get_array_memory_size();
        Ok(())
    }

    /// Gives all rows in their order, and removes the file.
    pub(super) fn drain(
        self,
        mut take: impl FnMut(&RecordBatch) -> Result<(), OutputError>,
    ) -> Result<(), OutputError> {
        let file = BufReader::with_capacity(BUFFER, File::open(&self.path).doing("open", &self.path)?);
        for rows in StreamReader::try_new(file, None)? {
            take(&rows?)?;
        }
        Ok(Disk.remove(&self.path)?)
    }
}

#[cfg(test)]
mod tests {
    use super::SpillFile;
    use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;

    #[test]
    fn rows_come_back_in_order_and_what_an_earlier_process_left_is_not_among_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x-0.spill");
        let batch = |numbers: Vec<i64>| -> RecordBatch {
            let column: ArrayRef = Arc::new(Int64Array::from(numbers));
            RecordBatch::try_from_iter([("n", column)]).unwrap()
        };
        let (first, second) = (batch(vec![1, 2]), batch(vec![3]));
        let schema = first.schema();
        let mut spilled = SpillFile::new(path.clone());
        spilled.push(&first, &schema).unwrap();
        spilled.push(&second, &schema).unwrap();
        assert!(SpillFile::new(path).push(&second, &schema).is_err(), "a file that is there is not continued");
        let mut rows = Vec::new();
        spilled
            .drain(|batch| {
                rows.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
                Ok(())
            })
            .unwrap();
        assert_eq!((rows, std::fs::read_dir(directory.path()).unwrap().count()), (vec![1, 2, 3], 0));
    }
}
