//! Which page next: the most urgent one that is ready.
//!
//! Continuing walks before new ones, the deepest first, so that few walks are open at a time, and in rounds once all that
//! are left are open (`order`); a page that failed waits
//! for its time and for leave to be asked for again, and holds up no other page of its walk. Pure: no clock, no ledger, no
//! channel. Memory is bounded by the caller: it adds new walks only while [`Scheduler::room`] says so.

mod ahead;
mod checks;
mod keys;
mod open;
mod order;
mod waiting;
mod worth;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use tokio::time::Instant;

use crate::crawl::end_of_list::PagingRules;
use crate::crawl::retry::RetryState;
use crate::crawl::walk::{Ahead, Walk};
use crate::fetch::classify::Failure;
use crate::model::page::{AttemptId, ItemId, ItemIx, PageNum};
use crate::state::ledger::EndRow;
use open::{Closing, Open};
use order::{Rank, WalkDepth, WalkOrder};
use worth::Prospect;
pub use worth::Worth;

/// A page that is asked for, and how that went so far.
#[derive(Debug)]
pub struct PageTask {
    /// Its item's place in the ledger.
    pub item: ItemIx,
    /// Its item's id.
    pub id: ItemId,
    /// Its number.
    pub page: PageNum,
    /// Its failures; none: none that count.
    pub tries: Option<RetryState>,
    /// What is known of whose failures they are.
    pub faults: Faults,
    /// Whether it was already asked for once more after an answer that may have been billed.
    pub asked_again: bool,
    /// Whether it may turn out to lie behind the end of its list.
    pub is_probe: bool,
    /// Whether it is asked for to see whether its list has ended.
    pub is_check: bool,
}

/// What is known of whose failures a page's are (see `judgement`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Failures that were followed by a response to another item's later request: they are the page's own.
    pub proven: u32,
    /// The last request when the last one came, as long as nobody knows whose it is.
    pub pending: Option<AttemptId>,
    /// Whether earlier runs gave its item up, or found failures to be its own: then three tries are enough.
    pub gave_up_before: bool,
    /// What the last one claimed.
    pub failure: Option<Failure>,
    /// What was said then, sanitised.
    pub message: String,
}

/// The walks that are open, by what they wait for.
#[derive(Debug)]
pub struct Scheduler {
    rules: PagingRules,
    /// Walks without a page, in the order of the list.
    fresh: VecDeque<Walk>,
    /// All other open walks.
    walks: HashMap<ItemIx, Open>,
    /// Walks with a page that is needed and was not asked for.
    ready: WalkOrder,
    /// Walks with a page ahead that would tell where their lists end.
    probes: BTreeSet<Prospect>,
    /// How many pages are expected to be asked for yet, of all open walks.
    expected: f64,
    /// What became of pages ahead in this run: in vain, of all walks; in doubt, of open ones.
    ahead: Ahead,
    /// Pages to be asked for at once, though they were before: the deepest first.
    again: BTreeMap<WalkDepth, PageTask>,
    /// Pages that failed, by the time of their next attempt.
    delayed: BTreeMap<(Instant, ItemIx, PageNum), PageTask>,
    /// Walks that have ended, with the page that would show whether they go on.
    checks: VecDeque<(ItemIx, PageNum)>,
    /// Pages under way, or arrived and not read.
    in_flight: HashMap<(ItemIx, PageNum), PageTask>,
    /// Walks that wait for what becomes of others.
    suspended: usize,
    /// Scouts that are not asked for any more, because their walks end.
    dropped: u32,
    /// The most fresh and ready walks to hold.
    bound: usize,
    /// Whether the ledger has no more walks: then they go on in rounds.
    has_all: bool,
}

/// So many pages may be parked before no new walks are begun: pages that keep failing must not keep the others waiting,
/// and a walk that waits takes some 500 bytes and no keys.
const PARKED: usize = 4_096;

impl Scheduler {
    /// A scheduler for at most `bound` requests in flight.
    pub fn new(rules: PagingRules, bound: usize) -> Self {
        Self {
            rules,
            fresh: VecDeque::new(),
            walks: HashMap::new(),
            ready: WalkOrder::default(),
            probes: BTreeSet::new(),
            expected: 0.0,
            ahead: Ahead::default(),
            again: BTreeMap::new(),
            delayed: BTreeMap::new(),
            checks: VecDeque::new(),
            in_flight: HashMap::new(),
            suspended: 0,
            dropped: 0,
            bound: bound.max(1),
            has_all: false,
        }
    }

