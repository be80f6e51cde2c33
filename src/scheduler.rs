//! Which page next: the most urgent one that is ready.
//!
//! Continuing walks before new ones, the deepest first, so that few walks are open at a time; a page that failed waits
//! for its time and for leave to be asked for again. Pure: no clock, no ledger, no channel. Memory is bounded by the
//! caller: it adds new walks only while [`Scheduler::room`] says so.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};

use tokio::time::Instant;

use crate::page::{ItemIx, PageNum};
use crate::walk::Walk;

/// The walks that are open, by what they wait for.
#[derive(Debug)]
pub struct Scheduler {
    /// Walks without a page, in the order of the list.
    fresh: VecDeque<Walk>,
    /// Walks whose next page may be asked for, the deepest first.
    ready: BTreeMap<(Reverse<PageNum>, ItemIx), Walk>,
    /// Walks whose page failed, by the time of its next attempt.
    parked: BTreeMap<(Instant, ItemIx), Walk>,
    /// Walks with a page under way.
    flying: HashMap<ItemIx, Walk>,
    /// The most fresh and ready walks to hold.
    bound: usize,
}

/// So many walks may be parked before no new ones are begun: pages that keep failing must not keep the others waiting,
/// and a walk that waits takes some 300 bytes and no keys.
const PARKED: usize = 4_096;

impl Scheduler {
    /// A scheduler for at most `bound` requests in flight.
    pub fn new(bound: usize) -> Self {
        let bound = bound.max(1);
        Self { fresh: VecDeque::new(), ready: BTreeMap::new(), parked: BTreeMap::new(), flying: HashMap::new(), bound }
    }

    /// How many more walks it wants to hold.
    pub fn room(&self) -> usize {
        self.bound.saturating_sub(self.fresh.len() + self.ready.len())
    }

    /// Whether it is time to bring more walks.
    pub fn is_half_empty(&self) -> bool {
        self.room() >= self.bound.div_ceil(2)
    }

    /// Adds a walk without a page.
    pub fn add(&mut self, walk: Walk) {
        self.fresh.push_back(walk);
    }

    /// Adds a walk whose next page may be asked for.
    pub fn resume(&mut self, walk: Walk) {
        self.ready.insert((Reverse(walk.next()), walk.item), walk);
    }

    /// Adds a walk whose next page must wait.
    pub fn park(&mut self, walk: Walk, until: Instant) {
        self.parked.insert((until, walk.item), walk);
    }

    /// The most urgent page that did not fail; its walk is under way until it is [landed](Self::land).
    pub fn next_page(&mut self) -> Option<&Walk> {
        let walk = match self.ready.pop_first() {
            Some((_, walk)) => walk,
            None if self.is_stormy() => return None,
            None => self.fresh.pop_front()?,
        };
        Some(self.fly(walk))
    }

    /// The page that failed and has been due for longest.
    pub fn next_retry(&mut self, now: Instant) -> Option<&Walk> {
        let (_, walk) = self.parked.first_entry().filter(|entry| entry.key().0 <= now)?.remove_entry();
        Some(self.fly(walk))
    }

    /// Any page at all, to see whether the API works: one that did not fail, or the one whose turn to wait is over first.
    pub fn next_probe(&mut self) -> Option<&Walk> {
        if self.has_next() {
            return self.next_page();
        }
        let (_, walk) = self.parked.pop_first()?;
        Some(self.fly(walk))
    }

    fn fly(&mut self, walk: Walk) -> &Walk {
        match self.flying.entry(walk.item) {
            Entry::Occupied(known) => known.into_mut(), // an item has one walk
            Entry::Vacant(free) => free.insert(walk),
        }
    }

    fn is_stormy(&self) -> bool {
        self.parked.len() >= PARKED
    }

    /// Takes back the walk whose page came to an end.
    pub fn land(&mut self, item: ItemIx) -> Option<Walk> {
        self.flying.remove(&item)
    }

    /// Whether there is a page that did not fail.
    pub fn has_next(&self) -> bool {
        !self.ready.is_empty() || !self.fresh.is_empty() && !self.is_stormy()
    }

    /// When the next waiting page is due.
    pub fn due(&self) -> Option<Instant> {
        self.parked.first_key_value().map(|((due, _), _)| *due)
    }

    /// Whether a page is under way.
    pub fn is_flying(&self) -> bool {
        !self.flying.is_empty()
    }

    /// Whether all open walks are like this; new ones and ready ones never are.
    pub fn all_tried(&self, like: impl Fn(&Walk) -> bool) -> bool {
        let untried = !self.fresh.is_empty() || !self.ready.is_empty();
        !untried && self.parked.values().chain(self.flying.values()).all(like)
    }

    /// Forgets the failures of parked walks that `innocent` picks: their pages may be asked for at once.
    pub fn pardon(&mut self, innocent: impl Fn(&Walk) -> bool) {
        for (key, mut walk) in std::mem::take(&mut self.parked) {
            if innocent(&walk) {
                walk.tries = None;
                self.resume(walk);
            } else {
                self.parked.insert(key, walk);
            }
        }
    }

    /// Takes all parked walks.
    pub fn take_parked(&mut self) -> Vec<Walk> {
        std::mem::take(&mut self.parked).into_values().collect()
    }

    /// Whether no walk is open.
    pub fn is_done(&self) -> bool {
        self.fresh.is_empty() && self.ready.is_empty() && self.parked.is_empty() && self.flying.is_empty()
    }

