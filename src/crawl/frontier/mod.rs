//! Which page next: the most urgent one that is ready.
//!
//! Walks that have started come before new ones, the deepest first, so that few walks are open at a time. Once all walks that are
//! left are open, they continue in rounds (`walk_order`). A page that failed is delayed, and delays no other page of its walk. No
//! clock, no ledger and no channel is used here. The caller bounds the memory: it adds walks only while
//! [`Frontier::free_slots`] allows it.

mod delayed;
mod end_checks;
mod in_flight;
mod open_walk;
mod probes;
mod row_keys;
mod surveyed;
mod walk_order;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use tokio::time::Instant;

use crate::crawl::end_of_list::PagingRules;
use crate::crawl::lookahead::budget::Reservation;
use crate::crawl::retry::RetryState;
use crate::crawl::walk::{LookaheadCost, Walk};
use crate::fetch::classify::Failure;
use crate::model::page::{AttemptId, ItemId, ItemIx, PageNum};
use crate::state::ledger::EndRow;
use in_flight::InFlight;
use open_walk::{Closing, OpenWalk};
use probes::ProbeCandidate;
pub(crate) use probes::ProbePolicy;
use walk_order::{Rank, WalkDepth, WalkOrder};

/// A page that is requested, and its failures so far.
#[derive(Debug)]
pub struct PageTask {
    pub item: ItemIx,
    pub id: ItemId,
    pub page: PageNum,
    /// The failures that count. None: there were none.
    pub(crate) retry: Option<RetryState>,
    pub(crate) faults: Faults,
    /// Whether it was already requested once more after a response that may have been billed.
    pub(crate) was_repeated: bool,
    /// Its part of the look-ahead budget, if it may turn out to be behind the end of its list.
    pub(crate) probe: Option<Reservation>,
    /// Whether it is behind the end of its list: evidence, or a control request.
    pub(crate) is_check: bool,
}

/// What is known of whose failures a page's are (see `judgement`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Failures that were followed by a response to another item's later request: they are the page's own.
    pub(crate) proven: u32,
    /// The last attempt when the last failure arrived, as long as nobody knows whose failure it is.
    pub(crate) pending: Option<AttemptId>,
    /// Whether earlier runs gave its item up, or found failures to be its own: then three tries are enough.
    pub(crate) gave_up_before: bool,
    /// What the last response claimed.
    pub(crate) failure: Option<Failure>,
    /// The last message, sanitised.
    pub(crate) message: String,
}

/// The open walks, by what they wait for.
#[derive(Debug)]
pub struct Frontier {
    rules: PagingRules,
    /// Walks without a page, in the order of the list.
    unstarted: VecDeque<Walk>,
    walks: HashMap<ItemIx, OpenWalk>,
    /// Walks with a needed page that was not requested.
    ready: WalkOrder,
    /// Walks with a page ahead that would show where their lists end.
    probes: BTreeSet<ProbeCandidate>,
    /// An estimate of how many pages of all open walks are still to be requested.
    expected: f64,
    /// Of pages ahead in this run: in vain, of all walks; in doubt, of open ones.
    lookahead_cost: LookaheadCost,
    /// Pages to be requested again at once: the deepest first.
    requeue: BTreeMap<WalkDepth, PageTask>,
    /// Pages that failed, by the time of their next attempt.
    delayed: BTreeMap<(Instant, ItemIx, PageNum), PageTask>,
    /// Walks that have ended, with the page that would show whether they continue.
    checks: VecDeque<(ItemIx, PageNum)>,
    /// Pages in flight, or received and not yet applied.
    in_flight: InFlight,
    suspended: usize,
    /// Maximum number of walks in `unstarted` and `ready`.
    bound: usize,
    /// Whether the ledger has no more walks: then they continue in rounds.
    has_all: bool,
}

/// Delayed pages from which on no walk starts: pages that keep failing must not delay the others, and a walk that waits takes
/// about 500 bytes and no keys.
const MAX_DELAYED: usize = 4_096;

