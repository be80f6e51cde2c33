//! One item's walk: which pages it has, which rows it has seen, and when it is over.
//!
//! The pages are a set, and may come in any order. What a page means for the end is decided in the order of the pages, by
//! their counts alone: the same pages give the same end, in the first run, after a crash and in a replay, asked for one by
//! one or ahead. Which row is new is decided in the order in which pages were read, which is the journal's.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::decode::{DecodedPage, Key};
use crate::depth::{Depth, Known, Stage};
use crate::page::{Counts, ItemId, ItemIx, PageNum, StopReason};
use crate::rules::{End, Rules};
use crate::sanitize::Sanitized;

/// Pages that were asked for ahead and came, and are not known to lie in the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// They lie behind the end, or repeat others.
    pub in_vain: u32,
    /// They hold new rows, and may be the answer to any page number.
    pub in_doubt: u32,
}

/// The walk of one item.
#[derive(Debug)]
pub struct Walk {
    /// The item's place in the ledger.
    pub item: ItemIx,
    /// The item's id.
    pub id: ItemId,
    /// Whether an earlier run gave up a page while others came: the failures of its first missing page are its own.
    pub is_suspect: bool,
    /// The first page that is missing.
    next: PageNum,
    /// Pages beyond it.
    beyond: BTreeMap<PageNum, Counts>,
    depth: Depth,
    /// Keys of the rows so far; none: they must be loaded before the next page is read.
    seen: Option<HashSet<Key>>,
    /// Pages without a usable row, counted back from the first missing one.
    barren: u8,
    end: Option<End>,
    /// Pages right behind the end that came.
    behind: u32,
    /// Pages that were asked for ahead in vain, and may have been billed.
    in_doubt: BTreeSet<PageNum>,
    /// Whether a page answered for another item, which ends it whatever else comes.
    is_foreign: bool,
}

impl Walk {
    /// A walk that has these pages. Its keys are loaded when they are needed, unless there are none.
    pub fn new(item: ItemIx, id: ItemId, rules: &Rules, pages: impl IntoIterator<Item = (PageNum, Counts)>) -> Self {
        let mut walk = Self {
            item,
            id,
            is_suspect: false,
            next: rules.first,
            beyond: BTreeMap::new(),
            depth: Depth::new(rules),
            seen: None,
            barren: 0,
            end: None,
            behind: 0,
            in_doubt: BTreeSet::new(),
            is_foreign: false,
        };
        // All of them are there before the first one is judged, as if they had come one by one.
        walk.beyond.extend(pages);
        let mut contiguous = rules.first;
        for (page, counts) in &walk.beyond {
            if *page == contiguous {
                walk.depth.pass(*page);
                contiguous = page.next();
            }
            walk.depth.learn(*page, *counts, rules, |page| known(&walk.beyond, walk.next, page, rules));
        }
        walk.advance(rules);
        if walk.is_new(rules) {
            walk.seen = Some(HashSet::new());
        }
        walk
    }

    /// The first page that is missing: how deep the walk is.
    pub fn next(&self) -> PageNum {
        self.next
    }

    /// Whether nothing of it was read yet.
    pub fn is_new(&self, rules: &Rules) -> bool {
        self.next == rules.first && self.beyond.is_empty()
    }

    /// Why it is over, if it is.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Takes a hint at its last page, which is used and not trusted.
    pub fn hint(&mut self, last: Option<PageNum>) {
        self.depth.hint(last);
    }

    /// Rows whose keys are in memory; none if they must be loaded.
    pub fn keys(&self) -> Option<usize> {
        self.seen.as_ref().map(HashSet::len)
    }

    /// Takes over the keys of earlier rows.
    pub fn load(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.seen.get_or_insert_default().extend(keys);
    }

    /// Frees the memory of its keys: they are in the ledger.
    pub fn unload(&mut self) {
        self.seen = None;
    }