    /// Keys in memory, over all walks.
    pub fn keys(&self) -> usize {
        let walks = self.ready.values().chain(self.parked.values()).chain(self.flying.values());
        walks.filter_map(Walk::keys).sum()
    }

    /// Unloads keys of walks that are not under way, those that come last first, until at most `most` are in memory.
    pub fn unload_keys(&mut self, most: usize) {
        let mut keys = self.keys();
        for walk in self.parked.values_mut().rev().chain(self.ready.values_mut().rev()) {
            if keys <= most {
                break;
            }
            keys = keys.saturating_sub(walk.keys().unwrap_or_default());
            walk.unload();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PARKED, Scheduler};
    use crate::clock;
    use crate::endpoint::EndRule;
    use crate::page::{ItemId, ItemIx, PageNum};
    use crate::retry::{Policy, Retry};
    use crate::walk::{Rules, Walk};
    use std::time::Duration;

    const POLICY: Policy = Policy {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(9),
        attempts: 3,
        patience: Duration::from_secs(99),
    };

    fn walk(item: i64, pages: u32) -> Walk {
        let rules =
            Rules { first: PageNum(1), last: PageNum(99), page_size: 3, max_pages: None, end: EndRule::ShortPage };
        Walk::new(ItemIx(item), ItemId::new("a"), &rules, (1..=pages).map(PageNum))
    }

    fn order(scheduler: &mut Scheduler) -> Vec<i64> {
        std::iter::from_fn(|| scheduler.next_page().map(|walk| walk.item.0)).collect()
    }

    #[test]
    fn deep_walks_come_before_shallow_ones_and_those_before_new_ones() {
        let mut scheduler = Scheduler::new(8);
        scheduler.add(walk(1, 0));
        scheduler.add(walk(2, 0));
        scheduler.resume(walk(3, 1));
        scheduler.resume(walk(4, 7));
        scheduler.resume(walk(5, 1));
        assert_eq!(order(&mut scheduler), [4, 3, 5, 1, 2]);
        assert!(!scheduler.is_done());
        for item in 1..=5 {
            assert!(scheduler.land(ItemIx(item)).is_some());
        }
        assert!(scheduler.is_done() && scheduler.land(ItemIx(1)).is_none());
    }

    #[test]
    fn a_parked_page_waits_for_its_time() {
        let mut scheduler = Scheduler::new(8);
        let due = clock::now() + Duration::from_secs(3_600);
        scheduler.park(walk(1, 2), due);
        assert!(scheduler.next_page().is_none() && !scheduler.has_next());
        assert!(scheduler.next_retry(clock::now()).is_none());
        assert_eq!(scheduler.due(), Some(due));
        assert_eq!(scheduler.next_retry(due).map(|walk| walk.item), Some(ItemIx(1)));
    }

    #[test]
    fn in_a_storm_of_failures_no_new_walk_is_begun_but_thousands_that_fail_hold_up_nothing() {
        let mut scheduler = Scheduler::new(2);
        let later = clock::now() + Duration::from_secs(3_600);
        let parked = i64::try_from(PARKED).unwrap();
        (1..parked).for_each(|item| scheduler.park(walk(item, 1), later));
        scheduler.add(walk(parked + 1, 0));
        scheduler.add(walk(parked + 2, 0));
        assert_eq!(order(&mut scheduler), [parked + 1, parked + 2]);
        let failed = scheduler.land(ItemIx(parked + 1)).unwrap();
        scheduler.park(failed, later);
        scheduler.add(walk(parked + 3, 0));
        assert!(order(&mut scheduler).is_empty() && !scheduler.has_next());
    }

    #[test]
    fn probes_take_what_did_not_fail_and_then_each_parked_page_in_turn() {
        let mut scheduler = Scheduler::new(8);
        let now = clock::now();
        let seconds = |count| now + Duration::from_secs(count);
        scheduler.park(walk(1, 9), seconds(1));
        scheduler.park(walk(2, 1), seconds(2));
        scheduler.add(walk(3, 0));
        let mut probed = Vec::new();
        for at in 3..8 {
            let item = scheduler.next_probe().unwrap().item;
            probed.push(item.0);
            let failed = scheduler.land(item).unwrap();
            scheduler.park(failed, seconds(at));
        }
        assert_eq!(probed, [3, 1, 2, 3, 1]);
    }

    #[test]
    fn a_pardoned_page_is_ready_and_its_failures_are_forgotten() {
        let mut scheduler = Scheduler::new(8);
        let later = clock::now() + Duration::from_secs(3_600);
        for item in [1, 2] {
            let mut failed = walk(item, 0);
            failed.tries = Some(Retry::new(POLICY, 1, 0).begin());
            scheduler.park(failed, later);
        }
        scheduler.pardon(|walk| walk.item == ItemIx(2));
        assert!(scheduler.next_page().is_some_and(|walk| walk.item == ItemIx(2) && walk.tries.is_none()));
        assert!(!scheduler.has_next() && scheduler.due() == Some(later));
    }

    #[test]
    fn keys_of_the_walks_that_come_last_are_unloaded_first() {
        let mut scheduler = Scheduler::new(8);
        for (item, pages) in [(1, 9), (2, 5), (3, 1)] {
            let mut walk = walk(item, pages);
            walk.load((0..10).map(|key| [key; 16]));
            scheduler.resume(walk);
        }
        scheduler.unload_keys(20);
        assert_eq!(scheduler.keys(), 20);
        assert_eq!(scheduler.next_page().and_then(Walk::keys), Some(10));
    }
}
