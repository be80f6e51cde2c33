//! Whether the page behind the end of a list is worth a credit: evidence about how lists end, within a budget.
//!
//! That a short page ends a list is a guess about the API, and it can be wrong in two ways. The API may cap its pages below
//! the requested size: then many lists end on as many rows as the largest page has, and no page is full. Or it may leave rows
//! out: then lists end early on a nearly full page, and the deeper a list, the more is lost. Which ends are most probably wrong is
//! known only when all lists have been read. So two of the three credits that evidence may always cost are kept until then, for
//! the lists that ended on the largest short page, the deepest first. Before that, the first list is checked, and about every
//! hundredth of those with as many rows and of similar depth. A row behind a short page of a second list (or of the only one)
//! disproves the rule for the export. After the first such list every end is checked, within the budget.
//!
//! One such list alone may have grown in the meantime. So if no second one is found for the budget, its short page is requested
//! again in the end: a page that is still short although rows follow it disproves the rule, too.
//!
//! A page that repeats others is always checked, unless three lists wrapped around to their first page. A refusal, and a success
//! without a list in the middle of one, are checked for the first three lists and then for every hundredth.

use std::collections::{BTreeSet, HashMap};

use crate::crawl::end_of_list::{End, ObservedEnd, PagingRules};
use crate::model::page::{ItemIx, PageNum, StopReason};

/// Lists of a kind that are all checked, before only samples are.
const ALWAYS_CHECKED: u32 = 3;
/// Of later ones, one in this many is checked.
const SAMPLE_EVERY: u32 = 100;
/// Credits that are kept until all lists have been read.
const KEPT: u32 = 2;
/// Lists without rows, or lists in a row that end on an empty page, that raise doubts about the API.
pub(crate) const MANY: u64 = 50;
/// Credits that evidence may always cost.
const MIN_BUDGET: u64 = 3;
/// Credits that it may always cost when all lists have been read, if one continued behind a short page or none had a full page.
const BUDGET_IN_DOUBT: u64 = 6;
/// Credits that it may cost for a thousand pages that were read, where that is more.
const BUDGET_PER_THOUSAND: u64 = 3;
/// When all lists have been read, one in this many of the credits that are left is spent at once, and no more than so many.
const AT_ONCE_SHARE: u32 = 4;
const MAX_AT_ONCE: u32 = 256;

/// What is known about the ends of lists, and what it has cost.
#[derive(Debug)]
pub(crate) struct Evidence {
    pages: u32,
    /// Credits spent on evidence, including those in flight.
    cost: u32,
    /// Those of earlier runs.
    cost_before: u32,
    /// Credits spent in this run under other rules.
    spent_before: u64,
    /// Lists that continued behind a short page in earlier runs.
    contradicted_before: u64,
    /// The same in this run.
    contradicted: BTreeSet<ItemIx>,
    items: u64,
    has_checked_first: bool,
    /// Short ends, by the rows of their page and the logarithm of their depth.
    short: HashMap<(usize, u32), u32>,
    refused: u32,
    without_list: u32,
    /// Lists that wrapped around to their first page and had ended there.
    wraps: u32,
    /// Whether a page was larger than the page size that was observed.
    is_size_wrong: bool,
    /// Whether a short page was as short when it was requested again, though rows follow it.
    is_confirmed: bool,
    /// Credits that it may always cost.
    least_budget: u64,
    /// Lists that were checked after all lists had been read, and what evidence had cost before the last of them.
    last_checks: BTreeSet<ItemIx>,
    spent_before_last: u64,
}

