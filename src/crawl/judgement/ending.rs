//! Whether the page behind the end of a list is worth a credit: evidence about how lists end, within a budget.
//!
//! That a short page ends a list is a guess about the API, and it can be wrong in two ways. The API may cap its pages below
//! the size that was asked for: then many lists end on as many rows as the largest page has, and no page is full. Or it may
//! leave rows out: then lists end early on a nearly full page, and the deeper a list, the more is lost. Which ends are the
//! likeliest to be none is known only when all lists have been read, so two of the three credits that evidence may always
//! cost are kept until then: they go behind the lists that ended on the largest short page, the deepest first. Before that
//! the first list is checked, and about every hundredth of those with as many rows and as deep is checked. A row behind a short page of a second list (or of the only one) disproves the rule for the
//! export, and after the first such list every end is checked, as far as the budget goes.
//!
//! A page that repeats others is always checked, unless three lists wrapped around to their first page; a refusal, and a
//! success without a list in the middle of one, are checked for the first three lists and then for every hundredth.

use std::collections::{BTreeSet, HashMap};

use crate::crawl::end_of_list::{End, ObservedEnd, PagingRules};
use crate::model::page::{ItemIx, PageNum, StopReason};

/// Lists of a kind that are checked before samples are taken.
const FIRST: u32 = 3;
/// Of later ones, one in this many is checked.
const ONE_IN: u32 = 100;
/// Credits that are kept until all lists have been read.
const LEAST_KEPT: u32 = 2;
/// Lists without a row, or lists that end without one in a row, that are too many to be taken as they are.
pub(crate) const MANY: u64 = 50;
/// Credits that evidence may always cost.
const LEAST: f64 = 3.0;
/// Credits that it may cost beyond that, for each page that was read.
const SHARE: f64 = 0.003;

/// What to do about the end of a walk that a page would confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Ask for that page.
    Ask,
    /// Take the end as it is.
    Trust,
}

/// What has been asked about ends, and what it has shown.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// Pages of the export.
    pages: u32,
    /// Credits spent on evidence, those in flight included.
    asked: u32,
    /// Those of earlier runs.
    asked_before: u32,
    /// What was spent in this run under other rules.
    spent: u64,
    /// Lists that went on behind a short page in earlier runs.
    earlier: u64,
    /// The same of this run.
    contradicted: BTreeSet<ItemIx>,
    /// Items of the export.
    items: u64,
    /// Whether the first short end was checked.
    had_first: bool,
    /// Short ends by rows of their page and depth.
    short: HashMap<(usize, u32), u32>,
    refused: u32,
    without_list: u32,
    /// Lists that wrapped around to their first page and were found to have ended there.
    wrapped: u32,
}

