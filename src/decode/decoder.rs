//! Answers into Arrow rows: lenient, and nothing is lost.
//!
//! Every cell is looked at by itself, so one bad value never costs its row and one bad row never costs its page. A value
//! that does not fit its column leaves a null there and its JSON text in `_extra`, where unknown fields go too; a row
//! without identity becomes a reject with its raw text. Works on answers that are already durable, and on the same
//! ones again after a crash or in a replay: the result depends on nothing but the bytes and the column table.
//!
//! What a hostile answer can ask for is bounded: a cell is as large as its answer at most (`api::BODY_CAP`, 8 MiB), and is
//! never cut; a page has [`MOST_ROWS`] rows at most, `_extra` is nested [`NESTING`] levels deep at most, a run has
//! [`MAX_DIRECTORIES`](crate::model::partition::MAX_DIRECTORIES) directories at most. What goes beyond is still kept: see each. (Which
//! values have a directory where there are too many depends on which came first in the run; which rows there are does not.)

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, Int32Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::cells::{Cells, Entry, IdentityOrder, Reader, spelled};
use super::drift::PageDrift;
use super::extra;
use super::value::{Builder, key_text_of, text_of};
use crate::decode::lenient_json;
use crate::endpoint::{Column, Endpoint, Role};
use crate::model::clock::Utc64;
use crate::model::page::{ItemId, PageNum, Request};
use crate::model::partition::PartitionDirs;
use crate::model::sanitize::sanitize;

/// Most rows of a page that are looked at one by one. Those beyond it are kept together, as one reject.
pub const MOST_ROWS: usize = 100_000;

/// What tells a row from all others of its walk: 128 bits of SHA-256 over its identity.
pub type Key = [u8; 16];

/// A durable answer that is a page.
#[derive(Clone, Debug)]
pub struct Response {
    /// What was asked for.
    pub request: Request,
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
    /// What was asked for.
    pub request: Request,
    /// Key of each row, in the order of the rows of the batch.
    pub keys: Vec<Key>,
    /// Entries of the answer's list, whatever became of them; those beyond [`MOST_ROWS`] count as one.
    pub received: usize,
    /// Whether the rows came as a list. False for a success whose data was null, `{}`, `""` or false.
    pub is_list: bool,
    /// Rows that belong to another item than the asked one.
    pub foreign: usize,
    /// Rows that could not be typed.
    pub rejects: Vec<Reject>,
    /// Where its rows differ from the description.
    pub drift: PageDrift,
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
    /// Why, sanitised.
    pub reason: Cow<'static, str>,
    /// Its JSON text.
    pub raw: String,
}

/// Turns answers of one endpoint into rows of one schema.
#[derive(Clone, Debug)]
pub struct Decoder {
    columns: Arc<[Column]>,
    /// Their names as answers spell them.
    names: Arc<[Option<Box<str>>]>,
    /// Which of `columns` are written to the files.
    written: Vec<bool>,
    /// Which of them are left out of the output altogether: the partition is in the directories' names.
    dropped: Arc<[bool]>,
    item: usize,
    keys: Vec<usize>,
    partition: usize,
    schema: SchemaRef,
    /// Shared by all clones: a run's directories are bounded together.
    directories: Arc<Mutex<PartitionDirs>>,
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
            names: endpoint.columns.iter().map(spelled).collect(),
            written: endpoint.columns.iter().map(is_written).collect(),
            dropped: endpoint
                .columns
                .iter()
                .map(|column| column.role != Role::Partition && !is_written(column))
                .collect(),
            item: place(&endpoint.item.column),
            keys: endpoint.key_columns().map(|column| place(&column.name)).collect(),
            partition: place(&endpoint.partition().name),
            schema: endpoint.file_schema(&kept),
            directories: Arc::default(),
        }
    }

    /// The schema of the rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Decodes a group of answers. The only error is a schema that does not fit the columns, which is a bug.
    pub fn decode(&self, answers: &[Response]) -> Result<Decoded, ArrowError> {
        let mut batch = Batch::new(self, answers.len());
        let pages = answers.iter().map(|answer| batch.page(self, answer)).collect();
        batch.finish(self, pages)
    }
}

/// Entries of an answer's list, whatever will become of them: what [`DecodedPage::received`] says of it.
pub fn received(body: &[u8]) -> usize {
    let mut count = 0;
    let read = Reader { columns: &[], names: &[], dropped: &[], order: &mut IdentityOrder::default() }
        .page(&lenient_json::text(body), |_, _| count += 1);
    count + usize::from(read.is_none()) // a page that cannot be read to its end has a reject for the rest
}

/// The rows of a group while they are being gathered.
struct Batch<'a> {
    directories: MutexGuard<'a, PartitionDirs>,
    builders: Vec<Option<Builder>>,
    fetched_at: TimestampMicrosecondBuilder,
    page_num: Int32Builder,
    extra: StringBuilder,
    partitions: Vec<Option<Box<str>>>,
    order: IdentityOrder,
}

impl<'a> Batch<'a> {
    fn new(decoder: &'a Decoder, pages: usize) -> Self {
        let rows = pages * 10;
        let made = decoder.columns.iter().zip(&decoder.written);
        Self {
            directories: decoder.directories.lock().unwrap_or_else(PoisonError::into_inner),
            builders: made.map(|(column, written)| written.then(|| Builder::new(column.kind, rows))).collect(),
            fetched_at: TimestampMicrosecondBuilder::with_capacity(rows),
            page_num: Int32Builder::with_capacity(rows),
            extra: StringBuilder::new(),
            partitions: Vec::with_capacity(rows),
            order: IdentityOrder::default(),
        }
    }

