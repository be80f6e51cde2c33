//! One item's walk: which pages it has, which rows it has seen, and when it is over.
//!
//! The pages are a set, and may come in any order. What a page means for the end is decided in the order of the pages, by
//! their counts alone: the same pages give the same end, in the first run, after a crash and in a replay, asked for one by
//! one or ahead, whatever was lost on the way. Which row is published is decided in the order in which pages were read,
//! which is the journal's; which row is *fresh* is decided by page numbers: the first page that holds a row is its home.

mod ends;
mod moves;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::crawl::end_of_list::{End, PagingRules};
use crate::crawl::lookahead::{Known, Lookahead, Stage};
use crate::decode::{DecodedPage, Key};
use crate::model::page::{AttemptId, Counts, ItemId, ItemIx, PageNum, StopReason};
use crate::model::sanitize::Sanitized;
use moves::Moves;

/// How often a refused page with rows behind it is asked for again.
const MOST_FORGIVEN: u8 = 2;

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
#[expect(clippy::struct_excessive_bools, reason = "each is one fact about the list, and no two exclude each other")]
pub struct Walk {
    /// The item's place in the ledger.
    pub item: ItemIx,
    /// The item's id.
    pub id: ItemId,
    /// Failures of its first missing page that earlier runs proved to be its own.
    pub tries: u32,
    /// Runs in which that page had all its tries and nothing showed whose fault it was.
    pub unproven: u32,
    /// Whether an earlier run gave it up at that page for a passing cause.
    pub failed_before: bool,
    /// The first page that is missing.
    next: PageNum,
    /// The last page before it, if there is one.
    last: Option<(PageNum, Counts)>,
    /// Pages beyond it.
    beyond: BTreeMap<PageNum, Counts>,
    /// Pages that the API refused, behind others that came, and what it said.
    refused: BTreeMap<PageNum, String>,
    /// Those of them that came as a success without a list.
    nulls: BTreeSet<PageNum>,
    depth: Lookahead,
    /// The rows so far, by the first page that holds each; none: they must be loaded before the next page is read.
    homes: Option<HashMap<Key, PageNum>>,
    /// Pages without a usable row, counted back from the first missing one.
    barren: u8,
    end: Option<End>,
    /// Ends at pages up to this one are passed over.
    skip: Option<PageNum>,
    /// Pages that are asked for to see whether it has ended.
    checks: BTreeSet<PageNum>,
    /// Pages right behind the end that came, and were not asked for to see whether it is one.
    behind: u32,
    /// Pages that were asked for ahead in vain, and may have been billed.
    in_doubt: BTreeSet<PageNum>,
    /// Pages that were asked for ahead and whose responses were lost.
    lost: BTreeSet<PageNum>,
    /// Whether a page answered for another item, which ends it whatever else comes.
    is_foreign: bool,
    /// Whether a page with fresh rows followed a short one.
    goes_on_behind_short: bool,
    /// How often a refusal was taken back.
    forgiven: u8,
    /// A page that came without a list of rows, though a page behind it has rows.
    gap: Option<PageNum>,
    /// A page without a usable row that it was told to go on behind.
    lacks: Option<PageNum>,
    moves: Moves,
    /// Whether any page had a row.
    has_rows: bool,
}