impl Evidence {
    /// What earlier runs of the export know.
    pub(crate) fn new(items: u64, pages: u64, asked: u64, contradicted: u64) -> Self {
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            pages: small(pages),
            asked: small(asked),
            asked_before: small(asked),
            spent: 0,
            earlier: contradicted,
            contradicted: BTreeSet::new(),
            items,
            had_first: asked > 0,
            short: HashMap::new(),
            refused: 0,
            without_list: 0,
            wrapped: 0,
        }
    }

    /// A page came.
    pub(crate) fn page(&mut self) {
        self.pages = self.pages.saturating_add(1);
    }

    /// Whether the budget has so many credits.
    pub(crate) fn affords(&self, credits: u32) -> bool {
        // Pages that were evidence themselves earn none.
        let read = self.pages.saturating_sub(self.asked);
        f64::from(self.asked) + f64::from(credits) <= (SHARE * f64::from(read)).max(LEAST)
    }

    /// So many pages are asked for as evidence.
    pub(crate) fn spend(&mut self, credits: u32) {
        self.asked = self.asked.saturating_add(credits);
    }

    /// A page that was asked for as evidence turned out to be a page of its list, or was free.
    pub(crate) fn give_back(&mut self) {
        self.asked = self.asked.saturating_sub(1);
    }

    /// Credits spent on evidence in this run.
    pub(crate) fn spent(&self) -> u64 {
        self.spent + u64::from(self.asked.saturating_sub(self.asked_before))
    }

    /// What to do about an end whose list has this many pages. `goes_on`: the same list went on behind a short page before.
    pub(crate) fn wish(&mut self, end: &End, depth: u32, goes_on: bool) -> Wish {
        let affords = self.affords(LEAST_KEPT + 1) || self.items <= u64::from(FIRST) && self.affords(1);
        let is_wished = match end.stop {
            _ if end.is_must => true,
            StopReason::RepeatedPage => !(end.is_wrap && self.wrapped >= FIRST),
            StopReason::EndRefused => sampled(&mut self.refused),
            StopReason::ShortPage
            | StopReason::EmptyPage
            | StopReason::MaxPages
            | StopReason::EndRepeated
            | StopReason::PageCap
            | StopReason::Shifted
            | StopReason::Rejected
            | StopReason::Failed => {
                let tells = self.tells(end.received, depth);
                // In a list that went on behind a short page no short page is an end.
                goes_on || affords && (tells || self.lists() > 0 || self.items <= u64::from(FIRST))
            }
        };
        if is_wished { Wish::Ask } else { Wish::Trust }
    }

    /// Whether the page behind a short one of this many rows, at the end of a list of a given depth, tells much.
    fn tells(&mut self, rows: usize, depth: u32) -> bool {
        let stratum = self.short.entry((rows, depth.checked_ilog2().unwrap_or_default())).or_default();
        *stratum = stratum.saturating_add(1);
        let is_sample = stratum.is_multiple_of(ONE_IN);
        let is_first = self.affords(LEAST_KEPT + 1) && !std::mem::replace(&mut self.had_first, true);
        is_sample || is_first
    }

    /// Whether a success without a list behind a full page is first looked behind.
    pub(crate) fn wish_behind_null(&mut self) -> bool {
        // Where many lists may end like this, one credit is kept to see whether the API still has rows (`rounds::empty`).
        let kept = u32::from(self.items >= MANY);
        self.affords(1 + kept) && sampled(&mut self.without_list)
    }

    /// A list that repeated its first page was found to have ended.
    pub(crate) fn wrapped(&mut self) {
        self.wrapped = self.wrapped.saturating_add(1);
    }

    /// A list went on behind a short page.
    pub(crate) fn contradict(&mut self, item: ItemIx) {
        self.contradicted.insert(item);
    }

    fn lists(&self) -> u64 {
        self.earlier + u64::try_from(self.contradicted.len()).unwrap_or(u64::MAX)
    }

    /// Whether the short-page rule is disproved for an export of this many items.
    pub(crate) fn is_disproved(&self, items: u64) -> bool {
        self.lists() >= items.clamp(1, 2)
    }

    /// Of the pages asked for behind short ones, the share that had no row: what opening short ends again would be in vain.
    pub(crate) fn share_in_vain(&self) -> f64 {
        let lists = u32::try_from(self.lists()).unwrap_or(u32::MAX);
        f64::from(self.asked) / f64::from(self.asked.saturating_add(lists).max(1))
    }

    /// Begins anew after the rules have changed: what was shown was shown about the old ones, and the new ones have a budget of
    /// their own.
    pub(crate) fn restart(&mut self) {
        self.spent = self.spent();
        (self.asked, self.asked_before) = (self.asked.min(1), self.asked.min(1));
        self.earlier = 0;
        self.contradicted.clear();
        self.short.clear();
        self.had_first = false;
    }
}

/// Counts one more of a kind, and says whether it is among those to check.
fn sampled(count: &mut u32) -> bool {
    *count = count.saturating_add(1);
    *count <= FIRST || count.is_multiple_of(ONE_IN)
}

/// What follows from rows behind short pages, where the largest page had this many rows.
pub(crate) fn learned(rules: &PagingRules, largest: u32) -> ObservedEnd {
    let is_capped = rules.learned.is_none() && (1..rules.page_size).contains(&largest);
    if is_capped { ObservedEnd::PageSize(largest) } else { ObservedEnd::EmptyPage }
}

/// The depth of a walk whose first missing page is this one.
pub(crate) fn depth(next: PageNum, rules: &PagingRules) -> u32 {
    next.0.saturating_sub(rules.first.0)
}

