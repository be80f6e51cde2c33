//! Answers into Arrow rows: lenient, and nothing is lost.
//!
//! Every cell is looked at by itself, so one bad value never costs its row and one bad row never costs its page. A value
//! that does not fit its column leaves a null there and its JSON text in `_extra`, where unknown fields go too; a row
//! without identity becomes a reject with its raw text. Works on answers that are already durable, and on the same
//! ones again after a crash or in a replay: the result depends on nothing but the bytes and the column table.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Builder, Int32Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::clock::Utc64;
use crate::endpoint::{Column, ColumnKind, Endpoint, Role};
use crate::envelope::{self, Lenient};
use crate::page::{ItemId, ItemIx, PageNum};
use crate::partition;

/// What tells a row from all others of its walk: 128 bits of SHA-256 over its identity.
pub type Key = [u8; 16];

/// A durable answer that is a page.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The item that was asked for.
    pub item: ItemIx,
    /// The same, by the API's id.
    pub id: ItemId,
    /// The page that was asked for.
    pub page: PageNum,
    /// When the answer was whole.
    pub at: Utc64,
    /// The answer's bytes.
    pub body: bytes::Bytes,
}

/// A group of answers, decoded together. Rows of all its pages stand one after the other.
#[derive(Debug)]
pub struct Decoded {
    /// Rows by the file schema.
    pub rows: RecordBatch,
    /// Partition value of each row.
    pub partitions: Vec<Option<Box<str>>>,
    /// The pages, in the order of the answers.
    pub pages: Vec<DecodedPage>,
}

/// One page of a group.
#[derive(Debug)]
pub struct DecodedPage {
    /// The item that was asked for.
    pub item: ItemIx,
    /// The same, by the API's id.
    pub id: ItemId,
    /// The page that was asked for.
    pub page: PageNum,
    /// Key of each row, in the order of the rows of the batch.
    pub keys: Vec<Key>,
    /// Entries of the answer's list, whatever became of them.
    pub received: usize,
    /// Rows that belong to another item than the asked one.
    pub foreign: usize,
    /// Rows that could not be typed.
    pub rejects: Vec<Reject>,
}

/// A row that could not be typed, kept as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The item that was asked for.
    pub id: ItemId,
    /// The page on which it stood.
    pub page: PageNum,
    /// When the page was fetched.
    pub at: Utc64,
    /// Why.
    pub reason: String,
    /// Its JSON text.
    pub raw: String,
}

/// Turns answers of one endpoint into rows of one schema.
#[derive(Clone, Debug)]
pub struct Decoder {
    columns: Arc<[Column]>,
    /// Which of `columns` are written to the files.
    written: Vec<bool>,
    item: usize,
    keys: Vec<usize>,
    partition: usize,
    schema: SchemaRef,
}

impl Decoder {
    /// A decoder that writes the columns for which `keep` says so; identity columns are always written.
    pub fn new(endpoint: &Endpoint, keep: impl Fn(&Column) -> bool) -> Self {
        let place = |name: &str| endpoint.columns.iter().position(|column| column.name == name).unwrap_or_default();
        let is_written =
            |column: &Column| column.role == Role::Identity || (column.role != Role::Partition && keep(column));
        let kept: Vec<Column> = endpoint.columns.iter().filter(|column| is_written(column)).cloned().collect();
        Self {
            columns: endpoint.columns.clone().into(),
            written: endpoint.columns.iter().map(is_written).collect(),
            item: place(&endpoint.item.column),
            keys: endpoint.key_columns().map(|column| place(&column.name)).collect(),
            partition: place(&endpoint.partition().name),
            schema: endpoint.file_schema(&kept),
        }
    }

    /// The schema of the rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Decodes a group of answers. The only error is a schema that does not fit the columns, which is a bug.
    pub fn decode(&self, answers: &[Answer]) -> Result<Decoded, ArrowError> {
        let mut batch = Batch::new(self, answers.len());
        let pages = answers.iter().map(|answer| batch.page(self, answer)).collect();
        batch.finish(self, pages)
    }
}

