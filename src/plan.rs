//! What to walk: the ids of a list, checked one by one, in the list's order.
//!
//! A list is text (one id a line, `#` begins a comment), CSV or Parquet; it is read as a stream, so its length does not
//! matter. Whatever is wrong with it is found before the first request and named with its line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::ledger::LedgerError;
use crate::page::ItemId;

/// Longest id, bytes.
const LONGEST_ID: usize = 256;
/// Longest line, bytes: a line of a binary file can be as long as the file.
const LONGEST_LINE: u64 = 1 << 16;

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

    /// Opens the list. With a column it is a table: Parquet by its first bytes, CSV otherwise.
    pub fn open(&self, column: Option<&str>) -> Result<Ids, PlanError> {
        let list = self.name();
        let unreadable = |why: String| PlanError::Unreadable { list: list.clone(), why };
        let mut reader: Box<dyn BufRead + Send> = match self {
            Self::Stdin => Box::new(BufReader::new(io::stdin())),
            Self::File(path) if path.is_dir() => return Err(unreadable("it is a folder, not a file".to_owned())),
            Self::File(path) => {
                let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
                Box::new(BufReader::with_capacity(1 << 16, file))
            }
        };
        let head = reader.fill_buf().map_err(|error| unreadable(error.to_string()))?;
        if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) || head.get(1) == Some(&0) {
            return Err(unreadable("it is UTF-16; save it as UTF-8".to_owned()));
        }
        let is_parquet = head.starts_with(b"PAR1");
        let has_mark = head.starts_with(b"\xef\xbb\xbf");
        match (column, self) {
            (None, _) if is_parquet => {
                Err(unreadable("it is Parquet; name the column with --product-column".to_owned()))
            }
            (Some(_), Self::Stdin) if is_parquet => {
                Err(unreadable("Parquet needs a file, not standard input".to_owned()))
            }
            (Some(column), Self::File(path)) if is_parquet => from_parquet(path, &list, column),
            (column, _) => {
                if has_mark {
                    reader.consume(3);
                }
                match column {
                    None => Ok(from_text(reader, list)),
                    Some(column) => from_csv(reader, &list, column),
                }
            }
        }
    }
}

/// One id a line.
fn from_text(mut reader: Box<dyn BufRead + Send>, list: String) -> Ids {
    let mut line = 0;
    Box::new(std::iter::from_fn(move || {
        loop {
            line += 1;
            let mut bytes = Vec::new();
            match reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(_) if bytes.len() >= 1 << 16 => {
                    let why = "the line is longer than 64 KiB".to_owned();
                    return Some(Err(PlanError::BadId { list: list.clone(), line, why }));
                }
                Ok(_) => {}
                Err(error) => return Some(Err(PlanError::Unreadable { list: list.clone(), why: error.to_string() })),
            }
            let text = String::from_utf8_lossy(&bytes);
            let id = text.split_once('#').map_or(&*text, |(id, _)| id).trim_matches([' ', '\t', '\r', '\n']);
            if !id.is_empty() {
                return Some(check(id).map_err(|why| PlanError::BadId { list: list.clone(), line, why }));
            }
        }
    }))
}

fn from_csv(reader: Box<dyn BufRead + Send>, list: &str, column: &str) -> Result<Ids, PlanError> {
    let unreadable = |why: String| PlanError::Unreadable { list: list.to_owned(), why };
    let mut table = csv::ReaderBuilder::new().flexible(true).from_reader(reader);
    let header = table.headers().map_err(|error| unreadable(error.to_string()))?.clone();
    let Some(at) = header.iter().position(|name| name.trim() == column) else {
        return Err(unreadable(no_column(column, header.iter())));
    };
    let list = list.to_owned();
    Ok(Box::new(table.into_byte_records().filter_map(move |record| {
        let record = match record {
            Ok(record) => record,
            Err(error) => return Some(Err(PlanError::Unreadable { list: list.clone(), why: error.to_string() })),
        };
        let text = String::from_utf8_lossy(record.get(at).unwrap_or_default()).into_owned();
        let id = text.trim();
        let line = record.position().map_or(0, csv::Position::line);
        (!id.is_empty()).then(|| check(id).map_err(|why| PlanError::BadId { list: list.clone(), line, why }))
    })))
}

