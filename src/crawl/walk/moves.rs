//! Lists that move while they are read, and the pages that are outdated because of that.
//!
//! A row that is inserted at the head of a list pushes every other row back: rows come again on later pages, which costs nothing.
//! But a page that was requested before a page in front of it arrived may show the list as it was before. A row that has moved from
//! the one to the other in between is on neither. So a page is *outdated* if rows came again on a page in front of it that arrived
//! after it was requested. An outdated page is not applied: it is requested again, or, where that costs too much, the walk goes
//! on behind it and reports in the end that rows may be missing.
//!
//! This is decided from attempt numbers alone (`Counts::asked`, `Counts::came`), so that the same pages give the same result in
//! the first run, after a crash and in a replay. Rows that are removed ahead of the reader leave no such trace, nor does a list
//! that grows, between two pages, by more rows than were read of it before.

use super::Walk;
use crate::crawl::end_of_list::PagingRules;
use crate::decode::DecodedPage;
use crate::model::page::{AttemptId, Counts, PageNum, StopReason};

/// What the pages up to the first missing one have shown about moves.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact about the list, and no two exclude each other")]
pub(super) struct Moves {
    /// The newest attempt when the last page arrived that has rows of pages before it.
    seen_by: Option<AttemptId>,
    /// Whether rows came again on later pages.
    is_moved: bool,
    /// The first of the last pages that have only rows of pages before them: a move, if new rows come behind them.
    pub(super) repeats_from: Option<PageNum>,
    /// How far the rows of the last page were pushed: pages, and rows on the first of the pages that had them.
    pushed: Option<(u32, usize)>,
    /// Whether outdated pages are accepted, and whether one was.
    accepts_outdated: bool,
    is_shifted: bool,
    /// Whether the engine decided that pages are requested one after the other.
    is_in_order: bool,
}

impl Moves {
    /// Whether a page that arrived may be used.
    pub(super) fn accepts(&mut self, is_outdated: bool) -> bool {
        self.is_shifted |= is_outdated && self.accepts_outdated;
        !is_outdated || self.accepts_outdated
    }

    pub(super) fn pass(&mut self, page: PageNum, counts: Counts) {
        let pushed = counts.repeats.map(|first| (page.0.saturating_sub(first.0), counts.shared));
        // A page behind one that came again whole is pushed as far as that one, unless the list has moved once more.
        if counts.repeated > 0 && !(self.repeats_from.is_some() && pushed == self.pushed) {
            self.seen_by = self.seen_by.max(Some(counts.came));
        }
        self.pushed = pushed;
        self.is_moved |= counts.fresh > 0 && (counts.repeated > 0 || self.repeats_from.is_some());
        let repeats_all = counts.usable() > 0 && counts.fresh == 0;
        self.repeats_from = self.repeats_from.or(Some(page)).filter(|_| repeats_all);
    }

    fn outdates(&self, counts: Counts) -> bool {
        self.seen_by.is_some_and(|by| counts.asked <= by)
    }
}

impl Walk {
    /// Whether rows came again on later pages: the list moved while it was read.
    pub fn is_moved(&self) -> bool {
        self.moves.is_moved
    }

    /// Whether rows may be missing, because outdated pages were accepted.
    pub fn is_shifted(&self) -> bool {
        self.moves.is_shifted
    }

    /// From now on its pages are requested one after the other.
    pub fn read_in_order(&mut self) {
        self.moves.is_in_order = true;
    }

    /// The pages to request again, if it is [blocked](Self::is_blocked): all behind the next one, which may have the same rows.
    pub fn outdated(&self) -> Vec<PageNum> {
        if self.is_blocked() { self.beyond.keys().copied().collect() } else { Vec::new() }
    }

    /// Whether it waits for a decision about an outdated page: the next one, or the one that checks its end.
    pub fn is_blocked(&self) -> bool {
        !self.moves.accepts_outdated && (self.is_next_outdated() || self.is_check_outdated())
    }

    /// Whether the next page arrived and is outdated. Behind the end of a list that does not matter, unless the end is a repeated
    /// page: that one needs a check which is not outdated.
    pub(super) fn is_next_outdated(&self) -> bool {
        let is_over = self.end.as_ref().is_some_and(|end| end.stop != StopReason::RepeatedPage);
        let is_outdated = |counts: &Counts| self.moves.outdates(*counts) && !(is_over && counts.fresh == 0);
        self.beyond.get(&self.next).is_some_and(is_outdated)
    }

