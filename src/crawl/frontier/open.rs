//! A walk that has begun: what of it is under way, what waits, and how it ends.

use super::order::Rank;
use super::worth::Prospect;
use crate::crawl::end_of_list::PagingRules;
use crate::crawl::walk::{Ahead, Walk};
use crate::model::page::PageNum;
use crate::state::ledger::EndRow;

/// A walk that has begun.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) walk: Walk,
    /// Pages under way.
    pub(super) in_flight: usize,
    /// Pages that wait to be asked for once more.
    pub(super) waiting: usize,
    /// Where it stands in `ready` and in `probes`.
    pub(super) ready: Option<Rank>,
    pub(super) probe: Option<Prospect>,
    /// How many pages of it are expected to be asked for yet.
    pub(super) expected: f64,
    /// What became of its pages ahead.
    pub(super) ahead: Ahead,
    pub(super) is_aside: bool,
    /// The page that will show whether it goes on behind its end.
    pub(super) check: Option<PageNum>,
    pub(super) closing: Option<Closing>,
}

/// How a walk ends, when it has come to a page and nothing of it is under way any more: pages before one that failed may
/// still be had.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) at: PageNum,
    pub(super) end: EndRow,
}

impl Open {
    /// A walk of which nothing is under way.
    pub(super) fn new(walk: Walk) -> Self {
        let ahead = walk.ahead(); // of an earlier run
        Self {
            walk,
            in_flight: 0,
            waiting: 0,
            ready: None,
            probe: None,
            expected: 0.0,
            ahead,
            is_aside: false,
            check: None,
            closing: None,
        }
    }

    /// Whether nothing of it is asked for from this page on.
    pub(super) fn ends_by(&self, page: PageNum) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.at <= page)
    }

    /// The next page of it that is needed and was not asked for.
    pub(super) fn next_needed(&self, rules: &PagingRules) -> Option<PageNum> {
        self.walk.next_needed(rules).filter(|page| !self.ends_by(*page))
    }

    /// The first page of it that is not known to exist, if that was not asked for.
    pub(super) fn next_unknown(&self, rules: &PagingRules) -> Option<PageNum> {
        self.walk.next_unknown(rules).filter(|page| !self.ends_by(*page))
    }

    /// Takes note of what became of its pages ahead. Gives what became of those of all walks.
    pub(super) fn note_ahead(&mut self, all: Ahead) -> Ahead {
        let new = self.walk.ahead();
        let old = std::mem::replace(&mut self.ahead, new);
        let sum = |all: u32, old: u32, new: u32| all.saturating_add(new).saturating_sub(old);
        Ahead {
            in_vain: sum(all.in_vain, old.in_vain, new.in_vain),
            in_doubt: sum(all.in_doubt, old.in_doubt, new.in_doubt),
        }
    }
}