impl Walk {
    /// A walk that has these pages. Its rows are loaded when they are needed, unless there are none. Ends at pages up to
    /// `skip` are passed over: it was opened again to go on behind them.
    pub fn new(
        item: ItemIx,
        id: ItemId,
        rules: &PagingRules,
        pages: impl IntoIterator<Item = (PageNum, Counts)>,
        skip: Option<PageNum>,
    ) -> Self {
        let mut walk = Self {
            item,
            id,
            tries: 0,
            unproven: 0,
            failed_before: false,
            next: rules.first,
            last: None,
            beyond: BTreeMap::new(),
            refused: BTreeMap::new(),
            nulls: BTreeSet::new(),
            depth: Lookahead::new(rules),
            homes: None,
            barren: 0,
            end: None,
            skip,
            checks: BTreeSet::new(),
            behind: 0,
            in_doubt: BTreeSet::new(),
            lost: BTreeSet::new(),
            is_foreign: false,
            goes_on_behind_short: false,
            forgiven: 0,
            gap: None,
            lacks: None,
            moves: Moves::default(),
            has_rows: false,
        };
        // All of them are there before the first one is judged, as if they had come one by one.
        walk.beyond.extend(pages);
        let mut contiguous = rules.first;
        for (page, counts) in &walk.beyond {
            walk.has_rows |= counts.received > 0;
            if *page == contiguous {
                walk.depth.pass(*page);
                contiguous = page.next();
            }
            walk.depth.learn(*page, *counts, rules, |page| known(&walk.beyond, walk.next, page, rules));
        }
        walk.advance(rules);
        if walk.is_new(rules) {
            walk.homes = Some(HashMap::new());
        }
        walk
    }

    /// The first page that is missing: how deep the walk is.
    pub fn next(&self) -> PageNum {
        self.next
    }

    /// Whether nothing of it was read yet.
    pub fn is_new(&self, rules: &PagingRules) -> bool {
        self.next == rules.first && self.beyond.is_empty()
    }

    /// Why it is over, if it is.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Whether any of its pages had a row.
    pub fn has_rows(&self) -> bool {
        self.has_rows
    }

    /// Whether a page with new rows followed a page with fewer than a full one has: then short pages are no end here.
    pub fn goes_on_behind_short(&self) -> bool {
        self.goes_on_behind_short
    }

    /// Takes a hint at its last page, which is used and not trusted.
    pub fn hint(&mut self, last: Option<PageNum>) {
        self.depth.hint(last);
    }

    /// Rows whose keys are in memory; none if they must be loaded.
    pub fn keys(&self) -> Option<usize> {
        self.homes.as_ref().map(HashMap::len)
    }

    /// Takes over the keys of earlier rows, each with a page that holds it.
    pub fn load(&mut self, keys: impl IntoIterator<Item = (Key, PageNum)>) {
        let homes = self.homes.get_or_insert_default();
        for (key, page) in keys {
            homes.entry(key).and_modify(|home| *home = page.min(*home)).or_insert(page);
        }
    }

    /// Frees the memory of its keys: they are in the ledger.
    pub fn unload(&mut self) {
        self.homes = None;
    }

    /// A page to ask for that is needed in any case.
    pub fn next_needed(&self, rules: &PagingRules) -> Option<PageNum> {
        let known = |page| self.known(page, rules);
        self.depth.next_needed(self.next, rules, known).filter(|page| self.may_ask(*page))
    }

    /// The first page that is not known to exist, if it can be asked for and was not: it is needed in any case.
    pub fn next_unknown(&self, rules: &PagingRules) -> Option<PageNum> {
        let known = |page| self.known(page, rules);
        self.depth.next_unknown(self.next, rules, known).filter(|page| self.may_ask(*page))
    }

    /// A page ahead to ask for, that may turn out to lie behind the end.
    pub fn probe(&self, rules: &PagingRules) -> Option<(Stage, PageNum)> {
        let probe = self.depth.probe(self.next, rules, |page| self.known(page, rules));
        probe.filter(|(_, page)| self.may_ask(*page))
    }

    /// Takes note that a page is asked for. Gives whether it is one that may turn out to lie behind the end.
    pub fn ask(&mut self, page: PageNum, rules: &PagingRules) -> bool {
        let is_probe = !self.depth.needs(page);
        if is_probe || self.next_needed(rules) != Some(page) {
            self.depth.send(page);
        } else {
            self.depth.ask(page);
        }
        is_probe
    }

    /// Takes note that a page is asked for to see whether it has ended.
    pub fn ask_check(&mut self, page: PageNum) {
        self.checks.insert(page);
        self.depth.send(page);
    }

