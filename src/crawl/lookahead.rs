//! How far one list reaches: which of its pages are known to exist, and which page is worth asking for next.
//!
//! A walk goes page by page until it has proven deep. Then a *scout*, a page far ahead, may be worth its risk (`scheduler`
//! decides that): half as far again each time (galloping search), which two of three lists reach that came so far where half
//! of them come twice as far; and once one lay behind the end, half-way between what exists and what does not (bisection).
//! A scout counts only if all its rows are new and its neighbour holds new rows too: an API that answers a page number
//! behind the end with the last page, or with any page, is found out by one of the two. Everything before such a pair of
//! pages exists, so it costs nothing to ask for all of it at once.
//!
//! Galloping search: J. L. Bentley, A. C. Yao, "An almost optimal algorithm for unbounded searching", Information
//! Processing Letters 5 (1976): 2 log2 n probes for an end at n.

use std::collections::BTreeSet;

use crate::crawl::end_of_list::PagingRules;
use crate::model::page::{Counts, PageNum};

/// Pages that a walk must have before it looks ahead.
pub(crate) const DEEP: u32 = 8;
/// Pages behind the first missing one that may be asked for before it came: what is held of a walk stays small.
const WINDOW: u32 = 4_096;

/// What is known of a list's depth.
#[derive(Clone, Debug)]
pub(crate) struct Lookahead {
    /// The first page that is not known to exist. It is asked for in any case: it follows a full page, or is the end.
    edge: PageNum,
    /// The farthest page ahead that exists, if the page before it holds new rows.
    found: Option<PageNum>,
    /// The nearest page known not to be followed by another.
    ceiling: Option<PageNum>,
    /// Whether pages ahead cannot be trusted.
    is_flat: bool,
    /// Where the end is said to be.
    hint: Option<PageNum>,
    /// Whether its end was looked for.
    is_begun: bool,
    /// All pages before this one were asked for, or are there.
    asked: PageNum,
    /// Pages in flight that were asked for before those in front of them: scouts, their neighbours, the edge.
    ahead: BTreeSet<PageNum>,
}

/// What is known of one page of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing.
    Missing,
    /// It is there, and was as full and as new as one in the middle of a list.
    Solid,
    /// It is there, and was not.
    Other,
    /// It came, and its rows are those of pages before.
    Repeat,
}

/// How far the search for a list's end has come, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A page far ahead exists; the page before it says whether that can be trusted.
    Confirm,
    /// The search goes on.
    Search,
    /// It has not begun.
    Begin,
}

impl Lookahead {
    /// Nothing is known but that there is a first page.
    pub(crate) fn new(rules: &PagingRules) -> Self {
        Self {
            edge: rules.first,
            found: None,
            ceiling: None,
            is_flat: false,
            hint: None,
            is_begun: false,
            asked: rules.first,
            ahead: BTreeSet::new(),
        }
    }

    /// Takes a hint at the last page. It saves time if it is right, and is not trusted.
    pub(crate) fn hint(&mut self, last: Option<PageNum>) {
        self.hint = last;
    }

    /// Whether a page will be asked for sooner or later, whatever the others turn out to be.
    pub(crate) fn needs(&self, page: PageNum) -> bool {
        page <= self.edge
    }

    /// How many pages there may be of which nothing is known: as many as there are for certain, or half of those before the
    /// first that is known not to exist, or as many as was said.
    pub(crate) fn unknown(&self, rules: &PagingRules) -> u32 {
        let exists = self.exists().0;
        let pages = exists.saturating_add(1).saturating_sub(rules.first.0);
        let most = rules.limit().0.saturating_sub(exists);
        match (self.ceiling, self.hint) {
            (Some(ceiling), _) => pages.min(ceiling.0.saturating_sub(exists) / 2).min(most),
            (None, Some(hint)) if hint.0 > exists => (hint.0 - exists).min(most),
            (None, _) => pages.min(most),
        }
    }

    /// How many pages are expected to be asked for yet: those that are known to exist, and the unknown ones.
    pub(crate) fn expected(&self, next: PageNum, rules: &PagingRules) -> f64 {
        let known = self.edge.0.saturating_sub(self.asked.max(next).0);
        f64::from(known) + f64::from(self.unknown(rules).max(1))
    }

    /// The farthest page that is known to exist, trusted or not.
    fn exists(&self) -> PageNum {
        self.found.unwrap_or(PageNum(self.edge.0.saturating_sub(1)))
    }

    /// The first page that is needed and was not asked for.
    pub(crate) fn next_needed(
        &self,
        next: PageNum,
        rules: &PagingRules,
        known: impl Fn(PageNum) -> Known,
    ) -> Option<PageNum> {
        let last = self.edge.min(rules.limit()).0.min(next.0.saturating_add(WINDOW));
        let mut pages = (self.asked.max(next).0..=last).map(PageNum);
        pages.find(|page| known(*page) == Known::Missing && !self.ahead.contains(page))
    }

    /// The first page that is not known to exist, if it can be asked for and was not. Pages before it may be missing.
    pub(crate) fn next_unknown(
        &self,
        next: PageNum,
        rules: &PagingRules,
        known: impl Fn(PageNum) -> Known,
    ) -> Option<PageNum> {
        let last = rules.limit().0.min(next.0.saturating_add(WINDOW));
        let is_free = self.edge >= self.asked && known(self.edge) == Known::Missing && !self.ahead.contains(&self.edge);
        (is_free && self.edge.0 <= last).then_some(self.edge)
    }