    fn page(&mut self, decoder: &Decoder, answer: &Response) -> DecodedPage {
        let mut page = DecodedPage {
            request: answer.request.clone(),
            keys: Vec::new(),
            received: 0,
            is_list: true,
            foreign: 0,
            rejects: Vec::new(),
            drift: PageDrift::of(&decoder.columns),
        };
        let text = lenient_json::text(&answer.body);
        let mut order = std::mem::take(&mut self.order);
        let mut reader =
            Reader { columns: &decoder.columns, names: &decoder.names, dropped: &decoder.dropped, order: &mut order };
        let read = reader.page(&text, |raw, entry| {
            page.received += 1;
            let key = match entry {
                Entry::Row(cells) => {
                    self.row(decoder, answer, cells, &mut page.drift).inspect_err(|_| page.drift.see(&cells.values))
                }
                Entry::Other => Err(Unusable::NoObject),
                Entry::Rest => Err(Unusable::Rest),
            };
            match key {
                Ok(key) => page.keys.push(key),
                Err(reason) => page.reject(answer, reason, raw),
            }
        });
        self.order = order;
        page.is_list = read != Some(false);
        if read.is_none() {
            // The envelope was judged before the answer was kept, so this is damage after the fact.
            page.received += 1;
            page.reject(answer, Unusable::NoPage, &text);
        }
        page
    }

    /// Adds one row, or nothing at all.
    fn row<'c>(
        &mut self,
        decoder: &'c Decoder,
        answer: &Response,
        cells: &mut Cells<'c>,
        drift: &mut PageDrift,
    ) -> Result<Key, Unusable> {
        if cells.has_inexact_identity(decoder.item, &decoder.keys) {
            return Err(Unusable::Inexact);
        }
        let item = cells.identity(decoder.item);
        if let Some(other) = item.as_ref().filter(|other| other.text != answer.request.id.as_str()) {
            return Err(Unusable::Foreign(sanitize(&other.text)));
        }
        let Some(key) = cells.key(&decoder.keys) else {
            decoder
                .keys
                .iter()
                .filter(|column| cells.key(&[**column]).is_none())
                .for_each(|column| drift.misfit(*column));
            return Err(Unusable::NoIdentity);
        };

        let Cells { values, extra } = cells;
        for (name, _) in extra.iter() {
            drift.extra(name);
        }
        let columns = decoder.columns.iter().zip(&mut self.builders).zip(&mut drift.columns);
        for (at, ((column, builder), count)) in columns.enumerate() {
            let raw = values.get(at).copied().flatten();
            count.is_seen |= raw.is_some();
            let fits = match builder {
                _ if at == decoder.partition => push_partition(&mut self.partitions, &mut self.directories, raw),
                Some(Builder::Text(builder)) if at == decoder.item => {
                    builder.append_value(answer.request.id.as_str());
                    item.is_some() || raw.is_none_or(|raw| raw == "null")
                }
                Some(Builder::Text(builder)) if decoder.keys.contains(&at) => {
                    let value = raw.and_then(key_text_of);
                    builder.append_option(value.as_ref().map(|value| &value.text));
                    value.is_none_or(|value| value.exact)
                }
                Some(builder) => builder.append(raw, column),
                None => true,
            };
            if !fits {
                count.misfits += 1;
                extra.push((Cow::Borrowed(&column.name), raw.unwrap_or_default()));
            }
        }
        self.fetched_at.append_value(answer.at.0);
        self.page_num.append_value(i32::try_from(answer.request.page.0).unwrap_or(i32::MAX));
        self.extra.append_option((!extra.is_empty()).then(|| extra::object(extra)));
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

/// Adds a row's partition value. False: no directory can carry it, so its text must be kept elsewhere.
fn push_partition(partitions: &mut Vec<Option<Box<str>>>, directories: &mut PartitionDirs, raw: Option<&str>) -> bool {
    let raw = raw.filter(|raw| *raw != "null");
    let value = raw.and_then(text_of).filter(|value| value.exact && directories.admit(&value.text));
    let fits = value.is_some() || raw.is_none();
    partitions.push(value.map(|value| value.text.into()));
    fits
}

/// Why a row cannot be published.
enum Unusable {
    NoPage,
    NoObject,
    NoIdentity,
    Inexact,
    Foreign(String),
    Rest,
}

impl Unusable {
    fn reason(self) -> Cow<'static, str> {
        match self {
            Self::NoPage => "the page cannot be read to its end".into(),
            Self::NoObject => "the row is no JSON object".into(),
            Self::NoIdentity => "the row has no identity".into(),
            Self::Inexact => "the identity is a number with an exponent or a fraction, which may be rounded".into(),
            Self::Foreign(other) => format!("the row belongs to {other}").into(),
            Self::Rest => format!("the rows beyond the first {MOST_ROWS} of the page").into(),
        }
    }
}

impl DecodedPage {
    fn reject(&mut self, answer: &Response, reason: Unusable, raw: &str) {
        self.foreign += usize::from(matches!(reason, Unusable::Foreign(_)));
        let Request { id, page, .. } = answer.request.clone();
        self.rejects.push(Reject { id, page, at: answer.at, reason: reason.reason(), raw: raw.to_owned() });
    }
}
