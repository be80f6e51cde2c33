//! The rows of an answer as cells: which raw value belongs to which column, and what belongs to none.
//!
//! A scanner of our own, in one pass over the text, because it only has to find where values end: that the document is
//! whole JSON was settled by `envelope` before the answer was kept. It never panics and never guesses: whatever is not
//! laid out like JSON makes it give up.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::value::{Text, identity_of, is_inexact_number, key_text_of};
use super::{Key, MOST_ROWS};
use crate::decode::envelope;
use crate::endpoint::Column;

/// Words of eight bytes in which the end of a short string is looked for.
const SHORT_WORDS: usize = 4;

/// An entry of an answer's list.
pub(super) enum Entry<'e, 'a> {
    /// An object, as cells; their room is used again for the next one.
    Row(&'e mut Cells<'a>),
    /// Something else.
    Other,
    /// Every entry behind the last one that is looked at.
    Rest,
}

/// A field that belongs to no column, or does not fit its own: its name, and its value's JSON text.
pub(super) type Field<'a> = (Cow<'a, str>, &'a str);

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

    /// Whether a part of the identity is a number that may be rounded.
    pub(super) fn has_inexact_identity(&self, item: usize, keys: &[usize]) -> bool {
        let mut parts = [item].into_iter().chain(keys.iter().copied());
        parts.any(|column| self.values.get(column).copied().flatten().is_some_and(is_inexact_number))
    }

    /// The row's key; none where a part of its identity is missing.
    pub(super) fn key(&self, columns: &[usize]) -> Option<Key> {
        key_of(columns.iter().map(|column| Some(key_text_of(self.values.get(*column).copied().flatten()?)?.text)))
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

/// A column's name as answers spell it, with its quotes. None for one that can be spelled in several ways only.
pub(super) fn spelled(column: &Column) -> Option<Box<str>> {
    let is_plain = column.name.bytes().all(|byte| byte >= b' ' && !matches!(byte, b'"' | b'\\'));
    is_plain.then(|| format!("\"{}\"", column.name).into())
}

/// In which order rows list their columns: for each column the one that came behind it last. Rows of one API list their
/// fields in one order, and leave some of them out.
#[derive(Debug, Default)]
pub(super) struct IdentityOrder {
    /// The first one, then by column the next.
    next: Vec<usize>,
}

impl IdentityOrder {
    /// The column that is likely to come behind this one; the first one behind none.
    fn behind(&self, column: Option<usize>) -> Option<usize> {
        self.next.get(column.map_or(0, |column| column + 1)).copied()
    }

    fn learn(&mut self, before: Option<usize>, column: usize, columns: usize) {
        self.next.resize(columns + 1, usize::MAX - 1);
        if let Some(next) = self.next.get_mut(before.map_or(0, |column| column + 1)) {
            *next = column;
        }
    }
}

/// Reads rows into cells of these columns.
pub(super) struct Reader<'c> {
    pub(super) columns: &'c [Column],
    /// Their names, [spelled].
    pub(super) names: &'c [Option<Box<str>>],
    /// Which of them the output must not hold.
    pub(super) dropped: &'c [bool],
    pub(super) order: &'c mut IdentityOrder,
}

impl Reader<'_> {
    /// Visits each entry of an answer's list with its text, and says whether there is a list; none if the text is not laid
    /// out like an answer to its end.
    pub(super) fn page<'a>(&mut self, text: &'a str, mut visit: impl FnMut(&'a str, Entry<'_, 'a>)) -> Option<bool> {
        let (mut scan, mut is_list) = (Scan { text, at: 0 }, false);
        scan.eat(b'{')?;
        while scan.more(b'}')? {
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

    fn list<'a>(&mut self, scan: &mut Scan<'a>, visit: &mut impl FnMut(&'a str, Entry<'_, 'a>)) -> Option<()> {
        let mut count = 0;
        let mut cells = Cells { values: Vec::with_capacity(self.columns.len()), extra: Vec::new() };
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
                self.row(scan, &mut cells)?;
                Entry::Row(&mut cells)
            } else {
                scan.value()?;
                Entry::Other
            };
            visit(scan.since(start)?, entry);
        }
        Some(())
    }

    /// A field that stands twice: the last one counts, the earlier ones go to what belongs to no column, unless its column is
    /// to be left out.
    fn row<'a>(&mut self, scan: &mut Scan<'a>, cells: &mut Cells<'a>) -> Option<()> {
        cells.values.clear();
        cells.values.resize(self.columns.len(), None);
        cells.extra.clear();
        let mut last = None;
        scan.eat(b'{')?;
        while scan.more(b'}')? {
            let (name, at) = if let Some(at) = self.likely(scan, last) {
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
                self.order.learn(last, at, self.columns.len());
            }
            last = Some(at);
        }
        Some(())
    }

    /// The column of the next field, if it is one of the two that are likely behind the last one; steps over its name.
    fn likely(&self, scan: &mut Scan<'_>, last: Option<usize>) -> Option<usize> {
        let next = self.order.behind(last)?;
        let is_next = |at: &usize, scan: &mut Scan<'_>| {
            let name = self.names.get(*at).and_then(Option::as_deref);
            name.is_some_and(|name| scan.known_name(name).is_some())
        };
        if is_next(&next, scan) {
            return Some(next);
        }
        self.order.behind(Some(next)).filter(|at| is_next(at, scan))
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
        if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
            return Some(Cow::Borrowed(inner));
        }
        // What is not Unicode stands as its JSON text: repaired, two names could look the same.
        Some(serde_json::from_str(raw).map_or(Cow::Borrowed(raw), Cow::Owned))
    }

    /// Steps over this name, spelled with its quotes, and the colon behind it; stays where it is before anything else.
    fn known_name(&mut self, name: &str) -> Option<()> {
        self.peek()?;
        let start = self.at;
        let is_here = self.text.as_bytes().get(start..)?.starts_with(name.as_bytes());
        if is_here {
            self.at += name.len();
            if self.eat(b':').is_some() {
                return Some(());
            }
            self.at = start;
        }
        None
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.eat(b'"')?;
        self.skip_short();
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

    /// Steps over the beginning of a string, up to what may end it: most strings are shorter than it takes to begin a search.
    fn skip_short(&mut self) {
        const ONES: u64 = 0x0101_0101_0101_0101;
        // The highest bit of each byte that is zero; of bytes above such a one too, which come later.
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
