//! One Parquet file being written: row groups on demand, zstd, an encoding a column.
//!
//! zstd level 1: higher levels gain under 4 % on such rows and cost 1.5 times the CPU and more. `docs/performance.md` says
//! what each encoding gains.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::endpoint::Column;
use crate::settings::Settings;

/// Rows of a full row group: what warehouses read in one go. Larger ones gain under 1 % in size.
pub const GROUP_ROWS: usize = 128 * 1024;
/// False positives of a bloom filter.
const BLOOM_WRONG: f64 = 0.01;
/// Bytes of a bloom filter of a full row group: ten bits a row, in a power of two.
const BLOOM_BYTES: usize = 256 << 10;
/// At most what footer and page index take for a column of a row group: two truncated bounds a page, twice, and names.
const CHUNK_BYTES: usize = 2 << 10;
/// At most what the footer takes for the schema of such a file.
const SCHEMA_BYTES: usize = 8 << 10;

/// How the columns of an export's files are encoded.
#[derive(Clone, Debug)]
pub struct ParquetOptions {
    /// Columns whose values hardly ever repeat. They have no dictionary: to build one and drop it costs a fifth of the encoding.
    pub unique: Vec<String>,
    /// Columns of text that nobody queries by range. They have no statistics: bounds of such text prune nothing.
    pub no_statistics: Vec<String>,
    pub bloom: Vec<String>,
    /// Maximum bytes of one file. Only a single larger row makes a larger file.
    pub file_size: usize,
    /// Memory for the row group that is encoded, bytes. Half as much is for rows that wait for theirs.
    pub row_group_memory: usize,
}

impl Default for ParquetOptions {
    /// For small files whose columns are all alike.
    fn default() -> Self {
        let none = Vec::new;
        Self { unique: none(), no_statistics: none(), bloom: none(), file_size: usize::MAX, row_group_memory: 16 << 20 }
    }
}

impl ParquetOptions {
    pub fn from_settings(settings: &Settings) -> Self {
        let names = |columns: &mut dyn Iterator<Item = &Column>| columns.map(|column| column.name.clone()).collect();
        let mut identity = settings.endpoint.row_key().filter(|_| settings.bloom_filters);
        Self {
            unique: names(&mut settings.endpoint.unique_columns()),
            no_statistics: names(&mut settings.endpoint.opaque_columns()),
            bloom: names(&mut identity),
            file_size: settings.file_size,
            row_group_memory: settings.row_group_memory,
        }
    }

    /// Delta encodings, of the format's version 2 and so known to readers for years, instead of plain values: lengths and
    /// small differences are next to each other, where compression finds more in less time. Pages have the usual size, 1 MiB or 20,000 rows, with bounds of each in the page index.
    fn properties(&self, schema: &SchemaRef) -> Result<WriterProperties, ParquetError> {
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_max_row_group_row_count(Some(GROUP_ROWS + GROUP_ROWS / 4)) // the last batch of a group goes beyond it
            .set_max_row_group_bytes(Some(2 * self.row_group_memory.max(1)))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_created_by(concat!("pagehaul ", env!("CARGO_PKG_VERSION")).to_owned());
        for field in schema.fields() {
            let (name, column) = (field.name(), ColumnPath::from(field.name().as_str()));
            if self.unique.contains(name) {
                properties = encoded_singly(properties, column.clone(), field.data_type());
            }
            if self.no_statistics.contains(name) {
                properties = properties.set_column_statistics_enabled(column.clone(), EnabledStatistics::None);
            }
            if self.bloom.contains(name) {
                let rows = u64::try_from(GROUP_ROWS).unwrap_or(u64::MAX);
                properties = properties
                    .set_column_bloom_filter_enabled(column.clone(), true)
                    .set_column_bloom_filter_fpp(column.clone(), BLOOM_WRONG)
                    .set_column_bloom_filter_max_ndv(column, rows);
            }
        }
        Ok(properties.build())
    }
}

