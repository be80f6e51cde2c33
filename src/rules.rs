//! What the walks of an export have in common: how pages are numbered, and what ends a walk.
//!
//! Pure, and decided from a page's number and its counts alone, so that the ledger's rows are enough to decide it again.

use crate::endpoint::EndRule;
use crate::page::{Counts, PageNum, StopReason};

/// Pages in a row without a single usable row that end a walk.
const BARREN_PAGES: u8 = 3;
/// Walks that must have ended on short pages of one size before the short-page rule is doubted.
const SUSPICIOUS_WALKS: u32 = 20;

/// What the walks of an export have in common.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Number of the first page.
    pub first: PageNum,
    /// Largest page number that the API accepts.
    pub last: PageNum,
    /// Rows asked for with each page.
    pub page_size: u32,
    /// Pages of each item that were asked for; none: all.
    pub max_pages: Option<u32>,
    /// What ends a walk.
    pub end: EndRule,
}

/// The end of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Why it ended.
    pub stop: StopReason,
    /// What there is to say about it.
    pub said: Option<String>,
    /// Rows of the page that ended it.
    pub received: usize,
}

impl Rules {
    /// Whether a page holds as much as one that others follow.
    pub fn is_full(&self, counts: Counts) -> bool {
        match self.end {
            EndRule::ShortPage => counts.received >= self.asked(),
            EndRule::EmptyPage => counts.received > 0,
        }
    }

    /// The last page that may be asked for.
    pub fn limit(&self) -> PageNum {
        let wanted = self.max_pages.map(|most| self.first.0.saturating_add(most.saturating_sub(1)));
        PageNum(wanted.map_or(self.last.0, |wanted| wanted.min(self.last.0)))
    }

    /// The last page of a list of so many rows.
    pub fn last_of(&self, rows: u64) -> Option<PageNum> {
        let pages = u32::try_from(rows.div_ceil(self.page_size.max(1).into())).unwrap_or(u32::MAX);
        let last = PageNum(self.first.0.saturating_add(pages.checked_sub(1)?));
        Some(last.min(self.limit()))
    }

    fn asked(&self) -> usize {
        usize::try_from(self.page_size).unwrap_or(usize::MAX)
    }

    /// Whether a walk ends at this page, all before it having been read; `barren` pages in a row, this one included, had no
    /// usable row.
    pub fn end_at(&self, page: PageNum, counts: Counts, barren: u8) -> Option<End> {
        let end = |stop, said| Some(End { stop, said, received: counts.received });
        let (received, asked) = (counts.received, self.asked());
        if received == 0 {
            return end(StopReason::EmptyPage, None);
        }
        if received < asked && self.end == EndRule::ShortPage {
            let said = format!("no usable row on the last page, page {page}");
            return if counts.is_barren() {
                end(StopReason::Rejected, Some(said))
            } else {
                end(StopReason::ShortPage, None)
            };
        }
        if self.max_pages.is_some_and(|most| page.0.saturating_sub(self.first.0) + 1 >= most) {
            return end(StopReason::MaxPages, None);
        }
        if page >= self.last {
            let said = format!("the API numbers pages up to {}: rows beyond it cannot be reached", self.last);
            return end(StopReason::PageCap, Some(said));
        }
        if counts.kept == 0 && counts.usable() > 0 {
            let said = format!("every row of page {page} had come before: the API repeats itself");
            return end(StopReason::RepeatedPage, Some(said));
        }
        if barren >= BARREN_PAGES {
            let said = format!("no usable row on {BARREN_PAGES} pages in a row, the last one page {page}");
            return end(StopReason::Rejected, Some(said));
        }
        None
    }
}

/// Watches whether "a short page is the end" can be true of this API.
///
/// If many walks end on pages of one same size below the size asked for, and no page was ever full, then the API probably
/// gives fewer rows a page than asked for, and every walk was cut short.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShortPages {
    full: bool,
    size: Option<usize>,
    walks: u32,
    sizes_differ: bool,
}

impl ShortPages {
    /// What earlier runs saw: whether any page was full, which settles the question, and how many walks a short page of
    /// which size ended.
    pub fn new(full: bool, ends: &[(usize, u32)]) -> Self {
        let walks = ends.iter().map(|(_, walks)| walks).sum();
        Self { full, size: ends.first().map(|(size, _)| *size), walks, sizes_differ: ends.len() > 1 }
    }

    /// The size of page on which every walk ended, if that is in doubt.
    pub fn doubted(&self, rules: &Rules) -> Option<usize> {
        let doubtful = !self.full && !self.sizes_differ && self.walks >= SUSPICIOUS_WALKS;
        self.size.filter(|_| doubtful && rules.end == EndRule::ShortPage)
    }

