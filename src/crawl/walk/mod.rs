//! One item's walk: which pages it has, which rows it has seen, and when it is over.
//!
//! The pages are a set, and may come in any order. What a page means for the end is decided in the order of the pages, by
//! their counts alone. So the same pages give the same end: in the first run, after a crash and in a replay, requested one by one
//! or ahead, whatever was lost. Which row is published is decided in the order in which pages are applied, which is the
//! journal's. Which row is *fresh* is decided by page numbers: it is fresh on the first page that has it.

mod ends;
mod moves;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::crawl::end_of_list::{End, PagingRules};
use crate::crawl::lookahead::{Lookahead, Stage, WalkPages};
use crate::crawl::survey::Depth;
use crate::decode::{DecodedPage, Key};
use crate::model::page::{AttemptId, Counts, ItemId, ItemIx, PageNum, StopReason};
use crate::model::sanitize::Sanitized;
use crate::state::ledger::RetryRow;
use ends::PageRefusal;
use moves::Moves;

/// Pages that were requested ahead, arrived, and are not known to be in the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookaheadCost {
    /// They are behind the end, or repeat others.
    pub in_vain: u32,
    /// They have new rows, and may be what the API shows for any page number.
    pub in_doubt: u32,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact about the list, and no two exclude each other")]
pub struct Walk {
    pub item: ItemIx,
    pub id: ItemId,
    /// Failures of its first missing page that earlier runs proved to be its own.
    pub proven_failures: u32,
    /// Runs in which that page had all its tries and nothing showed whose fault it was.
    pub unproven_runs: u32,
    /// Whether an earlier run gave it up at that page for a reason that may pass.
    pub failed_before: bool,
    /// Whether it had ended before, and only a page behind its end is requested.
    pub is_revisit: bool,
    /// The first page that is missing.
    next: PageNum,
    /// The last page before it, if there is one.
    last: Option<(PageNum, Counts)>,
    /// Pages behind it.
    beyond: BTreeMap<PageNum, Counts>,
    /// Pages that the API refused though others arrived before them.
    refused: BTreeMap<PageNum, PageRefusal>,
    lookahead: Lookahead,
    /// The first page that has each row so far. None: the rows must be loaded before the next page is applied.
    first_pages: Option<HashMap<Key, PageNum>>,
    /// The pages right before the first missing one that have rows of which none is usable.
    pages_without_valid_rows: u8,
    end: Option<End>,
    /// Ends at pages up to this one are ignored.
    skip: Option<PageNum>,
    /// Pages that are requested to see whether it has ended.
    checks: BTreeSet<PageNum>,
    /// Pages right behind the end that arrived and are not checks.
    behind_end: u32,
    /// Pages that were requested ahead in vain, and may have been billed.
    in_doubt: BTreeSet<PageNum>,
    /// Pages that were requested ahead and whose responses were lost.
    lost: BTreeSet<PageNum>,
    /// Whether a page was for another item, which ends the walk whatever else comes.
    is_foreign: bool,
    /// Whether a page with fresh rows followed a short one.
    continues_behind_short: bool,
    /// How often a refused page was requested again.
    refusal_retries: u8,
    /// A page without a list of rows, though a page behind it has rows.
    page_without_list: Option<PageNum>,
    /// A page without a usable row at which its end was skipped.
    skipped_page: Option<PageNum>,
    moves: Moves,
    /// Whether any page had a row.
    has_rows: bool,
}