/// The rows of a group while they are being gathered.
struct Batch {
    builders: Vec<Option<Builder>>,
    fetched_at: TimestampMicrosecondBuilder,
    page_num: Int32Builder,
    extra: StringBuilder,
    partitions: Vec<Option<Box<str>>>,
    /// Column of each field of the last row: rows of one API list their fields in one order.
    order: Vec<usize>,
}

impl Batch {
    fn new(decoder: &Decoder, pages: usize) -> Self {
        let rows = pages * 10;
        let made = decoder.columns.iter().zip(&decoder.written);
        Self {
            builders: made.map(|(column, written)| written.then(|| Builder::new(column.kind, rows))).collect(),
            fetched_at: TimestampMicrosecondBuilder::with_capacity(rows),
            page_num: Int32Builder::with_capacity(rows),
            extra: StringBuilder::new(),
            partitions: Vec::with_capacity(rows),
            order: Vec::with_capacity(decoder.columns.len()),
        }
    }

    fn page(&mut self, decoder: &Decoder, answer: &Answer) -> DecodedPage {
        let mut page = DecodedPage {
            item: answer.item,
            id: answer.id.clone(),
            page: answer.page,
            keys: Vec::new(),
            received: 0,
            foreign: 0,
            rejects: Vec::new(),
        };
        let text = envelope::text(&answer.body);
        let mut reader = serde_json::Deserializer::from_str(&text);
        let seed = PageSeed { columns: &decoder.columns, order: &mut self.order };
        match reader.deserialize_map(seed) {
            Ok(rows) => {
                page.received = rows.len();
                let mut raws = None;
                for (at, cells) in rows.into_iter().enumerate() {
                    match self.row(decoder, answer, cells) {
                        Ok(key) => page.keys.push(key),
                        Err(why) => {
                            // Only a row that cannot be used is worth a second look at the text, for its exact bytes.
                            let raws = raws.get_or_insert_with(|| raw_rows(&text).unwrap_or_default());
                            page.reject(answer, &why, raws.get(at).map_or("", |raw| raw.get()));
                        }
                    }
                }
            }
            // Something among the rows is no object: each is looked at by itself.
            Err(_) => self.page_by_rows(decoder, answer, &text, &mut page),
        }
        page
    }

    fn page_by_rows(&mut self, decoder: &Decoder, answer: &Answer, text: &str, page: &mut DecodedPage) {
        let Ok(raws) = raw_rows(text) else {
            // The envelope was judged before the answer was kept, so this is damage after the fact.
            page.received = 1;
            return page.reject(answer, &Unusable::NoPage, text);
        };
        page.received = raws.len();
        for raw in raws {
            let mut reader = serde_json::Deserializer::from_str(raw.get());
            let seed = RowSeed { columns: &decoder.columns, order: &mut self.order };
            let cells = seed.deserialize(&mut reader).map_err(|_| Unusable::NoObject);
            match cells.and_then(|cells| self.row(decoder, answer, cells)) {
                Ok(key) => page.keys.push(key),
                Err(why) => page.reject(answer, &why, raw.get()),
            }
        }
    }