    /// A page to ask for that is needed in any case.
    pub fn next_needed(&self, rules: &Rules) -> Option<PageNum> {
        self.depth.next_needed(self.next, rules, |page| known(&self.beyond, self.next, page, rules))
    }

    /// The first page that is not known to exist, if it can be asked for and was not: it is needed in any case.
    pub fn next_unknown(&self, rules: &Rules) -> Option<PageNum> {
        self.depth.next_unknown(self.next, rules, |page| known(&self.beyond, self.next, page, rules))
    }

    /// A page ahead to ask for, that may turn out to lie behind the end.
    pub fn scout(&self, rules: &Rules) -> Option<(Stage, PageNum)> {
        self.depth.scout(self.next, rules, |page| known(&self.beyond, self.next, page, rules))
    }

    /// Takes note that a page is asked for. Gives whether it is one that may turn out to lie behind the end.
    pub fn ask(&mut self, page: PageNum, rules: &Rules) -> bool {
        let is_scout = !self.depth.needs(page);
        if is_scout || self.next_needed(rules) != Some(page) {
            self.depth.send(page);
        } else {
            self.depth.ask(page);
        }
        is_scout
    }

    /// Whether a page is needed, whatever else comes.
    pub fn needs(&self, page: PageNum) -> bool {
        self.depth.needs(page)
    }

    /// How many pages of it there may be of which nothing is known.
    pub fn unknown(&self, rules: &Rules) -> u32 {
        self.depth.unknown(rules)
    }

    /// How many pages of it are expected to be asked for yet.
    pub fn expected(&self, rules: &Rules) -> f64 {
        self.depth.expected(self.next, rules)
    }

    /// What became of the pages that were asked for ahead and came, as far as it is known now.
    pub fn ahead(&self) -> Ahead {
        let mut ahead = Ahead { in_vain: self.behind, in_doubt: 0 };
        for counts in self.beyond.range(self.depth.edge().next()..).map(|(_, counts)| counts) {
            if self.depth.is_flat() || counts.kept == 0 {
                ahead.in_vain = ahead.in_vain.saturating_add(1);
            } else {
                ahead.in_doubt = ahead.in_doubt.saturating_add(1);
            }
        }
        ahead
    }

    /// Takes note that a page which is not needed will not come. `in_doubt`: it may have been billed all the same.
    pub fn lost(&mut self, page: PageNum, is_refused: bool, in_doubt: bool) {
        self.depth.lost(page, is_refused);
        if in_doubt {
            self.in_doubt.insert(page);
        }
    }

    /// Whether a page was asked for ahead and may have been billed.
    pub fn is_in_doubt(&self, page: PageNum) -> bool {
        self.in_doubt.contains(&page)
    }

    /// Reads a page whose rows are decoded: says for each of them whether it is new. The keys must be loaded.
    pub fn accept(&mut self, page: &DecodedPage, rules: &Rules) -> Vec<bool> {
        let seen = self.seen.get_or_insert_default();
        let keep: Vec<bool> = page.keys.iter().map(|key| seen.insert(*key)).collect();
        let kept = keep.iter().filter(|keep| **keep).count();
        let counts = Counts { received: page.received, kept, rejected: page.received.saturating_sub(page.keys.len()) };
        self.add(page.request.page, counts, rules);
        self.is_suspect &= page.request.page >= self.next;
        if page.foreign > 0 && page.keys.is_empty() {
            self.is_foreign = true;
            let reason = page.rejects.first().map_or("the rows belong to another item", |reject| &*reject.reason);
            let said = format!("page {} is an answer for another product: {}", page.request.page, Sanitized(reason));
            self.end = Some(End { stop: StopReason::Rejected, said: Some(said), received: page.received });
        }
        keep
    }

    fn add(&mut self, page: PageNum, counts: Counts, rules: &Rules) {
        self.beyond.insert(page, counts);
        self.depth.learn(page, counts, rules, |page| known(&self.beyond, self.next, page, rules));
        self.advance(rules);
    }

