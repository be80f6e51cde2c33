//! What to walk: the ids of a list, checked one by one, in the list's order.
//!
//! A list is text (one id a line, `#` begins a comment), CSV or Parquet; it is read as a stream, so its length does not
//! matter: no line is longer than 64 KiB, no record than 1 MiB, no id than 256 bytes. Whatever is wrong with it is found
//! before the first request and named with its line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::event::{Event, Monitor};
use crate::ledger::LedgerError;
use crate::page::ItemId;
use crate::parquet::quietly;

/// Longest id, bytes.
const LONGEST_ID: usize = 256;
/// Longest line, bytes: a line of a binary file can be as long as the file.
const LONGEST_LINE: u64 = 1 << 16;
/// Longest record of a CSV table, bytes.
const LONGEST_RECORD: u64 = 1 << 20;

/// A list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It cannot be opened or read.
    #[error("read the list of products {list}: {why}")]
    Unreadable {
        /// The list.
        list: String,
        /// Why, and what to do.
        why: String,
    },
    /// An entry is no id.
    #[error("{list}, line {line}: {why}")]
    BadId {
        /// The list.
        list: String,
        /// Line, or row for a table, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// It holds no id.
    #[error("the list of products holds no id")]
    Empty,
    /// The ledger failed while ids were added.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A row of a table: an id, or none.
type Entry = Result<Option<ItemId>, PlanError>;

/// Ids in order.
pub type Ids = Box<dyn Iterator<Item = Result<ItemId, PlanError>> + Send>;

/// Where a list is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum List {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl List {
    /// The list that a setting names.
    pub fn named(text: &str) -> Self {
        if text == "-" { Self::Stdin } else { Self::File(PathBuf::from(text)) }
    }

    fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Opens the list. With a column it is a table: Parquet by its first bytes, CSV otherwise; how many of its rows hold no id,
    /// the monitor is told at its end.
    pub fn open(&self, column: Option<&str>, monitor: Arc<dyn Monitor>) -> Result<Ids, PlanError> {
        let list = self.name();
        let unreadable = |why: String| PlanError::Unreadable { list: list.clone(), why };
        let mut reader: Box<dyn Read + Send> = match self {
            Self::Stdin => Box::new(io::stdin()),
            Self::File(path) if path.is_dir() => return Err(unreadable("it is a folder, not a file".to_owned())),
            Self::File(path) => Box::new(File::open(path).map_err(|error| unreadable(error.to_string()))?),
        };
        let mut head = Vec::new(); // a pipe may bring it byte by byte
        reader.by_ref().take(4).read_to_end(&mut head).map_err(|error| unreadable(error.to_string()))?;
        if head.starts_with(&[0xff, 0xfe])
            || head.starts_with(&[0xfe, 0xff])
            || matches!(head.get(..2), Some([0, _] | [_, 0]))
        {
            return Err(unreadable("it is UTF-16; save it as UTF-8".to_owned()));
        }
        let is_parquet = head == b"PAR1";
        let head = head.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(head);
        let reader = io::Cursor::new(head).chain(reader);
        match (column, self) {
            (None, _) if is_parquet => {
                Err(unreadable("it is Parquet; name the column with --product-column".to_owned()))
            }
            (Some(_), Self::Stdin) if is_parquet => {
                Err(unreadable("Parquet needs a file, not standard input".to_owned()))
            }
            (Some(column), Self::File(path)) if is_parquet => from_parquet(path, &list, column, monitor),
            (None, Self::File(path)) if is_csv(path) => Err(unreadable(
                "it is CSV by its name; name the column with --product-column, or call a list of ids .txt".to_owned(),
            )),
            (None, _) => Ok(from_text(BufReader::with_capacity(1 << 16, reader), list)),
            (Some(column), _) => from_csv(reader, &list, column, monitor),
        }
    }
}

fn is_csv(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind.eq_ignore_ascii_case("csv"))
}