    /// Takes note that a page which was asked for did not come and is not asked for any more.
    pub fn ask_again(&mut self, page: PageNum) {
        self.depth.ask_again(page);
    }

    /// Whether a page is needed, whatever else comes.
    pub fn needs(&self, page: PageNum) -> bool {
        self.depth.needs(page)
    }

    /// How many pages of it there may be of which nothing is known.
    pub fn unknown(&self, rules: &PagingRules) -> u32 {
        self.depth.unknown(rules)
    }

    /// How many pages of it are expected to be asked for yet.
    pub fn expected(&self, rules: &PagingRules) -> f64 {
        self.depth.expected(self.next, rules)
    }

    /// What became of the pages that were asked for ahead and came, as far as it is known now.
    pub fn ahead(&self) -> Ahead {
        let mut ahead = Ahead { in_vain: self.behind, in_doubt: 0 };
        let beyond = self.beyond.range(self.depth.edge().next()..).filter(|(page, _)| !self.checks.contains(page));
        for counts in beyond.map(|(_, counts)| counts) {
            if self.depth.is_flat() || counts.fresh == 0 {
                ahead.in_vain = ahead.in_vain.saturating_add(1);
            } else {
                ahead.in_doubt = ahead.in_doubt.saturating_add(1);
            }
        }
        ahead
    }

    /// Whether a page behind this one is known to hold rows that no page before holds.
    pub fn has_rows_behind(&self, page: PageNum) -> bool {
        self.beyond.range(page.next()..).any(|(_, counts)| counts.fresh > 0)
    }

    /// Takes note that a page which is not needed will not come. `in_doubt`: it may have been billed all the same.
    /// `passes`: another request may fare better.
    pub fn lost(&mut self, page: PageNum, is_refused: bool, in_doubt: bool, passes: bool) {
        self.depth.lost(page, is_refused);
        if passes {
            self.lost.insert(page);
        }
        if in_doubt {
            self.in_doubt.insert(page);
        }
    }

    /// Whether a page was asked for ahead and may have been billed.
    pub fn is_in_doubt(&self, page: PageNum) -> bool {
        self.in_doubt.contains(&page)
    }

    /// Reads a page whose rows are decoded: says for each of them whether it is published. `came`: the newest request by when
    /// it came. The keys must be loaded.
    pub fn accept(&mut self, page: &DecodedPage, came: AttemptId, rules: &PagingRules) -> Vec<bool> {
        let number = page.request.page;
        let homes = self.homes.get_or_insert_default();
        let mut keep = Vec::with_capacity(page.keys.len());
        let asked = page.request.attempt;
        let mut counts = Counts { received: page.received, is_list: page.is_list, asked, came, ..Counts::default() };
        for key in &page.keys {
            match homes.entry(*key) {
                Entry::Vacant(free) => {
                    free.insert(number);
                    keep.push(true);
                    counts.fresh += 1;
                }
                Entry::Occupied(mut home) => {
                    keep.push(false);
                    let first = *home.get();
                    if first > number {
                        home.insert(number);
                        counts.fresh += 1;
                        if let Some(later) = self.beyond.get_mut(&first) {
                            later.fresh = later.fresh.saturating_sub(1);
                            later.repeat(number);
                        }
                    } else if first < number {
                        counts.repeat(first);
                    }
                }
            }
        }
        counts.rejected = page.received.saturating_sub(page.keys.len());
        self.has_rows |= counts.received > 0;
        self.lost.remove(&number);
        self.add(number, counts, rules);
        if page.foreign > 0 && page.keys.is_empty() {
            self.is_foreign = true;
            let reason = page.rejects.first().map_or("the rows belong to another item", |reject| &*reject.reason);
            let message = format!("page {number} is an answer for another product: {}", Sanitized(reason));
            let (stop, message) = (StopReason::Rejected, Some(message));
            self.end =
                Some(End { stop, message, received: page.received, check: None, is_wrap: false, is_must: false });
        }
        keep
    }

