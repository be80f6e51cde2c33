//! The words every other file uses: item, page, attempt, segment, stop reason.
//!
//! Plain values with no behaviour beyond reading and showing themselves. Generic code says *item*; for the built-in
//! endpoint an item is a product.

use std::fmt;
use std::sync::Arc;

use crate::model::sanitize::Sanitized;

/// The text the API knows an item by, a product id. Checked where a list is read (see `plan`). It shows itself sanitised.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemId(Arc<str>);

impl ItemId {
    /// Wraps an id that a list or the ledger gave.
    pub fn new(id: &str) -> Self {
        Self(Arc::from(id))
    }

    /// The id as the API writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Sanitized(&self.0).fmt(f)
    }
}

/// Position of an item in the ledger: the order in which lists brought it, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemIx(pub i64);

/// Number of a page in its walk, as the API counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageNum(pub u32);

impl PageNum {
    /// Behind every page: where rows are that no page of their walk holds any more.
    pub const NONE: Self = Self(u32::MAX);

    /// The page after this one.
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

/// What a page held, in numbers, and what it repeats of other pages of its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Rows in the response.
    pub received: usize,
    /// Rows that no page before it in the list holds. Decided by page numbers, not by the order in which pages came, so
    /// that the same pages always give the same counts.
    pub fresh: usize,
    /// Rows that could not be typed.
    pub rejected: usize,
    /// Rows that a page before it holds, too.
    pub repeated: usize,
    /// The first page that holds any of those, and how many of them it holds.
    pub repeats: Option<PageNum>,
    /// See `repeats`.
    pub shared: usize,
    /// Whether the rows came as a list. False for a success whose data was null, `{}`, `""` or false: no rows, perhaps.
    pub is_list: bool,
    /// The request that it answered.
    pub asked: AttemptId,
    /// The newest request of any page when it came: one with a larger number was sent later.
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

    /// Notes a row of it that a page before it holds, too.
    pub fn repeat(&mut self, home: PageNum) {
        self.repeated += 1;
        if self.repeats.is_none_or(|first| home < first) {
            (self.repeats, self.shared) = (Some(home), 0);
        }
        self.shared += usize::from(self.repeats == Some(home));
    }

    /// Whether it had rows and none of them was usable.
    pub fn is_barren(&self) -> bool {
        self.received > 0 && self.usable() == 0
    }

    /// Whether it had usable rows and none of them is on a page before it.
    pub fn is_new(&self) -> bool {
        self.fresh > 0 && self.fresh == self.usable()
    }
}

/// One request on its way: numbered from 1 through all runs of an export, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(pub i64);

/// A run of pages whose files are sealed and published together; also the number of its journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub i64);

impl SegmentId {
    /// Behind every segment: what is asked for before this one is asked for of all.
    pub const BEHIND_ALL: Self = Self(i64::MAX);
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One page to be asked for, under the attempt whose intent the ledger holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The attempt that this request is.
    pub attempt: AttemptId,
    /// The item, by its place in the ledger.
    pub item: ItemIx,
    /// The item, by the API's id.
    pub id: ItemId,
    /// The page of its list.
    pub page: PageNum,
}

/// Why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The last page had fewer rows than were asked for.
    ShortPage,
    /// The last page had no rows.
    EmptyPage,
    /// `max_pages` pages were read, as asked.
    MaxPages,
    /// The page behind the last one was refused, and so was what was asked for behind that.
    EndRefused,
    /// A page repeated rows of pages before it, and there was nothing new where unseen rows would be.
    EndRepeated,
    /// The API's last page number was reached with a full page: there may be rows beyond it.
    PageCap,
    /// Every row of a page had been seen before in this walk, and nobody could look behind it.
    RepeatedPage,
    /// The list moved while pages of it were asked for ahead: rows may have been skipped.
    Shifted,
    /// A page answered for another item.
    Rejected,
    /// The API refused the item, or kept failing on it.
    Failed,
}

impl StopReason {
    /// Every reason, in the order of their meaning.
    pub const ALL: [Self; 10] = [
        Self::ShortPage,
        Self::EmptyPage,
        Self::MaxPages,
        Self::EndRefused,
        Self::EndRepeated,
        Self::PageCap,
        Self::RepeatedPage,
        Self::Shifted,
        Self::Rejected,
        Self::Failed,
    ];

    /// The word for it in the ledger, in reports and in logs.
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
            Self::Failed => "failed",
        }
    }

    /// The reason that [`as_str`](Self::as_str) wrote.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// Whether the walk read all that was asked of it. Every other end is a cut, and says so.
    pub fn is_complete(self) -> bool {
        matches!(self, Self::ShortPage | Self::EmptyPage | Self::MaxPages | Self::EndRefused | Self::EndRepeated)
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an attempt cost, as far as anyone can know. The API has no idempotency key and no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Answered with success: one credit.
    Billed,
    /// Known to be free: never sent, or refused with an error code.
    Free,
    /// It may have been billed: no answer, or one that does not say.
    InDoubt,
}

impl Charge {
    /// The word for it in the ledger.
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
            ("failed", StopReason::Failed),
        ];
        for (word, reason) in words {
            assert_eq!((reason.as_str(), StopReason::from_word(word)), (word, Some(reason)));
            assert_eq!(reason.to_string(), word, "it stands in the ledger's queries");
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
