//! The rows of an answer as cells: which raw value belongs to which column, and what belongs to none.
//!
//! A scanner of our own, in one pass over the text, because it only has to find where values end: that the document is
//! whole JSON was settled by `envelope` before the answer was kept. It never panics and never guesses: whatever is not
//! laid out like JSON makes it give up.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::extra::Field;
use super::value::{Text, identity_of};
use super::{Key, MOST_ROWS};
use crate::endpoint::Column;
use crate::envelope;

/// An entry of an answer's list.
pub(super) enum Entry<'a> {
    /// An object, as cells.
    Row(Cells<'a>),
    /// Something else.
    Other,
    /// Every entry behind the last one that is looked at.
    Rest,
}

/// The cells of one row: the raw value of each column, and what belongs to none.
pub(super) struct Cells<'a> {
    pub(super) values: Vec<Option<&'a str>>,
    pub(super) extra: Vec<Field<'a>>,
}

impl<'a> Cells<'a> {
    /// What identifies something by this column, unless there is nothing.
    pub(super) fn identity(&self, column: usize) -> Option<Text<'a>> {
        identity_of(self.values.get(column).copied().flatten()?)
    }

    /// The row's key; none where a part of its identity is missing.
    pub(super) fn key(&self, columns: &[usize]) -> Option<Key> {
        key_of(columns.iter().map(|column| self.identity(*column).map(|value| value.text)))
    }
}

/// The key of a row, from the texts of its identity; none where a part is missing.
pub fn key_of<'a>(identity: impl Iterator<Item = Option<Cow<'a, str>>>) -> Option<Key> {
    let mut hash = Sha256::new();
    for text in identity {
        let text = text?;
        hash.update(text.as_bytes());
        hash.update(text.len().to_le_bytes()); // so that no two identities are the same bytes
    }
    hash.finalize().first_chunk().copied()
}

/// Reads rows into cells of these columns, remembering in which order the last row listed them.
pub(super) struct Reader<'c> {
    pub(super) columns: &'c [Column],
    /// Column of each field of the last row: rows of one API list their fields in one order.
    pub(super) order: &'c mut Vec<usize>,
}

impl Reader<'_> {
    /// Visits each entry of an answer's list with its text; none if the text is not laid out like an answer to its end.
    pub(super) fn page<'a>(&mut self, text: &'a str, mut visit: impl FnMut(&'a str, Entry<'a>)) -> Option<()> {
        let mut scan = Scan { text, at: 0 };
        scan.eat(b'{')?;
        while scan.more(b'}')? {
            let name = scan.name()?;
            if name == envelope::DATA && scan.peek() == Some(b'[') {
                self.list(&mut scan, &mut visit)?;
            } else {
                scan.value()?;
            }
        }
        Some(())
    }

    fn list<'a>(&mut self, scan: &mut Scan<'a>, visit: &mut impl FnMut(&'a str, Entry<'a>)) -> Option<()> {
        let mut count = 0;
        scan.eat(b'[')?;
        while scan.more(b']')? {
            let is_object = scan.peek()? == b'{';
            let start = scan.at;
            count += 1;
            let entry = if count > MOST_ROWS {
                scan.value()?;
                let mut end = scan.at;
                while scan.more(b']')? {
                    scan.value()?;
                    end = scan.at;
                }
                visit(scan.text.get(start..end)?, Entry::Rest);
                return Some(());
            } else if is_object {
                Entry::Row(self.row(scan)?)
            } else {
                scan.value()?;
                Entry::Other
            };
            visit(scan.since(start)?, entry);
        }
        Some(())
    }

    /// A field that stands twice: the last one counts, the earlier ones go to what belongs to no column.
    fn row<'a>(&mut self, scan: &mut Scan<'a>) -> Option<Cells<'a>> {
        let mut cells = Cells { values: vec![None; self.columns.len()], extra: Vec::new() };
        let mut field = 0;
        scan.eat(b'{')?;
        while scan.more(b'}')? {
            let name = scan.name()?;
            let raw = scan.value()?;
            match self.column(field, &name) {
                None => cells.extra.push((name, raw)),
                Some(at) => {
                    if let Some(earlier) = cells.values.get_mut(at).and_then(|cell| cell.replace(raw)) {
                        cells.extra.push((name, earlier));
                    }
                }
            }
            field += 1;
        }
        Some(cells)
    }

    /// The column of a row's `field`th field.
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

/// How deep a value is nested: a list of numbers is 1 deep.
pub(super) fn depth(raw: &str) -> usize {
    let mut scan = Scan { text: raw, at: 0 };
    if raw.starts_with(['{', '[']) { scan.nested().unwrap_or_default() } else { 0 }
}

/// A place in a JSON text. Every step gives none where the text goes on otherwise.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.as_bytes().get(self.at)? {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                byte => return Some(*byte),
            }
        }
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Whether a list or an object that ends with `end` goes on; steps over the comma, or over the end.
    fn more(&mut self, end: u8) -> Option<bool> {
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

    fn since(&self, start: usize) -> Option<&'a str> {
        self.text.get(start..self.at)
    }

    /// A field's name, and the colon behind it.
    fn name(&mut self) -> Option<Cow<'a, str>> {
        self.peek()?;
        let raw = self.string()?;
        self.eat(b':')?;
        let inner = raw.get(1..raw.len().checked_sub(1)?)?;
        if !inner.contains('\\') {
            return Some(Cow::Borrowed(inner));
        }
        crate::lenient::unquoted(raw).map(Cow::Owned)
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.eat(b'"')?;
        loop {
            let rest = self.text.as_bytes().get(self.at..)?;
            let stop = memchr::memchr2(b'"', b'\\', rest)?;
            self.at += stop + 1;
            if rest.get(stop) == Some(&b'"') {
                return self.since(start);
            }
            self.at += 1; // what is escaped
        }
    }

    /// Any value, as its text.
    fn value(&mut self) -> Option<&'a str> {
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'"' => return self.string(),
            b'{' | b'[' => {
                self.nested()?;
            }
            _ => {
                let rest = self.text.as_bytes().get(self.at..)?;
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
            }
        }
        self.since(start).filter(|raw| !raw.is_empty())
    }

    /// Steps over an object or a list, however deep: no recursion. Gives how deep it is.
    fn nested(&mut self) -> Option<usize> {
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