    /// Takes note of a page's rows.
    pub fn page(&mut self, received: usize, rules: &Rules) {
        self.full |= received >= rules.asked();
    }

    /// Takes note of the end of a walk. Some: the rule does not hold; the size on which the walks ended.
    pub fn ended(&mut self, end: &End, rules: &Rules) -> Option<usize> {
        if end.stop == StopReason::ShortPage {
            self.sizes_differ |= self.size.is_some_and(|size| size != end.received);
            self.size = Some(end.received);
            self.walks = self.walks.saturating_add(1);
        }
        self.doubted(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::{End, Rules, ShortPages};
    use crate::endpoint::EndRule;
    use crate::page::{Counts, PageNum, StopReason};

    const RULES: Rules =
        Rules { first: PageNum(1), last: PageNum(100_000), page_size: 3, max_pages: None, end: EndRule::ShortPage };

    fn stop(rules: &Rules, page: u32, received: usize) -> Option<StopReason> {
        let counts = Counts { received, kept: received, rejected: 0 };
        rules.end_at(PageNum(page), counts, 0).map(|end| end.stop)
    }

    #[test]
    fn a21_the_last_page_that_the_api_numbers_is_asked_for_and_none_behind_it() {
        assert_eq!(stop(&RULES, 99_999, 3), None);
        assert_eq!(stop(&RULES, 100_000, 3), Some(StopReason::PageCap));
        assert_eq!(stop(&RULES, 100_000, 2), Some(StopReason::ShortPage));
        assert_eq!(stop(&RULES, 100_000, 0), Some(StopReason::EmptyPage));
        let wanted = Rules { max_pages: Some(100_000), ..RULES };
        assert_eq!(stop(&wanted, 100_000, 3), Some(StopReason::MaxPages));
        assert_eq!((RULES.limit(), wanted.limit()), (PageNum(100_000), PageNum(100_000)));
        assert_eq!(Rules { max_pages: Some(7), first: PageNum(0), ..RULES }.limit(), PageNum(6));
    }

    #[test]
    fn under_the_strict_rule_only_an_empty_page_ends_a_walk() {
        let strict = Rules { end: EndRule::EmptyPage, ..RULES };
        assert_eq!((stop(&strict, 4, 1), stop(&strict, 4, 0)), (None, Some(StopReason::EmptyPage)));
        assert_eq!((stop(&RULES, 4, 3), stop(&RULES, 4, 2)), (None, Some(StopReason::ShortPage)));
    }

    #[test]
    fn under_the_strict_rule_a_short_page_without_a_usable_row_is_no_end_and_three_in_a_row_are() {
        let strict = Rules { end: EndRule::EmptyPage, ..RULES };
        let barren = Counts { received: 2, kept: 0, rejected: 2 };
        let stop = |rules: &Rules, barren_pages| rules.end_at(PageNum(4), barren, barren_pages).map(|end| end.stop);
        assert_eq!(stop(&RULES, 1), Some(StopReason::Rejected));
        assert_eq!([1, 2, 3].map(|pages| stop(&strict, pages)), [None, None, Some(StopReason::Rejected)]);
    }

    #[test]
    fn a_page_longer_than_asked_is_no_end() {
        assert_eq!(stop(&RULES, 1, 50), None);
    }

    #[test]
    fn what_earlier_runs_saw_of_short_pages_counts_too() {
        assert_eq!(ShortPages::new(false, &[(2, 25)]).doubted(&RULES), Some(2));
        assert_eq!(ShortPages::new(false, &[(2, 25), (1, 1)]).doubted(&RULES), None);
        assert_eq!(ShortPages::new(true, &[(2, 25)]).doubted(&RULES), None);
        let strict = Rules { end: EndRule::EmptyPage, ..RULES };
        assert_eq!(ShortPages::new(false, &[(2, 25)]).doubted(&strict), None);
    }

    #[test]
    fn twenty_walks_that_end_on_one_size_with_no_full_page_put_the_rule_in_doubt() {
        let end = |received| End { stop: StopReason::ShortPage, said: None, received };
        let mut short = ShortPages::default();
        for _ in 1..20 {
            assert_eq!(short.ended(&end(2), &RULES), None);
        }
        let mut calm = short;
        calm.page(3, &RULES);
        assert_eq!(short.ended(&end(2), &RULES), Some(2));
        assert!((0..50).all(|_| calm.ended(&end(2), &RULES).is_none()));
        assert_eq!(short.ended(&end(1), &RULES), None);
    }
}
