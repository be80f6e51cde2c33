//! A walk that has begun: what of it is under way, what waits, and how it ends.

use std::cmp::Reverse;

use super::order::{Depth, Place};
use crate::ledger::EndRow;
use crate::page::PageNum;
use crate::rules::Rules;
use crate::walk::Walk;

/// A walk that has begun.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) walk: Walk,
    /// Pages under way.
    pub(super) flying: usize,
    /// Pages that wait to be asked for once more.
    pub(super) waiting: usize,
    /// Where it stands in `ready` and in `scouts`.
    pub(super) ready: Option<Place>,
    pub(super) scout: Option<(Reverse<bool>, Depth)>,
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
        Self { walk, flying: 0, waiting: 0, ready: None, scout: None, is_aside: false, check: None, closing: None }
    }

    /// Whether nothing of it is asked for from this page on.
    pub(super) fn ends_by(&self, page: PageNum) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.at <= page)
    }

    /// The next page of it that is needed and was not asked for.
    pub(super) fn next_needed(&self, rules: &Rules) -> Option<PageNum> {
        self.walk.next_needed(rules).filter(|page| !self.ends_by(*page))
    }

    /// The first page of it that is not known to exist, if that was not asked for.
    pub(super) fn next_unknown(&self, rules: &Rules) -> Option<PageNum> {
        self.walk.next_unknown(rules).filter(|page| !self.ends_by(*page))
    }
}
