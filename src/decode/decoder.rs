//! Decodes responses into Arrow rows. Decoding is lenient and loses nothing.
//!
//! Each cell is decoded independently, so a bad value never costs its row and a bad row never costs its page. A value that
//! does not fit its column becomes null, and its JSON text goes to `_extra`, like unknown fields. A row without identity
//! becomes a reject with its raw text. The input is durable and is decoded again after a crash or in a replay, so the result
//! depends only on the bytes and the columns.
//!
//! Limits: a cell is at most as large as its response (`fetch::BODY_CAP`, 8 MiB) and is never cut; a page has at most
//! [`MOST_ROWS`] rows, `_extra` at most [`NESTING`](super::NESTING) levels, a run at most
//! [`MAX_DIRECTORIES`](crate::model::partition::MAX_DIRECTORIES) directories. What exceeds a limit is stored elsewhere, as
//! each says. Beyond the last limit, the order of rows in a run decides which values have a directory.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, Int32Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::cells::{Cells, Entry, FieldOrder, RowReader, quoted_name};
use super::drift::PageDrift;
use super::extra;
use super::value::{Builder, key_text_of, text_of};
use crate::decode::lenient_json;
use crate::endpoint::{Column, Endpoint, Role, file_schema};
use crate::model::clock::Utc64;
use crate::model::page::{ItemId, PageNum, Request};
use crate::model::partition::PartitionDirs;
use crate::model::sanitize::Sanitized;

/// Most rows of a page that are decoded. The rest becomes one reject.
pub const MOST_ROWS: usize = 100_000;

/// Identifies a row in its walk: 128 bits of SHA-256 over its identity.
pub type Key = [u8; 16];

/// A journaled response that is a page.
#[derive(Clone, Debug)]
pub struct Response {
    pub request: Request,
    /// When the body was complete.
    pub at: Utc64,
    /// The decompressed body.
    pub body: bytes::Bytes,
}

#[derive(Debug)]
pub struct Decoded {
    /// The rows of all pages in order, in the schema of the files.
    pub rows: RecordBatch,
    /// Partition value of each row.
    pub partitions: Vec<Option<Box<str>>>,
    /// The pages, in the order of the responses.
    pub pages: Vec<DecodedPage>,
}

#[derive(Debug)]
pub struct DecodedPage {
    pub request: Request,
    /// Key of each row, in the order of the batch.
    pub keys: Vec<Key>,
    /// Entries of the response's list; those beyond [`MOST_ROWS`] count as one. Equals `keys` + `rejects`.
    pub received: usize,
    /// False for a success whose data is null, `{}`, `""` or false.
    pub is_list: bool,
    /// Rejects that belong to another item than the requested one.
    pub foreign: usize,
    pub rejects: Vec<Reject>,
    pub drift: PageDrift,
}

/// A row that cannot be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub(crate) id: ItemId,
    pub(crate) page: PageNum,
    /// When the page was fetched.
    pub(crate) at: Utc64,
    /// Why it is a reject, sanitised.
    pub reason: Cow<'static, str>,
    /// Its exact JSON text.
    pub raw: String,
}

#[derive(Clone, Debug)]
pub struct Decoder {
    columns: Arc<[Column]>,
    names: Arc<[Option<Box<str>>]>,
    /// Whether each column is in the files.
    written: Vec<bool>,
    /// Whether each column is neither in the files nor in the directories' names.
    dropped: Arc<[bool]>,
    item: usize,
    keys: Vec<usize>,
    partition: usize,
    /// Of the rows and of the files.
    pub schema: SchemaRef,
    /// Shared by all clones: the limit counts a run's directories.
    directories: Arc<Mutex<PartitionDirs>>,
}

impl Decoder {
    /// A decoder for the columns that `is_selected` accepts, and for identity columns, which are always written. The partition
    /// column is not.
    pub fn new(endpoint: &Endpoint, is_selected: impl Fn(&Column) -> bool) -> Self {
        let is_written =
            |column: &Column| column.role == Role::Identity || (column.role != Role::Partition && is_selected(column));
        Self::for_written(endpoint, is_written)
    }

    /// A decoder for exactly these columns.
    pub fn for_columns(endpoint: &Endpoint, names: &[String]) -> Self {
        Self::for_written(endpoint, |column| names.contains(&column.name))
    }

    fn for_written(endpoint: &Endpoint, is_written: impl Fn(&Column) -> bool) -> Self {
        let position = |name: &str| endpoint.columns.iter().position(|column| column.name == name).unwrap_or_default();
        Self {
            columns: endpoint.columns.clone().into(),
            names: endpoint.columns.iter().map(quoted_name).collect(),
            written: endpoint.columns.iter().map(&is_written).collect(),
            dropped: endpoint
                .columns
                .iter()
                .map(|column| column.role != Role::Partition && !is_written(column))
                .collect(),
            item: position(&endpoint.item.column),
            keys: endpoint.key_columns().map(|column| position(&column.name)).collect(),
            partition: position(&endpoint.partition().name),
            schema: file_schema(endpoint.columns.iter().filter(|column| is_written(column))),
            directories: Arc::default(),
        }
    }

    /// Decodes a group of responses. An error is a bug: the schema does not fit the columns.
    pub fn decode(&self, responses: &[Response]) -> Result<Decoded, ArrowError> {
        let mut batch = Batch::new(self, responses.len());
        let pages = responses.iter().map(|response| batch.page(self, response)).collect();
        batch.finish(self, pages)
    }
}

