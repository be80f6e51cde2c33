//! Items, pages, attempts, segments, and why walks end.
//!
//! Generic code says *item*. For the built-in endpoint an item is a product.

use std::fmt;
use std::sync::Arc;

use crate::model::sanitize::Sanitized;

/// The API's id of an item, for example of a product. `input::item_list` checks it; it is displayed sanitised.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemId(Arc<str>);

impl ItemId {
    /// From an id that a list or the ledger has.
    pub fn new(id: &str) -> Self {
        Self(Arc::from(id))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Sanitized(&self.0).fmt(f)
    }
}

/// Number of an item in the ledger, from 1, in the order of the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemIx(pub i64);

/// Number of a page in its list, as the API counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageNum(pub u32);

impl PageNum {
    /// After every page: for rows that are no longer on any page of their walk.
    pub const NONE: Self = Self(u32::MAX);

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for PageNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Row counts of a page, and what it repeats of other pages of its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub received: usize,
    /// Rows that are on no earlier page of the list. Page numbers decide, not the order of arrival, so that the same pages
    /// always give the same counts.
    pub fresh: usize,
    pub rejected: usize,
    /// Rows that are also on an earlier page.
    pub repeated: usize,
    /// The first page with any of those.
    pub repeats: Option<PageNum>,
    /// The number of those on that page.
    pub shared: usize,
    /// Whether the rows came as a list. False for a success whose data was null, `{}`, `""` or false, which may mean no rows.
    pub is_list: bool,
    pub asked: AttemptId,
    /// The newest request of any page when it arrived: one with a larger number was sent later.
    pub came: AttemptId,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            received: 0,
            fresh: 0,
            rejected: 0,
            repeated: 0,
            repeats: None,
            shared: 0,
            is_list: true,
            asked: AttemptId(0),
            came: AttemptId(0),
        }
    }
}

impl Counts {
    /// Rows that have a key.
    pub fn usable(&self) -> usize {
        self.received.saturating_sub(self.rejected)
    }

    /// Counts a row that is also on an earlier page, `home`.
    pub fn repeat(&mut self, home: PageNum) {
        self.repeated += 1;
        if self.repeats.is_none_or(|first| home < first) {
            (self.repeats, self.shared) = (Some(home), 0);
        }
        self.shared += usize::from(self.repeats == Some(home));
    }

    /// Whether it has rows, but none with a key.
    pub fn has_no_valid_rows(&self) -> bool {
        self.received > 0 && self.usable() == 0
    }

    /// Whether it has rows with a key, and none of them is on an earlier page.
    pub fn is_new(&self) -> bool {
        self.fresh > 0 && self.fresh == self.usable()
    }
}

/// Number of a request, from 1 through all runs of an export. Never reused. Below 0: of a page that was taken over from an
/// earlier export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(pub i64);

impl AttemptId {
    /// Whether this export made no request for it.
    pub(crate) fn is_taken_over(self) -> bool {
        self.0 < 0
    }
}

/// Number of a group of pages whose files are published together, and of its journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub i64);

impl SegmentId {
    /// After every segment: what is queried up to this one is queried for all.
    pub const BEHIND_ALL: Self = Self(i64::MAX);
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A request for one page. The ledger has the intent of its attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub attempt: AttemptId,
    pub item: ItemIx,
    pub id: ItemId,
    pub page: PageNum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The last page had fewer rows than requested.
    ShortPage,
    EmptyPage,
    /// `max_pages` pages were read.
    MaxPages,
    /// The page after the last one was refused, and so was the next request after that.
    EndRefused,
    /// A page repeated rows of earlier pages, and the pages where new rows would be had none.
    EndRepeated,
    /// The API's last page number was a full page: there may be rows after it.
    PageCap,
    /// A page had only rows of earlier pages, and the pages after it could not be checked.
    RepeatedPage,
    /// The list moved while its pages were requested ahead: rows may be missing.
    Shifted,
    /// No row of the last page, or of several pages, was usable.
    Rejected,
    /// A page had only rows of another item: its own is missing.
    ForeignPage,
    /// The API refused the item, or all attempts at a page failed.
    Failed,
}

impl StopReason {
    pub const ALL: [Self; 11] = [
        Self::ShortPage,
        Self::EmptyPage,
        Self::MaxPages,
        Self::EndRefused,
        Self::EndRepeated,
        Self::PageCap,
        Self::RepeatedPage,
        Self::Shifted,
        Self::Rejected,
        Self::ForeignPage,
        Self::Failed,
    ];

    /// Its name in the ledger, in reports and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ShortPage => "short_page",
            Self::EmptyPage => "empty_page",
            Self::MaxPages => "max_pages",
            Self::EndRefused => "end_refused",
            Self::EndRepeated => "end_repeated",
            Self::PageCap => "page_cap",
            Self::RepeatedPage => "repeated_page",
            Self::Shifted => "shifted",
            Self::Rejected => "rejected",
            Self::ForeignPage => "foreign_page",
            Self::Failed => "failed",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// Whether it ended because its item failed. The others that are not complete were cut.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Rejected | Self::ForeignPage)
    }

    /// Whether the walk read the whole list, or as much of it as requested.
    pub fn is_complete(self) -> bool {
        matches!(self, Self::ShortPage | Self::EmptyPage | Self::MaxPages | Self::EndRefused | Self::EndRepeated)
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an attempt cost, as far as is known: the API has no idempotency key and no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// A success: one credit.
    Billed,
    /// Known to be free: never sent, or refused.
    Free,
    /// Possibly billed: no response, or one that does not tell.
    InDoubt,
}

impl Charge {
    /// Its name in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Billed => "billed",
            Self::Free => "free",
            Self::InDoubt => "in_doubt",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Charge, StopReason};

    #[test]
    fn every_stop_reason_is_read_back_from_its_word() {
        let words = [
            ("short_page", StopReason::ShortPage),
            ("empty_page", StopReason::EmptyPage),
            ("max_pages", StopReason::MaxPages),
            ("end_refused", StopReason::EndRefused),
            ("end_repeated", StopReason::EndRepeated),
            ("page_cap", StopReason::PageCap),
            ("repeated_page", StopReason::RepeatedPage),
            ("shifted", StopReason::Shifted),
            ("rejected", StopReason::Rejected),
            ("foreign_page", StopReason::ForeignPage),
            ("failed", StopReason::Failed),
        ];
        for (word, reason) in words {
            assert_eq!((reason.as_str(), StopReason::from_word(word)), (word, Some(reason)));
            assert_eq!(reason.to_string(), word, "the ledger's queries have it");
        }
        assert_eq!(words.map(|(_, reason)| reason), StopReason::ALL);
        assert_eq!(StopReason::from_word("done"), None);
    }

    #[test]
    fn what_an_attempt_cost_is_recorded_in_words_that_the_ledger_s_tables_admit() {
        let words = [("billed", Charge::Billed), ("free", Charge::Free), ("in_doubt", Charge::InDoubt)];
        assert!(words.iter().all(|(word, charge)| charge.as_str() == *word));
    }
}
