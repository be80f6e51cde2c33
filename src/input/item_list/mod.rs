//! The ids of a list, checked one by one, in the list's order.
//!
//! A list is text (`lines`) or a table, CSV or Parquet (`table`). It is read as a stream, so its length does not matter.
//! Each entry is checked (`id`), also against the endpoint's form of an id if it has one. Errors name the line, and come
//! before the first request.

mod id;
mod lines;
mod table;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

use crate::endpoint::id_form::IdPattern;
use crate::input::error::InputError;
use crate::model::event::EventSink;
use crate::model::page::ItemId;
use lines::WithoutEndMark;

pub(crate) use id::trimmed;
pub(crate) use table::{column_values, next_batch, open_columns, positions};

/// Bytes per read.
const BUFFER: usize = 1 << 16;

/// Ids in the list's order.
pub type Ids = Box<dyn Iterator<Item = Result<ItemId, InputError>> + Send>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemList {
    Stdin,
    File(PathBuf),
}

impl ItemList {
    /// A path, or `-` for stdin.
    pub fn from_setting(text: &str) -> Self {
        if text == "-" { Self::Stdin } else { Self::File(PathBuf::from(text)) }
    }

    fn name(&self) -> String {
        match self {
            Self::Stdin => "stdin".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Opens the list. With a column it is a table: Parquet by its first bytes, CSV otherwise. Ids that do not fit `form` are
    /// errors.
    pub fn open(
        &self,
        column: Option<&str>,
        form: Option<&IdPattern>,
        events: Arc<dyn EventSink>,
    ) -> Result<Ids, InputError> {
        let list = self.name();
        let unreadable = |reason: &str| InputError::Unreadable { list: list.clone(), reason: reason.to_owned() };
        let failed = |error: io::Error| unreadable(&error.to_string());
        let mut reader: Box<dyn Read + Send> = match self {
            Self::Stdin => Box::new(io::stdin()),
            Self::File(path) if path.is_dir() => return Err(unreadable("it is a directory, not a file")),
            Self::File(path) => Box::new(File::open(path).map_err(failed)?),
        };
        let mut head = Vec::new(); // a pipe may deliver it byte by byte
        reader.by_ref().take(4).read_to_end(&mut head).map_err(failed)?;
        if matches!(head.as_slice(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..]) {
            return Err(unreadable("it is UTF-16; save it as UTF-8"));
        }
        let is_parquet = head == b"PAR1";
        let head = head.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(head);
        let reader = WithoutEndMark::new(BufReader::with_capacity(BUFFER, io::Cursor::new(head).chain(reader)));
        let form = form.cloned();
        let column = column.map(|name| table::TableColumn {
            list: list.clone(),
            name: name.to_owned(),
            form: form.clone(),
            events,
        });
        match (column, self) {
            (None, _) if is_parquet => Err(unreadable("it is Parquet; name the column with --product-column")),
            (Some(_), Self::Stdin) if is_parquet => Err(unreadable("Parquet cannot be read from stdin; give a file")),
            (Some(column), Self::File(path)) if is_parquet => column.read_parquet(path),
            (None, Self::File(path)) if path.extension().is_some_and(|kind| kind.eq_ignore_ascii_case("csv")) => {
                let reason =
                    "it is named as CSV; name the column with --product-column, or rename a plain list to .txt";
                Err(unreadable(reason))
            }
            (None, _) => Ok(lines::from_text(BufReader::with_capacity(BUFFER, reader), list, form)),
            (Some(column), _) => column.read_csv(reader),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ItemList, column_values};
    use crate::endpoint::id_form::IdPattern;
    use crate::model::event::{Event, EventSink, NullSink};
    use arrow::array::{
        ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Decimal128Array, Decimal256Array, DictionaryArray,
        FixedSizeBinaryArray, Float64Array, Int64Array, LargeBinaryArray, LargeStringArray, RecordBatch, StringArray,
        StringViewArray, UInt64Array,
    };
    use std::io::Write;
    use std::sync::Arc;

    fn file(content: &[u8], column: Option<&str>) -> Result<Vec<String>, String> {
        formed(content, column, None)
    }

    fn formed(content: &[u8], column: Option<&str>, form: Option<&str>) -> Result<Vec<String>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let form = form.map(|form| IdPattern::new(form).unwrap());
        let ids = ItemList::File(file.path().to_owned())
            .open(column, form.as_ref(), Arc::new(NullSink))
            .map_err(|error| error.to_string())?;
        ids.map(|id| id.map(|id| id.to_string()).map_err(|error| error.to_string())).collect()
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
            ItemList::File(std::env::temp_dir())
                .open(None, None, Arc::new(NullSink))
                .err()
                .unwrap()
                .to_string()
                .contains("it is a directory")
        );
        assert!(file(b"PAR1....", None).unwrap_err().contains("--product-column"));
        assert!(ItemList::from_setting("/nonexistent").open(None, None, Arc::new(NullSink)).is_err());
    }

    #[test]
    fn rows_of_a_table_without_an_id_are_counted_in_a_warning() {
        #[derive(Debug, Default)]
        struct Warnings(std::sync::Mutex<Vec<String>>);
        impl EventSink for Warnings {
            fn event(&self, event: &Event<'_>) {
                if let Event::Warning(message) = event {
                    self.0.lock().unwrap().push((*message).to_owned());
                }
            }
        }
        for (table, wanted) in
            [("id\n1\n2\n", None), ("id,x\n1\n,2\n ,3\n4\n", Some("rows of the list without an id: 2"))]
        {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(table.as_bytes()).unwrap();
            let warnings = Arc::new(Warnings::default());
            let ids = ItemList::File(file.path().to_owned())
                .open(Some("id"), None, Arc::<Warnings>::clone(&warnings))
                .unwrap();
            assert_eq!(ids.flatten().count(), 2);
            assert_eq!(*warnings.0.lock().unwrap(), wanted.into_iter().collect::<Vec<_>>());
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
    fn a_byte_order_mark_and_marks_of_the_end_belong_to_no_id() {
        for (content, column) in [
            (&b"\xef\xbb\xbf17\n18\n"[..], None),
            (b"17\r\n18\r\n\x1a", None),
            (b"17\r\n18\x1a\x1a\x1a", None),
            (b"17\r18\r\x1a", None),
            (b"\xef\xbb\xbf\xef\xbb\xbfid\r\n17\r\n18\r\n\x1a", Some("id")),
            (b"x,id\r\nx,17\r\nx,18\x1a", Some("id")),
            (b"id\r17\r18\r", Some("id")),
        ] {
            assert_eq!(file(content, column).unwrap(), ["17", "18"], "{content:?}");
        }
        assert!(file(b"17\n\x1a18\n", None).unwrap_err().contains("line 2: the id has the control character U+001A"));
        assert!(file(b"17\n\x1a\n18\n", None).unwrap_err().contains("line 2: the id has the control character U+001A"));
    }

    #[test]
    fn what_has_another_form_is_named_with_its_line_in_every_kind_of_list() {
        let digits = Some("[0-9]{1,32}");
        for bad in ["1.7295E+18", "1729382310407603101.0", "'17", "https://x/17", "{\"id\":17}", "1,729,500"] {
            let quoted = bad.replace('"', "\"\"");
            let table = format!("name,id\nx,17\nx,\"{quoted}\"\n");
            let list = format!("17\n\n\n{bad}\n");
            for (content, column, line) in [(list, None, "line 4"), (table.clone(), Some("id"), "line 3")] {
                let error = formed(content.as_bytes(), column, digits).unwrap_err();
                assert!(error.contains(line) && error.contains(&format!("`{bad}` does not have the form")), "{error}");
                assert!(error.contains("form of an id, [0-9]{1,32}: it ") || error.contains(": a"), "{error}");
                assert!(
                    formed(content.as_bytes(), column, Some(".+")).is_ok(),
                    "{bad} is an id where any text may be one"
                );
            }
            let mac = table.replace('\n', "\r");
            let error = formed(mac.as_bytes(), Some("id"), digits).unwrap_err();
            assert!(error.contains("line 3"), "of an old Mac, without blank lines: {error}");
        }
        let again = formed(b"id\n17\nid\n18\n", Some("id"), digits).unwrap_err();
        assert!(again.contains("line 3") && again.contains("the column's header again"), "{again}");
        let column: ArrayRef = Arc::new(StringArray::from(vec![Some("17"), None, Some("1.7E+18")]));
        let error = formed(&parquet(&column), Some("id"), digits).unwrap_err();
        assert!(error.contains("line 3") && error.contains("a spreadsheet rounded it"), "{error}");
    }

    /// A Parquet file with this column twice, once as `id`.
    fn parquet(column: &ArrayRef) -> Vec<u8> {
        let batch = RecordBatch::try_from_iter([("x", Arc::clone(column)), ("id", Arc::clone(column))]).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn a_parquet_column_of_texts_bytes_or_whole_numbers_is_a_list_in_a_dictionary_too() {
        const ID: &str = "1729382310407603945";
        let number: i128 = ID.parse().unwrap();
        let decimal = |precision| Decimal128Array::from(vec![number]).with_precision_and_scale(precision, 0).unwrap();
        let wide = Decimal256Array::from(vec![arrow::datatypes::i256::from_i128(number)]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![ID])),
            Arc::new(LargeStringArray::from(vec![ID])),
            Arc::new(StringViewArray::from(vec![ID])),
            Arc::new(Int64Array::from(vec![1_729_382_310_407_603_945])),
            Arc::new(UInt64Array::from(vec![1_729_382_310_407_603_945])),
            Arc::new(decimal(38)),
            Arc::new(decimal(19)),
            Arc::new(wide.with_precision_and_scale(76, 0).unwrap()),
            Arc::new(BinaryArray::from(vec![ID.as_bytes()])),
            Arc::new(LargeBinaryArray::from(vec![ID.as_bytes()])),
            Arc::new(BinaryViewArray::from(vec![ID.as_bytes()])),
            Arc::new(FixedSizeBinaryArray::try_from_iter([ID.as_bytes()].into_iter()).unwrap()),
            Arc::new(FixedSizeBinaryArray::try_from_iter([[ID.as_bytes(), b"\0\0"].concat()].into_iter()).unwrap()),
        ];
        for column in columns {
            let kind = column.data_type().clone();
            assert_eq!(
                formed(&parquet(&column), Some("id"), Some("[0-9]+")).as_deref(),
                Ok(&[ID.to_owned()][..]),
                "{kind}"
            );
            let keys = arrow::array::Int8Array::from(vec![Some(0), None, Some(0)]);
            let dictionary: ArrayRef = Arc::new(DictionaryArray::new(keys, column));
            let found = column_values(&dictionary).unwrap();
            let found: Vec<&[u8]> = found.iter().map(|value| value.as_deref().unwrap_or_default()).collect();
            assert_eq!(
                found.iter().map(|value| value.trim_ascii_end().len()).collect::<Vec<_>>(),
                [19, 0, 19],
                "{kind}"
            );
        }
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("01"), None, Some("2")]));
        assert_eq!(file(&parquet(&texts), Some("id")).unwrap(), ["01", "2"]);
        let keys = arrow::array::Int8Array::from(vec![0]);
        let texts: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::new(StringArray::from(vec!["007"]))));
        assert_eq!(file(&parquet(&texts), Some("id")).unwrap(), ["007"]);
    }

    #[test]
    fn a_parquet_column_that_may_have_rounded_its_ids_is_no_list() {
        let fractions = Decimal128Array::from(vec![1_700]).with_precision_and_scale(38, 2).unwrap();
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
        let keys = arrow::array::Int8Array::from(vec![0]);
        let columns: [(ArrayRef, &str); 4] = [
            (Arc::clone(&floats), "Float64"),
            (Arc::new(DictionaryArray::new(keys, floats)), "Float64"),
            (Arc::new(fractions), "Decimal128(38, 2)"),
            (Arc::new(BooleanArray::from(vec![true])), "Boolean"),
        ];
        for (column, kind) in columns {
            let error = file(&parquet(&column), Some("id")).unwrap_err();
            assert!(error.contains(&format!("the column has the type {kind}, not text or whole numbers")), "{error}");
        }
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"17"[..], b"\xff"]));
        assert!(file(&parquet(&bytes), Some("id")).unwrap_err().contains("line 2: the id is not UTF-8"));
    }
}