fn encoded_singly(to: WriterPropertiesBuilder, column: ColumnPath, kind: &DataType) -> WriterPropertiesBuilder {
    let to = to.set_column_dictionary_enabled(column.clone(), false);
    if *kind == DataType::Utf8 {
        to.set_column_encoding(column, Encoding::DELTA_LENGTH_BYTE_ARRAY)
    } else if kind.is_integer() || kind.is_temporal() {
        to.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
    } else {
        to
    }
}

#[derive(Debug)]
pub struct ParquetFile<W: Write + Send> {
    writer: ArrowWriter<W>,
    pub(crate) rows: u64,
    /// Bytes that a row group may need beside its values.
    group_overhead: usize,
}

impl<W: Write + Send> ParquetFile<W> {
    pub fn create(sink: W, schema: &SchemaRef, parquet: &ParquetOptions) -> Result<Self, ParquetError> {
        let writer = ArrowWriter::try_new(sink, SchemaRef::clone(schema), Some(parquet.properties(schema)?))?;
        let group_overhead = schema.fields().len() * CHUNK_BYTES + parquet.bloom.len() * BLOOM_BYTES;
        Ok(Self { writer, rows: 0, group_overhead })
    }

    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        self.rows += u64::try_from(rows.num_rows()).unwrap_or_default();
        self.writer.write(rows)
    }

    /// Bytes that the file has at most, if it ends here.
    pub fn bytes(&self) -> usize {
        let groups = self.writer.flushed_row_groups().len() + 1;
        let encoded = self.writer.bytes_written() + self.writer.in_progress_size();
        encoded + groups * self.group_overhead + SCHEMA_BYTES
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

#[cfg(test)]
mod tests {
    use super::{ParquetFile, ParquetOptions};
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use parquet::basic::Encoding;
    use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
    use std::sync::Arc;

    #[test]
    fn columns_are_laid_out_as_their_part_asks_for() {
        let texts = || -> ArrayRef { Arc::new(StringArray::from_iter_values((0..1_000).map(|n| format!("{n:05}")))) };
        let numbers = || -> ArrayRef { Arc::new(Int64Array::from_iter_values(0..1_000)) };
        let rows = RecordBatch::try_from_iter([
            ("key", texts()),
            ("text", texts()),
            ("number", numbers()),
            ("count", numbers()),
        ]);
        let (rows, name) = (rows.unwrap(), |name: &str| name.to_owned());
        let parquet = ParquetOptions {
            unique: vec![name("key"), name("text"), name("number")],
            no_statistics: vec![name("text")],
            bloom: vec![name("key")],
            ..ParquetOptions::default()
        };
        let mut file = ParquetFile::create(Vec::new(), &rows.schema(), &parquet).unwrap();
        file.write(&rows).unwrap();
        let most = file.bytes();
        let (bytes, count) = file.finish().unwrap();
        assert!(count == 1_000 && bytes.len() <= most, "{} of {most}", bytes.len());
        let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
        reader.try_parse(&bytes::Bytes::from(bytes)).unwrap();
        let metadata = reader.finish().unwrap();
        let chunk = |column| metadata.row_group(0).column(column);
        let is = |column, encoding| chunk(column).encodings().any(|found| found == encoding);
        assert!(is(0, Encoding::DELTA_LENGTH_BYTE_ARRAY) && is(1, Encoding::DELTA_LENGTH_BYTE_ARRAY));
        assert!(is(2, Encoding::DELTA_BINARY_PACKED) && is(3, Encoding::RLE_DICTIONARY));
        let bloom: Vec<bool> = (0..4).map(|column| chunk(column).bloom_filter_offset().is_some()).collect();
        let bounds: Vec<bool> = (0..4).map(|column| chunk(column).statistics().is_some()).collect();
        assert_eq!((bloom, bounds), (vec![true, false, false, false], vec![true, false, true, true]));
        assert!(metadata.page_index().is_some());
    }
}