impl Frontier {
    /// A frontier for at most `bound` requests in flight.
    pub fn new(rules: PagingRules, bound: usize) -> Self {
        Self {
            rules,
            unstarted: VecDeque::new(),
            walks: HashMap::new(),
            ready: WalkOrder::default(),
            probes: BTreeSet::new(),
            expected: 0.0,
            lookahead_cost: LookaheadCost::default(),
            requeue: BTreeMap::new(),
            delayed: BTreeMap::new(),
            checks: VecDeque::new(),
            in_flight: InFlight::default(),
            suspended: 0,
            bound: bound.max(1),
            has_all: false,
        }
    }

    /// How many more walks may be added: none while too many pages are delayed.
    pub(crate) fn free_slots(&self) -> usize {
        if self.has_too_many_delayed() { 0 } else { self.bound.saturating_sub(self.unstarted.len() + self.ready.len()) }
    }

    /// Whether it is time to add walks.
    pub fn is_half_empty(&self) -> bool {
        self.free_slots() >= self.bound.div_ceil(2)
    }

    /// Says whether the ledger has no more walks than those that are here.
    pub(crate) fn set_has_all(&mut self, has_all: bool) {
        self.has_all = has_all;
    }

    pub(crate) fn add(&mut self, walk: Walk) {
        if walk.is_new(&self.rules) {
            self.unstarted.push_back(walk);
        } else {
            self.open(walk);
        }
    }

    fn open(&mut self, walk: Walk) -> ItemIx {
        let item = walk.item;
        self.walks.insert(item, OpenWalk::new(walk));
        self.reschedule(item);
        item
    }

    /// Brings all indexes up to date after something about a walk has changed.
    pub(crate) fn reschedule(&mut self, item: ItemIx) {
        let Some(open) = self.walks.get_mut(&item) else { return };
        if let Some(rank) = open.rank.take() {
            self.ready.remove(rank);
        }
        if let Some(candidate) = open.probe.take() {
            self.probes.remove(&candidate);
        }
        self.lookahead_cost = open.update_cost(self.lookahead_cost);
        self.expected -= std::mem::take(&mut open.expected);
        if open.is_suspended || open.walk.end().is_some() {
            return;
        }
        if open.next_needed(&self.rules).is_some() {
            let depth = (Reverse(open.walk.next()), item);
            let rank = Rank { depth, is_open_ended: open.next_unknown(&self.rules).is_some() };
            open.rank = Some(rank);
            self.ready.insert(rank);
        }
        if open.closing.is_some() {
            return;
        }
        open.expected = open.walk.expected(&self.rules);
        self.expected += open.expected;
        if let Some((stage, _)) = open.walk.probe(&self.rules) {
            let candidate = ProbeCandidate { stage, unknown: Reverse(open.walk.unknown(&self.rules)), item };
            open.probe = Some(candidate);
            self.probes.insert(candidate);
        }
    }

    /// The most urgent page that is needed and not delayed. It is in flight until it is [taken back](Self::take_in_flight).
    pub fn next_page(&mut self) -> Option<&PageTask> {
        if let Some((_, task)) = self.requeue.pop_first() {
            return Some(self.send_again(task));
        }
        let item = self.next_item()?;
        let open = self.walks.get(&item)?;
        let unknown = open.next_unknown(&self.rules).filter(|_| self.has_all);
        let page = unknown.or_else(|| open.next_needed(&self.rules))?;
        self.request(item, page, None)
    }

    /// The walk whose turn it is. A new one is opened.
    fn next_item(&mut self) -> Option<ItemIx> {
        let deepest = self.ready.deepest();
        let first = if self.has_all { self.ready.first_in_rounds() } else { deepest };
        let may_start = !self.has_too_many_delayed() && (self.has_all || first.is_none());
        if may_start && let Some(walk) = self.unstarted.pop_front() {
            return Some(self.open(walk));
        }
        first.or(deepest)
    }

