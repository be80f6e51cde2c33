//! Expected sizes of lists, from a column of the list of products or from an earlier export.
//!
//! They are hints. A right one saves the search for the end of a deep list; a wrong one costs a request or two of the
//! look-ahead budget. None changes which rows are exported.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;

use crate::input::error::InputError;
use crate::input::item_list::{column_values, next_batch, open_columns, positions, trimmed};
use crate::model::page::ItemId;
use crate::state::ledger::Ledger;

/// Sizes per call of the consumer.
const PORTION: usize = 4_096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SizeHints {
    /// In a column of the table of ids.
    Column {
        /// The table, CSV or Parquet.
        table: PathBuf,
        ids: String,
        /// The column of row counts.
        rows: String,
    },
    Export(PathBuf),
}

/// Items and the expected numbers of rows of their lists.
pub type Sized = Vec<(ItemId, u64)>;

impl SizeHints {
    /// Passes on, in portions, the sizes of lists of at least `min_rows` rows. Returns how many values were
    /// left out because they are not whole numbers.
    pub fn read(
        &self,
        min_rows: u64,
        mut consume: impl FnMut(Sized) -> Result<(), InputError>,
    ) -> Result<u64, InputError> {
        match self {
            Self::Column { table, ids, rows } => {
                let (mut sized, mut wrong) = (Vec::new(), 0);
                let mut portion = |texts: Vec<(String, String)>| {
                    sized.extend(texts.into_iter().filter_map(|(id, rows)| {
                        let found = whole_number(&rows);
                        wrong += u64::from(found.is_none() && !rows.trim().is_empty());
                        let rows = found.filter(|rows| *rows >= min_rows)?;
                        Some((ItemId::new(trimmed(&id)), rows))
                    }));
                    if sized.len() < PORTION { Ok(()) } else { consume(std::mem::take(&mut sized)) }
                };
                let is_parquet = File::open(table).is_ok_and(|mut table| {
                    let mut head = [0; 4];
                    table.read_exact(&mut head).is_ok() && head == *b"PAR1"
                });
                let read = if is_parquet { from_parquet } else { from_csv };
                read(table, [ids, rows], &mut portion)?;
                consume(sized)?;
                Ok(wrong)
            }
            Self::Export(directory) => {
                let ledger = Ledger::open_read_only(&directory.join("_pagehaul").join("ledger.sqlite"))?;
                consume(ledger.list_sizes(min_rows)?)?;
                Ok(0)
            }
        }
    }
}

/// A count as tables write it: spreadsheets and data frames add `.0`.
fn whole_number(text: &str) -> Option<u64> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    whole.parse().ok().filter(|_| fraction.chars().all(|digit| digit == '0'))
}

type Portion<'a> = &'a mut dyn FnMut(Vec<(String, String)>) -> Result<(), InputError>;

fn from_csv(path: &Path, columns: [&str; 2], consume: Portion<'_>) -> Result<(), InputError> {
    let message = |error: csv::Error| unreadable(path, error.to_string());
    let mut table = csv::ReaderBuilder::new().flexible(true).from_path(path).map_err(message)?;
    let header = table.byte_headers().map_err(message)?;
    let header = header.iter().map(|name| name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name));
    let names: Vec<String> = header.map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
    let [ids, rows] = positions(&names, columns).map_err(|reason| unreadable(path, reason))?;
    for record in table.byte_records() {
        let record = record.map_err(message)?;
        let text = |at| String::from_utf8_lossy(record.get(at).unwrap_or_default()).into_owned();
        consume(vec![(text(ids), text(rows))])?;
    }
    Ok(())
}

fn from_parquet(path: &Path, columns: [&str; 2], consume: Portion<'_>) -> Result<(), InputError> {
    let unreadable = |reason| unreadable(path, reason);
    let mut batches = open_columns(path, columns).map_err(unreadable)?;
    while let Some(batch) = next_batch(&mut batches) {
        let batch = batch.map_err(unreadable)?;
        let [ids, rows] = columns.map(|column| texts(&batch, column).map_err(unreadable));
        consume(ids?.into_iter().zip(rows?).collect())?;
    }
    Ok(())
}

fn unreadable(table: &Path, reason: String) -> InputError {
    InputError::Unreadable { list: table.display().to_string(), reason }
}

fn texts(batch: &RecordBatch, column: &str) -> Result<Vec<String>, String> {
    let column = batch.column_by_name(column).ok_or_else(|| format!("it has no column {column}"))?;
    let text = |value: Option<Vec<u8>>| String::from_utf8_lossy(&value.unwrap_or_default()).into_owned();
    Ok(column_values(column)?.into_iter().map(text).collect())
}

#[cfg(test)]
mod tests {
    use super::SizeHints;
    use crate::input::error::InputError;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use std::io::Write;
    use std::path::Path;
    use std::sync::Arc;

    fn read(table: &Path, rows: &str) -> Result<Vec<(String, u64)>, InputError> {
        let mut all = Vec::new();
        let sizes = SizeHints::Column { table: table.to_owned(), ids: "id".to_owned(), rows: rows.to_owned() };
        sizes.read(80, |sized| {
            all.extend(sized.into_iter().map(|(id, rows)| (id.as_str().to_owned(), rows)));
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn sizes_are_read_from_csv_and_parquet_except_small_ones_and_values_that_are_not_numbers() {
        let directory = tempfile::tempdir().unwrap();
        let csv = directory.path().join("list.csv");
        let text = "\u{feff}id,rows\n1,80\n2,79\n3,x\n4\n5, 900.0 \n6,-7\n";
        std::fs::File::create(&csv).unwrap().write_all(text.as_bytes()).unwrap();
        let found = [("1".to_owned(), 80), ("5".to_owned(), 900)];
        assert_eq!(read(&csv, "rows").unwrap(), found);

        let parquet = directory.path().join("list.parquet");
        let columns: [(&str, ArrayRef); 3] = [
            ("rows", Arc::new(Int64Array::from(vec![Some(80), None, Some(900), Some(-7)]))),
            ("other", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
            ("id", Arc::new(StringArray::from(vec!["1", "2", "5", "6"]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer =
            parquet::arrow::ArrowWriter::try_new(std::fs::File::create(&parquet).unwrap(), batch.schema(), None)
                .unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        assert_eq!(read(&parquet, "rows").unwrap(), found);
        for table in [&csv, &parquet] {
            assert!(read(table, "size").unwrap_err().to_string().contains("it has no column size"));
        }
    }
}