    /// Goes on to the first page that is missing, and judges each page on the way.
    fn advance(&mut self, rules: &Rules) {
        if self.end.as_ref().is_some_and(|end| self.is_passed(end)) {
            (self.end, self.behind) = (None, 0);
        }
        while let Some(counts) = self.beyond.remove(&self.next) {
            let page = self.next;
            self.next = page.next();
            self.behind = self.behind.saturating_add(self.end.is_some().into());
            self.barren = if counts.is_barren() { self.barren.saturating_add(1) } else { 0 };
            if !self.is_foreign && (self.end.is_none() || counts.kept > 0) {
                self.end = rules.end_at(page, counts, self.barren).filter(|end| !self.is_passed(end));
            }
        }
        if self.end.is_none() {
            self.depth.pass(self.next);
        }
    }

    /// Whether an end is none, because new rows are known to lie behind it: pages that were read long before or after their
    /// neighbours may be short or repeat others where a list changed meanwhile.
    fn is_passed(&self, end: &End) -> bool {
        let may_be = match end.stop {
            StopReason::ShortPage | StopReason::EmptyPage | StopReason::RepeatedPage => true,
            StopReason::Rejected => !self.is_foreign,
            StopReason::MaxPages | StopReason::PageCap | StopReason::Failed => false,
        };
        may_be && !self.depth.is_flat() && self.beyond.values().any(|counts| counts.kept > 0)
    }
}

