//! The walks that the ledger still holds: a few at a time go to the scheduler, however many there are.
//!
//! Walks under way first, then new ones in the order of the list. As long as no page ever came, nobody knows whether the
//! question is wrong or the list begins with items that are gone: then one item at a time is asked for, from all over the
//! list, and none twice before all others were, in whichever run.

use std::collections::BTreeSet;

use crate::crawl::end_of_list::PagingRules;
use crate::crawl::frontier::Scheduler;
use crate::crawl::walk::Walk;
use crate::model::page::{ItemIx, SegmentId};
use crate::state::ledger::{Ledger, LedgerError, OpenItem};

/// How far the ledger's open items have been taken: walks under way first, then new ones.
#[derive(Debug)]
pub struct Backlog {
    walking: Option<ItemIx>,
    fresh: Option<ItemIx>,
    /// New ones that were taken before their turn: as many as were asked for before the first page came.
    samples: BTreeSet<ItemIx>,
    /// Whether walks were opened again that had ended: then those that have begun are gone through once more.
    is_reopened: bool,
}

impl Default for Backlog {
    fn default() -> Self {
        Self { walking: Some(ItemIx(0)), fresh: Some(ItemIx(0)), samples: BTreeSet::new(), is_reopened: false }
    }
}

impl Backlog {
    /// Walks that had ended were opened again.
    pub fn reopen(&mut self) {
        (self.walking, self.is_reopened) = (Some(ItemIx(0)), true);
    }

    /// Whether every open item was taken.
    pub fn is_empty(&self) -> bool {
        self.walking.is_none() && self.fresh.is_none()
    }

    /// Fills the scheduler up when it has become half empty. `is_heard`: a page came, in this run or an earlier one; `ended`:
    /// walks whose end the ledger does not know yet. Gives
    /// those whose pages say that they are over, or outdated: a crash came before that was written down.
    pub fn refill(
        &mut self,
        scheduler: &mut Scheduler,
        ledger: &Ledger,
        rules: &PagingRules,
        (is_heard, ended): (bool, &[ItemIx]),
    ) -> Result<Vec<ItemIx>, LedgerError> {
        let mut over = Vec::new();
        for open in self.take(scheduler, ledger, is_heard, ended)? {
            let OpenItem { item, id, tries, unproven, skip, failed_before, has_pages, is_moved, size } = open;
            let pages = if has_pages { ledger.pages(item, SegmentId::BEHIND_ALL)? } else { Vec::new() };
            let mut walk = Walk::new(item, id, rules, pages, skip);
            (walk.tries, walk.unproven, walk.failed_before) = (tries, unproven, failed_before);
            if has_pages {
                walk.unload(); // all of them may be outdated: then it begins anew, and its rows are known
            }
            if is_moved {
                walk.read_in_order();
            }
            walk.hint(size.and_then(|rows| rules.last_of(rows)));
            over.extend((walk.end().is_some() || walk.is_stuck()).then_some(item));
            scheduler.add(walk);
        }
        scheduler.has_all(self.is_empty());
        Ok(over)
    }

    fn take(
        &mut self,
        scheduler: &Scheduler,
        ledger: &Ledger,
        is_heard: bool,
        ended: &[ItemIx],
    ) -> Result<Vec<OpenItem>, LedgerError> {
        // What the last sample brings is waited for: if it is a page, the list goes on in its order.
        let waits = !is_heard && (scheduler.has_next() || scheduler.is_flying());
        if waits || !scheduler.is_half_empty() {
            return Ok(Vec::new());
        }
        if !is_heard && let Some(sample) = self.sample(ledger)? {
            return Ok(vec![sample]);
        }
        // A sample whose page came and was not read is a walk that the scheduler will hold.
        let is_read = self.samples.is_empty() || self.fresh != Some(ItemIx(0)) || !scheduler.is_flying();
        let room = scheduler.room() - usize::from(!is_read);
        if room == 0 {
            return Ok(Vec::new());
        }
        if let Some(after) = self.walking {
            // A sample that was opened again is a walk like any other.
            let held = if self.is_reopened {
                scheduler.items().chain(ended.iter().copied()).collect()
            } else {
                self.samples.clone()
            };
            let items = ledger.walking_items(after, &held, room)?;
            self.walking = next(&items, room);
            if !items.is_empty() {
                return Ok(items);
            }
        }
        let Some(after) = self.fresh else { return Ok(Vec::new()) };
        let items = ledger.unstarted_items(after, &self.samples, room)?;
        self.fresh = next(&items, room);
        Ok(items)
    }

    /// An item that was never asked for, from anywhere in the list; none if all were.
    fn sample(&mut self, ledger: &Ledger) -> Result<Option<OpenItem>, LedgerError> {
        let mut asked = ledger.items_without_page()?;
        asked.extend(&self.samples);
        let after = place(asked.len(), ledger.last_item()?);
        let mut found = ledger.unstarted_items(after, &asked, 1)?.pop();
        if found.is_none() {
            found = ledger.unstarted_items(ItemIx(0), &asked, 1)?.pop();
        }
        self.samples.extend(found.as_ref().map(|sample| sample.item));
        Ok(found)
    }
}

/// Behind which item the next ones are; none if these were the last.
fn next(items: &[OpenItem], room: usize) -> Option<ItemIx> {
    items.last().map(|last| last.item).filter(|_| items.len() == room)
}

/// Behind which item of a list a sample is taken, the so manyth: at the beginning, the half, the quarters, the eighths, and
/// so on (van der Corput's sequence). However many there are, they lie all over it.
fn place(number: usize, last: ItemIx) -> ItemIx {
    let share = u64::try_from(number).unwrap_or_default().reverse_bits();
    let items = u64::try_from(last.0).unwrap_or_default();
    let before = (u128::from(share) * u128::from(items)) >> u64::BITS;
    ItemIx(i64::try_from(before).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::place;
    use crate::model::page::ItemIx;

    #[test]
    fn samples_lie_all_over_a_list_however_many_there_are() {
        let places = |count, last| (0..count).map(|number| place(number, ItemIx(last)).0).collect::<Vec<_>>();
        assert_eq!(places(8, 80), [0, 40, 20, 60, 10, 50, 30, 70]);
        for (count, last) in [(20, 1_000_000), (40, 1_000), (20, 27), (1, 1)] {
            let mut places = places(count, last);
            places.sort_unstable();
            places.push(last);
            let widest = places.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(widest <= 2 * last / i64::try_from(count).unwrap() + 1, "{count} of {last}: {places:?}");
        }
    }
}
