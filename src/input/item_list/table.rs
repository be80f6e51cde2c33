//! A list as a column of a table, CSV or Parquet. No record of a CSV table is longer than 1 MiB.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::Ids;
use super::id::{Position, checked, trimmed};
use crate::endpoint::id_form::IdPattern;
use crate::input::error::InputError;
use crate::input::foreign_parquet::quietly;
use crate::model::event::{Event, EventSink};
use crate::model::page::ItemId;
use crate::model::sanitize::{Sanitized, sanitize};

/// Longest record of a CSV table, bytes.
const LONGEST_RECORD: u64 = 1 << 20;
const DAMAGED: &str = "it is damaged: the decoder fails";

/// The id of a row, if it has one.
type ListEntry = Result<Option<ItemId>, InputError>;

pub(super) struct TableColumn {
    /// The table's name, for errors.
    pub(super) list: String,
    pub(super) name: String,
    pub(super) form: Option<IdPattern>,
    pub(super) events: Arc<dyn EventSink>,
}

impl TableColumn {
    pub(super) fn read_csv(self, reader: impl Read + Send + 'static) -> Result<Ids, InputError> {
        let since = Arc::new(AtomicU64::new(0));
        let reader = Limited { reader, since: Arc::clone(&since) };
        let mut table = csv::ReaderBuilder::new().flexible(true).from_reader(reader);
        let header = table.byte_headers().map_err(|error| self.unreadable(error.to_string()))?;
        let names: Vec<String> = header.iter().map(|name| trimmed(&String::from_utf8_lossy(name)).to_owned()).collect();
        let [at] = positions(&names, [&self.name]).map_err(|reason| self.unreadable(reason))?;
        let events = Arc::clone(&self.events);
        let entries = table.into_byte_records().map(move |record| {
            since.store(0, Ordering::Relaxed);
            let record = record.map_err(|error| self.unreadable(error.to_string()))?;
            // The reader does not count lines that end with a carriage return: then a record is a line.
            let line = record.position().map_or(0, |at| at.line().max(at.record() + 1));
            self.entry(record.get(at).unwrap_or_default(), line)
        });
        Ok(ids(entries, events))
    }

    pub(super) fn read_parquet(self, path: &Path) -> Result<Ids, InputError> {
        let mut reader = Some(open_columns(path, [&self.name]).map_err(|reason| self.unreadable(reason))?);
        let mut row = 0;
        let batches = std::iter::from_fn(move || {
            let batch = next_batch(reader.as_mut()?)?;
            if batch.is_err() {
                reader = None; // not read again after an error
            }
            let values = |batch: RecordBatch| {
                quietly(|| column_values(batch.column(0))).unwrap_or_else(|| Err(DAMAGED.to_owned()))
            };
            Some(batch.and_then(values))
        });
        let events = Arc::clone(&self.events);
        let entries = batches.flat_map(move |values| {
            let values = match values {
                Ok(values) => values,
                Err(reason) => return vec![Err(self.unreadable(reason))],
            };
            let mut entries = Vec::with_capacity(values.len());
            for value in values {
                row += 1;
                entries.push(self.entry(&value.unwrap_or_default(), row));
            }
            entries
        });
        Ok(ids(entries, events))
    }

    fn entry(&self, value: &[u8], line: u64) -> ListEntry {
        let id = checked(value, Position::Cell(&self.name), self.form.as_ref());
        id.map_err(|reason| InputError::BadId { list: self.list.clone(), line, reason })
    }

    fn unreadable(&self, reason: String) -> InputError {
        InputError::Unreadable { list: self.list.clone(), reason }
    }
}

/// The ids of a table's rows. A warning at the end says how many rows have none.
fn ids(mut rows: impl Iterator<Item = ListEntry> + Send + 'static, events: Arc<dyn EventSink>) -> Ids {
    let mut empty = 0;
    Box::new(std::iter::from_fn(move || {
        loop {
            match rows.next() {
                Some(Ok(None)) => empty += 1,
                Some(entry) => return entry.transpose(),
                None if empty == 0 => return None,
                None => {
                    let message = format!("rows of the list without an id: {empty}");
                    events.event(&Event::Warning(&message));
                    empty = 0;
                }
            }
        }
    }))
}