/// [`DecodedPage::received`] of a body, without decoding its rows.
pub fn received(body: &[u8]) -> usize {
    let mut count = 0;
    let read = RowReader { columns: &[], names: &[], dropped: &[], order: &mut FieldOrder::default() }
        .page(&lenient_json::text(body), |_, _| count += 1);
    count + usize::from(read.is_none()) // the rest of an unreadable page is a reject
}

struct Batch<'a> {
    directories: MutexGuard<'a, PartitionDirs>,
    builders: Vec<Option<Builder>>,
    fetched_at: TimestampMicrosecondBuilder,
    page_num: Int32Builder,
    extra: StringBuilder,
    partitions: Vec<Option<Box<str>>>,
    order: FieldOrder,
}

impl<'a> Batch<'a> {
    fn new(decoder: &'a Decoder, pages: usize) -> Self {
        let rows = pages * 10;
        let columns = decoder.columns.iter().zip(&decoder.written);
        Self {
            directories: decoder.directories.lock().unwrap_or_else(PoisonError::into_inner),
            builders: columns.map(|(column, written)| written.then(|| Builder::new(column.kind, rows))).collect(),
            fetched_at: TimestampMicrosecondBuilder::with_capacity(rows),
            page_num: Int32Builder::with_capacity(rows),
            extra: StringBuilder::new(),
            partitions: Vec::with_capacity(rows),
            order: FieldOrder::default(),
        }
    }

    fn page(&mut self, decoder: &Decoder, response: &Response) -> DecodedPage {
        let mut page = DecodedPage {
            request: response.request.clone(),
            keys: Vec::new(),
            received: 0,
            is_list: true,
            foreign: 0,
            rejects: Vec::new(),
            drift: PageDrift::new(&decoder.columns),
        };
        let text = lenient_json::text(&response.body);
        let mut order = std::mem::take(&mut self.order);
        let mut reader = RowReader {
            columns: &decoder.columns,
            names: &decoder.names,
            dropped: &decoder.dropped,
            order: &mut order,
        };
        let read = reader.page(&text, |raw, entry| {
            page.received += 1;
            let key = match entry {
                Entry::Row(cells) => {
                    self.row(decoder, response, cells, &mut page).inspect_err(|_| page.drift.see(&cells.values))
                }
                Entry::NotObject => Err("the row is not a JSON object".into()),
                Entry::Rest => Err(format!("the rows beyond the first {MOST_ROWS} of the page").into()),
            };
            match key {
                Ok(key) => page.keys.push(key),
                Err(reason) => page.reject(response, reason, raw),
            }
        });
        self.order = order;
        page.is_list = read != Some(false);
        if read.is_none() {
            // The envelope was complete when the response was journaled, so the body was damaged later.
            page.received += 1;
            page.reject(response, "the page cannot be read to its end".into(), &text);
        }
        page
    }

    /// Adds one row; adds nothing if it returns an error, which is why the row is a reject.
    fn row<'c>(
        &mut self,
        decoder: &'c Decoder,
        response: &Response,
        cells: &mut Cells<'c>,
        page: &mut DecodedPage,
    ) -> Result<Key, Cow<'static, str>> {
        if cells.has_inexact_identity(decoder.item, &decoder.keys) {
            return Err("the identity is a number with an exponent or a fraction, which may be rounded".into());
        }
        let item = cells.identity(decoder.item);
        if let Some(other) = item.as_ref().filter(|other| other.text != response.request.id.as_str()) {
            page.foreign += 1;
            return Err(format!("the row belongs to {}", Sanitized(&other.text)).into());
        }
        let drift = &mut page.drift;
        let Some(key) = cells.key(&decoder.keys) else {
            let missing = decoder.keys.iter().filter(|column| cells.key(&[**column]).is_none());
            missing.for_each(|column| drift.misfit(*column));
            return Err("the row has no identity".into());
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
                _ if at == decoder.partition => {
                    let fits = push_partition(&mut self.partitions, &mut self.directories, raw);
                    if let (Some(Builder::Text(builder)), Some(value)) = (builder, self.partitions.last()) {
                        builder.append_option(value.as_deref()); // the same as in the directory's name
                    }
                    fits
                }
                Some(Builder::Text(builder)) if at == decoder.item => {
                    builder.append_value(response.request.id.as_str());
                    item.is_some() || raw.is_none_or(|raw| raw == "null")
                }
                Some(Builder::Text(builder)) if decoder.keys.contains(&at) => {
                    let value = raw.and_then(key_text_of);
                    builder.append_option(value.as_ref().map(|value| &value.text));
                    value.is_none_or(|value| value.is_exact)
                }
                Some(builder) => builder.append(raw, column),
                None => true,
            };
            if !fits {
                count.misfits += 1;
                extra.push((Cow::Borrowed(&column.name), raw.unwrap_or_default()));
            }
        }
        self.fetched_at.append_value(response.at.0);
        self.page_num.append_value(i32::try_from(response.request.page.0).unwrap_or(i32::MAX));
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

/// Adds a row's partition value. False if no directory name can contain it.
fn push_partition(partitions: &mut Vec<Option<Box<str>>>, directories: &mut PartitionDirs, raw: Option<&str>) -> bool {
    let raw = raw.filter(|raw| *raw != "null");
    let value = raw.and_then(text_of).filter(|value| value.is_exact && directories.admit(&value.text));
    let fits = value.is_some() || raw.is_none();
    partitions.push(value.map(|value| value.text.into()));
    fits
}

impl DecodedPage {
    fn reject(&mut self, response: &Response, reason: Cow<'static, str>, raw: &str) {
        let Request { id, page, .. } = response.request.clone();
        self.rejects.push(Reject { id, page, at: response.at, reason, raw: raw.to_owned() });
    }
}
