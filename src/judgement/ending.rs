//! Whether the page behind the end of a list is worth a credit: evidence about how lists end, within a budget.
//!
//! That a short page ends a list is a guess about the API. Pages behind short ones, asked for right after them, tell: the
//! first three lists, then about every hundredth of those with as many rows on the last page and as deep. A row behind a
//! short page of a second list (or of the only one) disproves the rule for the export. A page that repeats others is always
//! checked, unless three lists wrapped around to their first page; a refusal, and a success without a list in the middle of
//! one, are checked as short pages are.

use std::collections::{BTreeSet, HashMap};

use crate::page::{ItemIx, PageNum, StopReason};
use crate::rules::{End, Learned, Rules};

/// Lists of a kind that are checked before samples are taken.
const FIRST: u32 = 3;
/// Of later ones, one in so many is checked.
const ONE_IN: u32 = 100;
/// Credits that evidence may always cost.
const LEAST: f64 = 3.0;
/// Credits that it may cost beyond that, for each page that was read.
const SHARE: f64 = 0.003;

/// What to do about the end of a walk that a page would confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Ask for that page.
    Ask,
    /// Take the end as it is.
    Trust,
}

/// What has been asked about ends, and what it has shown.
#[derive(Debug)]
pub struct Evidence {
    /// Pages of the export.
    pages: u32,
    /// Credits spent on evidence, those in flight included.
    asked: u32,
    /// Those of earlier runs.
    asked_before: u32,
    /// Lists that went on behind a short page in earlier runs.
    earlier: u64,
    /// The same of this run.
    contradicted: BTreeSet<ItemIx>,
    /// Short ends by rows of their page and depth.
    short: HashMap<(usize, u32), u32>,
    shorts: u32,
    refused: u32,
    without_list: u32,
    /// Lists that wrapped around to their first page and were found to have ended there.
    wrapped: u32,
}

impl Evidence {
    /// What earlier runs of the export know.
    pub fn new(pages: u64, asked: u64, contradicted: u64) -> Self {
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            pages: small(pages),
            asked: small(asked),
            asked_before: small(asked),
            earlier: contradicted,
            contradicted: BTreeSet::new(),
            short: HashMap::new(),
            shorts: small(asked),
            refused: 0,
            without_list: 0,
            wrapped: 0,
        }
    }

    /// A page came.
    pub fn page(&mut self) {
        self.pages = self.pages.saturating_add(1);
    }

    /// Whether the budget has a credit.
    pub fn affords_one(&self) -> bool {
        f64::from(self.asked) + 1.0 <= (SHARE * f64::from(self.pages)).max(LEAST)
    }

    /// A page is asked for as evidence.
    pub fn spend(&mut self) {
        self.asked = self.asked.saturating_add(1);
    }

    /// A page that was asked for as evidence turned out to be a page of its list, or was free.
    pub fn give_back(&mut self) {
        self.asked = self.asked.saturating_sub(1);
    }

    /// Credits spent on evidence in this run.
    pub fn spent(&self) -> u64 {
        self.asked.saturating_sub(self.asked_before).into()
    }

    /// What to do about an end whose list has so many pages. `goes_on`: the same list went on behind a short page before.
    pub fn wish(&mut self, end: &End, depth: u32, goes_on: bool) -> Wish {
        let affords = self.affords_one();
        let is_wished = match end.stop {
            StopReason::RepeatedPage => !(end.is_wrap && self.wrapped >= FIRST),
            StopReason::EndRefused => sampled(&mut self.refused),
            StopReason::EmptyPage => affords && sampled(&mut self.without_list),
            _ => {
                let stratum = self.short.entry((end.received, depth.checked_ilog2().unwrap_or_default())).or_default();
                *stratum = stratum.saturating_add(1);
                let is_sample = self.shorts < FIRST || *stratum % ONE_IN == 1;
                let doubts = goes_on || self.has_doubts();
                affords && (is_sample || doubts)
            }
        };
        if is_wished {
            self.shorts += u32::from(end.stop == StopReason::ShortPage);
            return Wish::Ask;
        }
        Wish::Trust
    }

    /// A list that repeated its first page was found to have ended.
    pub fn wrapped(&mut self) {
        self.wrapped = self.wrapped.saturating_add(1);
    }

    /// A list went on behind a short page.
    pub fn contradict(&mut self, item: ItemIx) {
        self.contradicted.insert(item);
    }

    fn lists(&self) -> u64 {
        self.earlier + u64::try_from(self.contradicted.len()).unwrap_or(u64::MAX)
    }

    fn has_doubts(&self) -> bool {
        self.lists() > 0
    }

    /// Whether the short-page rule is disproved for an export of so many items.
    pub fn is_disproved(&self, items: u64) -> bool {
        self.lists() >= items.min(2).max(1)
    }

    /// Of the pages asked for behind short ones, the share that had no row: what opening short ends again would be in vain.
    pub fn share_in_vain(&self) -> f64 {
        let lists = u32::try_from(self.lists()).unwrap_or(u32::MAX);
        let asked = self.asked.max(lists).max(1);
        1.0 - f64::from(lists) / f64::from(asked)
    }

    /// Begins anew after the rules have changed: what was shown was shown about the old ones.
    pub fn restart(&mut self) {
        (self.earlier, self.shorts) = (0, 0);
        self.contradicted.clear();
        self.short.clear();
    }
}

