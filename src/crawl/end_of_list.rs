//! How pages are numbered, and which page ends a list: the same rules for every list of an export.
//!
//! Decided from a page's number and its counts alone, so that the ledger's rows are enough to decide it again. Start with
//! [`PagingRules::end_at`]. Under `end = "auto"` an end may be a guess: it names the page that would show it (`check`), and
//! `end_evidence` decides whether that page is worth a credit. What such pages have shown about the API is a part of the rules
//! ([`ObservedEnd`]).

use crate::endpoint::EndRule;
use crate::model::page::{Counts, PageNum, StopReason};

/// Pages in a row without a usable row that end a walk.
const MAX_PAGES_WITHOUT_VALID_ROWS: u8 = 3;

#[derive(Clone, Copy, Debug)]
pub struct PagingRules {
    pub first: PageNum,
    /// Largest page number that the API accepts.
    pub last: PageNum,
    pub page_size: u32,
    /// Maximum number of pages of each item. None: all.
    pub max_pages: Option<u32>,
    pub end: EndRule,
    /// What pages behind the ends of lists have shown about the API, under [`EndRule::Auto`].
    pub observed: Option<ObservedEnd>,
}

/// What evidence has shown: a page with fewer rows than requested does not always end a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservedEnd {
    /// The API gives at most this many rows a page, fewer than were requested.
    PageSize(u32),
    /// Pages in the middle of a list may be short: only an empty page is an end.
    EmptyPage,
    /// The same, and reading on behind the short pages costs more than the budget allows.
    Unpaid,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub stop: StopReason,
    /// Details for the report.
    pub message: Option<String>,
    /// Rows of the page that ended it.
    pub received: usize,
    /// A page that would show whether the list continues all the same. None: there is nothing to request.
    pub check: Option<PageNum>,
    /// Whether the page that ended it repeats the first page.
    pub is_wrap: bool,
    /// Whether the check must be made whatever it costs: that page was requested before, and shows nothing yet.
    pub must_check: bool,
}

impl End {
    pub fn new(stop: StopReason, message: Option<String>, received: usize) -> Self {
        Self { stop, message, received, check: None, is_wrap: false, must_check: false }
    }

    /// Whether new rows behind it would show that it is none.
    pub fn may_be_disproved(&self) -> bool {
        match self.stop {
            StopReason::ShortPage
            | StopReason::EmptyPage
            | StopReason::RepeatedPage
            | StopReason::EndRepeated
            | StopReason::EndRefused => true,
            StopReason::Rejected
            | StopReason::ForeignPage
            | StopReason::MaxPages
            | StopReason::PageCap
            | StopReason::Failed
            | StopReason::Shifted => false,
        }
    }
}