    /// Whether the page that checks whether a repeated page is the end came and is outdated.
    pub(super) fn is_check_outdated(&self) -> bool {
        let end = self.end.as_ref().filter(|end| end.stop == StopReason::RepeatedPage);
        let check = end.and_then(|end| self.beyond.get(&end.check?));
        check.is_some_and(|counts| self.moves.outdates(*counts))
    }

    /// Forgets the pages behind the first missing one: they are requested again, one after the other. The ledger must know that
    /// before the next page is applied.
    pub fn discard_outdated(&mut self) {
        for page in std::mem::take(&mut self.beyond).into_keys() {
            self.lookahead.request_again(page);
        }
        self.first_pages = None;
        self.moves.is_in_order = true;
    }

    pub fn take_outdated(&mut self, rules: &PagingRules) {
        self.moves.accepts_outdated = true;
        self.advance(rules);
    }

    /// Applies a page that is outdated: its rows are published, and show nothing about the list.
    pub fn accept_outdated(&mut self, page: &DecodedPage) -> Vec<bool> {
        let first_pages = self.first_pages.get_or_insert_default();
        let mut is_new = |key| {
            let is_new = !first_pages.contains_key(&key);
            if is_new {
                first_pages.insert(key, PageNum::NONE);
            }
            is_new
        };
        page.keys.iter().map(|key| is_new(*key)).collect()
    }