    fn add(&mut self, page: PageNum, counts: Counts, rules: &PagingRules) {
        self.beyond.insert(page, counts);
        self.depth.learn(page, counts, rules, |page| known(&self.beyond, self.next, page, rules));
        self.advance(rules);
    }

    fn known(&self, page: PageNum, rules: &PagingRules) -> Known {
        known(&self.beyond, self.next, page, rules)
    }

    /// Goes on to the first page that is missing, and judges each page on the way.
    fn advance(&mut self, rules: &PagingRules) {
        if self.end.as_ref().is_some_and(|end| self.is_passed(end)) {
            (self.end, self.behind) = (None, 0);
        }
        while let Some(counts) = self.beyond.get(&self.next).copied() {
            if !self.moves.may_pass(counts, self.end.as_ref()) {
                break;
            }
            let page = self.next;
            self.beyond.remove(&page);
            self.moves.pass(page, counts);
            self.next = page.next();
            let follows_short = self.last.is_some_and(|(_, before)| rules.is_short(before));
            self.goes_on_behind_short |= follows_short && counts.fresh > 0;
            let no_list = self.last.filter(|(_, before)| !before.is_list && counts.fresh > 0);
            self.gap = self.gap.or(no_list.map(|(before, _)| before));
            self.last = Some((page, counts));
            let is_lacking = counts.has_no_valid_rows() && self.skip.is_some_and(|skip| page <= skip);
            self.lacks = self.lacks.or(is_lacking.then_some(page));
            let is_behind = self.end.is_some() && !self.checks.contains(&page);
            self.behind = self.behind.saturating_add(is_behind.into());
            self.barren = if counts.has_no_valid_rows() { self.barren.saturating_add(1) } else { 0 };
            if !self.is_foreign && (self.end.is_none() || counts.fresh > 0) {
                self.end = self.judged(page, counts, rules);
            }
        }
        if self.end.is_none() {
            self.end = self.refused_at_next(rules).filter(|end| !self.is_passed(end));
        }
        self.check_lost();
        self.confirm();
        if self.end.is_none() {
            self.depth.pass(self.next);
        }
    }
}