    /// Adds one row, or nothing at all.
    fn row(&mut self, decoder: &Decoder, answer: &Answer, cells: Cells<'_>) -> Result<Key, Unusable> {
        if let Some(other) = cells.text(decoder.item).filter(|other| other.as_ref() != answer.id.as_str()) {
            return Err(Unusable::Foreign(other.into_owned()));
        }
        let key = cells.key(&decoder.keys).ok_or(Unusable::NoIdentity)?;

        let Cells { values, mut extra } = cells;
        for (at, (column, builder)) in decoder.columns.iter().zip(&mut self.builders).enumerate() {
            let raw = values.get(at).copied().flatten().map(RawValue::get);
            let fits = match builder {
                _ if at == decoder.partition => push_partition(&mut self.partitions, raw),
                Some(Builder::Text(builder)) if at == decoder.item => {
                    builder.append_value(answer.id.as_str());
                    true
                }
                Some(builder) => builder.append(raw, column),
                None => true,
            };
            if !fits {
                extra.push((Cow::Borrowed(&column.name), raw.unwrap_or_default()));
            }
        }
        self.fetched_at.append_value(answer.at.0);
        self.page_num.append_value(i32::try_from(answer.page.0).unwrap_or(i32::MAX));
        self.extra.append_option((!extra.is_empty()).then(|| object(&extra)));
        Ok(key)
    }

    fn finish(mut self, decoder: &Decoder, pages: Vec<DecodedPage>) -> Result<Decoded, ArrowError> {
        let mut arrays: Vec<ArrayRef> = self.builders.iter_mut().flatten().map(Builder::finish).collect();
        arrays.push(Arc::new(self.fetched_at.finish().with_timezone("UTC")));
        arrays.push(Arc::new(self.page_num.finish()));
        arrays.push(Arc::new(self.extra.finish()));
        let rows = RecordBatch::try_new(Arc::clone(&decoder.schema), arrays)?;
        Ok(Decoded { rows, partitions: self.partitions, pages })
    }
}

/// Adds a row's partition value. False: no folder can carry it, so its text must be kept elsewhere.
fn push_partition(partitions: &mut Vec<Option<Box<str>>>, raw: Option<&str>) -> bool {
    let raw = raw.filter(|raw| *raw != "null");
    let value = raw.and_then(text_of);
    let fits = value.as_ref().is_some_and(|value| value.exact && partition::encode(&value.text).is_some());
    partitions.push(value.map(|value| value.text.into()));
    fits || raw.is_none()
}

/// Why a row cannot be published.
enum Unusable {
    NoPage,
    NoObject,
    NoIdentity,
    Foreign(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPage => f.write_str("the page cannot be read"),
            Self::NoObject => f.write_str("the row is no JSON object"),
            Self::NoIdentity => f.write_str("the row has no identity"),
            Self::Foreign(other) => write!(f, "the row belongs to {other}"),
        }
    }
}

impl DecodedPage {
    fn reject(&mut self, answer: &Answer, why: &Unusable, raw: &str) {
        self.foreign += usize::from(matches!(why, Unusable::Foreign(_)));
        let (id, page, at) = (answer.id.clone(), answer.page, answer.at);
        self.rejects.push(Reject { id, page, at, reason: why.to_string(), raw: raw.to_owned() });
    }
}

/// The columns of rows under construction.
enum Builder {
    Text(StringBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Time(TimestampMicrosecondBuilder),
}

impl Builder {
    fn new(kind: ColumnKind, rows: usize) -> Self {
        match kind {
            ColumnKind::Utf8 => Self::Text(StringBuilder::with_capacity(rows, rows * 48)),
            ColumnKind::Int64 => Self::Int(Int64Builder::with_capacity(rows)),
            ColumnKind::Float64 => Self::Float(Float64Builder::with_capacity(rows)),
            ColumnKind::Timestamp => Self::Time(TimestampMicrosecondBuilder::with_capacity(rows)),
        }
    }