    /// Whether a page may be requested, as far as moves and refusals go. A list that moves is read in order, unless rows of it may
    /// be missing anyway.
    pub(super) fn may_request(&self, page: PageNum) -> bool {
        let Moves { is_in_order, is_moved, accepts_outdated, .. } = self.moves;
        let is_turn = page == self.next || !(is_in_order || is_moved && !accepts_outdated);
        is_turn && !self.is_blocked() && !self.refused.contains_key(&page)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::crawl::end_of_list::PagingRules;
    use crate::crawl::walk::Walk;
    use crate::decode::{DecodedPage, PageDrift};
    use crate::endpoint::EndRule;
    use crate::model::page::{AttemptId, ItemId, ItemIx, PageNum, Request, StopReason};

    const RULES: PagingRules = PagingRules {
        first: PageNum(1),
        last: PageNum(99),
        page_size: 3,
        max_pages: None,
        end: EndRule::Auto,
        observed: None,
    };

    /// A list of fourteen rows that gains rows at its head: a page of it, by the rows that were inserted until it was made.
    fn page(number: u32, inserted: u8, attempt: i64) -> DecodedPage {
        let rows: Vec<u8> = (0..inserted).rev().map(|row| 100 + row).chain(0..14).collect();
        let from = usize::try_from(number - 1).unwrap() * 3;
        let keys: Vec<_> = rows.iter().skip(from).take(3).map(|row| [*row; 16]).collect();
        let request =
            Request { attempt: AttemptId(attempt), item: ItemIx(1), id: ItemId::new("a"), page: PageNum(number) };
        let (received, drift) = (keys.len(), PageDrift::default());
        DecodedPage { request, keys, received, is_list: true, foreign: 0, rejects: Vec::new(), drift }
    }

    fn walk() -> Walk {
        Walk::new(ItemIx(1), ItemId::new("a"), &RULES, [], None)
    }

    #[test]
    fn a_list_that_is_read_in_order_loses_nothing_when_rows_are_inserted_at_its_head() {
        let mut walk = walk();
        for (number, inserted) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)] {
            walk.accept(&page(number, inserted, number.into()), AttemptId(number.into()), &RULES);
            assert_eq!(walk.outdated(), []);
        }
        assert!(walk.is_moved() && !walk.is_shifted());
        assert_eq!(walk.end().map(|end| end.stop), Some(StopReason::ShortPage));
    }

    #[test]
    fn a_page_that_was_asked_for_before_the_list_was_seen_to_move_is_read_again() {
        let mut walk = walk();
        walk.accept(&page(1, 0, 1), AttemptId(1), &RULES);
        walk.accept(&page(4, 0, 2), AttemptId(3), &RULES);
        walk.accept(&page(2, 0, 3), AttemptId(4), &RULES);
        assert_eq!((walk.outdated(), walk.is_moved()), (vec![], false));
        // Row 8 was the last one of page 3 and has moved to page 4, which arrived before.
        walk.accept(&page(3, 1, 4), AttemptId(4), &RULES);
        assert_eq!((walk.outdated(), walk.end(), walk.next()), (vec![PageNum(4)], None, PageNum(4)));
        assert_eq!((walk.next_needed(&RULES), walk.probe(&RULES)), (None, None), "until that is settled");
        walk.discard_outdated();
        assert_eq!(walk.next_needed(&RULES), Some(PageNum(4)));
        walk.load_keys([0, 1, 2, 3, 4, 5, 6, 7].map(|row| ([row; 16], PageNum(u32::from(row) / 3 + 1))));
        walk.load_keys([9, 10].map(|row| ([row; 16], PageNum::NONE)));
        assert_eq!(walk.accept(&page(4, 1, 5), AttemptId(5), &RULES), [true, false, false]);
        assert_eq!(walk.end().map(|end| end.stop), None, "three rows are a full page");
        assert!(!walk.is_shifted());
    }

    #[test]
    fn outdated_pages_that_are_accepted_as_they_are_make_a_list_that_is_not_complete() {
        let mut walk = walk();
        for (number, inserted, attempt, came) in [(1, 0, 1, 1), (4, 0, 2, 3), (2, 0, 3, 4), (3, 1, 4, 4)] {
            walk.accept(&page(number, inserted, attempt), AttemptId(came), &RULES);
        }
        assert!(!walk.is_shifted());
        walk.take_outdated(&RULES);
        assert!(walk.is_shifted());
        let end = walk.resolve_end(crate::state::ledger::EndRow::new(ItemIx(1), StopReason::ShortPage));
        assert_eq!((end.stop, end.is_moved), (StopReason::Shifted, true));
    }

    #[test]
    fn rows_of_an_outdated_page_are_published_once_and_tell_nothing_of_the_list() {
        let mut walk = walk();
        walk.accept(&page(1, 0, 1), AttemptId(1), &RULES);
        assert_eq!(walk.accept_outdated(&page(2, 0, 2)), [true; 3]);
        assert_eq!(walk.next(), PageNum(2));
        assert_eq!(walk.accept(&page(2, 1, 3), AttemptId(3), &RULES), [false; 3]);
    }

    /// Five pages, requested two at a time in any order, while the list gains a row or none between any two of them: if one of
    /// its rows is not received, its walk says so.
    #[test]
    fn no_row_is_missing_from_a_walk_that_does_not_say_so_whatever_was_asked_for_ahead() {
        let mut count = (0, 0);
        for order in orders() {
            for moves in 0..2_u8.pow(4) {
                let inserted: Vec<u8> = (0..5).map(|at| (1..=at).map(|bit| moves >> (bit - 1) & 1).sum()).collect();
                let mut walk = walk();
                let mut seen = BTreeMap::new();
                // Each was requested while the one before it in this order was in flight.
                for (at, number) in order.iter().enumerate() {
                    let (asked, came) = (i64::try_from(at).unwrap(), i64::try_from(at + 1).unwrap());
                    let page = page(*number, inserted[at], asked);
                    seen.extend(page.keys.iter().map(|key| (key[0], *number)));
                    walk.accept(&page, AttemptId(came), &RULES);
                }
                walk.take_outdated(&RULES);
                // The rest is read in order.
                for (attempt, number) in (10_i64..).zip(walk.next().0..) {
                    if walk.end().is_some() {
                        break;
                    }
                    let page = page(number, inserted[4], attempt);
                    seen.extend(page.keys.iter().map(|key| (key[0], number)));
                    walk.accept(&page, AttemptId(attempt), &RULES);
                }
                let all = (0..14).all(|row| seen.contains_key(&row));
                assert!(all || walk.is_shifted(), "{order:?} {inserted:?}: {seen:?}");
                count.0 += u32::from(!all);
                count.1 += u32::from(walk.is_shifted());
            }
        }
        assert!(
            count.0 > 100 && count.1 < 10 * count.0,
            "{count:?}: rows are lost, and few lists are suspected without reason"
        );
    }

    fn orders() -> Vec<Vec<u32>> {
        let mut orders = vec![vec![]];
        for number in 1..=5 {
            orders = orders
                .iter()
                .flat_map(|order: &Vec<u32>| (0..=order.len()).map(move |at| (order.clone(), at)))
                .map(|(mut order, at)| {
                    order.insert(at, number);
                    order
                })
                .collect();
        }
        orders.into_iter().filter(|order| order[0] == 1).collect() // nothing is requested before the first page arrived
    }
}
