//! A walk that has started: what of it is in flight, what waits, and how it ends.

use super::probes::ProbeCandidate;
use super::walk_order::Rank;
use crate::crawl::end_of_list::PagingRules;
use crate::crawl::walk::{LookaheadCost, Walk};
use crate::model::page::PageNum;
use crate::state::ledger::EndRow;

#[derive(Debug)]
pub(super) struct OpenWalk {
    pub(super) walk: Walk,
    pub(super) in_flight: usize,
    /// Pages that failed and will be requested again.
    pub(super) waiting: usize,
    /// Its entry in the frontier's `ready`.
    pub(super) rank: Option<Rank>,
    /// Its entry in the frontier's `probes`.
    pub(super) probe: Option<ProbeCandidate>,
    /// Its part of the frontier's `expected`.
    pub(super) expected: f64,
    /// Its part of the frontier's `lookahead_cost`.
    pub(super) cost: LookaheadCost,
    /// Whether it waits until it is known what becomes of other walks.
    pub(super) is_suspended: bool,
    /// The page that will show whether it continues behind its end.
    pub(super) check: Option<PageNum>,
    pub(super) closing: Option<Closing>,
}

/// The end of a walk that takes effect when all pages before `at` are there and nothing of the walk is in flight.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) at: PageNum,
    pub(super) end: EndRow,
}

impl OpenWalk {
    pub(super) fn new(walk: Walk) -> Self {
        let cost = walk.lookahead_cost(); // an earlier run's, which is not added to this one's
        Self {
            walk,
            in_flight: 0,
            waiting: 0,
            rank: None,
            probe: None,
            expected: 0.0,
            cost,
            is_suspended: false,
            check: None,
            closing: None,
        }
    }

    /// Whether nothing of it is requested from this page on.
    pub(super) fn ends_by(&self, page: PageNum) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.at <= page)
    }

    /// Whether nothing of it is in flight, and no check waits to be requested.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.check.is_none()
    }

    /// Whether nothing of it is in flight or waits to be requested again.
    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight == 0 && self.waiting == 0
    }

    /// The next page of it that is needed and was not requested.
    pub(super) fn next_needed(&self, rules: &PagingRules) -> Option<PageNum> {
        self.walk.next_needed(rules).filter(|page| !self.ends_by(*page))
    }

    /// The first page of it that is not known to exist, if that was not requested.
    pub(super) fn next_unknown(&self, rules: &PagingRules) -> Option<PageNum> {
        self.walk.next_unknown(rules).filter(|page| !self.ends_by(*page))
    }

    /// Brings the cost of looking ahead up to date. Returns the new `total` of all walks.
    pub(super) fn update_cost(&mut self, total: LookaheadCost) -> LookaheadCost {
        let new = self.walk.lookahead_cost();
        let old = std::mem::replace(&mut self.cost, new);
        let sum = |total: u32, old: u32, new: u32| total.saturating_add(new).saturating_sub(old);
        LookaheadCost {
            in_vain: sum(total.in_vain, old.in_vain, new.in_vain),
            in_doubt: sum(total.in_doubt, old.in_doubt, new.in_doubt),
        }
    }
}