/// Counts one more of a kind, and says whether it is among those to check.
fn sampled(count: &mut u32) -> bool {
    *count = count.saturating_add(1);
    *count <= FIRST || *count % ONE_IN == 0
}

/// What follows from rows behind short pages, where the largest page had so many rows.
pub fn learned(rules: &Rules, largest: u32) -> Learned {
    let is_capped = rules.learned.is_none() && (1..rules.page_size).contains(&largest);
    if is_capped { Learned::PageSize(largest) } else { Learned::EmptyPage }
}

/// The depth of a walk whose first missing page is this one.
pub fn depth(next: PageNum, rules: &Rules) -> u32 {
    next.0.saturating_sub(rules.first.0)
}

#[cfg(test)]
mod tests {
    use super::{Evidence, Wish, learned};
    use crate::endpoint::EndRule;
    use crate::page::{ItemIx, PageNum, StopReason};
    use crate::rules::{End, Learned, Rules};

    fn end(stop: StopReason, received: usize) -> End {
        End { stop, said: None, received, check: Some(PageNum(9)), is_wrap: false }
    }

    #[test]
    fn the_first_three_short_ends_are_checked_and_then_no_more_than_the_budget_has() {
        let mut evidence = Evidence::new(0, 0, 0);
        let mut asked = 0;
        for list in 0..100_000_u32 {
            (0..3).for_each(|_| evidence.page());
            let rows = usize::try_from(list % 7).unwrap() + 1;
            if evidence.wish(&end(StopReason::ShortPage, rows), 1 + list % 11, false) == Wish::Ask {
                evidence.spend();
                asked += 1;
            }
            assert!(f64::from(asked) <= (0.003 * 3.0 * f64::from(list + 1)).max(3.0), "{asked} after {list} lists");
        }
        assert!(asked >= 700, "{asked}: about every hundredth");
    }

    #[test]
    fn a_list_that_went_on_behind_a_short_page_raises_doubts_and_a_second_one_disproves_the_rule() {
        let mut evidence = Evidence::new(1_000_000, 3, 0);
        let short = end(StopReason::ShortPage, 4);
        assert_eq!([(); 3].map(|()| evidence.wish(&short, 1, false)), [Wish::Ask, Wish::Trust, Wish::Trust]);
        evidence.contradict(ItemIx(1));
        evidence.contradict(ItemIx(1));
        assert!(!evidence.is_disproved(200) && evidence.is_disproved(1), "unless it is the only one");
        assert_eq!(evidence.wish(&short, 1, false), Wish::Ask);
        evidence.contradict(ItemIx(2));
        assert!(evidence.is_disproved(200));
        assert!(Evidence::new(10, 3, 2).is_disproved(200), "also where earlier runs saw it");
    }

    #[test]
    fn pages_that_repeat_are_always_checked_but_for_a_wrap_around_that_three_lists_have_shown() {
        let mut evidence = Evidence::new(0, 3, 0);
        let (repeat, wrap) =
            (end(StopReason::RepeatedPage, 3), End { is_wrap: true, ..end(StopReason::RepeatedPage, 3) });
        for _ in 0..3 {
            assert_eq!(evidence.wish(&wrap, 5, false), Wish::Ask);
            evidence.wrapped();
        }
        assert_eq!((evidence.wish(&wrap, 5, false), evidence.wish(&repeat, 5, false)), (Wish::Trust, Wish::Ask));
    }

    #[test]
    fn refusals_behind_a_full_page_are_checked_three_times_and_then_every_hundredth() {
        let mut evidence = Evidence::new(0, 0, 0);
        let asked: Vec<u32> =
            (1..=300).filter(|_| evidence.wish(&end(StopReason::EndRefused, 3), 5, false) == Wish::Ask).collect();
        assert_eq!(asked, [1, 2, 3, 100, 200, 300]);
    }

    #[test]
    fn pages_that_never_had_more_than_so_many_rows_have_that_size_and_others_leave_only_the_empty_page() {
        let rules = Rules {
            first: PageNum(1),
            last: PageNum(99),
            page_size: 10,
            max_pages: None,
            end: EndRule::Auto,
            learned: None,
        };
        assert_eq!(learned(&rules, 8), Learned::PageSize(8));
        assert_eq!([0, 10, 11].map(|largest| learned(&rules, largest)), [Learned::EmptyPage; 3]);
        let again = Rules { learned: Some(Learned::PageSize(8)), ..rules };
        assert_eq!(learned(&again, 8), Learned::EmptyPage);
    }
}