    /// Appends a cell's JSON text. False: it did not fit, a null (or the repaired text) stands in its place.
    fn append(&mut self, raw: Option<&str>, column: &Column) -> bool {
        let raw = raw.filter(|raw| *raw != "null");
        match self {
            Self::Text(builder) => {
                let value = raw.and_then(text_of);
                builder.append_option(value.as_ref().map(|value| &value.text));
                value.is_some_and(|value| value.exact) || raw.is_none()
            }
            Self::Int(builder) => {
                let value = raw.and_then(integer_of);
                builder.append_option(value);
                value.is_some() || raw.is_none()
            }
            Self::Float(builder) => {
                let value = raw.and_then(double_of);
                builder.append_option(value);
                value.is_some() || raw.is_none()
            }
            Self::Time(builder) => {
                let value = raw.and_then(integer_of).and_then(|count| moment(count, column.unit.as_deref()));
                builder.append_option(value);
                value.is_some() || raw.is_none()
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Int(builder) => Arc::new(builder.finish()),
            Self::Float(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish().with_timezone("UTC")),
        }
    }
}

/// The text of a cell; `exact` is false where something that is not Unicode had to be replaced.
struct Text<'a> {
    text: Cow<'a, str>,
    exact: bool,
}

/// A string as it is, a number by its digits; nothing else is text.
fn text_of(raw: &str) -> Option<Text<'_>> {
    let Some(inner) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        let number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        return number.then_some(Text { text: Cow::Borrowed(raw), exact: true });
    };
    if !inner.contains('\\') {
        return Some(Text { text: Cow::Borrowed(inner), exact: true });
    }
    if let Ok(text) = serde_json::from_str::<String>(raw) {
        return Some(Text { text: Cow::Owned(text), exact: true });
    }
    // Half of a surrogate pair: common where a server cuts a text in the middle of an emoji.
    let Lenient(text) = serde_json::from_str(raw).ok()?;
    Some(Text { text: Cow::Owned(text), exact: false })
}

/// A whole number, also as a string or with a fraction of zero, if it fits 64 bits exactly.
fn integer_of(raw: &str) -> Option<i64> {
    let Text { text, .. } = text_of(raw)?;
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    // `1.0` and `1e3` are whole numbers too. Doubles are exact up to 2^53.
    let number = double(&text).filter(|number| number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0)?;
    format!("{number:.0}").parse().ok()
}

/// A finite number, also as a string.
fn double_of(raw: &str) -> Option<f64> {
    double(&text_of(raw)?.text)
}

fn double(text: &str) -> Option<f64> {
    let digits = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    text.parse().ok().filter(|number: &f64| digits && number.is_finite())
}

/// Microseconds since 1970 of a count of seconds or milliseconds, between 1970 and 2100: outside of it the count is of
/// something else.
fn moment(count: i64, unit: Option<&str>) -> Option<i64> {
    const YEAR_2100: i64 = 4_102_444_800_000_000;
    let factor = if unit == Some("ms") { 1_000 } else { 1_000_000 };
    count.checked_mul(factor).filter(|micros| (1..YEAR_2100).contains(micros))
}

/// A JSON object of raw values.
fn object(fields: &[(Cow<'_, str>, &str)]) -> String {
    let mut text = String::from("{");
    for (at, (name, raw)) in fields.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(&serde_json::Value::from(name.as_ref()).to_string());
        text.push(':');
        text.push_str(raw);
    }
    text.push('}');
    text
}

/// The rows of an answer as text.
fn raw_rows(text: &str) -> serde_json::Result<Vec<&RawValue>> {
    struct Frame;
    impl<'de> Visitor<'de> for Frame {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an envelope")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            data_of(map, |map| map.next_value())
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Frame)
}

/// Reads an envelope's rows by `read` and skips everything else.
fn data_of<'de, A: MapAccess<'de>, T: Default>(
    mut map: A,
    mut read: impl FnMut(&mut A) -> Result<T, A::Error>,
) -> Result<T, A::Error> {
    let mut rows = T::default();
    while let Some(Lenient(key)) = map.next_key()? {
        if key == envelope::DATA {
            rows = read(&mut map)?;
        } else {
            map.next_value::<IgnoredAny>()?;
        }
    }
    Ok(rows)
}

/// Reads the rows of an answer into their cells, in one pass; fails if any of them is no object.
struct PageSeed<'c> {
    columns: &'c [Column],
    order: &'c mut Vec<usize>,
}