#[cfg(test)]
mod tests {
    use super::{Evidence, Wish, learned};
    use crate::crawl::end_of_list::{End, ObservedEnd, PagingRules};
    use crate::endpoint::EndRule;
    use crate::model::page::{ItemIx, PageNum, StopReason};

    fn end(stop: StopReason, received: usize) -> End {
        End { stop, message: None, received, check: Some(PageNum(9)), is_wrap: false, is_must: false }
    }

    fn short(evidence: &mut Evidence, rows: usize, depth: u32) -> bool {
        let is_asked = evidence.wish(&end(StopReason::ShortPage, rows), depth, false) == Wish::Ask;
        if is_asked {
            evidence.spend(1);
        }
        is_asked
    }

    #[test]
    fn evidence_costs_three_credits_and_then_no_more_than_the_budget_has() {
        let mut evidence = Evidence::new(100_000, 0, 0, 0);
        let mut asked = 0;
        for list in 0..100_000_u32 {
            (0..3).for_each(|_| evidence.page());
            let rows = usize::try_from(list % 7).unwrap() + 1;
            if short(&mut evidence, rows, 1 + list % 11) {
                asked += 1;
                evidence.page(); // the page behind the end came, and earns no evidence of its own
            }
            assert!(f64::from(asked) <= (0.003 * 3.0 * f64::from(list + 1)).max(3.0), "{asked} after {list} lists");
        }
        assert!(asked >= 700, "{asked}: about every hundredth");
    }

    #[test]
    fn two_credits_are_kept_until_all_lists_have_been_read() {
        let mut evidence = Evidence::new(100, 0, 0, 0);
        assert_eq!([5, 9, 9].map(|rows| short(&mut evidence, rows, 1)), [true, false, false]);
        evidence.spend(1);
        assert!(evidence.affords(1));
        evidence.spend(1);
        assert!(!evidence.affords(1));
        evidence.give_back();
        assert!(evidence.affords(1), "a page of its list costs nothing");
    }

    #[test]
    fn a_list_that_went_on_behind_a_short_page_raises_doubts_and_a_second_one_disproves_the_rule() {
        let mut evidence = Evidence::new(200, 1_000_000, 3, 0);
        assert_eq!([(); 3].map(|()| short(&mut evidence, 4, 1)), [false; 3], "the first one was an earlier run's");
        evidence.contradict(ItemIx(1));
        evidence.contradict(ItemIx(1));
        assert!(!evidence.is_disproved(200) && evidence.is_disproved(1), "unless it is the only one");
        assert!(short(&mut evidence, 4, 1));
        assert_eq!(evidence.wish(&end(StopReason::ShortPage, 4), 1, true), Wish::Ask, "that list itself, always");
        evidence.contradict(ItemIx(2));
        assert!(evidence.is_disproved(200));
        assert!(Evidence::new(200, 10, 3, 2).is_disproved(200), "also where earlier runs saw it");
        let mut few = Evidence::new(3, 0, 0, 0);
        assert_eq!([4, 4, 4].map(|rows| short(&mut few, rows, 1)), [true; 3], "of three lists each is checked");
    }

    #[test]
    fn pages_that_repeat_are_always_checked_but_for_a_wrap_around_that_three_lists_have_shown() {
        let mut evidence = Evidence::new(9, 0, 3, 0);
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
        let mut evidence = Evidence::new(9, 0, 0, 0);
        let asked: Vec<u32> =
            (1..=300).filter(|_| evidence.wish(&end(StopReason::EndRefused, 3), 5, false) == Wish::Ask).collect();
        assert_eq!(asked, [1, 2, 3, 100, 200, 300]);
    }

    #[test]
    fn pages_that_never_had_more_than_so_many_rows_have_that_size_and_others_leave_only_the_empty_page() {
        let rules = PagingRules {
            first: PageNum(1),
            last: PageNum(99),
            page_size: 10,
            max_pages: None,
            end: EndRule::Auto,
            learned: None,
        };
        assert_eq!(learned(&rules, 8), ObservedEnd::PageSize(8));
        assert_eq!([0, 10, 11].map(|largest| learned(&rules, largest)), [ObservedEnd::EmptyPage; 3]);
        let again = PagingRules { learned: Some(ObservedEnd::PageSize(8)), ..rules };
        assert_eq!(learned(&again, 8), ObservedEnd::EmptyPage);
    }
}