impl Walk {
    /// A walk that has these pages. Its rows are loaded when they are needed, unless there are none. Ends at pages up to
    /// `skip` are ignored: the walk was reopened to continue behind them.
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
            proven_failures: 0,
            unproven_runs: 0,
            failed_before: false,
            is_revisit: false,
            next: rules.first,
            last: None,
            beyond: BTreeMap::new(),
            refused: BTreeMap::new(),
            lookahead: Lookahead::new(rules),
            first_pages: None,
            pages_without_valid_rows: 0,
            end: None,
            skip,
            checks: BTreeSet::new(),
            behind_end: 0,
            in_doubt: BTreeSet::new(),
            lost: BTreeSet::new(),
            is_foreign: false,
            continues_behind_short: false,
            refusal_retries: 0,
            page_without_list: None,
            skipped_page: None,
            moves: Moves::default(),
            has_rows: false,
        };
        // All pages are added before the first one is judged, as if they had come one by one.
        walk.beyond.extend(pages);
        let mut contiguous = rules.first;
        for (page, counts) in &walk.beyond {
            walk.has_rows |= counts.received > 0;
            if *page == contiguous {
                walk.lookahead.require(*page);
                contiguous = page.next();
            }
            walk.lookahead.record_page(*page, *counts, WalkPages { rules, next: walk.next, beyond: &walk.beyond });
        }
        walk.advance(rules);
        if walk.is_new(rules) {
            walk.first_pages = Some(HashMap::new());
        }
        walk
    }

    /// The first page that is missing: how deep the walk is.
    pub fn next(&self) -> PageNum {
        self.next
    }

    /// Whether it has no pages yet.
    pub fn is_new(&self, rules: &PagingRules) -> bool {
        self.next == rules.first && self.beyond.is_empty()
    }

    /// What the ledger keeps of its failures.
    pub(crate) fn retry_row(&self) -> RetryRow {
        RetryRow { item: self.item, tries: self.proven_failures, unproven: self.unproven_runs }
    }

    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Whether any of its pages had a row.
    pub fn has_rows(&self) -> bool {
        self.has_rows
    }

    /// Whether a page with fresh rows followed a short one: then a short page is no end in this list.
    pub fn continues_behind_short(&self) -> bool {
        self.continues_behind_short
    }

    /// Sets a hint at its last page, which is used and not trusted.
    pub fn set_hint(&mut self, last: Option<PageNum>) {
        self.lookahead.set_hint(last);
    }

    /// Row keys in memory. None: they must be loaded.
    pub fn keys(&self) -> Option<usize> {
        self.first_pages.as_ref().map(HashMap::len)
    }

    /// Adds the keys of earlier rows, each with a page that has it.
    pub fn load_keys(&mut self, keys: impl IntoIterator<Item = (Key, PageNum)>) {
        let first_pages = self.first_pages.get_or_insert_default();
        for (key, page) in keys {
            first_pages.entry(key).and_modify(|first| *first = page.min(*first)).or_insert(page);
        }
    }

    /// Frees the memory of its keys, which are in the ledger.
    pub fn unload_keys(&mut self) {
        self.first_pages = None;
    }

    /// A needed page that was not requested.
    pub fn next_needed(&self, rules: &PagingRules) -> Option<PageNum> {
        self.lookahead.next_needed(self.pages(rules)).filter(|page| self.may_request(*page))
    }

    /// The first page that is not known to exist, if it can be requested and was not. It is needed in any case.
    pub fn next_unknown(&self, rules: &PagingRules) -> Option<PageNum> {
        self.lookahead.next_unknown(self.pages(rules)).filter(|page| self.may_request(*page))
    }

    /// A page ahead to request, which may turn out to be behind the end.
    pub fn probe(&self, rules: &PagingRules) -> Option<(Stage, PageNum)> {
        self.lookahead.probe(self.pages(rules)).filter(|(_, page)| self.may_request(*page))
    }

    /// How deep it is, as far as its pages show it. None: it has ended.
    pub(crate) fn depth(&self, rules: &PagingRules) -> Option<Depth> {
        if self.end.is_some() {
            return None;
        }
        let count = |page: PageNum| page.0.saturating_add(1).saturating_sub(rules.first.0);
        let is_inside = |counts: &Counts| rules.is_full(*counts) && counts.fresh > 0;
        let far = self.beyond.iter().rev().find(|(_, counts)| is_inside(counts)).map_or(0, |(page, _)| count(*page));
        let mut exists = far.max(self.next.0.saturating_sub(rules.first.0));
        let outside = self.beyond.iter().find(|(page, counts)| count(**page) > exists && !is_inside(counts));
        let refused = self.refused.keys().find(|page| count(**page) > exists).map(|page| count(*page));
        if let Some((page, _)) = outside.filter(|(_, counts)| counts.received > 0) {
            exists = count(*page).saturating_sub(1).max(exists);
        }
        let of_page = |(page, counts): (&PageNum, &Counts)| match counts.received {
            0 => Depth::before_empty(exists, count(*page)),
            _ => count(*page),
        };
        let refused = refused.map(|page| Depth::before_empty(exists, page));
        let at_most = outside.map(of_page).into_iter().chain(refused).min();
        Some(Depth { exists, at_most, limit: count(rules.limit()) })
    }

    /// Records that a page is requested.
    pub fn request(&mut self, page: PageNum, rules: &PagingRules) {
        if self.next_needed(rules) == Some(page) {
            self.lookahead.send_in_order(page);
        } else {
            self.lookahead.send_out_of_order(page);
        }
    }

    /// Records that a page is requested to see whether the walk has ended.
    pub fn request_check(&mut self, page: PageNum) {
        self.checks.insert(page);
        self.lookahead.send_out_of_order(page);
    }

    /// Records that a page did not come and is no longer requested.
    pub fn request_again(&mut self, page: PageNum) {
        self.lookahead.request_again(page);
    }

    /// Whether a page is needed, whatever the other pages show.
    pub fn needs(&self, page: PageNum) -> bool {
        self.lookahead.needs(page)
    }

    /// An estimate of how many unknown pages it has.
    pub fn unknown(&self, rules: &PagingRules) -> u32 {
        self.lookahead.unknown(rules)
    }

    /// An estimate of how many pages of it are still to be requested.
    pub fn expected(&self, rules: &PagingRules) -> f64 {
        self.lookahead.expected(self.next, rules)
    }

    /// Its pages that were requested ahead and arrived, as far as is known now.
    pub fn lookahead_cost(&self) -> LookaheadCost {
        let mut cost = LookaheadCost { in_vain: self.behind_end, in_doubt: 0 };
        for (page, counts) in self.beyond.range(self.lookahead.first_unknown().next()..) {
            if self.checks.contains(page) {
                continue;
            }
            let is_in_vain = self.lookahead.is_untrusted() || counts.fresh == 0;
            let count = if is_in_vain { &mut cost.in_vain } else { &mut cost.in_doubt };
            *count = count.saturating_add(1);
        }
        cost
    }

    /// Whether a page behind this one is known to have rows that no page before it has.
    pub fn has_rows_behind(&self, page: PageNum) -> bool {
        self.beyond.range(page.next()..).any(|(_, counts)| counts.fresh > 0)
    }

    /// Records that a page which is not needed will not come. `in_doubt`: it may have been billed all the same. `passes`: its
    /// failure may pass.
    pub fn record_lost(&mut self, page: PageNum, is_refused: bool, in_doubt: bool, passes: bool) {
        self.lookahead.record_failure(page, is_refused);
        if passes {
            self.lost.insert(page);
        }
        if in_doubt {
            self.in_doubt.insert(page);
        }
    }

    /// Whether a page was requested in vain and may have been billed.
    pub fn is_in_doubt(&self, page: PageNum) -> bool {
        self.in_doubt.contains(&page)
    }

    /// Applies a decoded page. Returns for each row whether it is published. `came`: the newest attempt when the page arrived. The
    /// keys must be loaded.
    pub fn accept(&mut self, page: &DecodedPage, came: AttemptId, rules: &PagingRules) -> Vec<bool> {
        let number = page.request.page;
        let first_pages = self.first_pages.get_or_insert_default();
        let mut keep = Vec::with_capacity(page.keys.len());
        let asked = page.request.attempt;
        let mut counts = Counts { received: page.received, is_list: page.is_list, asked, came, ..Counts::default() };
        for key in &page.keys {
            match first_pages.entry(*key) {
                Entry::Vacant(free) => {
                    free.insert(number);
                    keep.push(true);
                    counts.fresh += 1;
                }
                Entry::Occupied(mut known) => {
                    keep.push(false);
                    let first = *known.get();
                    if first > number {
                        known.insert(number);
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
        self.beyond.insert(number, counts);
        self.lookahead.record_page(number, counts, WalkPages { rules, next: self.next, beyond: &self.beyond });
        self.advance(rules);
        if page.foreign > 0 && page.keys.is_empty() {
            self.is_foreign = true;
            let reason = page.rejects.first().map_or("the rows belong to another item", |reject| &*reject.reason);
            let message = format!("page {number} is a response for another product: {}", Sanitized(reason));
            self.end = Some(End::new(StopReason::ForeignPage, Some(message), page.received));
        }
        keep
    }

    fn pages<'a>(&'a self, rules: &'a PagingRules) -> WalkPages<'a> {
        WalkPages { rules, next: self.next, beyond: &self.beyond }
    }

    /// Goes on to the first page that is missing, and judges each page on the way.
    fn advance(&mut self, rules: &PagingRules) {
        if self.end.as_ref().is_some_and(|end| self.is_disproved(end)) {
            (self.end, self.behind_end) = (None, 0);
        }
        while let Some(counts) = self.beyond.get(&self.next).copied() {
            let is_outdated = self.is_next_outdated();
            if !self.moves.accepts(is_outdated) {
                break;
            }
            let page = self.next;
            self.beyond.remove(&page);
            self.moves.pass(page, counts);
            self.next = page.next();
            self.note_oddities(page, counts, rules);
            self.last = Some((page, counts));
            if !self.is_foreign && (self.end.is_none() || counts.fresh > 0) {
                self.end = self.end_after(page, counts, rules);
            }
        }
        if self.end.is_none() {
            self.end = self.refused_at_next(rules).filter(|end| !self.is_disproved(end));
        }
        self.check_lost();
        self.confirm();
        if self.end.is_none() {
            self.lookahead.require(self.next);
        }
    }

    /// Takes note of what is unusual about the next page, before its end is judged.
    fn note_oddities(&mut self, page: PageNum, counts: Counts, rules: &PagingRules) {
        if let Some((before, before_counts)) = self.last.filter(|_| counts.fresh > 0) {
            self.continues_behind_short |= rules.is_short(before_counts);
            if !before_counts.is_list {
                self.page_without_list.get_or_insert(before);
            }
        }
        if counts.has_no_valid_rows() && self.skip.is_some_and(|skip| page <= skip) {
            self.skipped_page.get_or_insert(page);
        }
        let is_behind = self.end.is_some() && !self.checks.contains(&page);
        self.behind_end = self.behind_end.saturating_add(is_behind.into());
        let without = self.pages_without_valid_rows.saturating_add(1);
        self.pages_without_valid_rows = if counts.has_no_valid_rows() { without } else { 0 };
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
        observed: None,
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
        walk.load_keys([]);
        walk
    }

    /// Applies a page that arrived before another one was requested.
    fn apply(walk: &mut Walk, page: &DecodedPage, rules: &PagingRules) -> Vec<bool> {
        walk.accept(page, page.request.attempt, rules)
    }

    fn stop_of(walk: &mut Walk, page: &DecodedPage, rules: &PagingRules) -> Option<StopReason> {
        apply(walk, page, rules);
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
    fn rows_seen_before_are_duplicates_and_a_page_of_nothing_else_ends_the_walk() {
        let mut walk = with([]);
        apply(&mut walk, &page(1, 0..3), &RULES);
        assert_eq!(apply(&mut walk, &page(2, [2, 3, 3]), &RULES), [false, true, false]);
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
                    kept += apply(&mut walk, &pages[*number], &AUTO).iter().filter(|keep| **keep).count();
                }
                let end = walk.end().map(|end| (end.stop, end.check));
                let check = (rows == 13).then_some(PageNum(6));
                assert_eq!((kept, end), (rows, Some((stop, check))), "{last:?} behind the end, {order:?}");
                assert_eq!(walk.continues_behind_short(), rows == 13);
            }
        }
    }

    #[test]
    fn a_response_that_was_lost_ahead_changes_no_end() {
        let mut walk = with([1, 2, 3]);
        walk.record_lost(PageNum(6), false, true, true);
        apply(&mut walk, &page(5, 20..23), &AUTO);
        apply(&mut walk, &page(4, 9..11), &AUTO);
        assert_eq!(walk.end(), None, "rows are known behind the short page");
        assert_eq!(walk.next_needed(&AUTO), Some(PageNum(6)));
    }

    #[test]
    fn rows_that_were_put_in_ahead_make_pages_repeat_and_the_walk_goes_on_where_unseen_rows_are() {
        let mut walk = with([]);
        for (number, from) in [(1, 0), (2, 3), (3, 3)] {
            apply(&mut walk, &page(number, from..from + 3), &AUTO);
        }
        let end = walk.end().unwrap();
        assert_eq!((end.stop, end.check), (StopReason::RepeatedPage, Some(PageNum(4))));
        apply(&mut walk, &page(4, 6..9), &AUTO);
        assert_eq!((walk.end(), walk.next_needed(&AUTO)), (None, Some(PageNum(5))));
        apply(&mut walk, &page(5, 6..9), &AUTO);
        apply(&mut walk, &page(6, 3..6), &AUTO);
        assert_eq!(walk.end().map(|end| (end.stop, end.check)), Some((StopReason::EndRepeated, None)));
    }

    #[test]
    fn a_list_whose_next_page_is_refused_has_ended_if_the_one_behind_is_refused_too_and_lacks_a_page_if_not() {
        let refuse = |walk: &mut Walk, page| walk.refuse(PageNum(page), "HTTP 404".to_owned(), &AUTO);
        let mut walk = with([1, 2]);
        assert!(Walk::may_end_before(PageNum(3), &AUTO) && !Walk::may_end_before(PageNum(1), &AUTO));
        refuse(&mut walk, 3);
        assert_eq!(walk.end().map(|end| (end.stop, end.check)), Some((StopReason::EndRefused, Some(PageNum(4)))));
        refuse(&mut walk, 4);
        assert_eq!(walk.end().map(|end| (end.stop, end.check)), Some((StopReason::EndRefused, None)));
        let mut walk = with([1, 2]);
        refuse(&mut walk, 3);
        apply(&mut walk, &page(4, 20..23), &AUTO);
        assert_eq!((walk.end(), walk.missing_page().map(|(page, _)| page)), (None, Some(PageNum(3))));
    }

    #[test]
    fn null_in_the_middle_of_a_list_is_an_end_until_rows_come_behind_it_and_then_a_missing_page() {
        let mut walk = with([1, 2]);
        apply(&mut walk, &DecodedPage { is_list: false, ..page(3, []) }, &AUTO);
        assert_eq!(walk.end().map(|end| (end.stop, end.check)), Some((StopReason::EmptyPage, None)));
        assert_eq!(walk.missing_page(), None);
        apply(&mut walk, &page(4, 20..22), &AUTO);
        assert_eq!(walk.missing_page().map(|(page, _)| page), Some(PageNum(3)));
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
    fn an_end_is_none_if_there_are_new_rows_behind_it() {
        let mut walk = with([]);
        apply(&mut walk, &page(1, 0..3), &RULES);
        assert_eq!(stop_of(&mut walk, &page(2, 3..5), &RULES), Some(StopReason::ShortPage));
        assert_eq!(stop_of(&mut walk, &page(3, 6..9), &RULES), None);
        assert_eq!(walk.next_needed(&RULES), Some(PageNum(4)));
    }

    #[test]
    fn the_first_page_that_is_missing_is_the_one_that_is_needed() {
        let mut walk = with([1, 2, 5, 4]);
        assert_eq!((walk.next(), walk.next_needed(&RULES)), (PageNum(3), Some(PageNum(3))));
        apply(&mut walk, &page(3, 0..3), &RULES);
        assert_eq!((walk.next(), walk.next_needed(&RULES)), (PageNum(6), Some(PageNum(6))));
        walk.request(PageNum(6), &RULES);
        assert_eq!(walk.next_needed(&RULES), None);
    }

    #[test]
    fn pages_without_a_usable_row_do_not_go_on_for_ever() {
        let mut walk = with([]);
        let unusable = |number| DecodedPage { received: 3, ..page(number, []) };
        assert_eq!(stop_of(&mut walk, &unusable(1), &RULES), None);
        assert_eq!(walk.next_needed(&RULES), Some(PageNum(2)));
        assert_eq!(stop_of(&mut walk, &unusable(2), &RULES), None);
        assert_eq!(stop_of(&mut walk, &unusable(3), &RULES), Some(StopReason::Rejected));
    }

    #[test]
    fn a_last_page_without_a_usable_row_is_no_regular_end() {
        let unusable = DecodedPage { received: 2, ..page(1, []) };
        assert_eq!(stop_of(&mut with([]), &unusable, &RULES), Some(StopReason::Rejected));
    }

    #[test]
    fn a_response_for_another_product_ends_the_walk_and_says_so() {
        let mut walk = with([]);
        apply(&mut walk, &DecodedPage { received: 3, foreign: 3, ..page(1, []) }, &RULES);
        let end = walk.end().unwrap();
        assert_eq!(end.stop, StopReason::ForeignPage);
        assert!(end.message.as_ref().unwrap().contains("response for another product"));
    }
}