    /// Takes note that the first needed page is asked for.
    pub(crate) fn ask(&mut self, page: PageNum) {
        self.asked = page.next();
    }

    /// The page ahead that says most about where the end is.
    pub(crate) fn probe(
        &self,
        next: PageNum,
        rules: &PagingRules,
        known: impl Fn(PageNum) -> Known,
    ) -> Option<(Stage, PageNum)> {
        let is_free = |page: PageNum| page > self.edge && known(page) == Known::Missing && !self.ahead.contains(&page);
        if self.is_flat {
            return None;
        }
        let neighbour = self.found.map(|found| PageNum(found.0.saturating_sub(1)));
        if let Some(neighbour) = neighbour.filter(|page| is_free(*page)) {
            return Some((Stage::Confirm, neighbour));
        }
        let in_flight = self.ahead.iter().filter(|page| **page > self.edge && Some(**page) != neighbour).count();
        let exists = self.exists();
        let pages = exists.0.saturating_add(1).saturating_sub(rules.first.0);
        let read = next.0.saturating_sub(rules.first.0);
        // Where the hint was right, the page behind it says so: it is needed in any case.
        if in_flight > 0 || pages == 0 || read < DEEP && self.hint.is_none() || self.hint == Some(exists) {
            return None;
        }
        let farther = exists.0.saturating_add((pages / 2).max(1));
        let target = match (self.ceiling, self.hint) {
            (Some(ceiling), _) => farther.min(exists.0 + ceiling.0.saturating_sub(exists.0) / 2),
            (None, Some(hint)) if hint > exists => hint.0,
            (None, _) => farther,
        };
        let target = PageNum(target).min(rules.limit());
        let stage = if self.is_begun { Stage::Search } else { Stage::Begin };
        (target > exists && is_free(target)).then_some((stage, target))
    }

    /// Takes note that a page is asked for before those in front of it.
    pub(crate) fn send(&mut self, page: PageNum) {
        self.is_begun |= page > self.edge;
        self.ahead.insert(page);
    }

    /// Takes note that a scout came to nothing: the API would not have it, or it was lost.
    pub(crate) fn lost(&mut self, probe: PageNum, is_refused: bool) {
        self.ahead.remove(&probe);
        if is_refused {
            self.lower(probe);
        } else {
            self.distrust();
        }
    }

    /// Learns from a page that came. `known` tells of every page, this one included.
    pub(crate) fn learn(
        &mut self,
        page: PageNum,
        counts: Counts,
        rules: &PagingRules,
        known: impl Fn(PageNum) -> Known,
    ) {
        self.ahead.remove(&page);
        let before = PageNum(page.0.saturating_sub(1));
        if page < self.edge {
            return;
        }
        if page == self.edge {
            if known(page) == Known::Solid || rules.is_full(counts) && counts.has_no_valid_rows() {
                self.rise(page.next(), &known);
            }
        } else if self.found == Some(page.next()) && known(page) == Known::Solid {
            // Its rows may be those of the page behind it, which then has none of its own.
            if known(page.next()) == Known::Repeat { self.distrust() } else { self.trust(page.next(), &known) }
        } else if counts.is_new() && known(before) == Known::Solid {
            self.trust(page, &known);
        } else if counts.is_new() {
            self.found = self.found.max(Some(page));
        } else if counts.received > 0 {
            self.distrust();
        }
        if !rules.is_full(counts) {
            self.lower(page);
        }
    }

    /// Takes note that a page that was asked for is to be asked for again.
    pub(crate) fn ask_again(&mut self, page: PageNum) {
        self.asked = self.asked.min(page);
        self.ahead.remove(&page);
    }

    /// Forgets where the end was seen: the rules have changed.
    pub(crate) fn forget_ceiling(&mut self) {
        self.ceiling = None;
    }

    /// The first page that is not known to exist.
    pub(crate) fn edge(&self) -> PageNum {
        self.edge
    }

    /// Whether pages ahead turned out to be other pages over again.
    pub(crate) fn is_flat(&self) -> bool {
        self.is_flat
    }

    /// Takes note that the walk goes on at a page, so that it is needed.
    pub(crate) fn pass(&mut self, next: PageNum) {
        self.edge = self.edge.max(next);
    }

    /// Two pages side by side are not two answers to any number: this one and all before it exist.
    fn trust(&mut self, page: PageNum, known: &impl Fn(PageNum) -> Known) {
        self.rise(if known(page) == Known::Solid { page.next() } else { page }, known);
    }

    fn rise(&mut self, edge: PageNum, known: &impl Fn(PageNum) -> Known) {
        self.edge = self.edge.max(edge);
        while known(self.edge) == Known::Solid {
            self.edge = self.edge.next();
        }
        self.found = self.found.filter(|found| *found > self.edge);
    }

    fn lower(&mut self, page: PageNum) {
        self.ceiling = Some(self.ceiling.map_or(page, |ceiling| ceiling.min(page)));
    }

    /// From here on the walk goes page by page.
    fn distrust(&mut self) {
        (self.is_flat, self.found) = (true, None);
    }
}