fn known(beyond: &BTreeMap<PageNum, Counts>, next: PageNum, page: PageNum, rules: &PagingRules) -> Known {
    match beyond.get(&page) {
        None if page < next => Known::Solid,
        None => Known::Missing,
        Some(counts) if rules.is_full(*counts) && counts.fresh > 0 => Known::Solid,
        Some(counts) if rules.is_full(*counts) && counts.usable() > 0 => Known::Repeat,
        Some(_) => Known::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::Walk;
    use crate::crawl::end_of_list::PagingRules;
    use crate::decode::DecodedPage;
    use crate::endpoint::EndRule;
    use crate::model::page::{AttemptId, Counts, ItemId, ItemIx, PageNum, Request, StopReason};

    const RULES: PagingRules = PagingRules {
        first: PageNum(1),
        last: PageNum(7),
        page_size: 3,
        max_pages: None,
        end: EndRule::ShortPage,
        learned: None,
    };
    const AUTO: PagingRules = PagingRules { end: EndRule::Auto, last: PageNum(99), ..RULES };

    fn page(number: u32, keys: impl IntoIterator<Item = u8>) -> DecodedPage {
        let keys: Vec<_> = keys.into_iter().map(|key| [key; 16]).collect();
        let (item, id, received) = (ItemIx(1), ItemId::new("a"), keys.len());
        let request = Request { attempt: AttemptId(number.into()), item, id, page: PageNum(number) };
        let drift = crate::decode::PageDrift::default();
        DecodedPage { request, keys, received, is_list: true, foreign: 0, rejects: Vec::new(), drift }
    }

    fn with(pages: impl IntoIterator<Item = u32>) -> Walk {
        let full = Counts { received: 3, fresh: 3, ..Counts::default() };
        let pages = pages.into_iter().map(|page| (PageNum(page), full));
        let mut walk = Walk::new(ItemIx(1), ItemId::new("a"), &RULES, pages, None);
        walk.load([]);
        walk
    }

    /// Reads a page that came before another one was asked for.
    fn read(walk: &mut Walk, page: &DecodedPage, rules: &PagingRules) -> Vec<bool> {
        walk.accept(page, page.request.attempt, rules)
    }

    fn stop_of(walk: &mut Walk, page: &DecodedPage, rules: &PagingRules) -> Option<StopReason> {
        read(walk, page, rules);
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
        let two = PagingRules { max_pages: Some(2), ..RULES };
        let mut walk = with([]);
        assert_eq!(stop_of(&mut walk, &page(1, 0..3), &two), None);
        assert_eq!(stop_of(&mut walk, &page(2, 3..6), &two), Some(StopReason::MaxPages));
        assert_eq!(stop_of(&mut with(1..7), &page(7, 0..3), &RULES), Some(StopReason::PageCap));
    }

    #[test]
    fn rows_seen_before_are_folded_and_a_page_of_nothing_else_ends_the_walk() {
        let mut walk = with([]);
        read(&mut walk, &page(1, 0..3), &RULES);
        assert_eq!(read(&mut walk, &page(2, [2, 3, 3]), &RULES), [false, true, false]);
        assert_eq!(walk.end(), None);
        assert_eq!(stop_of(&mut walk, &page(3, [1, 2, 3]), &RULES), Some(StopReason::RepeatedPage));
    }

    fn orders(pages: usize) -> Vec<Vec<usize>> {
        let mut orders = vec![Vec::new()];
        for number in 0..pages {
            orders = orders
                .iter()
                .flat_map(|order: &Vec<usize>| (0..=order.len()).map(move |at| (order.clone(), at)))
                .map(|(mut order, at)| {
                    order.insert(at, number);
                    order
                })
                .collect();
        }
        orders
    }

    #[test]
    fn the_same_pages_give_the_same_end_however_they_came_whatever_the_api_shows_behind_the_end() {
        let behind: [(&[u8], StopReason); 4] = [
            (&[], StopReason::ShortPage),        // nothing
            (&[9, 10], StopReason::ShortPage),   // the last page once more
            (&[0, 1, 2], StopReason::ShortPage), // the first page once more
            (&[11, 12], StopReason::ShortPage),  // rows: a short page is no end
        ];
        for (last, stop) in behind {
            let pages = [page(1, 0..3), page(2, 3..6), page(3, 6..9), page(4, 9..11), page(5, last.to_vec())];
            let rows = if last.contains(&11) { 13 } else { 11 };
            for order in orders(pages.len()) {
                let mut walk = with([]);
                let mut kept = 0;
                for number in &order {
                    kept += read(&mut walk, &pages[*number], &AUTO).iter().filter(|keep| **keep).count();
                }
                let end = walk.end().map(|end| (end.stop, end.check));
                let check = (rows == 13).then_some(PageNum(6));
                assert_eq!((kept, end), (rows, Some((stop, check))), "{last:?} behind the end, {order:?}");
                assert_eq!(walk.goes_on_behind_short(), rows == 13);
            }
        }
    }

    #[test]
    fn an_answer_that_was_lost_ahead_changes_no_end() {
        let mut walk = with([1, 2, 3]);
        walk.lost(PageNum(6), false, true, true);
        read(&mut walk, &page(5, 20..23), &AUTO);
        read(&mut walk, &page(4, 9..11), &AUTO);
        assert_eq!(walk.end(), None, "rows are known behind the short page");
        assert_eq!(walk.next_needed(&AUTO), Some(PageNum(6)));
    }

    #[test]
    fn rows_that_were_put_in_ahead_make_pages_repeat_and_the_walk_goes_on_where_unseen_rows_are() {
        let mut walk = with([]);
        for (number, from) in [(1, 0), (2, 3), (3, 3)] {
            read(&mut walk, &page(number, from..from + 3), &AUTO);
        }
        let end = walk.end().unwrap();
        assert_eq!((end.stop, end.check), (StopReason::RepeatedPage, Some(PageNum(4))));
        read(&mut walk, &page(4, 6..9), &AUTO);
        assert_eq!((walk.end(), walk.next_needed(&AUTO)), (None, Some(PageNum(5))));
        read(&mut walk, &page(5, 6..9), &AUTO);
        read(&mut walk, &page(6, 3..6), &AUTO);
        assert_eq!(walk.end().map(|end| (end.stop, end.check)), Some((StopReason::EndRepeated, None)));
    }

    #[test]
    fn a_list_whose_next_page_is_refused_has_ended_if_the_one_behind_is_refused_too_and_has_a_hole_if_not() {
        let refuse = |walk: &mut Walk, page| walk.refuse(PageNum(page), "HTTP 404".to_owned(), &AUTO);
        let mut walk = with([1, 2]);
        assert!(Walk::may_end_before(PageNum(3), &AUTO) && !Walk::may_end_before(PageNum(1), &AUTO));
        refuse(&mut walk, 3);
        assert_eq!(walk.end().map(|end| (end.stop, end.check)), Some((StopReason::EndRefused, Some(PageNum(4)))));
        refuse(&mut walk, 4);
        assert_eq!(walk.end().map(|end| (end.stop, end.check)), Some((StopReason::EndRefused, None)));
        let mut walk = with([1, 2]);
        refuse(&mut walk, 3);
        read(&mut walk, &page(4, 20..23), &AUTO);
        assert_eq!((walk.end(), walk.hole().map(|(page, _)| page)), (None, Some(PageNum(3))));
    }

    #[test]
    fn null_in_the_middle_of_a_list_is_an_end_until_rows_come_behind_it_and_then_a_hole() {
        let mut walk = with([1, 2]);
        read(&mut walk, &DecodedPage { is_list: false, ..page(3, []) }, &AUTO);
        assert_eq!(walk.end().map(|end| (end.stop, end.check)), Some((StopReason::EmptyPage, None)));
        assert_eq!(walk.hole(), None);
        read(&mut walk, &page(4, 20..22), &AUTO);
        assert_eq!(walk.hole().map(|(page, _)| page), Some(PageNum(3)));
    }

    #[test]
    fn a_walk_that_was_opened_again_goes_on_behind_the_end_that_it_had() {
        let counts = |fresh| Counts { received: 3, fresh, repeats: Some(PageNum(1)), ..Counts::default() };
        let pages = [(PageNum(1), counts(3)), (PageNum(2), counts(0))];
        let walk = |skip| Walk::new(ItemIx(1), ItemId::new("a"), &RULES, pages, skip);
        assert_eq!(walk(None).end().map(|end| end.stop), Some(StopReason::RepeatedPage));
        assert_eq!((walk(Some(PageNum(2))).end(), walk(Some(PageNum(2))).next()), (None, PageNum(3)));
    }

    #[test]
    fn an_end_is_none_if_new_rows_lie_behind_it() {
        let mut walk = with([]);
        read(&mut walk, &page(1, 0..3), &RULES);
        assert_eq!(stop_of(&mut walk, &page(2, 3..5), &RULES), Some(StopReason::ShortPage));
        assert_eq!(stop_of(&mut walk, &page(3, 6..9), &RULES), None);
        assert_eq!(walk.next_needed(&RULES), Some(PageNum(4)));
    }

    #[test]
    fn the_first_page_that_is_missing_is_the_one_that_is_needed() {
        let mut walk = with([1, 2, 5, 4]);
        assert_eq!((walk.next(), walk.next_needed(&RULES)), (PageNum(3), Some(PageNum(3))));
        read(&mut walk, &page(3, 0..3), &RULES);
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
        read(&mut walk, &DecodedPage { received: 3, foreign: 3, ..page(1, []) }, &RULES);
        let end = walk.end().unwrap();
        assert_eq!(end.stop, StopReason::Rejected);
        assert!(end.message.as_ref().unwrap().contains("answer for another product"));
    }
}