fn known(beyond: &BTreeMap<PageNum, Counts>, next: PageNum, page: PageNum, rules: &Rules) -> Known {
    match beyond.get(&page) {
        None if page < next => Known::Solid,
        None => Known::Missing,
        Some(counts) if rules.is_full(*counts) && counts.kept > 0 => Known::Solid,
        Some(_) => Known::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::Walk;
    use crate::decode::DecodedPage;
    use crate::endpoint::EndRule;
    use crate::page::{AttemptId, Counts, ItemId, ItemIx, PageNum, Request, StopReason};
    use crate::rules::Rules;

    const RULES: Rules =
        Rules { first: PageNum(1), last: PageNum(7), page_size: 3, max_pages: None, end: EndRule::ShortPage };

    fn page(number: u32, keys: impl IntoIterator<Item = u8>) -> DecodedPage {
        let keys: Vec<_> = keys.into_iter().map(|key| [key; 16]).collect();
        let (item, id, received) = (ItemIx(1), ItemId::new("a"), keys.len());
        let request = Request { attempt: AttemptId(1), item, id, page: PageNum(number) };
        DecodedPage { request, keys, received, foreign: 0, rejects: Vec::new() }
    }

    fn with(pages: impl IntoIterator<Item = u32>) -> Walk {
        let full = Counts { received: 3, kept: 3, rejected: 0 };
        let mut walk =
            Walk::new(ItemIx(1), ItemId::new("a"), &RULES, pages.into_iter().map(|page| (PageNum(page), full)));
        walk.load([]);
        walk
    }

    fn stop_of(walk: &mut Walk, page: &DecodedPage, rules: &Rules) -> Option<StopReason> {
        walk.accept(page, rules);
        walk.end().map(|end| end.stop)
    }

    #[test]
    fn a_short_page_ends_a_walk_and_a_full_one_does_not() {
        let mut walk = with([]);
        assert_eq!(stop_of(&mut walk, &page(1, 0..3), &RULES), None);
        assert_eq!(walk.next(), PageNum(2));
        assert_eq!(stop_of(&mut walk, &page(2, 3..5), &RULES), Some(StopReason::ShortPage));
    }

    #[test]
    fn the_asked_number_of_pages_is_an_end_and_the_api_s_own_limit_is_a_cut() {
        let two = Rules { max_pages: Some(2), ..RULES };
        let mut walk = with([]);
        assert_eq!(stop_of(&mut walk, &page(1, 0..3), &two), None);
        assert_eq!(stop_of(&mut walk, &page(2, 3..6), &two), Some(StopReason::MaxPages));
        assert_eq!(stop_of(&mut with(1..7), &page(7, 0..3), &RULES), Some(StopReason::PageCap));
    }

    #[test]
    fn rows_seen_before_are_folded_and_a_page_of_nothing_else_ends_the_walk() {
        let mut walk = with([]);
        walk.accept(&page(1, 0..3), &RULES);
        assert_eq!(walk.accept(&page(2, [2, 3, 3]), &RULES), [false, true, false]);
        assert_eq!(walk.end(), None);
        assert_eq!(stop_of(&mut walk, &page(3, [1, 2, 3]), &RULES), Some(StopReason::RepeatedPage));
    }

    #[test]
    fn pages_may_come_in_any_order_and_the_end_is_the_same() {
        let pages = [page(1, 0..3), page(2, 3..6), page(3, 6..9), page(4, 9..11), page(5, [])];
        let mut orders = vec![Vec::new()];
        for number in 0..pages.len() {
            orders = orders
                .iter()
                .flat_map(|order: &Vec<usize>| (0..=order.len()).map(move |at| (order.clone(), at)))
                .map(|(mut order, at)| {
                    order.insert(at, number);
                    order
                })
                .collect();
        }
        assert_eq!(orders.len(), 120);
        for order in orders {
            let mut walk = with([]);
            let rows: usize = order
                .iter()
                .map(|number| walk.accept(&pages[*number], &RULES).iter().filter(|keep| **keep).count())
                .sum();
            assert_eq!((rows, walk.end().map(|end| end.stop)), (11, Some(StopReason::ShortPage)), "{order:?}");
        }
    }

    #[test]
    fn an_end_is_none_if_new_rows_lie_behind_it() {
        let mut walk = with([]);
        walk.accept(&page(1, 0..3), &RULES);
        assert_eq!(stop_of(&mut walk, &page(2, 3..5), &RULES), Some(StopReason::ShortPage));
        assert_eq!(stop_of(&mut walk, &page(3, 6..9), &RULES), None);
        assert_eq!(walk.next_needed(&RULES), Some(PageNum(4)));
    }

    #[test]
    fn the_first_page_that_is_missing_is_the_one_that_is_needed() {
        let mut walk = with([1, 2, 5, 4]);
        assert_eq!((walk.next(), walk.next_needed(&RULES)), (PageNum(3), Some(PageNum(3))));
        walk.accept(&page(3, 0..3), &RULES);
        assert_eq!((walk.next(), walk.next_needed(&RULES)), (PageNum(6), Some(PageNum(6))));
        walk.ask(PageNum(6), &RULES);
        assert_eq!(walk.next_needed(&RULES), None);
    }

    #[test]
    fn pages_without_a_usable_row_do_not_go_on_for_ever() {
        let mut walk = with([]);
        let barren = |number| DecodedPage { received: 3, ..page(number, []) };
        assert_eq!(stop_of(&mut walk, &barren(1), &RULES), None);
        assert_eq!(walk.next_needed(&RULES), Some(PageNum(2)));
        assert_eq!(stop_of(&mut walk, &barren(2), &RULES), None);
        assert_eq!(stop_of(&mut walk, &barren(3), &RULES), Some(StopReason::Rejected));
    }

    #[test]
    fn a_last_page_without_a_usable_row_is_no_regular_end() {
        let barren = DecodedPage { received: 2, ..page(1, []) };
        assert_eq!(stop_of(&mut with([]), &barren, &RULES), Some(StopReason::Rejected));
    }

    #[test]
    fn an_answer_for_another_product_ends_the_walk_and_says_so() {
        let mut walk = with([]);
        walk.accept(&DecodedPage { received: 3, foreign: 3, ..page(1, []) }, &RULES);
        let end = walk.end().unwrap();
        assert_eq!(end.stop, StopReason::Rejected);
        assert!(end.said.as_ref().unwrap().contains("answer for another product"));
    }
}