    fn request(&mut self, item: ItemIx, page: PageNum, probe: Option<Reservation>) -> Option<&PageTask> {
        let walk = &mut self.walks.get_mut(&item)?.walk;
        // What earlier runs know is about the first page that is missing.
        let is_next = page == walk.next();
        let proven = if is_next { walk.proven_failures } else { 0 };
        let gave_up_before = is_next && (walk.failed_before || proven > 0);
        let faults = Faults { proven, gave_up_before, ..Faults::default() };
        walk.request(page, &self.rules);
        let (id, was_repeated) = (walk.id.clone(), walk.is_in_doubt(page));
        let task = PageTask { item, id, page, retry: None, faults, was_repeated, probe, is_check: false };
        self.reschedule(item);
        Some(self.send(task))
    }

    /// A page of an item that is not in `except`, to see how others fare: of a walk that has started if there is one, otherwise of
    /// an unstarted one if `may_start` allows that.
    pub(crate) fn next_of_other_items(&mut self, except: &BTreeSet<ItemIx>, may_start: bool) -> Option<&PageTask> {
        let known = self.ready.items().find(|item| !except.contains(item));
        let item = match known {
            Some(item) => item,
            None if !may_start => return None,
            None => {
                let walk = self.unstarted.pop_front()?;
                self.open(walk)
            }
        };
        let page = self.walks.get(&item)?.next_needed(&self.rules)?;
        self.request(item, page, None)
    }

    /// Whether [`next_of_other_items`](Self::next_of_other_items) has a page.
    pub(crate) fn has_other_items(&self, except: &BTreeSet<ItemIx>, may_start: bool) -> bool {
        may_start && !self.unstarted.is_empty() || self.ready.items().any(|item| !except.contains(&item))
    }

    /// The delayed page that has been due for the longest time.
    pub(crate) fn next_retry(&mut self, now: Instant) -> Option<&PageTask> {
        let task = self.delayed.first_entry().filter(|entry| entry.key().0 <= now)?.remove();
        Some(self.send_again(task))
    }

    /// Any page, to see whether the API works again: one that did not fail, otherwise the delayed page that is due first.
    pub(crate) fn next_health_check(&mut self) -> Option<&PageTask> {
        if self.has_next() {
            return self.next_page();
        }
        let (_, task) = self.delayed.pop_first()?;
        Some(self.send_again(task))
    }

    fn send(&mut self, task: PageTask) -> &PageTask {
        if let Some(open) = self.walks.get_mut(&task.item) {
            open.in_flight += 1;
        }
        self.in_flight.insert(task)
    }

    fn send_again(&mut self, task: PageTask) -> &PageTask {
        self.stop_waiting(task.item);
        self.send(task)
    }

    fn stop_waiting(&mut self, item: ItemIx) {
        if let Some(open) = self.walks.get_mut(&item) {
            open.waiting = open.waiting.saturating_sub(1);
        }
    }

    /// Takes back a page that is no longer in flight. The caller applies it ([`walk_mut`](Self::walk_mut),
    /// [`take_ended`](Self::take_ended)), asks for it again, or gives it up.
    pub fn take_in_flight(&mut self, item: ItemIx, page: PageNum) -> Option<PageTask> {
        let task = self.in_flight.remove((item, page))?;
        if let Some(open) = self.walks.get_mut(&item) {
            open.in_flight = open.in_flight.saturating_sub(1);
        }
        Some(task)
    }

    pub fn walk_mut(&mut self, item: ItemIx) -> Option<&mut Walk> {
        self.walks.get_mut(&item).map(|open| &mut open.walk)
    }

    pub(crate) fn requeue(&mut self, task: PageTask) {
        if self.start_waiting(&task) {
            self.requeue.insert((Reverse(task.page), task.item), task);
        }
    }

    pub(crate) fn delay(&mut self, task: PageTask, until: Instant) {
        if self.start_waiting(&task) {
            self.delayed.insert((until, task.item, task.page), task);
        }
    }

    /// False: its walk is about to end before this page, so that it is not requested again.
    fn start_waiting(&mut self, task: &PageTask) -> bool {
        let open = self.walks.get_mut(&task.item).filter(|open| !open.ends_by(task.page));
        open.map(|open| open.waiting += 1).is_some()
    }