/// One id a line. A comment begins a line or stands behind white space: `17#2` is an id.
fn from_text(mut reader: impl BufRead + Send + 'static, list: String) -> Ids {
    let mut line = 0;
    Box::new(std::iter::from_fn(move || {
        loop {
            line += 1;
            let bad = |why: String| PlanError::BadId { list: list.clone(), line, why };
            let mut bytes = Vec::new();
            match reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(read) if u64::try_from(read).is_ok_and(|read| read >= LONGEST_LINE) => {
                    return Some(Err(bad("the line is longer than 64 KiB".to_owned())));
                }
                Ok(_) => {}
                Err(error) => return Some(Err(PlanError::Unreadable { list: list.clone(), why: error.to_string() })),
            }
            let comment = bytes.iter().enumerate().position(|(at, byte)| {
                *byte == b'#' && at.checked_sub(1).is_none_or(|before| matches!(bytes.get(before), Some(b' ' | b'\t')))
            });
            bytes.truncate(comment.unwrap_or(bytes.len()));
            match checked(&bytes) {
                Ok(None) => {}
                Ok(Some(id)) if id.as_str().contains(',') => {
                    let why = "a row of a table, it seems, not an id: name the column with --product-column";
                    return Some(Err(bad(why.to_owned())));
                }
                Ok(Some(id)) => return Some(Ok(id)),
                Err(why) => return Some(Err(bad(why))),
            }
        }
    }))
}

/// The ids of a table's rows. How many rows hold none, the monitor is told at the end.
fn of_rows(mut rows: impl Iterator<Item = Entry> + Send + 'static, monitor: Arc<dyn Monitor>) -> Ids {
    let mut empty = 0;
    Box::new(std::iter::from_fn(move || {
        loop {
            match rows.next() {
                Some(Ok(None)) => empty += 1,
                Some(entry) => return entry.transpose(),
                None if empty == 0 => return None,
                None => {
                    let said = format!("rows of the list without an id: {empty}");
                    monitor.event(&Event::Warning(&said));
                    empty = 0;
                }
            }
        }
    }))
}

fn from_csv(
    reader: impl Read + Send + 'static,
    list: &str,
    column: &str,
    monitor: Arc<dyn Monitor>,
) -> Result<Ids, PlanError> {
    let unreadable = |why: String| PlanError::Unreadable { list: list.to_owned(), why };
    let since = Arc::new(AtomicU64::new(0));
    let reader = Limited { reader, since: Arc::clone(&since) };
    let mut table = csv::ReaderBuilder::new().flexible(true).from_reader(reader);
    let header = table.byte_headers().map_err(|error| unreadable(error.to_string()))?;
    let names: Vec<String> = header.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
    let Some(at) = names.iter().position(|name| name == column) else {
        return Err(unreadable(no_column(column, names.iter().map(String::as_str))));
    };
    let list = list.to_owned();
    let entries = table.into_byte_records().map(move |record| {
        since.store(0, Ordering::Relaxed);
        let record = record.map_err(|error| PlanError::Unreadable { list: list.clone(), why: error.to_string() })?;
        let line = record.position().map_or(0, csv::Position::line);
        let id = checked(record.get(at).unwrap_or_default());
        id.map_err(|why| PlanError::BadId { list: list.clone(), line, why })
    });
    Ok(of_rows(entries, monitor))
}

/// A reader that fails when a record does not end: a quote that is never closed would take the whole file into memory.
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

fn from_parquet(path: &Path, list: &str, column: &str, monitor: Arc<dyn Monitor>) -> Result<Ids, PlanError> {
    let list = list.to_owned();
    let damaged = || "it is damaged: it makes the decoder fail".to_owned();
    let opened = quietly(|| column_of(path, column)).unwrap_or_else(|| Err(damaged()));
    let mut rows = Some(opened.map_err(|why| PlanError::Unreadable { list: list.clone(), why })?);
    let mut row = 0;
    let batches = std::iter::from_fn(move || {
        let texts = quietly(|| rows.as_mut()?.next().map(texts_of)).unwrap_or_else(|| Some(Err(damaged())))?;
        if texts.is_err() {
            rows = None; // a reader that failed is not asked again
        }
        Some(texts)
    });
    let entries = batches.flat_map(move |texts| {
        let texts = match texts {
            Ok(texts) => texts,
            Err(why) => return vec![Err(PlanError::Unreadable { list: list.clone(), why })],
        };
        let mut entries = Vec::with_capacity(texts.len());
        for text in texts {
            row += 1;
            let id = checked(text.unwrap_or_default().as_bytes());
            entries.push(id.map_err(|why| PlanError::BadId { list: list.clone(), line: row, why }));
        }
        entries
    });
    Ok(of_rows(entries, monitor))
}

