//! One item's walk: which pages it has, which row it has seen, which page comes next, and when it is over.
//!
//! The pages are a set and the cursor is derived from it, so that pages may come in any order. Everything is decided here
//! from decoded pages alone: the same pages in the same order give the same rows and the same end, in the first run, after
//! a crash and in a replay.

use std::collections::{BTreeSet, HashSet};

use crate::decode::{DecodedPage, Key};
use crate::endpoint::EndRule;
use crate::page::{ItemId, ItemIx, PageNum, StopReason};
use crate::retry::Tries;

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

/// The walk of one item.
#[derive(Debug)]
pub struct Walk {
    /// The item's place in the ledger.
    pub item: ItemIx,
    /// The item's id.
    pub id: ItemId,
    /// Failures of the page that is being asked for.
    pub tries: Option<Tries>,
    /// Whether an earlier run gave this page up while others came: its failures are its own.
    pub is_suspect: bool,
    /// Whether the page was already asked for once more after an answer that may have been billed.
    pub asked_again: bool,
    /// The first page that is missing.
    next: PageNum,
    /// Pages beyond it.
    beyond: BTreeSet<PageNum>,
    /// Keys of the rows so far; none: they must be loaded before the next page is read.
    seen: Option<HashSet<Key>>,
    barren: u8,
}

/// What became of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// For each row of the page, whether it is new to the walk.
    pub keep: Vec<bool>,
    /// Why the walk is over, if it is; with what there is to say about it.
    pub stop: Option<(StopReason, Option<String>)>,
}

impl Walk {
    /// A walk that has these pages. Its keys are loaded when they are needed, unless there are none.
    pub fn new(item: ItemIx, id: ItemId, rules: &Rules, pages: impl IntoIterator<Item = PageNum>) -> Self {
        let mut walk = Self {
            item,
            id,
            tries: None,
            is_suspect: false,
            asked_again: false,
            next: rules.first,
            beyond: BTreeSet::new(),
            seen: None,
            barren: 0,
        };
        for page in pages {
            walk.add(page);
        }
        if walk.is_new(rules) {
            walk.seen = Some(HashSet::new());
        }
        walk
    }

    /// The page to ask for.
    pub fn next(&self) -> PageNum {
        self.next
    }

    /// Whether nothing of it was read yet.
    pub fn is_new(&self, rules: &Rules) -> bool {
        self.next == rules.first && self.beyond.is_empty()
    }

    /// Rows whose keys are in memory; none if they must be loaded.
    pub fn keys(&self) -> Option<usize> {
        self.seen.as_ref().map(HashSet::len)
    }

    /// Takes over the keys of earlier rows.
    pub fn load(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.seen.get_or_insert_default().extend(keys);
    }

    /// Takes over how many pages without a single usable row come last.
    pub fn set_barren(&mut self, pages: u8) {
        self.barren = pages;
    }

    /// Frees the memory of its keys: they are in the ledger.
    pub fn unload(&mut self) {
        self.seen = None;
    }

    fn add(&mut self, page: PageNum) {
        self.beyond.insert(page);
        while self.beyond.remove(&self.next) {
            self.next = self.next.next();
        }
    }

    /// Reads a page whose rows are decoded. The keys must be loaded.
    pub fn accept(&mut self, page: &DecodedPage, rules: &Rules) -> Accepted {
        self.add(page.page);
        (self.tries, self.is_suspect, self.asked_again) = (None, false, false);
        let seen = self.seen.get_or_insert_default();
        let keep: Vec<bool> = page.keys.iter().map(|key| seen.insert(*key)).collect();
        let is_barren = page.received > 0 && page.keys.is_empty();
        self.barren = if is_barren { self.barren.saturating_add(1) } else { 0 };
        let stop = self.stop(page, &keep, rules);
        Accepted { keep, stop }
    }