impl ObservedEnd {
    pub fn word(self) -> String {
        match self {
            Self::PageSize(rows) => format!("size {rows}"),
            Self::EmptyPage => "empty-page".to_owned(),
            Self::Unpaid => "unpaid".to_owned(),
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        match word.strip_prefix("size ") {
            Some(rows) => rows.parse().ok().map(Self::PageSize),
            None if word == "unpaid" => Some(Self::Unpaid),
            None => (word == "empty-page").then_some(Self::EmptyPage),
        }
    }
}

impl PagingRules {
    /// Rows of a page that others may follow. None: any number above zero.
    pub fn full_size(&self) -> Option<usize> {
        let rows = match (self.end, self.observed) {
            (EndRule::EmptyPage, _) | (EndRule::Auto, Some(ObservedEnd::EmptyPage | ObservedEnd::Unpaid)) => {
                return None;
            }
            (EndRule::Auto, Some(ObservedEnd::PageSize(rows))) => rows,
            (EndRule::Auto, None) | (EndRule::ShortPage, _) => self.page_size,
        };
        Some(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    /// Whether a page has as many rows as one that others follow.
    pub fn is_full(&self, counts: Counts) -> bool {
        self.full_size().map_or(counts.received > 0, |rows| counts.received >= rows)
    }

    /// Whether a page has rows, and fewer than one that others follow.
    pub fn is_short(&self, counts: Counts) -> bool {
        counts.received > 0 && !self.is_full(counts)
    }

    pub fn limit(&self) -> PageNum {
        let limit = self.max_pages.map(|most| self.first.0.saturating_add(most.saturating_sub(1)));
        PageNum(limit.map_or(self.last.0, |limit| limit.min(self.last.0)))
    }

    /// The last page of a list with this many rows.
    pub fn last_of(&self, rows: u64) -> Option<PageNum> {
        let pages = u32::try_from(rows.div_ceil(self.page_size.max(1).into())).unwrap_or(u32::MAX);
        let last = PageNum(self.first.0.saturating_add(pages.checked_sub(1)?));
        Some(last.min(self.limit()))
    }

    /// Why a list ends with this page, if it does. All pages before it were applied, and the last `without_valid_rows` pages,
    /// including this one, had no usable row.
    pub fn end_at(&self, page: PageNum, counts: Counts, without_valid_rows: u8) -> Option<End> {
        let end = |stop, message| End::new(stop, message, counts.received);
        let behind = |check: PageNum| Some(check.min(self.limit())).filter(|check| *check > page);
        if counts.received == 0 {
            return Some(end(StopReason::EmptyPage, None));
        }
        if self.is_short(counts) {
            if counts.has_no_valid_rows() {
                let message = format!("no usable row on the last page, page {page}");
                return Some(end(StopReason::Rejected, Some(message)));
            }
            let check = if self.end == EndRule::Auto { behind(page.next()) } else { None };
            return Some(End { check, ..end(StopReason::ShortPage, None) });
        }
        if self.max_pages.is_some_and(|most| page.0.saturating_sub(self.first.0) + 1 >= most) {
            return Some(end(StopReason::MaxPages, None));
        }
        if page >= self.last {
            let message = format!("the API has no page after {}: rows behind it cannot be reached", self.last);
            return Some(end(StopReason::PageCap, Some(message)));
        }
        if counts.fresh == 0 && counts.usable() > 0 {
            // Rows that were inserted ahead push others back: the first unseen row is as far behind this page as this page is
            // behind the one that had its first row.
            let original = counts.repeats.unwrap_or(page);
            let shift = page.0.saturating_sub(original.0).max(1);
            let message =
                format!("every row of page {page} is on page {original} or one of the pages behind it already");
            let check = behind(PageNum(page.0.saturating_add(shift)));
            return Some(End {
                check,
                is_wrap: original == self.first,
                ..end(StopReason::RepeatedPage, Some(message))
            });
        }
        if without_valid_rows >= MAX_PAGES_WITHOUT_VALID_ROWS {
            let message = format!("no usable row on {MAX_PAGES_WITHOUT_VALID_ROWS} pages in a row, up to page {page}");
            return Some(end(StopReason::Rejected, Some(message)));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{ObservedEnd, PagingRules};
    use crate::endpoint::EndRule;
    use crate::model::page::{Counts, PageNum, StopReason};

    const RULES: PagingRules = PagingRules {
        first: PageNum(1),
        last: PageNum(100_000),
        page_size: 3,
        max_pages: None,
        end: EndRule::ShortPage,
        observed: None,
    };
    const AUTO: PagingRules = PagingRules { end: EndRule::Auto, ..RULES };

    fn rows(received: usize) -> Counts {
        Counts { received, fresh: received, ..Counts::default() }
    }

    fn stop(rules: &PagingRules, page: u32, received: usize) -> Option<StopReason> {
        rules.end_at(PageNum(page), rows(received), 0).map(|end| end.stop)
    }

    #[test]
    fn a21_the_last_page_that_the_api_numbers_is_asked_for_and_none_behind_it() {
        assert_eq!(stop(&RULES, 99_999, 3), None);
        assert_eq!(stop(&RULES, 100_000, 3), Some(StopReason::PageCap));
        assert_eq!(stop(&RULES, 100_000, 2), Some(StopReason::ShortPage));
        assert_eq!(stop(&RULES, 100_000, 0), Some(StopReason::EmptyPage));
        let wanted = PagingRules { max_pages: Some(100_000), ..RULES };
        assert_eq!(stop(&wanted, 100_000, 3), Some(StopReason::MaxPages));
        assert_eq!((RULES.limit(), wanted.limit()), (PageNum(100_000), PageNum(100_000)));
        assert_eq!(PagingRules { max_pages: Some(7), first: PageNum(0), ..RULES }.limit(), PageNum(6));
    }

    #[test]
    fn what_counts_as_full_follows_from_the_rule_and_from_what_evidence_has_shown() {
        let with = |observed| PagingRules { observed: Some(observed), ..AUTO };
        let table = [
            (RULES, [Some(StopReason::EmptyPage), Some(StopReason::ShortPage), Some(StopReason::ShortPage), None]),
            (AUTO, [Some(StopReason::EmptyPage), Some(StopReason::ShortPage), Some(StopReason::ShortPage), None]),
            (with(ObservedEnd::PageSize(2)), [Some(StopReason::EmptyPage), Some(StopReason::ShortPage), None, None]),
            (with(ObservedEnd::EmptyPage), [Some(StopReason::EmptyPage), None, None, None]),
            (PagingRules { end: EndRule::EmptyPage, ..RULES }, [Some(StopReason::EmptyPage), None, None, None]),
        ];
        for (rules, ends) in table {
            for (received, meant) in ends.into_iter().enumerate() {
                assert_eq!(stop(&rules, 4, received), meant, "{received} rows under {rules:?}");
            }
        }
    }

    #[test]
    fn an_end_that_is_a_guess_names_the_page_that_would_tell_and_one_that_was_asked_for_does_not() {
        let check = |rules: &PagingRules, counts| rules.end_at(PageNum(4), counts, 0).and_then(|end| end.check);
        assert_eq!(check(&AUTO, rows(2)), Some(PageNum(5)));
        assert_eq!(check(&RULES, rows(2)), None);
        assert_eq!(check(&AUTO, rows(0)), None, "an empty list of rows is an end");
        let capped = PagingRules { max_pages: Some(4), ..AUTO };
        assert_eq!(check(&capped, rows(2)), None, "nothing behind the pages that were asked for");
    }

    #[test]
    fn behind_a_repeated_page_unseen_rows_are_as_far_on_as_the_repeated_ones_have_moved() {
        let check = |rules: &PagingRules, page, home| {
            let counts = Counts { fresh: 0, repeats: Some(PageNum(home)), ..rows(3) };
            rules.end_at(PageNum(page), counts, 0).and_then(|end| end.check)
        };
        assert_eq!(check(&RULES, 6, 5), Some(PageNum(7)), "a page's worth of rows was put in");
        assert_eq!(check(&RULES, 6, 4), Some(PageNum(8)), "two pages' worth");
        assert_eq!(check(&RULES, 9, 1), Some(PageNum(17)), "it wraps around");
        assert_eq!(check(&PagingRules { max_pages: Some(10), ..RULES }, 9, 1), Some(PageNum(10)));
    }

    #[test]
    fn under_the_strict_rule_a_short_page_without_a_usable_row_is_no_end_and_three_in_a_row_are() {
        let strict = PagingRules { end: EndRule::EmptyPage, ..RULES };
        let without_valid_rows = Counts { received: 2, rejected: 2, ..Counts::default() };
        let stop = |rules: &PagingRules, barren_pages| {
            rules.end_at(PageNum(4), without_valid_rows, barren_pages).map(|end| end.stop)
        };
        assert_eq!(stop(&RULES, 1), Some(StopReason::Rejected));
        assert_eq!([1, 2, 3].map(|pages| stop(&strict, pages)), [None, None, Some(StopReason::Rejected)]);
    }

    #[test]
    fn a_page_longer_than_asked_is_no_end() {
        assert_eq!(stop(&RULES, 1, 50), None);
    }

    #[test]
    fn an_observed_end_is_read_back_from_its_word() {
        let words = [
            ("size 8", ObservedEnd::PageSize(8)),
            ("empty-page", ObservedEnd::EmptyPage),
            ("unpaid", ObservedEnd::Unpaid),
        ];
        for (word, observed) in words {
            assert_eq!((observed.word().as_str(), ObservedEnd::from_word(word)), (word, Some(observed)));
        }
        assert_eq!(ObservedEnd::from_word("short-page"), None);
    }
}