fn from_parquet(path: &Path, list: &str, column: &str) -> Result<Ids, PlanError> {
    let unreadable = |why: String| PlanError::Unreadable { list: list.to_owned(), why };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let table = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| unreadable(error.to_string()))?;
    let names: Vec<String> = table.schema().fields().iter().map(|field| field.name().clone()).collect();
    let Some(at) = names.iter().position(|name| name == column) else {
        return Err(unreadable(no_column(column, names.iter().map(String::as_str))));
    };
    let only = ProjectionMask::roots(table.parquet_schema(), [at]);
    let rows = table.with_projection(only).build().map_err(|error| unreadable(error.to_string()))?;
    let (list, mut row) = (list.to_owned(), 0);
    Ok(Box::new(rows.flat_map(move |batch| {
        let texts = batch.map_err(|error| error.to_string()).and_then(|batch| column_texts(batch.column(0)));
        let texts = match texts {
            Ok(texts) => texts,
            Err(why) => return vec![Err(PlanError::Unreadable { list: list.clone(), why })],
        };
        let mut ids = Vec::with_capacity(texts.len());
        for text in texts {
            row += 1;
            if let Some(id) = text.as_deref().map(str::trim).filter(|id| !id.is_empty()) {
                ids.push(check(id).map_err(|why| PlanError::BadId { list: list.clone(), line: row, why }));
            }
        }
        ids
    })))
}

/// The texts of a column of strings or whole numbers. A float is refused: ids of 19 digits do not survive one.
fn column_texts(column: &dyn Array) -> Result<Vec<Option<String>>, String> {
    let kind = column.data_type();
    let is_text =
        matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _));
    if !is_text && !kind.is_integer() {
        return Err(format!("the column holds {kind}, not text or whole numbers"));
    }
    let texts = arrow::compute::cast(column, &DataType::Utf8).map_err(|error| error.to_string())?;
    Ok(texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
}

fn no_column<'a>(column: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.take(20).collect();
    let known = crate::sanitize::sanitize(&known.join(", "));
    format!("it has no column {}; it has {known}", crate::sanitize::Sanitized(column))
}

fn check(id: &str) -> Result<ItemId, String> {
    if let Some(control) = id.chars().find(|c| c.is_control()) {
        return Err(format!("the id holds the control character U+{:04X}", u32::from(control)));
    }
    if id.contains('\u{fffd}') {
        return Err("the id is not UTF-8".to_owned());
    }
    if id.len() > LONGEST_ID {
        return Err(format!("the id is longer than {LONGEST_ID} bytes"));
    }
    Ok(ItemId::new(id))
}

#[cfg(test)]
mod tests {
    use super::{List, from_text};
    use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
    use std::io::Write;
    use std::sync::Arc;

    fn text(content: &[u8]) -> Result<Vec<String>, String> {
        let reader = Box::new(std::io::Cursor::new(content.to_vec()));
        from_text(reader, "list".to_owned())
            .map(|id| id.map(|id| id.to_string()).map_err(|error| error.to_string()))
            .collect()
    }

    fn file(content: &[u8], column: Option<&str>) -> Result<Vec<String>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let ids = List::File(file.path().to_owned()).open(column).map_err(|error| error.to_string())?;
        ids.map(|id| id.map(|id| id.to_string()).map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn comments_blank_lines_windows_line_ends_and_a_missing_last_one_are_fine() {
        assert_eq!(text(b"# head\r\n\r\n 001 # why\r\n2\n\n3").unwrap(), ["001", "2", "3"]);
        assert_eq!(file(b"\xef\xbb\xbf1\n2\n", None).unwrap(), ["1", "2"]);
        assert!(text(b"# nothing\n").unwrap().is_empty());
    }

    #[test]
    fn a_bad_id_is_named_with_its_line() {
        assert_eq!(text(b"1\n2\n3\x07\n").unwrap_err(), "list, line 3: the id holds the control character U+0007");
        assert_eq!(text(b"1\n\xff\n").unwrap_err(), "list, line 2: the id is not UTF-8");
        assert!(text(&[b'7'; 5_000]).unwrap_err().contains("line 1: the id is longer"));
    }

    #[test]
    fn a_list_of_the_wrong_kind_is_refused_with_what_to_do() {
        assert!(
            file("1\n2\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>().as_slice(), None)
                .unwrap_err()
                .contains("UTF-16")
        );
        assert!(List::File(std::env::temp_dir()).open(None).err().unwrap().to_string().contains("it is a folder"));
        assert!(file(b"PAR1....", None).unwrap_err().contains("--product-column"));
        assert!(List::named("/nonexistent").open(None).is_err());
    }

    #[test]
    fn a_csv_gives_one_column_and_names_the_others_when_it_is_missing() {
        let csv = b"name,product_id\n\"a, b\",0017\nc,\nd,18\n";
        assert_eq!(file(csv, Some("product_id")).unwrap(), ["0017", "18"]);
        assert!(file(csv, Some("id")).unwrap_err().contains("it has no column id; it has name, product_id"));
        assert!(file(b"product_id\n1\n2\x01\n", Some("product_id")).unwrap_err().contains("line 3"));
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
    }
}