    /// Whether a page is needed, whatever the other pages show.
    pub(crate) fn needs(&self, task: &PageTask) -> bool {
        let is_needed = |open: &OpenWalk| {
            let has_ended = open.walk.end().is_some() && task.page >= open.walk.next();
            open.walk.needs(task.page) && !has_ended
        };
        self.walks.get(&task.item).is_some_and(is_needed)
    }

    /// Ends a walk at a page, as soon as it has all pages before and nothing of it is in flight. Pages of it that wait to be asked
    /// for again behind that page are dropped.
    pub(crate) fn close(&mut self, end: EndRow, at: PageNum) {
        let item = end.item;
        let Some(open) = self.walks.get_mut(&item).filter(|open| !open.ends_by(at)) else { return };
        open.closing = Some(Closing { at, end });
        self.suspended -= usize::from(std::mem::take(&mut open.is_suspended));
        if open.waiting > 0 {
            let mut stays = |task: &PageTask| {
                let stays = task.item != item || task.page < at;
                open.waiting -= usize::from(!stays);
                stays
            };
            self.requeue.retain(|_, task| stays(task));
            self.delayed.retain(|_, task| stays(task));
        }
        self.reschedule(item);
    }

    /// Reschedules a walk after one of its pages was completed. If the walk is over, takes it out and returns it with its end.
    pub fn take_ended(&mut self, item: ItemIx) -> Option<(Walk, EndRow)> {
        let open = self.walks.get(&item)?;
        match open.walk.end().cloned() {
            // What is in flight may show that the list continues.
            Some(end) if open.is_idle() && (open.waiting == 0 || !end.may_be_disproved()) => {
                let end = EndRow { error: end.message, ..EndRow::new(item, end.stop) };
                self.close(end, self.rules.first);
            }
            _ => self.reschedule(item),
        }
        let is_over = |open: &&OpenWalk| open.is_idle() && open.ends_by(open.walk.next());
        self.walks.get(&item).filter(is_over)?;
        let open = self.walks.remove(&item)?;
        self.suspended -= usize::from(open.is_suspended);
        self.lookahead_cost.in_doubt = self.lookahead_cost.in_doubt.saturating_sub(open.cost.in_doubt);
        open.closing.map(|closing| (open.walk, closing.end))
    }

    /// Whether [`next_page`](Self::next_page) has a page.
    pub(crate) fn has_next(&self) -> bool {
        !self.requeue.is_empty() || self.ready.len() > 0 || !self.unstarted.is_empty() && !self.has_too_many_delayed()
    }

