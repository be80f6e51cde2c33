//! One Parquet file being written: row groups by rows or on demand, zstd. And the way to read one that others may have made.
//!
//! zstd level 1: higher levels and other encodings gain under 4 % on such rows and cost 1.5 times the CPU and more.
//! The writer knows nothing of regions or segments; closing it gives the file back with the number of its rows.

use std::cell::Cell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

/// Rows of a full row group: smaller ones cost 1 to 3 % in size, larger ones only memory.
const GROUP_ROWS: usize = 128 * 1024;

/// A Parquet file being written to `W`.
#[derive(Debug)]
pub struct ParquetFile<W: Write + Send> {
    writer: ArrowWriter<W>,
    rows: u64,
}

impl<W: Write + Send> ParquetFile<W> {
    /// Starts a file of this schema. Columns whose values hardly ever repeat, `unique`, are written without a dictionary:
    /// building one that is thrown away costs a fifth of the encoding.
    pub fn create(sink: W, schema: &SchemaRef, unique: &[String]) -> Result<Self, ParquetError> {
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_created_by(concat!("pagehaul ", env!("CARGO_PKG_VERSION")).to_owned());
        for column in unique {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(column.as_str()), false);
        }
        let writer = ArrowWriter::try_new(sink, SchemaRef::clone(schema), Some(properties.build()))?;
        Ok(Self { writer, rows: 0 })
    }

    /// Adds rows.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        self.rows += u64::try_from(rows.num_rows()).unwrap_or_default();
        self.writer.write(rows)
    }

    /// Ends the open row group and writes it out.
    pub fn flush(&mut self) -> Result<(), ParquetError> {
        self.writer.flush()
    }

    /// Writes the footer; gives the sink back, and the number of rows in the file.
    pub fn finish(self) -> Result<(W, u64), ParquetError> {
        Ok((self.writer.into_inner()?, self.rows))
    }
}

thread_local! {
    /// Whether a panic of this thread is an answer, and says nothing.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Reads from a file that is not known to be whole. None: the decoder panicked over it, as it does over some damaged files.
/// Nothing is printed then.
pub fn quietly<T>(read: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                loud(panic);
            }
        }));
    });
    IS_QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(read));
    IS_QUIET.set(false);
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::quietly;

    #[test]
    fn a_decoder_that_panics_gives_nothing_and_the_next_one_is_asked_all_the_same() {
        assert_eq!(quietly::<()>(|| panic!("of a test")), None);
        assert_eq!(quietly(|| 7), Some(7));
    }
}