/// A reader that fails if a record is too long: an unclosed quote would read the whole file into memory.
struct Limited<R> {
    reader: R,
    /// Bytes read since the last record.
    since: Arc<AtomicU64>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since.load(Ordering::Relaxed) > LONGEST_RECORD {
            return Err(io::Error::other("a record is longer than 1 MiB: is a quote not closed?"));
        }
        let read = self.reader.read(buffer)?;
        self.since.fetch_add(u64::try_from(read).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(read)
    }
}

/// A reader of these columns of a Parquet file.
pub(crate) fn open_columns<const N: usize>(
    path: &Path,
    columns: [&str; N],
) -> Result<ParquetRecordBatchReader, String> {
    let open = || {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let table = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| error.to_string())?;
        let names: Vec<String> = table.schema().fields().iter().map(|field| field.name().clone()).collect();
        let only = ProjectionMask::roots(table.parquet_schema(), positions(&names, columns)?);
        table.with_projection(only).build().map_err(|error| error.to_string())
    };
    quietly(open).unwrap_or_else(|| Err(DAMAGED.to_owned()))
}

/// The next batch, or an error if the file is damaged.
pub(crate) fn next_batch(reader: &mut ParquetRecordBatchReader) -> Option<Result<RecordBatch, String>> {
    match quietly(|| reader.next()) {
        Some(batch) => batch.map(|batch| batch.map_err(|error| error.to_string())),
        None => Some(Err(DAMAGED.to_owned())),
    }
}

/// The positions of these columns among the names of a table.
pub(crate) fn positions<const N: usize>(names: &[String], columns: [&str; N]) -> Result<[usize; N], String> {
    let mut positions = [0; N];
    for (position, column) in positions.iter_mut().zip(columns) {
        *position = names.iter().position(|name| name == column).ok_or_else(|| no_column(column, names))?;
    }
    Ok(positions)
}

/// The values of a column of text, of bytes that may be text, or of whole numbers (as digits); a dictionary of these too.
/// Floats are an error: they round ids of 19 digits.
pub(crate) fn column_values(column: &dyn Array) -> Result<Vec<Option<Vec<u8>>>, String> {
    if let Some(dictionary) = column.as_any_dictionary_opt() {
        let plain = arrow::compute::take(dictionary.values(), dictionary.keys(), None);
        return column_values(&plain.map_err(|error| error.to_string())?);
    }
    let kind = column.data_type();
    let is_text = kind.is_string()
        || kind.is_integer()
        || matches!(kind, DataType::Decimal32(_, 0) | DataType::Decimal64(_, 0))
        || matches!(kind, DataType::Decimal128(_, 0) | DataType::Decimal256(_, 0));
    let is_padded = matches!(kind, DataType::FixedSizeBinary(_)); // shorter texts are padded with zeros
    let is_bytes = is_padded || matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    if !is_text && !is_bytes {
        return Err(format!("the column has the type {kind}, not text or whole numbers"));
    }
    let cast = |array: &dyn Array, to| arrow::compute::cast(array, &to).map_err(|error| error.to_string());
    let texts = if is_text { Some(cast(column, DataType::Utf8)?) } else { None };
    let bytes = cast(texts.as_deref().unwrap_or(column), DataType::LargeBinary)?;
    let end = |value: &[u8]| value.iter().rposition(|byte| !is_padded || *byte != 0).map_or(0, |last| last + 1);
    let owned = |value: &[u8]| value.get(..end(value)).unwrap_or_default().to_vec();
    Ok(bytes.as_binary::<i64>().iter().map(|value| value.map(owned)).collect())
}

fn no_column(column: &str, names: &[String]) -> String {
    let names: Vec<&str> = names.iter().take(20).map(String::as_str).collect();
    format!("it has no column {}; it has {}", Sanitized(column), sanitize(&names.join(", ")))
}