impl Evidence {
    /// What is known from earlier runs. `cost`: credits spent on evidence; `contradicted`: lists that continued behind a short page.
    pub(crate) fn new(items: u64, pages: u64, cost: u64, contradicted: u64) -> Self {
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            pages: small(pages),
            cost: small(cost),
            cost_before: small(cost),
            spent_before: 0,
            contradicted_before: contradicted,
            contradicted: BTreeSet::new(),
            items,
            has_checked_first: cost > 0,
            short: HashMap::new(),
            refused: 0,
            without_list: 0,
            wraps: 0,
            is_size_wrong: false,
            is_confirmed: false,
            least_budget: MIN_BUDGET,
            last_checks: BTreeSet::new(),
            spent_before_last: 0,
        }
    }

    pub(crate) fn record_page(&mut self, received: usize, observed: Option<ObservedEnd>) {
        self.pages = self.pages.saturating_add(1);
        if let Some(ObservedEnd::PageSize(rows)) = observed {
            self.is_size_wrong |= usize::try_from(rows).is_ok_and(|rows| received > rows);
        }
    }

    pub(crate) fn affords(&self, credits: u32) -> bool {
        credits <= self.affordable()
    }

    /// Credits that evidence may still cost.
    fn affordable(&self) -> u32 {
        // Pages that were evidence themselves do not add to the budget.
        let read = u64::from(self.pages.saturating_sub(self.cost));
        let budget = (read * BUDGET_PER_THOUSAND / 1_000).max(self.least_budget);
        u32::try_from(budget).unwrap_or(u32::MAX).saturating_sub(self.cost)
    }

    /// Records that pages are requested as evidence.
    pub(crate) fn spend(&mut self, credits: u32) {
        self.cost = self.cost.saturating_add(credits);
    }

    /// Records that a page that was requested as evidence was a page of its list, or free.
    pub(crate) fn refund(&mut self) {
        self.cost = self.cost.saturating_sub(1);
    }

    pub(crate) fn spent(&self) -> u64 {
        self.spent_before + u64::from(self.cost.saturating_sub(self.cost_before))
    }

    /// Whether the page that checks an end is worth a credit, or the end is trusted. `depth`: the pages of the list; `continues`: the
    /// same list continued behind a short page before.
    pub(crate) fn is_worth_check(&mut self, end: &End, depth: u32, continues: bool) -> bool {
        let affords = self.affords(KEPT + 1) || self.items <= u64::from(ALWAYS_CHECKED) && self.affords(1);
        match end.stop {
            _ if end.must_check => true,
            StopReason::RepeatedPage => !(end.is_wrap && self.wraps >= ALWAYS_CHECKED),
            StopReason::EndRefused => is_sample(&mut self.refused),
            StopReason::ShortPage
            | StopReason::EmptyPage
            | StopReason::MaxPages
            | StopReason::EndRepeated
            | StopReason::PageCap
            | StopReason::Shifted
            | StopReason::Rejected
            | StopReason::ForeignPage
            | StopReason::Failed => {
                let is_telling = self.is_telling(end.received, depth);
                // In a list that continued behind a short page, no short page is an end.
                continues
                    || affords && (is_telling || self.contradictions() > 0 || self.items <= u64::from(ALWAYS_CHECKED))
            }
        }
    }

    /// Whether a short end of this many rows, in a list of this depth, is a sample to check.
    fn is_telling(&mut self, rows: usize, depth: u32) -> bool {
        let stratum = self.short.entry((rows, depth.checked_ilog2().unwrap_or_default())).or_default();
        *stratum = stratum.saturating_add(1);
        let is_sample = stratum.is_multiple_of(SAMPLE_EVERY);
        let is_first = self.affords(KEPT + 1) && !std::mem::replace(&mut self.has_checked_first, true);
        is_sample || is_first
    }

    /// Whether the page behind a success without a list is requested, where that follows a full page.
    pub(crate) fn checks_missing_list(&mut self) -> bool {
        // Where many lists may end like this, one credit is kept to see whether the API still has rows (`engine::empty_lists`).
        let kept = u32::from(self.items >= MANY);
        self.affords(1 + kept) && is_sample(&mut self.without_list)
    }

    /// Records a list that repeated its first page and had ended.
    pub(crate) fn record_wrap(&mut self) {
        self.wraps = self.wraps.saturating_add(1);
    }

    /// Records a list that continued behind a short page.
    pub(crate) fn record_contradiction(&mut self, item: ItemIx) {
        self.contradicted.insert(item);
    }

    /// Records that all lists have been read and may have been cut: one continued behind a short page, or no page was full, as where
    /// the API caps its pages below the requested size.
    pub(crate) fn doubt_lists(&mut self) {
        self.least_budget = BUDGET_IN_DOUBT;
    }

    /// Records that a short page was as short when it was requested again, though rows follow it.
    pub(crate) fn confirm(&mut self) {
        self.is_confirmed = true;
    }

    /// Whether a list continued behind a short page, which a list that grew in the meantime would do as well.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.contradictions() > 0 && !self.is_disproved()
    }

    /// Lists that continued behind a short page, in all runs.
    fn contradictions(&self) -> u64 {
        self.contradicted_before + u64::try_from(self.contradicted.len()).unwrap_or(u64::MAX)
    }

    /// Whether the rule is disproved that a page with fewer rows than requested, or than the largest page had, ends a list.
    pub(crate) fn is_disproved(&self) -> bool {
        self.is_size_wrong || self.is_confirmed || self.contradictions() >= self.items.clamp(1, 2)
    }

    /// Which short end to check next, once all lists have been read: the deepest or any, except those that were. Any list first:
    /// where an API leaves rows out, most lists continue. If that one did not, the deepest: it has the most rows to lose.
    pub(crate) fn next_last_check(&self) -> (bool, &BTreeSet<ItemIx>) {
        let was_in_vain = self.spent() > self.spent_before_last;
        (was_in_vain && !self.last_checks.is_empty(), &self.last_checks)
    }

    /// How many of them at once: a few of many, so that what they show decides about the others. `left`: what `max_credits`
    /// leaves.
    pub(crate) fn last_checks_at_once(&self, left: u64) -> u32 {
        let (is_deepest, _) = self.next_last_check();
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        let most = (self.affordable() / AT_ONCE_SHARE).min(left / AT_ONCE_SHARE).min(MAX_AT_ONCE);
        if is_deepest { most.max(1) } else { 1 }
    }

    pub(crate) fn record_last_checks(&mut self, items: impl Iterator<Item = ItemIx>) {
        self.spent_before_last = self.spent();
        self.last_checks.extend(items);
    }

    /// The share of pages behind short ones that had no row: an estimate of what reopening lists with short ends would waste.
    pub(crate) fn wasted_share(&self) -> f64 {
        let lists = u32::try_from(self.contradictions()).unwrap_or(u32::MAX);
        f64::from(self.cost) / f64::from(self.cost.saturating_add(lists).max(1))
    }

    /// Restarts after the rules have changed: the evidence was about the old ones, and the new ones have a budget of their own.
    pub(crate) fn restart(&mut self) {
        self.spent_before = self.spent();
        (self.cost, self.cost_before) = (self.cost.min(1), self.cost.min(1));
        self.contradicted_before = 0;
        self.contradicted.clear();
        self.short.clear();
        self.has_checked_first = false;
        self.is_size_wrong = false;
        self.is_confirmed = false;
        self.least_budget = MIN_BUDGET;
        self.last_checks.clear();
    }
}