    /// How many more walks it wants to hold: none in a storm, whose pages wait without a bound of their own.
    pub fn room(&self) -> usize {
        if self.is_stormy() { 0 } else { self.bound.saturating_sub(self.fresh.len() + self.ready.len()) }
    }

    /// Whether it is time to bring more walks.
    pub fn is_half_empty(&self) -> bool {
        self.room() >= self.bound.div_ceil(2)
    }

    /// Takes note of whether the ledger has no more walks than those that are here.
    pub fn has_all(&mut self, has_all: bool) {
        self.has_all = has_all;
    }

    /// Adds a walk.
    pub fn add(&mut self, walk: Walk) {
        if walk.is_new(&self.rules) {
            self.fresh.push_back(walk);
        } else {
            self.open(walk);
        }
    }

    fn open(&mut self, walk: Walk) -> ItemIx {
        let item = walk.item;
        self.walks.insert(item, Open::new(walk));
        self.queue(item);
        item
    }

    /// Puts a walk where it belongs after something about it has changed.
    fn queue(&mut self, item: ItemIx) {
        let Some(open) = self.walks.get_mut(&item) else { return };
        if let Some(place) = open.ready.take() {
            self.ready.remove(place);
        }
        if let Some(key) = open.probe.take() {
            self.probes.remove(&key);
        }
        self.ahead = open.note_ahead(self.ahead);
        self.expected -= std::mem::take(&mut open.expected);
        if open.is_aside || open.walk.end().is_some() {
            return;
        }
        let depth = (Reverse(open.walk.next()), item);
        if open.next_needed(&self.rules).is_some() {
            let place = Rank { depth, is_open_ended: open.next_unknown(&self.rules).is_some() };
            open.ready = Some(place);
            self.ready.insert(place);
        }
        if open.closing.is_some() {
            return;
        }
        open.expected = open.walk.expected(&self.rules);
        self.expected += open.expected;
        if let Some((stage, _)) = open.walk.probe(&self.rules) {
            let prospect = Prospect { stage, unknown: Reverse(open.walk.unknown(&self.rules)), item };
            open.probe = Some(prospect);
            self.probes.insert(prospect);
        }
    }

    /// The most urgent page that did not fail and is needed in any case; it is under way until it is [landed](Self::land).
    pub fn next_page(&mut self) -> Option<&PageTask> {
        if let Some((_, wanted)) = self.again.pop_first() {
            self.wait_less(wanted.item);
            return Some(self.fly(wanted));
        }
        let item = self.next_item()?;
        let open = self.walks.get(&item)?;
        let unknown = open.next_unknown(&self.rules).filter(|_| self.has_all);
        let page = unknown.or_else(|| open.next_needed(&self.rules))?;
        self.ask(item, page)
    }

    /// The walk whose turn it is; a new one is begun by that.
    fn next_item(&mut self) -> Option<ItemIx> {
        let deepest = self.ready.deepest();
        let first = if self.has_all { self.ready.first_in_rounds() } else { deepest };
        let may_begin = !self.is_stormy() && (self.has_all || first.is_none());
        if may_begin && let Some(walk) = self.fresh.pop_front() {
            return Some(self.open(walk));
        }
        first.or(deepest)
    }

    fn ask(&mut self, item: ItemIx, page: PageNum) -> Option<&PageTask> {
        let walk = &mut self.walks.get_mut(&item)?.walk;
        // What earlier runs know is about the first page that is missing.
        let is_next = page == walk.next();
        let proven = if is_next { walk.tries } else { 0 };
        let faults =
            Faults { proven, gave_up_before: is_next && (walk.failed_before || walk.tries > 0), ..Faults::default() };
        let (is_probe, asked_again) = (walk.ask(page, &self.rules), walk.is_in_doubt(page));
        let id = walk.id.clone();
        let wanted = PageTask { item, id, page, tries: None, faults, asked_again, is_probe, is_check: false };
        self.queue(item);
        Some(self.fly(wanted))
    }