impl<'a> Visitor<'a> for PageSeed<'_> {
    type Value = Vec<Cells<'a>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an envelope")
    }

    fn visit_map<A: MapAccess<'a>>(self, map: A) -> Result<Self::Value, A::Error> {
        let Self { columns, order } = self;
        data_of(map, |map| map.next_value_seed(RowsSeed { columns, order }))
    }
}

struct RowsSeed<'c, 'o> {
    columns: &'c [Column],
    order: &'o mut Vec<usize>,
}

impl<'a> DeserializeSeed<'a> for RowsSeed<'_, '_> {
    type Value = Vec<Cells<'a>>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for RowsSeed<'_, '_> {
    type Value = Vec<Cells<'a>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rows")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut rows: A) -> Result<Self::Value, A::Error> {
        let mut cells = Vec::with_capacity(10);
        while let Some(row) = rows.next_element_seed(RowSeed { columns: self.columns, order: self.order })? {
            cells.push(row);
        }
        Ok(cells)
    }
}

/// The cells of one row: the raw value of each column, and what belongs to none.
struct Cells<'a> {
    values: Vec<Option<&'a RawValue>>,
    extra: Vec<(Cow<'a, str>, &'a str)>,
}

impl<'a> Cells<'a> {
    fn text(&self, column: usize) -> Option<Cow<'a, str>> {
        let raw = self.values.get(column).copied().flatten()?;
        text_of(raw.get()).map(|value| value.text).filter(|text| !text.is_empty())
    }

    /// The row's key; none where a part of its identity is missing.
    fn key(&self, columns: &[usize]) -> Option<Key> {
        let mut hash = Sha256::new();
        for column in columns {
            let text = self.text(*column)?;
            hash.update(text.as_bytes());
            hash.update([0]); // JSON text cannot smuggle a boundary: lengths differ or the zero does
            hash.update(text.len().to_le_bytes());
        }
        hash.finalize().first_chunk().copied()
    }
}

/// Reads one row into its cells. A field that stands twice: the last one counts, the earlier ones go to `_extra`.
struct RowSeed<'c, 'o> {
    columns: &'c [Column],
    order: &'o mut Vec<usize>,
}

impl RowSeed<'_, '_> {
    /// The column of the row's `field`th field.
    fn column(&mut self, field: usize, name: &str) -> Option<usize> {
        let is_named = |at: &usize| self.columns.get(*at).is_some_and(|column| column.name == name);
        if let Some(likely) = self.order.get(field).copied().filter(is_named) {
            return Some(likely);
        }
        let at = self.columns.iter().position(|column| column.name == name)?;
        if field < self.columns.len() {
            self.order.resize(self.columns.len(), usize::MAX);
        }
        if let Some(slot) = self.order.get_mut(field) {
            *slot = at;
        }
        Some(at)
    }
}

impl<'a> DeserializeSeed<'a> for RowSeed<'_, '_> {
    type Value = Cells<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for RowSeed<'_, '_> {
    type Value = Cells<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut cells = Cells { values: vec![None; self.columns.len()], extra: Vec::new() };
        let mut field = 0;
        while let Some(Field(name)) = map.next_key()? {
            let raw: &RawValue = map.next_value()?;
            let column = self.column(field, &name);
            field += 1;
            let Some(at) = column else {
                cells.extra.push((name, raw.get()));
                continue;
            };
            if let Some(earlier) = cells.values.get_mut(at).and_then(|cell| cell.replace(raw)) {
                cells.extra.push((name, earlier.get()));
            }
        }
        Ok(cells)
    }
}

/// A field name, borrowed where it holds no escape.
struct Field<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                // The text was checked as a whole; only half a surrogate pair behind an escape is not Unicode.
                Ok(std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(Cow::Owned(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        deserializer.deserialize_bytes(Name).map(Field)
    }
}
