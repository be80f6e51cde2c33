//! A published file as the table describes it: its length, its time, and what its footer says about its columns.

use std::ops::Range;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::async_reader::MetadataFetch;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::ParquetMetaDataReader;

use super::actions::NewFile;
use super::failed;
use super::location::TableLocation;
use super::statistics::FileStatistics;
use crate::output::error::TableError;
use crate::output::file_entry::FileEntry;

/// Bytes at the end of a file that are read at once: most footers are shorter.
const PREFETCH: usize = 64 << 10;

/// Reads the end of a file, which must be as its manifest says. `columns`: those that the table keeps statistics of.
pub(super) async fn read_footer(
    location: &TableLocation,
    file: FileEntry,
    columns: &SchemaRef,
) -> Result<NewFile, TableError> {
    let wrong = |found: String, expected: String| TableError::File { path: file.path.clone(), found, expected };
    let path = location.path(&file.path)?;
    let action = "read the file of a segment in";
    let found = location.objects.head(&path).await.map_err(|error| failed(action, &location.url, error))?;
    if found.size != file.bytes {
        return Err(wrong(format!("{} bytes", found.size), file.bytes.to_string()));
    }
    let read = async {
        let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(PREFETCH));
        let footer = reader.load_and_finish(Ranges { location, path: &path }, found.size).await?;
        FileStatistics::from_footer(&footer, columns)
    };
    let statistics = read.await.map_err(|error| failed(action, &location.url, error))?;
    if u64::try_from(statistics.rows()).ok() != Some(file.rows) {
        return Err(wrong(format!("{} rows", statistics.rows()), file.rows.to_string()));
    }
    Ok(NewFile { path: file.path, bytes: found.size, modified: found.last_modified.timestamp_millis(), statistics })
}

struct Ranges<'a> {
    location: &'a TableLocation,
    path: &'a Path,
}

impl MetadataFetch for Ranges<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { Ok(self.location.objects.get_range(self.path, range).await?) }.boxed()
    }
}