    /// A page of an item that is not among these, to see what others are answered: of a walk that has pages, if there is one;
    /// a new one otherwise, if that will do.
    pub fn next_of_others(&mut self, but_for: &BTreeSet<ItemIx>, fresh_too: bool) -> Option<&PageTask> {
        let known = self.ready.items().find(|item| !but_for.contains(item));
        let item = match known {
            Some(item) => item,
            None if !fresh_too => return None,
            None => {
                let walk = self.fresh.pop_front()?;
                self.open(walk)
            }
        };
        let page = self.walks.get(&item)?.next_needed(&self.rules)?;
        self.ask(item, page)
    }

    /// Whether there is such a page.
    pub fn has_others(&self, but_for: &BTreeSet<ItemIx>, fresh_too: bool) -> bool {
        fresh_too && !self.fresh.is_empty() || self.ready.items().any(|item| !but_for.contains(&item))
    }

    /// The page that failed and has been due for longest.
    pub fn next_retry(&mut self, now: Instant) -> Option<&PageTask> {
        let wanted = self.delayed.first_entry().filter(|entry| entry.key().0 <= now)?.remove();
        self.wait_less(wanted.item);
        Some(self.fly(wanted))
    }

    /// Any page at all, to see whether the API works: one that did not fail, or the one whose turn to wait is over first.
    pub fn next_probe(&mut self) -> Option<&PageTask> {
        if self.has_next() {
            return self.next_page();
        }
        let (_, wanted) = self.delayed.pop_first()?;
        self.wait_less(wanted.item);
        Some(self.fly(wanted))
    }

    fn fly(&mut self, wanted: PageTask) -> &PageTask {
        if let Some(open) = self.walks.get_mut(&wanted.item) {
            open.in_flight += 1;
        }
        self.in_flight.entry((wanted.item, wanted.page)).insert_entry(wanted).into_mut()
    }

    fn wait_less(&mut self, item: ItemIx) {
        if let Some(open) = self.walks.get_mut(&item) {
            open.waiting = open.waiting.saturating_sub(1);
        }
    }

    /// Takes back a page that came to an end. It is to be read ([`walk_mut`](Self::walk_mut), [`settle`](Self::settle)), or
    /// to be asked for again.
    pub fn land(&mut self, item: ItemIx, page: PageNum) -> Option<PageTask> {
        let wanted = self.in_flight.remove(&(item, page))?;
        if let Some(open) = self.walks.get_mut(&item) {
            open.in_flight = open.in_flight.saturating_sub(1);
        }
        Some(wanted)
    }

    /// A walk that has begun.
    pub fn walk_mut(&mut self, item: ItemIx) -> Option<&mut Walk> {
        self.walks.get_mut(&item).map(|open| &mut open.walk)
    }

    /// Asks for a page again at once.
    pub fn resume(&mut self, wanted: PageTask) {
        if self.wait_more(&wanted) {
            self.again.insert((Reverse(wanted.page), wanted.item), wanted);
        }
    }

    /// Asks for a page again when its time has come.
    pub fn park(&mut self, wanted: PageTask, until: Instant) {
        if self.wait_more(&wanted) {
            self.delayed.insert((until, wanted.item, wanted.page), wanted);
        }
    }

    /// Whether a page may be asked for again: not if its walk is about to end before it.
    fn wait_more(&mut self, wanted: &PageTask) -> bool {
        let open = self.walks.get_mut(&wanted.item).filter(|open| !open.ends_by(wanted.page));
        let Some(open) = open else {
            self.dropped += u32::from(wanted.is_probe);
            return false;
        };
        open.waiting += 1;
        true
    }

    /// Whether a page is needed, whatever else comes. If not, its walk can do without it.
    pub fn needs(&self, wanted: &PageTask) -> bool {
        let is_needed = |open: &Open| {
            let has_ended = open.walk.end().is_some() && wanted.page >= open.walk.next();
            open.walk.needs(wanted.page) && !has_ended
        };
        self.walks.get(&wanted.item).is_some_and(is_needed)
    }

