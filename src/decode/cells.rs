//! The rows of a response as cells: which raw value belongs to which column, and which to none.
//!
//! The scanner only finds where values end: `envelope` checked that the document is complete before the response was
//! journaled. It accepts what `serde_json` refuses (`NaN`, control characters in strings), because rejects and `_extra` keep
//! the exact text. It never panics; it gives up where the text is not laid out like JSON.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::value::{Text, identity_of, is_inexact_number, key_text_of};
use super::{Key, MOST_ROWS};
use crate::decode::envelope;
use crate::endpoint::Column;

/// Words of eight bytes that are searched for the end of a short string.
const SHORT_WORDS: usize = 4;

/// An entry of a response's list.
pub(super) enum Entry<'e, 'a> {
    Row(&'e mut Cells<'a>),
    NotObject,
    /// Every entry after the first [`MOST_ROWS`].
    Rest,
}

/// A field that belongs to no column, or does not fit its column: its name, and its value's JSON text.
pub(super) type Field<'a> = (Cow<'a, str>, &'a str);

/// The raw value of each column of one row, and the fields that belong to none.
pub(super) struct Cells<'a> {
    pub(super) values: Vec<Option<&'a str>>,
    pub(super) extra: Vec<Field<'a>>,
}

impl<'a> Cells<'a> {
    pub(super) fn identity(&self, column: usize) -> Option<Text<'a>> {
        identity_of(self.values.get(column).copied().flatten()?)
    }

    pub(super) fn has_inexact_identity(&self, item: usize, keys: &[usize]) -> bool {
        let mut parts = [item].into_iter().chain(keys.iter().copied());
        parts.any(|column| self.values.get(column).copied().flatten().is_some_and(is_inexact_number))
    }

    /// None if a part of the identity is missing.
    pub(super) fn key(&self, columns: &[usize]) -> Option<Key> {
        key_of(columns.iter().map(|column| Some(key_text_of(self.values.get(*column).copied().flatten()?)?.text)))
    }
}

/// A row's key from the texts of its identity; none if a part is missing.
pub fn key_of<'a>(identity: impl Iterator<Item = Option<Cow<'a, str>>>) -> Option<Key> {
    let mut hash = Sha256::new();
    for text in identity {
        let text = text?;
        hash.update(text.as_bytes());
        hash.update(text.len().to_le_bytes()); // so that no two identities are the same bytes
    }
    hash.finalize().first_chunk().copied()
}

/// A column's name as JSON, in quotes. None if JSON must escape a part of it, which has several spellings.
pub(super) fn quoted_name(column: &Column) -> Option<Box<str>> {
    let is_plain = column.name.bytes().all(|byte| byte >= b' ' && !matches!(byte, b'"' | b'\\'));
    is_plain.then(|| format!("\"{}\"", column.name).into())
}

/// The order in which rows list their fields. Rows of one API share it, and omit some fields.
#[derive(Debug, Default)]
pub(super) struct FieldOrder {
    /// The first column, then for each column the one that followed it last.
    next: Vec<usize>,
}

impl FieldOrder {
    /// The column that probably follows this one; the first column after none.
    fn next_after(&self, column: Option<usize>) -> Option<usize> {
        self.next.get(column.map_or(0, |column| column + 1)).copied()
    }

    fn record(&mut self, before: Option<usize>, column: usize, columns: usize) {
        self.next.resize(columns + 1, usize::MAX - 1);
        if let Some(next) = self.next.get_mut(before.map_or(0, |column| column + 1)) {
            *next = column;
        }
    }
}

pub(super) struct RowReader<'c> {
    pub(super) columns: &'c [Column],
    /// The columns' [`quoted_name`]s.
    pub(super) names: &'c [Option<Box<str>>],
    /// Whether a column is left out of the output, `_extra` included.
    pub(super) dropped: &'c [bool],
    pub(super) order: &'c mut FieldOrder,
}

