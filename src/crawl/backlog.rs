//! The walks that are only in the ledger yet: a few at a time are added to the frontier, however many there are.
//!
//! Walks that have started come first, then new ones in the order of the list. As long as no page ever came, nobody knows whether
//! the request is wrong or the list starts with items that are gone. Then one item at a time is sampled from all over the list,
//! and none twice before all others were, in any run.

use std::collections::{BTreeSet, VecDeque};

use crate::crawl::end_of_list::PagingRules;
use crate::crawl::frontier::Frontier;
use crate::crawl::lookahead::MIN_PAGES;
use crate::crawl::walk::Walk;
use crate::model::page::{ItemIx, SegmentId};
use crate::state::ledger::{Ledger, LedgerError, OpenItem};

/// Walks of a survey that are added at a time.
const AT_ONCE: usize = 4;

/// How far the ledger's open items were taken: walks that have started first, then new ones.
#[derive(Debug)]
pub struct Backlog {
    started: Option<ItemIx>,
    unstarted: Option<ItemIx>,
    /// New ones that were taken out of order, before the first page arrived.
    samples: BTreeSet<ItemIx>,
    /// Whether ended walks were reopened: then the walks that have started are taken once more.
    is_reopened: bool,
    /// The walks of a survey, in its order. None: this is none.
    survey: Option<VecDeque<ItemIx>>,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            started: Some(ItemIx(0)),
            unstarted: Some(ItemIx(0)),
            samples: BTreeSet::new(),
            is_reopened: false,
            survey: None,
        }
    }
}

impl Backlog {
    /// A survey of these walks, in this order.
    pub(crate) fn new_survey(order: Vec<ItemIx>) -> Self {
        Self { started: None, unstarted: None, survey: Some(order.into()), ..Self::default() }
    }

    pub fn reopen(&mut self) {
        if self.survey.is_some() {
            return; // the export itself continues them
        }
        (self.started, self.is_reopened) = (Some(ItemIx(0)), true);
    }

    /// Whether every open item was taken.
    pub fn is_empty(&self) -> bool {
        self.started.is_none() && self.unstarted.is_none() && self.survey.as_ref().is_none_or(VecDeque::is_empty)
    }

    /// Adds walks to the frontier if it is half empty. `in_order`: items are taken in the order of the list, because a page arrived
    /// in this run or an earlier one. `ended`: walks whose end is not in the ledger yet. Returns the walks whose pages show that
    /// they have ended, or are outdated: the process died before that was recorded.
    pub fn refill(
        &mut self,
        frontier: &mut Frontier,
        ledger: &Ledger,
        rules: &PagingRules,
        (in_order, ended): (bool, &[ItemIx]),
    ) -> Result<Vec<ItemIx>, LedgerError> {
        let mut over = Vec::new();
        loop {
            let taken = self.take(frontier, ledger, in_order, ended)?;
            let is_last = taken.is_empty() || self.survey.is_none();
            for open in taken {
                let (walk, is_over) = walk_of(open, ledger, rules)?;
                over.extend(is_over.then_some(walk.item));
                frontier.add(walk);
            }
            // A survey may know enough of the walks that it has taken: then no response would ever bring the next ones.
            if is_last {
                break;
            }
        }
        frontier.set_has_all(self.is_empty());
        Ok(over)
    }

    fn take(
        &mut self,
        frontier: &Frontier,
        ledger: &Ledger,
        in_order: bool,
        ended: &[ItemIx],
    ) -> Result<Vec<OpenItem>, LedgerError> {
        if let Some(survey) = &mut self.survey {
            let waits = !in_order && frontier.has_in_flight() || frontier.has_survey_page();
            return if waits { Ok(Vec::new()) } else { surveyed(survey, ledger, if in_order { AT_ONCE } else { 1 }) };
        }
        // The next sample waits for the outcome of the last one: after a page, items are taken in order.
        let waits = !in_order && (frontier.has_next() || frontier.has_in_flight());
        if waits || !frontier.is_half_empty() {
            return Ok(Vec::new());
        }
        if !in_order && let Some(sample) = self.sample(ledger)? {
            return Ok(vec![sample]);
        }
        // The walk of a sample whose page arrived and is not yet applied will take a slot.
        let is_applied = self.samples.is_empty() || self.unstarted != Some(ItemIx(0)) || !frontier.has_in_flight();
        let slots = frontier.free_slots() - usize::from(!is_applied);
        if slots == 0 {
            return Ok(Vec::new());
        }
        if let Some(after) = self.started {
            // A sample that was reopened is a walk like any other.
            let known = if self.is_reopened {
                frontier.items().chain(ended.iter().copied()).collect()
            } else {
                self.samples.clone()
            };
            let items = ledger.walking_items(after, &known, slots)?;
            self.started = next(&items, slots);
            if !items.is_empty() {
                return Ok(items);
            }
        }
        let Some(after) = self.unstarted else { return Ok(Vec::new()) };
        let items = ledger.unstarted_items(after, &self.samples, slots)?;
        self.unstarted = next(&items, slots);
        Ok(items)
    }

    /// An item that was never requested, from anywhere in the list. None: all were.
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

/// The walk of an open item, with its pages, and whether they show that it has ended or is outdated.
fn walk_of(open: OpenItem, ledger: &Ledger, rules: &PagingRules) -> Result<(Walk, bool), LedgerError> {
    let OpenItem { item, id, tries, unproven, skip, failed_before, has_pages, is_moved, size } = open;
    let pages = if has_pages { ledger.pages(item, SegmentId::BEHIND_ALL)? } else { Vec::new() };
    let mut walk = Walk::new(item, id, rules, pages, skip);
    (walk.proven_failures, walk.unproven_runs, walk.failed_before) = (tries, unproven, failed_before);
    if has_pages {
        walk.unload_keys(); // if all its pages are outdated it looks new, but its rows are known
    }
    if is_moved {
        walk.read_in_order();
    }
    // Shorter lists are read as fast without one.
    let least = u64::from(rules.page_size) * u64::from(MIN_PAGES);
    walk.set_hint(size.filter(|rows| *rows >= least).and_then(|rows| rules.last_of(rows)));
    let is_over = walk.end().is_some() || walk.is_blocked();
    Ok((walk, is_over))
}

/// The next walks of a survey that have not ended.
fn surveyed(survey: &mut VecDeque<ItemIx>, ledger: &Ledger, slots: usize) -> Result<Vec<OpenItem>, LedgerError> {
    let mut found = Vec::new();
    while found.len() < slots
        && let Some(item) = survey.pop_front()
    {
        found.extend(ledger.open_item(item)?);
    }
    Ok(found)
}

/// The item after which the next ones come. None: these were the last.
fn next(items: &[OpenItem], slots: usize) -> Option<ItemIx> {
    items.last().map(|last| last.item).filter(|_| items.len() == slots)
}

/// The item after which the sample with this number is taken: the beginning, the half, the quarters, the eighths, and so on
/// (van der Corput's sequence). However many samples there are, they are spread over the whole list.
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
    fn samples_are_spread_over_a_list_however_many_there_are() {
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