/// Counts one more of a kind. True: it is one to check.
fn is_sample(count: &mut u32) -> bool {
    *count = count.saturating_add(1);
    *count <= ALWAYS_CHECKED || count.is_multiple_of(SAMPLE_EVERY)
}

/// What follows from rows behind short pages, where the largest page had this many rows.
pub(crate) fn observed_end(rules: &PagingRules, largest: u32) -> ObservedEnd {
    let is_capped = rules.observed.is_none() && (1..rules.page_size).contains(&largest);
    if is_capped { ObservedEnd::PageSize(largest) } else { ObservedEnd::EmptyPage }
}

/// The depth of a walk whose first missing page is this one.
pub(crate) fn depth(next: PageNum, rules: &PagingRules) -> u32 {
    next.0.saturating_sub(rules.first.0)
}

#[cfg(test)]
mod tests {
    use super::{Evidence, observed_end};
    use crate::crawl::end_of_list::{End, ObservedEnd, PagingRules};
    use crate::endpoint::EndRule;
    use crate::model::page::{ItemIx, PageNum, StopReason};

    fn end(stop: StopReason, received: usize) -> End {
        End { check: Some(PageNum(9)), ..End::new(stop, None, received) }
    }

    fn short(evidence: &mut Evidence, rows: usize, depth: u32) -> bool {
        let is_asked = evidence.is_worth_check(&end(StopReason::ShortPage, rows), depth, false);
        if is_asked {
            evidence.spend(1);
        }
        is_asked
    }

    #[test]
    fn evidence_costs_three_credits_and_then_no_more_than_the_budget_has() {
        let mut evidence = Evidence::new(100_000, 0, 0, 0);
        let mut checked = 0;
        for list in 0..100_000_u32 {
            (0..3).for_each(|_| evidence.record_page(0, None));
            let rows = usize::try_from(list % 7).unwrap() + 1;
            if short(&mut evidence, rows, 1 + list % 11) {
                checked += 1;
                evidence.record_page(0, None); // the page behind the end came, and earns no evidence of its own
            }
            assert!(f64::from(checked) <= (0.003 * 3.0 * f64::from(list + 1)).max(3.0), "{checked} after {list} lists");
        }
        assert!(checked >= 700, "{checked}: about every hundredth");
    }

