//! Counts where rows differ from the endpoint's description. No data is lost, but users must learn of it.

use std::sync::Arc;

use crate::endpoint::Column;

/// Most names of unknown fields with a count of their own. The others share one count.
pub const MOST_NAMES: usize = 64;
/// Longer names of unknown fields are cut, bytes.
const LONGEST_NAME: usize = 100;

/// Counts of one page, or of several pages of one [`Decoder`](super::Decoder).
#[derive(Clone, Debug, Default)]
pub struct PageDrift {
    /// None before anything was counted.
    described_columns: Option<Arc<[Column]>>,
    pub(super) columns: Vec<ColumnDrift>,
    /// Names and counts of fields that are not described.
    unknown: Vec<(Box<str>, u64)>,
    /// Fields with names beyond [`MOST_NAMES`].
    others: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ColumnDrift {
    /// Whether any row had the field, null included.
    pub(super) is_seen: bool,
    /// Values that do not fit the column.
    pub(super) misfits: u64,
}

impl PageDrift {
    pub(super) fn new(columns: &Arc<[Column]>) -> Self {
        Self {
            described_columns: Some(Arc::clone(columns)),
            columns: vec![ColumnDrift::default(); columns.len()],
            ..Self::default()
        }
    }

    /// The columns whose field came in any row.
    pub(crate) fn seen(&self) -> impl Iterator<Item = &str> {
        self.named().filter(|(_, cell)| cell.is_seen).map(|(name, _)| name)
    }

    /// The columns with values that do not fit, and their number.
    pub(crate) fn misfits(&self) -> impl Iterator<Item = (&str, u64)> {
        self.named().filter(|(_, cell)| cell.misfits > 0).map(|(name, cell)| (name, cell.misfits))
    }

    fn named(&self) -> impl Iterator<Item = (&str, &ColumnDrift)> {
        let columns = self.described_columns.iter().flat_map(|columns| columns.iter());
        columns.map(|column| column.name.as_str()).zip(&self.columns)
    }

    /// Names and counts of fields that are not described; the fields beyond [`MOST_NAMES`] have no name.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = (Option<&str>, u64)> {
        let named = self.unknown.iter().map(|(name, fields)| (Some(&**name), *fields));
        named.chain(Some((None, self.others)).filter(|(_, fields)| *fields > 0))
    }

    pub(crate) fn add(&mut self, other: &Self) {
        if self.described_columns.is_none() {
            self.described_columns.clone_from(&other.described_columns);
        }
        self.columns.resize(self.columns.len().max(other.columns.len()), ColumnDrift::default());
        for (cell, more) in self.columns.iter_mut().zip(&other.columns) {
            cell.is_seen |= more.is_seen;
            cell.misfits += more.misfits;
        }
        for (name, fields) in &other.unknown {
            self.add_unknown(name, *fields);
        }
        self.others += other.others;
    }

    pub(super) fn misfit(&mut self, column: usize) {
        if let Some(cell) = self.columns.get_mut(column) {
            cell.misfits += 1;
        }
    }

    pub(super) fn see(&mut self, values: &[Option<&str>]) {
        for (cell, raw) in self.columns.iter_mut().zip(values) {
            cell.is_seen |= raw.is_some();
        }
    }

    /// Counts a field that belongs to no column. The earlier one of two fields for a column is a misfit of that column.
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
        PageDrift::new(&Endpoint::parse(BUILT_IN).unwrap().columns.into())
    }

    #[test]
    fn names_of_unknown_fields_are_bounded_in_number_and_length_and_the_others_share_a_count() {
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