    /// Ends a walk at a page: as soon as it has all pages before and nothing of it is under way. What of it waits behind is
    /// not asked for any more.
    pub fn close(&mut self, end: EndRow, at: PageNum) {
        let item = end.item;
        let Some(open) = self.walks.get_mut(&item).filter(|open| !open.ends_by(at)) else { return };
        open.closing = Some(Closing { at, end });
        self.suspended -= usize::from(std::mem::take(&mut open.is_aside));
        if open.waiting > 0 {
            let (waiting, dropped) = (&mut open.waiting, &mut self.dropped);
            let mut stays = |wanted: &PageTask| {
                let stays = wanted.item != item || wanted.page < at;
                *waiting -= usize::from(!stays);
                *dropped += u32::from(!stays && wanted.is_probe);
                stays
            };
            self.again.retain(|_, wanted| stays(wanted));
            self.delayed.retain(|_, wanted| stays(wanted));
        }
        self.queue(item);
    }

    /// Puts a walk where it belongs after one of its pages landed. Gives its end, if that was the last one.
    pub fn settle(&mut self, item: ItemIx) -> Option<(Walk, EndRow)> {
        let open = self.walks.get(&item)?;
        match open.walk.end().cloned() {
            // What is under way may show that the list goes on.
            Some(end) if open.in_flight == 0 && open.check.is_none() && (open.waiting == 0 || !end.may_be_passed()) => {
                let end = EndRow { error: end.message, ..EndRow::new(item, end.stop) };
                self.close(end, self.rules.first);
            }
            _ => self.queue(item),
        }
        let is_over = |open: &&Open| open.in_flight == 0 && open.check.is_none() && open.ends_by(open.walk.next());
        self.walks.get(&item).filter(is_over)?;
        let open = self.walks.remove(&item)?;
        self.suspended -= usize::from(open.is_aside);
        self.ahead.in_doubt = self.ahead.in_doubt.saturating_sub(open.ahead.in_doubt);
        open.closing.map(|closing| (open.walk, closing.end))
    }

    /// How many scouts were dropped since this was asked last.
    pub fn take_dropped(&mut self) -> u32 {
        std::mem::take(&mut self.dropped)
    }

    /// Whether there is a page that did not fail and is needed in any case.
    pub fn has_next(&self) -> bool {
        !self.again.is_empty() || self.ready.len() > 0 || !self.fresh.is_empty() && !self.is_stormy()
    }

    fn is_stormy(&self) -> bool {
        self.delayed.len() >= PARKED
    }

