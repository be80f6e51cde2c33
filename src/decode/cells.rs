//! The rows of an answer as cells: which raw value belongs to which column, and what belongs to none.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::Key;
use super::value::text_of;
use crate::endpoint::Column;
use crate::envelope::{self, Lenient};

/// The rows of an answer as text.
pub(super) fn raw_rows(text: &str) -> serde_json::Result<Vec<&RawValue>> {
    struct Frame;
    impl<'de> Visitor<'de> for Frame {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an envelope")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            data_of(map, MapAccess::next_value)
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
pub(super) struct PageSeed<'c> {
    pub(super) columns: &'c [Column],
    pub(super) order: &'c mut Vec<usize>,
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
pub(super) struct Cells<'a> {
    pub(super) values: Vec<Option<&'a RawValue>>,
    pub(super) extra: Vec<(Cow<'a, str>, &'a str)>,
}

impl<'a> Cells<'a> {
    pub(super) fn text(&self, column: usize) -> Option<Cow<'a, str>> {
        let raw = self.values.get(column).copied().flatten()?;
        text_of(raw.get()).map(|value| value.text).filter(|text| !text.is_empty())
    }

    /// The row's key; none where a part of its identity is missing.
    pub(super) fn key(&self, columns: &[usize]) -> Option<Key> {
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
pub(super) struct RowSeed<'c, 'o> {
    pub(super) columns: &'c [Column],
    pub(super) order: &'o mut Vec<usize>,
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
