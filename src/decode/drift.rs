//! Where rows differ from the endpoint's description, counted while they are decoded: nothing is lost by it, but somebody
//! should hear of it.

use std::sync::Arc;

use crate::endpoint::Column;

/// Most names of unknown fields that are counted one by one. Those beyond are counted together.
pub const MOST_NAMES: usize = 64;
/// Longest name of an unknown field that is kept, bytes.
const LONGEST_NAME: usize = 100;

/// Counts of one page, or of several pages of one [`Decoder`](super::Decoder).
#[derive(Clone, Debug, Default)]
pub struct PageDrift {
    /// The described columns; none as long as nothing was counted.
    described: Option<Arc<[Column]>>,
    /// Counts of each.
    pub(super) columns: Vec<Cell>,
    /// Fields that no column describes, as the answers spell them.
    unknown: Vec<(Box<str>, u64)>,
    /// Fields beyond [`MOST_NAMES`] names.
    others: u64,
}

/// Counts of one column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    /// Whether any row had the field, be it null.
    pub(super) is_seen: bool,
    /// Values that did not fit the column.
    pub(super) misfits: u64,
}

impl PageDrift {
    /// Nothing counted yet, for these columns.
    pub(super) fn of(columns: &Arc<[Column]>) -> Self {
        let cells = vec![Cell::default(); columns.len()];
        Self { described: Some(Arc::clone(columns)), columns: cells, ..Self::default() }
    }

    /// The columns whose field came.
    pub fn seen(&self) -> impl Iterator<Item = &str> {
        self.named().filter(|(_, cell)| cell.is_seen).map(|(name, _)| name)
    }

    /// The columns that some values did not fit, and how many.
    pub fn misfits(&self) -> impl Iterator<Item = (&str, u64)> {
        self.named().filter(|(_, cell)| cell.misfits > 0).map(|(name, cell)| (name, cell.misfits))
    }

    fn named(&self) -> impl Iterator<Item = (&str, &Cell)> {
        let columns = self.described.iter().flat_map(|columns| columns.iter());
        columns.map(|column| column.name.as_str()).zip(&self.columns)
    }

    /// Fields that no column describes, and how often each came; those beyond the bound together, under no name.
    pub fn unknown(&self) -> impl Iterator<Item = (Option<&str>, u64)> {
        let named = self.unknown.iter().map(|(name, fields)| (Some(&**name), *fields));
        named.chain(Some((None, self.others)).filter(|(_, fields)| *fields > 0))
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        if self.described.is_none() {
            self.described.clone_from(&other.described);
        }
        self.columns.resize(self.columns.len().max(other.columns.len()), Cell::default());
        for (cell, more) in self.columns.iter_mut().zip(&other.columns) {
            cell.is_seen |= more.is_seen;
            cell.misfits += more.misfits;
        }
        for (name, fields) in &other.unknown {
            self.add_unknown(name, *fields);
        }
        self.others += other.others;
    }

    /// Counts a value that did not fit its column.
    pub(super) fn misfit(&mut self, column: usize) {
        if let Some(cell) = self.columns.get_mut(column) {
            cell.misfits += 1;
        }
    }

    /// Notes which fields a row has.
    pub(super) fn see(&mut self, values: &[Option<&str>]) {
        for (cell, raw) in self.columns.iter_mut().zip(values) {
            cell.is_seen |= raw.is_some();
        }
    }

    /// Counts a field that belongs to no column. One of a column is counted there when it came twice: a value that did not fit.
    pub(super) fn extra(&mut self, name: &str) {
        let column = self.named().position(|(column, _)| column == name);
        if let Some(column) = column {
            return self.misfit(column);
        }
        let end = (0..=LONGEST_NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
        self.add_unknown(name.get(..end.unwrap_or_default()).unwrap_or_default(), 1);
    }

    fn add_unknown(&mut self, name: &str, fields: u64) {
        if let Some((_, known)) = self.unknown.iter_mut().find(|(known, _)| **known == *name) {
            *known += fields;
        } else if self.unknown.len() < MOST_NAMES {
            self.unknown.push((name.into(), fields));
        } else {
            self.others += fields;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_NAMES, PageDrift};
    use crate::endpoint::{BUILT_IN, Endpoint};

    fn drift() -> PageDrift {
        PageDrift::of(&Endpoint::parse(BUILT_IN).unwrap().columns.into())
    }

    #[test]
    fn names_of_unknown_fields_are_bounded_in_number_and_length_and_the_rest_is_counted_together() {
        let mut many = drift();
        for at in 0..MOST_NAMES + 5 {
            many.extra(&format!("field_{at}"));
            many.extra("field_0");
        }
        let found: Vec<_> = many.unknown().collect();
        assert_eq!((found.len(), found[0], found[MOST_NAMES]), (MOST_NAMES + 1, (Some("field_0"), 70), (None, 5)));
        let mut long = drift();
        long.extra(&"é".repeat(80));
        assert_eq!(long.unknown().next().unwrap().0.unwrap(), "é".repeat(50));
    }

    #[test]
    fn the_counts_of_pages_add_up() {
        let mut one = drift();
        one.see(&[Some("1"), None]);
        one.misfit(0);
        one.extra("new");
        one.extra("video_id");
        let mut all = PageDrift::default();
        all.add(&one);
        all.add(&one);
        let first = Endpoint::parse(BUILT_IN).unwrap().columns[0].name.clone();
        assert_eq!(all.misfits().collect::<Vec<_>>().len(), if first == "video_id" { 1 } else { 2 });
        assert!(all.misfits().any(|(name, count)| name == "video_id" && count >= 2));
        assert_eq!(all.seen().collect::<Vec<_>>(), [first]);
        assert_eq!(all.unknown().collect::<Vec<_>>(), [(Some("new"), 2)]);
    }
}