    /// When the next waiting page is due.
    pub fn due(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|((due, ..), _)| *due)
    }

    /// Whether a page is under way.
    pub fn is_flying(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether no walk is open but those that were set aside.
    pub fn is_done(&self) -> bool {
        self.fresh.is_empty() && self.walks.len() == self.suspended && self.in_flight.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{PARKED, PageTask, Scheduler, Worth};
    use crate::crawl::end_of_list::PagingRules;
    use crate::crawl::retry::Retry;
    use crate::crawl::walk::Walk;
    use crate::decode::DecodedPage;
    use crate::endpoint::EndRule;
    use crate::model::clock;
    use crate::model::page::{AttemptId, Counts, ItemId, ItemIx, PageNum, Request, StopReason};
    use crate::settings::RetryPolicy;
    use crate::state::ledger::EndRow;
    use std::time::Duration;

    const POLICY: RetryPolicy = RetryPolicy {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(9),
        attempts: 3,
        max_outage: Duration::from_secs(99),
    };

    const RULES: PagingRules = PagingRules {
        first: PageNum(1),
        last: PageNum(99),
        page_size: 3,
        max_pages: None,
        end: EndRule::ShortPage,
        learned: None,
    };

    const WORTH: Worth = Worth { latency: Duration::from_millis(80), rate: 50.0, saves: Duration::ZERO };

    fn walk(item: i64, pages: u32) -> Walk {
        let full = Counts { received: 3, fresh: 3, ..Counts::default() };
        Walk::new(ItemIx(item), ItemId::new("a"), &RULES, (1..=pages).map(|page| (PageNum(page), full)), None)
    }

    fn scheduler(walks: impl IntoIterator<Item = (i64, u32)>) -> Scheduler {
        let mut scheduler = Scheduler::new(RULES, 8);
        walks.into_iter().for_each(|(item, pages)| scheduler.add(walk(item, pages)));
        scheduler
    }

    fn order(scheduler: &mut Scheduler) -> Vec<i64> {
        std::iter::from_fn(|| scheduler.next_page().map(|wanted| wanted.item.0)).collect()
    }

    /// Takes the next page and says that it failed until a time.
    fn fail(scheduler: &mut Scheduler, until: tokio::time::Instant) -> i64 {
        let PageTask { item, page, .. } = *scheduler.next_page().unwrap();
        let wanted = scheduler.land(item, page).unwrap();
        scheduler.park(wanted, until);
        item.0
    }

    fn read(page: u32, keys: Vec<[u8; 16]>) -> DecodedPage {
        let (item, id, received) = (ItemIx(1), ItemId::new("a"), keys.len());
        let request = Request { attempt: AttemptId(1), item, id, page: PageNum(page) };
        let drift = crate::decode::PageDrift::default();
        DecodedPage { request, keys, received, is_list: true, foreign: 0, rejects: Vec::new(), drift }
    }

    fn end(item: i64) -> EndRow {
        EndRow::new(ItemIx(item), StopReason::Failed)
    }

    #[test]
    fn deep_walks_come_before_shallow_ones_and_those_before_new_ones() {
        let mut scheduler = scheduler([(1, 0), (2, 0), (3, 1), (4, 7), (5, 1)]);
        assert_eq!(order(&mut scheduler), [4, 3, 5, 1, 2]);
        assert!(!scheduler.is_done());
        for (item, page) in [(1, 1), (2, 1), (3, 2), (4, 8), (5, 2)] {
            assert!(scheduler.land(ItemIx(item), PageNum(page)).is_some());
            scheduler.close(end(item), PageNum(page));
            assert!(scheduler.settle(ItemIx(item)).is_some());
        }
        assert!(scheduler.is_done() && scheduler.land(ItemIx(1), PageNum(1)).is_none());
    }

    #[test]
    fn once_all_walks_are_open_new_ones_come_first_and_then_they_go_on_in_rounds() {
        let mut scheduler = scheduler([(1, 0), (2, 3), (3, 9), (4, 7), (5, 1)]);
        scheduler.has_all(true);
        assert_eq!(order(&mut scheduler), [1, 5, 2, 3, 4]);
    }

    #[test]
    fn pages_that_are_known_to_exist_wait_and_the_one_behind_them_does_not() {
        let mut scheduler = Scheduler::new(RULES, 8);
        let full = Counts { received: 3, fresh: 3, ..Counts::default() };
        let ahead = [1, 2, 3, 7, 8].map(|page| (PageNum(page), full));
        scheduler.add(Walk::new(ItemIx(1), ItemId::new("a"), &RULES, ahead, None));
        scheduler.add(walk(2, 20));
        let pages = |scheduler: &mut Scheduler| -> Vec<(i64, u32)> {
            std::iter::from_fn(|| scheduler.next_page().map(|wanted| (wanted.item.0, wanted.page.0))).collect()
        };
        scheduler.has_all(true);
        assert_eq!(pages(&mut scheduler), [(1, 9), (2, 21), (1, 4), (1, 5), (1, 6)]);
    }

    #[test]
    fn a_page_ahead_is_in_doubt_until_its_neighbour_came_and_in_vain_behind_the_end() {
        let mut scheduler = scheduler([(1, 9)]);
        scheduler.has_all(true);
        let came = |scheduler: &mut Scheduler, page: u32, rows: u8| {
            scheduler.land(ItemIx(1), PageNum(page)).unwrap();
            let keys: Vec<_> = (0..rows).map(|key| [u8::try_from(page * 3).unwrap() + key; 16]).collect();
            scheduler.walk_mut(ItemIx(1)).unwrap().accept(&read(page, keys), AttemptId(1), &RULES);
            scheduler.settle(ItemIx(1));
            (scheduler.ahead().in_doubt, scheduler.ahead().in_vain)
        };
        let needed = scheduler.next_page().unwrap().page.0;
        let mut pages = Vec::new();
        let mut probe = |scheduler: &mut Scheduler| {
            let page = scheduler.next_scout(&WORTH).unwrap().page.0;
            pages.push(page);
            page
        };
        let page = probe(&mut scheduler);
        assert_eq!(came(&mut scheduler, page, 3), (1, 0));
        let page = probe(&mut scheduler);
        assert_eq!(came(&mut scheduler, page, 3), (0, 0));
        assert_eq!(scheduler.next_page().map(|wanted| wanted.page), Some(PageNum(14)));
        let page = probe(&mut scheduler);
        assert_eq!(came(&mut scheduler, page, 0), (0, 1));
        assert_eq!((needed, pages), (10, vec![13, 12, 19]));
    }

    #[test]
    fn a_parked_page_waits_for_its_time() {
        let mut scheduler = scheduler([(1, 2)]);
        let due = clock::now() + Duration::from_secs(3_600);
        fail(&mut scheduler, due);
        assert!(scheduler.next_page().is_none() && !scheduler.has_next());
        assert!(scheduler.next_retry(clock::now()).is_none());
        assert_eq!(scheduler.due(), Some(due));
        assert_eq!(scheduler.next_retry(due).map(|wanted| wanted.page), Some(PageNum(3)));
    }

    #[test]
    fn in_a_storm_of_failures_no_new_walk_is_begun_but_thousands_that_fail_hold_up_nothing() {
        let later = clock::now() + Duration::from_secs(3_600);
        let delayed = i64::try_from(PARKED).unwrap();
        let mut scheduler = scheduler((1..delayed).map(|item| (item, 1)));
        for _ in 1..delayed {
            fail(&mut scheduler, later);
        }
        scheduler.add(walk(delayed + 1, 0));
        assert_eq!(fail(&mut scheduler, later), delayed + 1);
        scheduler.add(walk(delayed + 2, 0));
        assert!(order(&mut scheduler).is_empty() && !scheduler.has_next());
    }

    #[test]
    fn in_a_storm_of_failures_no_walk_is_brought_that_has_begun_either() {
        let delayed = i64::try_from(PARKED).unwrap();
        let mut scheduler = scheduler((1..=delayed).map(|item| (item, 1)));
        for _ in 1..delayed {
            fail(&mut scheduler, clock::now() + Duration::from_secs(3_600));
        }
        assert_eq!((scheduler.room(), scheduler.is_half_empty()), (7, true));
        fail(&mut scheduler, clock::now() + Duration::from_secs(3_600));
        assert_eq!((scheduler.room(), scheduler.is_half_empty()), (0, false));
        scheduler.pardon(|_| true);
        assert!(order(&mut scheduler).len() == PARKED && scheduler.is_half_empty());
    }

    #[test]
    fn probes_take_what_did_not_fail_and_then_each_parked_page_in_turn() {
        let mut scheduler = scheduler([(1, 9), (2, 1)]);
        let now = clock::now();
        let seconds = |count| now + Duration::from_secs(count);
        fail(&mut scheduler, seconds(1));
        fail(&mut scheduler, seconds(2));
        scheduler.add(walk(3, 0));
        let mut probed = Vec::new();
        for at in 3..8 {
            let PageTask { item, page, .. } = *scheduler.next_probe().unwrap();
            probed.push(item.0);
            let failed = scheduler.land(item, page).unwrap();
            scheduler.park(failed, seconds(at));
        }
        assert_eq!(probed, [3, 1, 2, 3, 1]);
    }

    #[test]
    fn a_pardoned_page_is_ready_and_its_failures_are_forgotten() {
        let mut scheduler = scheduler([(1, 0), (2, 0)]);
        let later = clock::now() + Duration::from_secs(3_600);
        for item in [1, 2] {
            assert_eq!(scheduler.next_page().map(|wanted| wanted.item.0), Some(item));
            let mut failed = scheduler.land(ItemIx(item), PageNum(1)).unwrap();
            failed.tries = Some(Retry::new(POLICY, 1, 0).begin());
            scheduler.park(failed, later);
        }
        scheduler.pardon(|wanted| wanted.item == ItemIx(2));
        assert!(scheduler.next_page().is_some_and(|wanted| wanted.item == ItemIx(2) && wanted.tries.is_none()));
        assert!(!scheduler.has_next() && scheduler.due() == Some(later));
    }

    #[test]
    fn a_walk_ends_when_nothing_of_it_is_under_way_and_what_waits_is_dropped() {
        let mut scheduler = scheduler([(1, 9)]);
        scheduler.has_all(true);
        let later = clock::now() + Duration::from_secs(3_600);
        assert!(scheduler.probe(&WORTH).is_none(), "page 10 tells where the end is at no risk");
        fail(&mut scheduler, later);
        let probe = scheduler.next_scout(&WORTH).unwrap();
        assert!(probe.is_probe && probe.page == PageNum(13), "{probe:?}");
        scheduler.close(end(1), PageNum(10));
        assert!(scheduler.due().is_none() && scheduler.settle(ItemIx(1)).is_none() && !scheduler.is_done());
        scheduler.land(ItemIx(1), PageNum(13)).unwrap();
        assert!(scheduler.settle(ItemIx(1)).is_some() && scheduler.is_done());
    }

    #[test]
    fn a_walk_that_ends_at_a_page_gets_the_pages_before_it_first() {
        let mut scheduler = Scheduler::new(RULES, 8);
        let full = Counts { received: 3, fresh: 3, ..Counts::default() };
        let there = [1, 2, 3, 7, 8].map(|page| (PageNum(page), full));
        scheduler.add(Walk::new(ItemIx(1), ItemId::new("a"), &RULES, there, None));
        let asked: Vec<u32> = (0..2).map(|_| scheduler.next_page().unwrap().page.0).collect();
        assert_eq!(asked, [4, 5]);
        let later = clock::now() + Duration::from_secs(3_600);
        let delayed = scheduler.land(ItemIx(1), PageNum(4)).unwrap();
        scheduler.park(delayed, later);
        scheduler.close(end(1), PageNum(9));
        assert_eq!(order(&mut scheduler), [1], "page 6, and no page behind the end");
        assert_eq!(scheduler.next_retry(later).map(|wanted| wanted.page), Some(PageNum(4)));
        for page in [6, 5, 4] {
            assert!(scheduler.settle(ItemIx(1)).is_none(), "page {page} is missing");
            scheduler.land(ItemIx(1), PageNum(page)).unwrap();
            let keys: Vec<_> = (0..3).map(|key| [u8::try_from(page * 3 + key).unwrap(); 16]).collect();
            let walk = scheduler.walk_mut(ItemIx(1)).unwrap();
            walk.accept(&read(page, keys), AttemptId(1), &RULES);
        }
        assert!(scheduler.settle(ItemIx(1)).is_some_and(|(_, end)| end.stop == StopReason::Failed));
        assert!(scheduler.is_done());
    }

    #[test]
    fn a_walk_that_ends_at_a_page_is_not_set_aside_for_one_behind_it() {
        let mut scheduler = Scheduler::new(RULES, 8);
        let full = Counts { received: 3, fresh: 3, ..Counts::default() };
        let there = [1, 2, 3, 7, 8].map(|page| (PageNum(page), full));
        scheduler.add(Walk::new(ItemIx(1), ItemId::new("a"), &RULES, there, None));
        for page in [4, 5] {
            assert_eq!(scheduler.next_page().map(|wanted| wanted.page), Some(PageNum(page)));
            scheduler.land(ItemIx(1), PageNum(page)).unwrap();
        }
        assert!(scheduler.set_aside(ItemIx(1), PageNum(5)) && scheduler.is_done());
        scheduler.close(end(1), PageNum(4));
        assert!(!scheduler.is_done() && !scheduler.set_aside(ItemIx(1), PageNum(5)));
        assert!(scheduler.settle(ItemIx(1)).is_some() && scheduler.is_done());
    }

    #[test]
    fn a_page_that_failed_holds_up_no_other_page_of_its_walk() {
        let mut scheduler = Scheduler::new(RULES, 8);
        let full = Counts { received: 3, fresh: 3, ..Counts::default() };
        let pages = [1, 2, 3, 7, 8].map(|page| (PageNum(page), full));
        scheduler.add(Walk::new(ItemIx(1), ItemId::new("a"), &RULES, pages, None));
        fail(&mut scheduler, clock::now() + Duration::from_secs(3_600));
        let rest: Vec<u32> = std::iter::from_fn(|| scheduler.next_page().map(|wanted| wanted.page.0)).collect();
        assert_eq!(rest, [5, 6, 9]);
    }

    #[test]
    fn keys_of_the_shallowest_walks_are_unloaded_first() {
        let mut scheduler = Scheduler::new(RULES, 8);
        for (item, pages) in [(1, 9), (2, 5), (3, 1)] {
            let mut walk = walk(item, pages);
            walk.load((0..10).map(|key| ([key; 16], PageNum(1))));
            scheduler.add(walk);
        }
        scheduler.unload_keys(20);
        assert_eq!(scheduler.keys(), 20);
        let item = scheduler.next_page().unwrap().item;
        assert_eq!(scheduler.walk_mut(item).and_then(|walk| walk.keys()), Some(10));
    }
}