impl RowReader<'_> {
    /// Visits each entry of a response's list with its text. True if there is a list; none if the text is not laid out like a
    /// response.
    pub(super) fn page<'a>(&mut self, text: &'a str, mut visit: impl FnMut(&'a str, Entry<'_, 'a>)) -> Option<bool> {
        let (mut scan, mut is_list) = (Scanner { text, at: 0 }, false);
        scan.expect(b'{')?;
        while scan.has_next(b'}')? {
            let name = scan.name()?;
            if name == envelope::DATA && scan.peek() == Some(b'[') {
                self.list(&mut scan, &mut visit)?;
                is_list = true;
            } else {
                scan.value()?;
            }
        }
        Some(is_list)
    }

    fn list<'a>(&mut self, scan: &mut Scanner<'a>, visit: &mut impl FnMut(&'a str, Entry<'_, 'a>)) -> Option<()> {
        let mut count = 0;
        let mut cells = Cells { values: Vec::with_capacity(self.columns.len()), extra: Vec::new() };
        scan.expect(b'[')?;
        while scan.has_next(b']')? {
            let is_object = scan.peek()? == b'{';
            let start = scan.at;
            count += 1;
            let entry = if count > MOST_ROWS {
                scan.value()?;
                let mut end = scan.at;
                while scan.has_next(b']')? {
                    scan.value()?;
                    end = scan.at;
                }
                visit(scan.text.get(start..end)?, Entry::Rest);
                return Some(());
            } else if is_object {
                self.row(scan, &mut cells)?;
                Entry::Row(&mut cells)
            } else {
                scan.value()?;
                Entry::NotObject
            };
            visit(scan.text_from(start)?, entry);
        }
        Some(())
    }

    /// The last of several fields with one name counts. The earlier ones go to `extra`, unless the column is dropped.
    fn row<'a>(&mut self, scan: &mut Scanner<'a>, cells: &mut Cells<'a>) -> Option<()> {
        cells.values.clear();
        cells.values.resize(self.columns.len(), None);
        cells.extra.clear();
        let mut last = None;
        scan.expect(b'{')?;
        while scan.has_next(b'}')? {
            let (name, at) = if let Some(at) = self.predicted_column(scan, last) {
                (None, Some(at))
            } else {
                let name = scan.name()?;
                let at = self.columns.iter().position(|column| column.name == name);
                (Some(name), at)
            };
            let raw = scan.value()?;
            let Some(at) = at else {
                cells.extra.extend(name.map(|name| (name, raw)));
                continue;
            };
            let earlier = cells.values.get_mut(at).and_then(|cell| cell.replace(raw));
            if let Some(earlier) = earlier.filter(|_| self.dropped.get(at) != Some(&true)) {
                let name = self.columns.get(at).map_or_else(String::new, |column| column.name.clone());
                cells.extra.push((Cow::Owned(name), earlier));
            }
            if name.is_some() {
                self.order.record(last, at, self.columns.len());
            }
            last = Some(at);
        }
        Some(())
    }

    /// The column of the next field, if it is one of the two that probably follow the last one. Skips its name.
    fn predicted_column(&self, scan: &mut Scanner<'_>, last: Option<usize>) -> Option<usize> {
        let next = self.order.next_after(last)?;
        let is_next = |at: &usize, scan: &mut Scanner<'_>| {
            let name = self.names.get(*at).and_then(Option::as_deref);
            name.is_some_and(|name| scan.skip_name(name).is_some())
        };
        if is_next(&next, scan) {
            return Some(next);
        }
        self.order.next_after(Some(next)).filter(|at| is_next(at, scan))
    }
}

/// Levels of nesting in a value: a list of numbers has 1.
pub(super) fn depth(raw: &str) -> usize {
    let mut scan = Scanner { text: raw, at: 0 };
    if raw.starts_with(['{', '[']) { scan.skip_nested().unwrap_or_default() } else { 0 }
}

/// A position in a JSON text. Every method returns none if the text continues otherwise.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.as_bytes().get(self.at)? {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                byte => return Some(*byte),
            }
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Whether a list or an object that closes with `end` has another entry. Skips the comma, or the end.
    fn has_next(&mut self, end: u8) -> Option<bool> {
        match self.peek()? {
            byte if byte == end => {
                self.at += 1;
                Some(false)
            }
            b',' => {
                self.at += 1;
                self.peek().map(|_| true)
            }
            _ => Some(true),
        }
    }

    fn text_from(&self, start: usize) -> Option<&'a str> {
        self.text.get(start..self.at)
    }

    /// A field's name. Skips the colon too.
    fn name(&mut self) -> Option<Cow<'a, str>> {
        self.peek()?;
        let raw = self.string()?;
        self.expect(b':')?;
        let inner = raw.get(1..raw.len().checked_sub(1)?)?;
        if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
            return Some(Cow::Borrowed(inner));
        }
        // A name that is not Unicode is its JSON text: two repaired names could be equal.
        Some(serde_json::from_str(raw).map_or(Cow::Borrowed(raw), Cow::Owned))
    }

    /// Skips this quoted name and its colon; does not move if the text is another.
    fn skip_name(&mut self, name: &str) -> Option<()> {
        self.peek()?;
        let start = self.at;
        let is_here = self.text.as_bytes().get(start..)?.starts_with(name.as_bytes());
        if is_here {
            self.at += name.len();
            if self.expect(b':').is_some() {
                return Some(());
            }
            self.at = start;
        }
        None
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.expect(b'"')?;
        self.skip_plain();
        loop {
            let rest = self.text.as_bytes().get(self.at..)?;
            let stop = memchr::memchr2(b'"', b'\\', rest)?;
            self.at += stop + 1;
            if rest.get(stop) == Some(&b'"') {
                return self.text_from(start);
            }
            self.at += 1; // the escaped byte
        }
    }

    /// Skips plain bytes at the start of a string. Most strings end within them, before a search with `memchr` would pay.
    fn skip_plain(&mut self) {
        const ONES: u64 = 0x0101_0101_0101_0101;
        // Sets the highest bit of each zero byte (and maybe of bytes above one, which come later).
        let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
        for _ in 0..SHORT_WORDS {
            let word = self.text.as_bytes().get(self.at..).and_then(|rest| rest.first_chunk());
            let Some(word) = word.copied().map(u64::from_le_bytes) else { return };
            let found = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
            let plain = usize::try_from(found.trailing_zeros() / 8).unwrap_or_default();
            self.at += plain;
            if plain < 8 {
                return;
            }
        }
    }

    fn value(&mut self) -> Option<&'a str> {
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'"' => return self.string(),
            b'{' | b'[' => {
                self.skip_nested()?;
            }
            _ => {
                let rest = self.text.as_bytes().get(self.at..)?;
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
            }
        }
        self.text_from(start).filter(|raw| !raw.is_empty())
    }

    /// Skips an object or a list without recursion and returns its depth.
    fn skip_nested(&mut self) -> Option<usize> {
        let (mut depth, mut deepest) = (0_usize, 0);
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => {
                    depth += 1;
                    deepest = deepest.max(depth);
                }
                b'}' | b']' => depth = depth.checked_sub(1)?,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(deepest);
            }
        }
    }
}