    fn stop(&self, page: &DecodedPage, keep: &[bool], rules: &Rules) -> Option<(StopReason, Option<String>)> {
        let asked = usize::try_from(rules.page_size).unwrap_or(usize::MAX);
        let read = self.next.0.saturating_sub(rules.first.0);
        if page.foreign > 0 && page.keys.is_empty() {
            let reason = page.rejects.first().map_or("the rows belong to another item", |reject| &*reject.reason);
            let said =
                format!("page {} is an answer for another product: {}", page.page, crate::sanitize::Sanitized(reason));
            return Some((StopReason::Rejected, Some(said)));
        }
        if page.received == 0 {
            return Some((StopReason::EmptyPage, None));
        }
        if page.received < asked && page.keys.is_empty() {
            return Some((StopReason::Rejected, Some(format!("no usable row on the last page, page {}", page.page))));
        }
        if page.received < asked && rules.end == EndRule::ShortPage {
            return Some((StopReason::ShortPage, None));
        }
        if rules.max_pages.is_some_and(|most| read >= most) {
            return Some((StopReason::MaxPages, None));
        }
        if self.next > rules.last {
            let said = format!("the API numbers pages up to {}: rows beyond it cannot be reached", rules.last);
            return Some((StopReason::PageCap, Some(said)));
        }
        if !keep.is_empty() && !keep.contains(&true) {
            let said = format!("every row of page {} had come before: the API repeats itself", page.page);
            return Some((StopReason::RepeatedPage, Some(said)));
        }
        if self.barren >= BARREN_PAGES {
            let said = format!("no usable row on {BARREN_PAGES} pages in a row, the last one page {}", page.page);
            return Some((StopReason::Rejected, Some(said)));
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

    /// Takes note of a page. Some: the rule does not hold; the size on which the walks ended.
    pub fn doubt(&mut self, received: usize, stop: Option<StopReason>, rules: &Rules) -> Option<usize> {
        self.full |= received >= usize::try_from(rules.page_size).unwrap_or(usize::MAX);
        if stop == Some(StopReason::ShortPage) {
            self.sizes_differ |= self.size.is_some_and(|size| size != received);
            self.size = Some(received);
            self.walks = self.walks.saturating_add(1);
        }
        self.doubted(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::{Rules, ShortPages, Walk};
    use crate::decode::DecodedPage;
    use crate::endpoint::EndRule;
    use crate::page::{AttemptId, ItemId, ItemIx, PageNum, StopReason};

    const RULES: Rules =
        Rules { first: PageNum(1), last: PageNum(7), page_size: 3, max_pages: None, end: EndRule::ShortPage };

    fn page(number: u32, keys: impl IntoIterator<Item = u8>) -> DecodedPage {
        let keys: Vec<_> = keys.into_iter().map(|key| [key; 16]).collect();
        let (item, id, received) = (ItemIx(1), ItemId::new("a"), keys.len());
        DecodedPage {
            attempt: AttemptId(1),
            item,
            id,
            page: PageNum(number),
            keys,
            received,
            foreign: 0,
            rejects: Vec::new(),
        }
    }

    fn walk() -> Walk {
        Walk::new(ItemIx(1), ItemId::new("a"), &RULES, [])
    }

    fn stop_of(walk: &mut Walk, page: &DecodedPage, rules: &Rules) -> Option<StopReason> {
        walk.accept(page, rules).stop.map(|(stop, _)| stop)
    }

    #[test]
    fn a_short_page_ends_a_walk_and_a_full_one_does_not() {
        let mut walk = walk();
        assert_eq!(stop_of(&mut walk, &page(1, 0..3), &RULES), None);
        assert_eq!(walk.next(), PageNum(2));
        assert_eq!(stop_of(&mut walk, &page(2, 3..5), &RULES), Some(StopReason::ShortPage));
    }

    #[test]
    fn under_the_strict_rule_only_an_empty_page_ends_it() {
        let strict = Rules { end: EndRule::EmptyPage, ..RULES };
        let mut walk = walk();
        assert_eq!(stop_of(&mut walk, &page(1, 0..1), &strict), None);
        assert_eq!(stop_of(&mut walk, &page(2, []), &strict), Some(StopReason::EmptyPage));
    }

    #[test]
    fn the_asked_number_of_pages_is_an_end_and_the_api_s_own_limit_is_a_cut() {
        let two = Rules { max_pages: Some(2), ..RULES };
        let mut walk = walk();
        assert_eq!(stop_of(&mut walk, &page(1, 0..3), &two), None);
        assert_eq!(stop_of(&mut walk, &page(2, 3..6), &two), Some(StopReason::MaxPages));
        let mut walk = Walk::new(ItemIx(1), ItemId::new("a"), &RULES, (1..7).map(PageNum));
        walk.load([]);
        assert_eq!(stop_of(&mut walk, &page(7, 0..3), &RULES), Some(StopReason::PageCap));
    }

    #[test]
    fn a21_the_last_page_that_the_api_numbers_is_asked_for_and_none_behind_it() {
        let rules = Rules { last: PageNum(100_000), ..RULES };
        let at = |pages: u32| {
            let mut walk = Walk::new(ItemIx(1), ItemId::new("a"), &rules, (1..=pages).map(PageNum));
            walk.load([]);
            walk
        };
        assert_eq!(stop_of(&mut at(99_998), &page(99_999, 0..3), &rules), None);
        assert_eq!(at(99_999).next(), PageNum(100_000));
        assert_eq!(stop_of(&mut at(99_999), &page(100_000, 0..3), &rules), Some(StopReason::PageCap));
        assert_eq!(stop_of(&mut at(99_999), &page(100_000, 0..2), &rules), Some(StopReason::ShortPage));
        assert_eq!(stop_of(&mut at(99_999), &page(100_000, []), &rules), Some(StopReason::EmptyPage));
        let wanted = Rules { max_pages: Some(100_000), ..rules };
        assert_eq!(stop_of(&mut at(99_999), &page(100_000, 0..3), &wanted), Some(StopReason::MaxPages));
    }

    #[test]
    fn rows_seen_before_are_folded_and_a_page_of_nothing_else_ends_the_walk() {
        let mut walk = walk();
        walk.accept(&page(1, 0..3), &RULES);
        let accepted = walk.accept(&page(2, [2, 3, 3]), &RULES);
        assert_eq!((accepted.keep, accepted.stop), (vec![false, true, false], None));
        assert_eq!(stop_of(&mut walk, &page(3, [1, 2, 3]), &RULES), Some(StopReason::RepeatedPage));
    }

    #[test]
    fn the_cursor_is_the_first_page_that_is_missing() {
        let mut walk = Walk::new(ItemIx(1), ItemId::new("a"), &RULES, [1, 2, 5, 4].map(PageNum));
        assert_eq!(walk.next(), PageNum(3));
        walk.accept(&page(3, 0..3), &RULES);
        assert_eq!(walk.next(), PageNum(6));
    }

    #[test]
    fn a_page_longer_than_asked_is_no_end() {
        assert_eq!(stop_of(&mut walk(), &page(1, 0..50), &RULES), None);
    }

    #[test]
    fn pages_without_a_usable_row_do_not_go_on_for_ever() {
        let mut walk = walk();
        let barren = |number| DecodedPage { received: 3, ..page(number, []) };
        assert_eq!(stop_of(&mut walk, &barren(1), &RULES), None);
        assert_eq!(stop_of(&mut walk, &barren(2), &RULES), None);
        assert_eq!(stop_of(&mut walk, &barren(3), &RULES), Some(StopReason::Rejected));
    }

    #[test]
    fn a_last_page_without_a_usable_row_is_no_regular_end() {
        let barren = DecodedPage { received: 2, ..page(1, []) };
        assert_eq!(stop_of(&mut walk(), &barren, &RULES), Some(StopReason::Rejected));
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
    fn an_answer_for_another_product_ends_the_walk_and_says_so() {
        let accepted = walk().accept(&DecodedPage { received: 3, foreign: 3, ..page(1, []) }, &RULES);
        let (stop, said) = accepted.stop.unwrap();
        assert_eq!(stop, StopReason::Rejected);
        assert!(said.unwrap().contains("answer for another product"));
    }

    #[test]
    fn twenty_walks_that_end_on_one_size_with_no_full_page_put_the_rule_in_doubt() {
        let mut short = ShortPages::default();
        for _ in 1..20 {
            assert_eq!(short.doubt(2, Some(StopReason::ShortPage), &RULES), None);
        }
        assert_eq!(short.doubt(2, Some(StopReason::ShortPage), &RULES), Some(2));
        for calm in [&mut ShortPages::new(true, &[(2, 30)]), &mut ShortPages { sizes_differ: true, ..short }] {
            assert!((0..50).all(|_| calm.doubt(2, Some(StopReason::ShortPage), &RULES).is_none()));
        }
        assert_eq!(short.doubt(3, None, &RULES), None);
    }
}