    #[test]
    fn two_credits_are_kept_until_all_lists_have_been_read() {
        let mut evidence = Evidence::new(100, 0, 0, 0);
        assert_eq!([5, 9, 9].map(|rows| short(&mut evidence, rows, 1)), [true, false, false]);
        evidence.spend(1);
        assert!(evidence.affords(1));
        evidence.spend(1);
        assert!(!evidence.affords(1));
        evidence.refund();
        assert!(evidence.affords(1), "a page of its list costs nothing");
    }

    #[test]
    fn the_last_checks_are_one_at_a_time_where_few_can_be_paid_and_after_one_was_not_in_vain() {
        let mut evidence = Evidence::new(100_000, 400_000, 0, 0);
        assert_eq!(evidence.last_checks_at_once(u64::MAX), 1, "the first");
        evidence.record_last_checks(std::iter::once(ItemIx(1)));
        evidence.spend(1);
        assert_eq!([u64::MAX, 100, 3].map(|left| evidence.last_checks_at_once(left)), [256, 25, 1]);
        evidence.spend(1_150);
        assert_eq!(evidence.last_checks_at_once(u64::MAX), 11, "a quarter of what is left");
        evidence.record_last_checks(std::iter::once(ItemIx(2)));
        assert_eq!(evidence.last_checks_at_once(u64::MAX), 1, "that one had rows");
    }

    #[test]
    fn a_list_that_went_on_behind_a_short_page_raises_doubts_and_a_second_one_disproves_the_rule() {
        let mut evidence = Evidence::new(200, 1_000_000, 3, 0);
        assert_eq!([(); 3].map(|()| short(&mut evidence, 4, 1)), [false; 3], "the first one was an earlier run's");
        evidence.record_contradiction(ItemIx(1));
        evidence.record_contradiction(ItemIx(1));
        assert!(!evidence.is_disproved() && Evidence::new(1, 10, 3, 1).is_disproved(), "unless it is the only one");
        assert!(short(&mut evidence, 4, 1));
        assert!(evidence.is_worth_check(&end(StopReason::ShortPage, 4), 1, true), "that list itself, always");
        evidence.record_contradiction(ItemIx(2));
        assert!(evidence.is_disproved());
        assert!(Evidence::new(200, 10, 3, 2).is_disproved(), "also where earlier runs saw it");
        let mut few = Evidence::new(3, 0, 0, 0);
        assert_eq!([4, 4, 4].map(|rows| short(&mut few, rows, 1)), [true; 3], "of three lists each is checked");
    }

    #[test]
    fn pages_that_repeat_are_always_checked_except_for_a_wrap_around_that_three_lists_have_shown() {
        let mut evidence = Evidence::new(9, 0, 3, 0);
        let (repeat, wrap) =
            (end(StopReason::RepeatedPage, 3), End { is_wrap: true, ..end(StopReason::RepeatedPage, 3) });
        for _ in 0..3 {
            assert!(evidence.is_worth_check(&wrap, 5, false));
            evidence.record_wrap();
        }
        assert_eq!(
            (evidence.is_worth_check(&wrap, 5, false), evidence.is_worth_check(&repeat, 5, false)),
            (false, true)
        );
    }

    #[test]
    fn refusals_behind_a_full_page_are_checked_three_times_and_then_every_hundredth() {
        let mut evidence = Evidence::new(9, 0, 0, 0);
        let checked: Vec<u32> =
            (1..=300).filter(|_| evidence.is_worth_check(&end(StopReason::EndRefused, 3), 5, false)).collect();
        assert_eq!(checked, [1, 2, 3, 100, 200, 300]);
    }

    #[test]
    fn where_no_page_had_more_rows_than_a_smaller_size_that_is_the_size_and_otherwise_only_an_empty_page_is_an_end() {
        let rules = PagingRules {
            first: PageNum(1),
            last: PageNum(99),
            page_size: 10,
            max_pages: None,
            end: EndRule::Auto,
            observed: None,
        };
        assert_eq!(observed_end(&rules, 8), ObservedEnd::PageSize(8));
        assert_eq!([0, 10, 11].map(|largest| observed_end(&rules, largest)), [ObservedEnd::EmptyPage; 3]);
        let again = PagingRules { observed: Some(ObservedEnd::PageSize(8)), ..rules };
        assert_eq!(observed_end(&again, 8), ObservedEnd::EmptyPage);
    }
}