    fn has_too_many_delayed(&self) -> bool {
        self.delayed.len() >= MAX_DELAYED
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|((due, ..), _)| *due)
    }

    /// Whether no walk is open except suspended ones.
    pub(crate) fn is_done(&self) -> bool {
        self.unstarted.is_empty() && self.walks.len() == self.suspended && self.in_flight.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Frontier, MAX_DELAYED, PageTask, ProbePolicy};
    use crate::crawl::end_of_list::PagingRules;
    use crate::crawl::lookahead::budget::LookaheadBudget;
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
        observed: None,
    };

    const PROBES: ProbePolicy =
        ProbePolicy { latency: Duration::from_millis(80), rate: 50.0, min_saving: Duration::ZERO };

    fn walk(item: i64, pages: u32) -> Walk {
        let full = Counts { received: 3, fresh: 3, ..Counts::default() };
        Walk::new(ItemIx(item), ItemId::new("a"), &RULES, (1..=pages).map(|page| (PageNum(page), full)), None)
    }

    fn frontier(walks: impl IntoIterator<Item = (i64, u32)>) -> Frontier {
        let mut frontier = Frontier::new(RULES, 8);
        walks.into_iter().for_each(|(item, pages)| frontier.add(walk(item, pages)));
        frontier
    }

    fn order(frontier: &mut Frontier) -> Vec<i64> {
        std::iter::from_fn(|| frontier.next_page().map(|task| task.item.0)).collect()
    }

    /// Takes the next page and says that it failed until a time.
    fn fail(frontier: &mut Frontier, until: tokio::time::Instant) -> i64 {
        let PageTask { item, page, .. } = *frontier.next_page().unwrap();
        let task = frontier.take_in_flight(item, page).unwrap();
        frontier.delay(task, until);
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
        let mut frontier = frontier([(1, 0), (2, 0), (3, 1), (4, 7), (5, 1)]);
        assert_eq!(order(&mut frontier), [4, 3, 5, 1, 2]);
        assert!(!frontier.is_done());
        for (item, page) in [(1, 1), (2, 1), (3, 2), (4, 8), (5, 2)] {
            assert!(frontier.take_in_flight(ItemIx(item), PageNum(page)).is_some());
            frontier.close(end(item), PageNum(page));
            assert!(frontier.take_ended(ItemIx(item)).is_some());
        }
        assert!(frontier.is_done() && frontier.take_in_flight(ItemIx(1), PageNum(1)).is_none());
    }

    #[test]
    fn once_all_walks_are_open_new_ones_come_first_and_then_they_go_on_in_rounds() {
        let mut frontier = frontier([(1, 0), (2, 3), (3, 9), (4, 7), (5, 1)]);
        frontier.set_has_all(true);
        assert_eq!(order(&mut frontier), [1, 5, 2, 3, 4]);
    }

    #[test]
    fn pages_that_are_known_to_exist_wait_and_the_one_behind_them_does_not() {
        let mut frontier = Frontier::new(RULES, 8);
        let full = Counts { received: 3, fresh: 3, ..Counts::default() };
        let ahead = [1, 2, 3, 7, 8].map(|page| (PageNum(page), full));
        frontier.add(Walk::new(ItemIx(1), ItemId::new("a"), &RULES, ahead, None));
        frontier.add(walk(2, 20));
        let pages = |frontier: &mut Frontier| -> Vec<(i64, u32)> {
            std::iter::from_fn(|| frontier.next_page().map(|task| (task.item.0, task.page.0))).collect()
        };
        frontier.set_has_all(true);
        assert_eq!(pages(&mut frontier), [(1, 9), (2, 21), (1, 4), (1, 5), (1, 6)]);
    }

    #[test]
    fn a_page_ahead_is_in_doubt_until_its_neighbour_came_and_in_vain_behind_the_end() {
        let mut frontier = frontier([(1, 9)]);
        frontier.set_has_all(true);
        let came = |frontier: &mut Frontier, page: u32, rows: u8| {
            frontier.take_in_flight(ItemIx(1), PageNum(page)).unwrap();
            let keys: Vec<_> = (0..rows).map(|key| [u8::try_from(page * 3).unwrap() + key; 16]).collect();
            frontier.walk_mut(ItemIx(1)).unwrap().accept(&read(page, keys), AttemptId(1), &RULES);
            frontier.take_ended(ItemIx(1));
            (frontier.lookahead_cost().in_doubt, frontier.lookahead_cost().in_vain)
        };
        let needed = frontier.next_page().unwrap().page.0;
        let mut pages = Vec::new();
        let mut probe = |frontier: &mut Frontier| {
            let page = frontier.next_lookahead(&PROBES, LookaheadBudget::new(1.0).reserve()).unwrap().page.0;
            pages.push(page);
            page
        };
        let page = probe(&mut frontier);
        assert_eq!(came(&mut frontier, page, 3), (1, 0));
        let page = probe(&mut frontier);
        assert_eq!(came(&mut frontier, page, 3), (0, 0));
        assert_eq!(frontier.next_page().map(|task| task.page), Some(PageNum(14)));
        let page = probe(&mut frontier);
        assert_eq!(came(&mut frontier, page, 0), (0, 1));
        assert_eq!((needed, pages), (10, vec![13, 12, 19]));
    }

    #[test]
    fn a_delayed_page_waits_for_its_time() {
        let mut frontier = frontier([(1, 2)]);
        let due = clock::now() + Duration::from_secs(3_600);
        fail(&mut frontier, due);
        assert!(frontier.next_page().is_none() && !frontier.has_next());
        assert!(frontier.next_retry(clock::now()).is_none());
        assert_eq!(frontier.due(), Some(due));
        assert_eq!(frontier.next_retry(due).map(|task| task.page), Some(PageNum(3)));
    }

    #[test]
    fn in_a_storm_of_failures_no_new_walk_begins_but_thousands_that_fail_delay_nothing() {
        let later = clock::now() + Duration::from_secs(3_600);
        let delayed = i64::try_from(MAX_DELAYED).unwrap();
        let mut frontier = frontier((1..delayed).map(|item| (item, 1)));
        for _ in 1..delayed {
            fail(&mut frontier, later);
        }
        frontier.add(walk(delayed + 1, 0));
        assert_eq!(fail(&mut frontier, later), delayed + 1);
        frontier.add(walk(delayed + 2, 0));
        assert!(order(&mut frontier).is_empty() && !frontier.has_next());
    }

    #[test]
    fn in_a_storm_of_failures_no_walk_that_has_begun_is_added_either() {
        let delayed = i64::try_from(MAX_DELAYED).unwrap();
        let mut frontier = frontier((1..=delayed).map(|item| (item, 1)));
        for _ in 1..delayed {
            fail(&mut frontier, clock::now() + Duration::from_secs(3_600));
        }
        assert_eq!((frontier.free_slots(), frontier.is_half_empty()), (7, true));
        fail(&mut frontier, clock::now() + Duration::from_secs(3_600));
        assert_eq!((frontier.free_slots(), frontier.is_half_empty()), (0, false));
        frontier.clear_failures(|_| true);
        assert!(order(&mut frontier).len() == MAX_DELAYED && frontier.is_half_empty());
    }

    #[test]
    fn health_checks_take_what_did_not_fail_and_then_each_delayed_page_in_turn() {
        let mut frontier = frontier([(1, 9), (2, 1)]);
        let now = clock::now();
        let seconds = |count| now + Duration::from_secs(count);
        fail(&mut frontier, seconds(1));
        fail(&mut frontier, seconds(2));
        frontier.add(walk(3, 0));
        let mut probed = Vec::new();
        for at in 3..8 {
            let PageTask { item, page, .. } = *frontier.next_health_check().unwrap();
            probed.push(item.0);
            let failed = frontier.take_in_flight(item, page).unwrap();
            frontier.delay(failed, seconds(at));
        }
        assert_eq!(probed, [3, 1, 2, 3, 1]);
    }

    #[test]
    fn a_page_whose_failures_are_cleared_is_ready() {
        let mut frontier = frontier([(1, 0), (2, 0)]);
        let later = clock::now() + Duration::from_secs(3_600);
        for item in [1, 2] {
            assert_eq!(frontier.next_page().map(|task| task.item.0), Some(item));
            let mut failed = frontier.take_in_flight(ItemIx(item), PageNum(1)).unwrap();
            failed.retry = Some(Retry::new(POLICY, 1, 0).new_state());
            frontier.delay(failed, later);
        }
        frontier.clear_failures(|task| task.item == ItemIx(2));
        assert!(frontier.next_page().is_some_and(|task| task.item == ItemIx(2) && task.retry.is_none()));
        assert!(!frontier.has_next() && frontier.due() == Some(later));
    }

    #[test]
    fn a_walk_ends_when_nothing_of_it_is_in_flight_and_what_waits_is_dropped() {
        let mut frontier = frontier([(1, 9)]);
        frontier.set_has_all(true);
        let later = clock::now() + Duration::from_secs(3_600);
        assert!(frontier.lookahead_stage(&PROBES).is_none(), "page 10 tells where the end is at no risk");
        fail(&mut frontier, later);
        let probe = frontier.next_lookahead(&PROBES, LookaheadBudget::new(1.0).reserve()).unwrap();
        assert!(probe.probe.is_some() && probe.page == PageNum(13), "{probe:?}");
        frontier.close(end(1), PageNum(10));
        assert!(frontier.due().is_none() && frontier.take_ended(ItemIx(1)).is_none() && !frontier.is_done());
        frontier.take_in_flight(ItemIx(1), PageNum(13)).unwrap();
        assert!(frontier.take_ended(ItemIx(1)).is_some() && frontier.is_done());
    }

    #[test]
    fn a_walk_that_ends_at_a_page_gets_the_pages_before_it_first() {
        let mut frontier = Frontier::new(RULES, 8);
        let full = Counts { received: 3, fresh: 3, ..Counts::default() };
        let there = [1, 2, 3, 7, 8].map(|page| (PageNum(page), full));
        frontier.add(Walk::new(ItemIx(1), ItemId::new("a"), &RULES, there, None));
        let asked: Vec<u32> = (0..2).map(|_| frontier.next_page().unwrap().page.0).collect();
        assert_eq!(asked, [4, 5]);
        let later = clock::now() + Duration::from_secs(3_600);
        let delayed = frontier.take_in_flight(ItemIx(1), PageNum(4)).unwrap();
        frontier.delay(delayed, later);
        frontier.close(end(1), PageNum(9));
        assert_eq!(order(&mut frontier), [1], "page 6, and no page behind the end");
        assert_eq!(frontier.next_retry(later).map(|task| task.page), Some(PageNum(4)));
        for page in [6, 5, 4] {
            assert!(frontier.take_ended(ItemIx(1)).is_none(), "page {page} is missing");
            frontier.take_in_flight(ItemIx(1), PageNum(page)).unwrap();
            let keys: Vec<_> = (0..3).map(|key| [u8::try_from(page * 3 + key).unwrap(); 16]).collect();
            let walk = frontier.walk_mut(ItemIx(1)).unwrap();
            walk.accept(&read(page, keys), AttemptId(1), &RULES);
        }
        assert!(frontier.take_ended(ItemIx(1)).is_some_and(|(_, end)| end.stop == StopReason::Failed));
        assert!(frontier.is_done());
    }

    #[test]
    fn a_walk_that_ends_at_a_page_is_not_suspended_for_one_behind_it() {
        let mut frontier = Frontier::new(RULES, 8);
        let full = Counts { received: 3, fresh: 3, ..Counts::default() };
        let there = [1, 2, 3, 7, 8].map(|page| (PageNum(page), full));
        frontier.add(Walk::new(ItemIx(1), ItemId::new("a"), &RULES, there, None));
        for page in [4, 5] {
            assert_eq!(frontier.next_page().map(|task| task.page), Some(PageNum(page)));
            frontier.take_in_flight(ItemIx(1), PageNum(page)).unwrap();
        }
        assert!(frontier.suspend(ItemIx(1), PageNum(5)) && frontier.is_done());
        frontier.close(end(1), PageNum(4));
        assert!(!frontier.is_done() && !frontier.suspend(ItemIx(1), PageNum(5)));
        assert!(frontier.take_ended(ItemIx(1)).is_some() && frontier.is_done());
    }

    #[test]
    fn a_page_that_failed_delays_no_other_page_of_its_walk() {
        let mut frontier = Frontier::new(RULES, 8);
        let full = Counts { received: 3, fresh: 3, ..Counts::default() };
        let pages = [1, 2, 3, 7, 8].map(|page| (PageNum(page), full));
        frontier.add(Walk::new(ItemIx(1), ItemId::new("a"), &RULES, pages, None));
        fail(&mut frontier, clock::now() + Duration::from_secs(3_600));
        let rest: Vec<u32> = std::iter::from_fn(|| frontier.next_page().map(|task| task.page.0)).collect();
        assert_eq!(rest, [5, 6, 9]);
    }

    #[test]
    fn keys_of_the_shallowest_walks_are_unloaded_first() {
        let mut frontier = Frontier::new(RULES, 8);
        for (item, pages) in [(1, 9), (2, 5), (3, 1)] {
            let mut walk = walk(item, pages);
            walk.load_keys((0..10).map(|key| ([key; 16], PageNum(1))));
            frontier.add(walk);
        }
        frontier.unload_keys(20);
        assert_eq!(frontier.keys(), 20);
        let item = frontier.next_page().unwrap().item;
        assert_eq!(frontier.walk_mut(item).and_then(|walk| walk.keys()), Some(10));
    }
}