/// A reader of one column of a Parquet file.
fn column_of(path: &Path, column: &str) -> Result<ParquetRecordBatchReader, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let table = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| error.to_string())?;
    let names: Vec<String> = table.schema().fields().iter().map(|field| field.name().clone()).collect();
    let Some(at) = names.iter().position(|name| name == column) else {
        return Err(no_column(column, names.iter().map(String::as_str)));
    };
    let only = ProjectionMask::roots(table.parquet_schema(), [at]);
    table.with_projection(only).build().map_err(|error| error.to_string())
}

/// The texts of a batch's only column.
fn texts_of(batch: Result<RecordBatch, ArrowError>) -> Result<Vec<Option<String>>, String> {
    column_texts(batch.map_err(|error| error.to_string())?.column(0))
}

/// The texts of a column of strings or whole numbers. A float is refused: ids of 19 digits do not survive one.
pub(crate) fn column_texts(column: &dyn Array) -> Result<Vec<Option<String>>, String> {
    let kind = column.data_type();
    let value = if let DataType::Dictionary(_, value) = kind { value } else { kind };
    let is_text = matches!(value, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if !is_text && !kind.is_integer() {
        return Err(format!("the column holds {kind}, not text or whole numbers"));
    }
    let texts = arrow::compute::cast(column, &DataType::Utf8).map_err(|error| error.to_string())?;
    Ok(texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
}

pub(crate) fn no_column<'a>(column: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.take(20).collect();
    let known = crate::sanitize::sanitize(&known.join(", "));
    format!("it has no column {}; it has {known}", crate::sanitize::Sanitized(column))
}

/// An entry as an id; none if it is empty.
fn checked(entry: &[u8]) -> Result<Option<ItemId>, String> {
    let id = std::str::from_utf8(entry).map_err(|_| "the id is not UTF-8".to_owned())?.trim();
    if let Some(control) = id.chars().find(|c| c.is_control()) {
        return Err(format!("the id holds the control character U+{:04X}", u32::from(control)));
    }
    if id.len() > LONGEST_ID {
        return Err(format!("the id is longer than {LONGEST_ID} bytes"));
    }
    if id.contains(crate::sanitize::KEY_PREFIX) {
        return Err("the id looks like a key: a list must not hold one".to_owned());
    }
    Ok((!id.is_empty()).then(|| ItemId::new(id)))
}

#[cfg(test)]
mod tests {
    use super::{List, from_text};
    use crate::event::{Event, Monitor, VoidMonitor};
    use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray};
    use std::io::Write;
    use std::sync::Arc;

    fn text(content: &[u8]) -> Result<Vec<String>, String> {
        from_text(std::io::Cursor::new(content.to_vec()), "list".to_owned())
            .map(|id| id.map(|id| id.to_string()).map_err(|error| error.to_string()))
            .collect()
    }

    fn file(content: &[u8], column: Option<&str>) -> Result<Vec<String>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let ids = List::File(file.path().to_owned())
            .open(column, Arc::new(VoidMonitor))
            .map_err(|error| error.to_string())?;
        ids.map(|id| id.map(|id| id.to_string()).map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn comments_blank_lines_windows_line_ends_and_a_missing_last_one_are_fine() {
        assert_eq!(text(b"# head\r\n\r\n 001 # why\r\n2\n\n3").unwrap(), ["001", "2", "3"]);
        assert_eq!(file(b"\xef\xbb\xbf1\n2\n", None).unwrap(), ["1", "2"]);
        assert!(text(b"# nothing\n").unwrap().is_empty());
    }

    #[test]
    fn a_hash_inside_an_id_is_no_comment() {
        assert_eq!(text(b"17#2\n#3\n4 #5\n6\t#7#8\n").unwrap(), ["17#2", "4", "6"]);
    }

    #[test]
    fn a_bad_id_is_named_with_its_line() {
        assert_eq!(text(b"1\n2\n3\x07\n").unwrap_err(), "list, line 3: the id holds the control character U+0007");
        assert_eq!(text(b"1\n\xff\n").unwrap_err(), "list, line 2: the id is not UTF-8");
        assert!(
            text(b"1\nsk_live_abc\n")
                .unwrap_err()
                .ends_with("line 2: the id looks like a key: a list must not hold one")
        );
        assert!(text(&[b'7'; 5_000]).unwrap_err().contains("line 1: the id is longer"));
    }

    #[test]
    fn a_list_of_the_wrong_kind_is_refused_with_what_to_do() {
        for wide in [u16::to_le_bytes, u16::to_be_bytes] {
            for list in ["1\n2\n", "\u{feff}1\n"] {
                let list: Vec<u8> = list.encode_utf16().flat_map(wide).collect();
                assert!(file(&list, None).unwrap_err().contains("UTF-16"));
            }
        }
        assert!(
            List::File(std::env::temp_dir())
                .open(None, Arc::new(VoidMonitor))
                .err()
                .unwrap()
                .to_string()
                .contains("it is a folder")
        );
        assert!(file(b"PAR1....", None).unwrap_err().contains("--product-column"));
        assert!(List::named("/nonexistent").open(None, Arc::new(VoidMonitor)).is_err());
    }

    #[test]
    fn rows_of_a_table_without_an_id_are_counted_for_the_monitor() {
        #[derive(Debug, Default)]
        struct Heard(std::sync::Mutex<Vec<String>>);
        impl Monitor for Heard {
            fn event(&self, event: &Event<'_>) {
                if let Event::Warning(said) = event {
                    self.0.lock().unwrap().push((*said).to_owned());
                }
            }
        }
        for (table, wanted) in
            [("id\n1\n2\n", None), ("id,x\n1\n,2\n ,3\n4\n", Some("rows of the list without an id: 2"))]
        {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(table.as_bytes()).unwrap();
            let heard = Arc::new(Heard::default());
            let ids = List::File(file.path().to_owned()).open(Some("id"), Arc::<Heard>::clone(&heard)).unwrap();
            assert_eq!(ids.flatten().count(), 2);
            assert_eq!(*heard.0.lock().unwrap(), wanted.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_csv_gives_one_column_and_names_the_others_when_it_is_missing() {
        let csv = b"name,product_id\n\"a, b\",0017\nc,\nd,18\n";
        assert_eq!(file(csv, Some("product_id")).unwrap(), ["0017", "18"]);
        assert!(file(csv, Some("id")).unwrap_err().contains("it has no column id; it has name, product_id"));
        assert!(file(b"product_id\n1\n2\x01\n", Some("product_id")).unwrap_err().contains("line 3"));
        let open = [b"product_id\n\"1\n".as_slice(), &b"x\n".repeat(1 << 20)].concat();
        assert!(file(&open, Some("product_id")).unwrap_err().contains("is a quote not closed?"));
    }

    #[test]
    fn a_parquet_column_of_text_or_whole_numbers_is_a_list_and_one_of_floats_is_not() {
        let table = |column: ArrayRef| {
            let batch = RecordBatch::try_from_iter([("x", Arc::clone(&column)), ("id", column)]).unwrap();
            let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
            writer.write(&batch).unwrap();
            writer.into_inner().unwrap()
        };
        assert_eq!(
            file(&table(Arc::new(StringArray::from(vec![Some("01"), None, Some("2")]))), Some("id")).unwrap(),
            ["01", "2"]
        );
        assert_eq!(
            file(&table(Arc::new(Int64Array::from(vec![1_729_382_310_407_603_945]))), Some("id")).unwrap(),
            ["1729382310407603945"]
        );
        assert!(file(&table(Arc::new(Float64Array::from(vec![1.0]))), Some("id")).unwrap_err().contains("Float64"));
        let keys = arrow::array::Int8Array::from(vec![0]);
        let floats = DictionaryArray::new(keys.clone(), Arc::new(Float64Array::from(vec![1.0])));
        assert!(file(&table(Arc::new(floats)), Some("id")).unwrap_err().contains("Float64"));
        let texts = DictionaryArray::new(keys, Arc::new(StringArray::from(vec!["007"])));
        assert_eq!(file(&table(Arc::new(texts)), Some("id")).unwrap(), ["007"]);
    }
}
