//! How long one list is: which of its pages are known to exist, and which page ahead is worth requesting.
//!
//! A walk goes page by page until its list has proven deep. Then a *probe*, a page far ahead, may be worth its risk (`frontier`
//! decides that). Each probe is half as far again as what exists (galloping search): two of three lists that have come so far reach
//! that, and half of them reach twice as far. After the first probe behind the end, the next one is half-way between what exists
//! and what does not (bisection).
//! A probe counts only if all its rows are new and its neighbour has new rows too: one of the two exposes an API that answers a
//! page number behind the end with the last page, or with any page. All pages before such a pair exist, so requesting all of them
//! at once costs nothing.
//!
//! Galloping search: J. L. Bentley, A. C. Yao, "An almost optimal algorithm for unbounded searching", Information
//! Processing Letters 5 (1976): 2 log2 n probes for an end at n.

pub(crate) mod budget;

use std::collections::{BTreeMap, BTreeSet};

use crate::crawl::end_of_list::PagingRules;
use crate::model::page::{Counts, PageNum};

/// Pages that a walk must have before it looks ahead.
pub(crate) const MIN_PAGES: u32 = 8;
/// Pages after the first missing one that may be requested before it arrived: it bounds the memory of a walk.
const WINDOW: u32 = 4_096;

/// What is known of a list's length.
#[derive(Clone, Debug)]
pub(crate) struct Lookahead {
    /// The first page that is not known to exist. It is needed in any case: it follows a full page, or it is the end.
    first_unknown: PageNum,
    /// The farthest page ahead that exists, if the page before it has new rows.
    farthest: Option<PageNum>,
    /// The first page known not to be followed by another.
    last_possible: Option<PageNum>,
    /// Whether pages ahead repeat other pages, so that they prove nothing.
    is_untrusted: bool,
    /// The last page according to an earlier export.
    hint: Option<PageNum>,
    /// Whether a probe was ever sent.
    has_started: bool,
    /// All pages before this one were requested, or are there.
    next_in_order: PageNum,
    /// Pages in flight that were requested out of order: probes, their neighbours, the first unknown page.
    out_of_order: BTreeSet<PageNum>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct WalkPages<'a> {
    pub(crate) rules: &'a PagingRules,
    /// The first page that is missing.
    pub(crate) next: PageNum,
    /// Pages that came behind it.
    pub(crate) beyond: &'a BTreeMap<PageNum, Counts>,
}

impl WalkPages<'_> {
    fn state(&self, page: PageNum) -> PageState {
        match self.beyond.get(&page) {
            None if page < self.next => PageState::FullNew,
            None => PageState::Missing,
            Some(counts) if self.rules.is_full(*counts) && counts.fresh > 0 => PageState::FullNew,
            Some(counts) if self.rules.is_full(*counts) && counts.usable() > 0 => PageState::Repeat,
            Some(_) => PageState::Other,
        }
    }
}

/// What is known of one page of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageState {
    /// It did not come.
    Missing,
    /// It came, is full, and has new rows, as one in the middle of a list.
    FullNew,
    /// It came, is full, and all its rows are on pages before it.
    Repeat,
    /// It came, and is neither.
    Other,
}

/// What a page ahead is for, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A page far ahead exists; the page before it shows whether that can be trusted.
    Confirm,
    /// The search continues.
    Search,
    /// The search starts.
    Start,
}

impl Lookahead {
    pub(crate) fn new(rules: &PagingRules) -> Self {
        Self {
            first_unknown: rules.first,
            farthest: None,
            last_possible: None,
            is_untrusted: false,
            hint: None,
            has_started: false,
            next_in_order: rules.first,
            out_of_order: BTreeSet::new(),
        }
    }

    /// Sets a hint at the last page. It saves time if it is right, and is never trusted.
    pub(crate) fn set_hint(&mut self, last: Option<PageNum>) {
        self.hint = last;
    }

    /// Whether a page will be requested sooner or later, whatever the other pages show.
    pub(crate) fn needs(&self, page: PageNum) -> bool {
        page <= self.first_unknown
    }

    /// An estimate of how many more pages there are: as many as are known to exist, half of those before the first that cannot
    /// exist, or as many as the hint says.
    pub(crate) fn unknown(&self, rules: &PagingRules) -> u32 {
        let exists = self.exists().0;
        let pages = exists.saturating_add(1).saturating_sub(rules.first.0);
        let most = rules.limit().0.saturating_sub(exists);
        match (self.last_possible, self.hint) {
            (Some(last), _) => pages.min(last.0.saturating_sub(exists) / 2).min(most),
            (None, Some(hint)) if hint.0 > exists => (hint.0 - exists).min(most),
            (None, _) => pages.min(most),
        }
    }

    /// An estimate of how many pages are still to be requested: those that are known to exist, and the unknown ones.
    pub(crate) fn expected(&self, next: PageNum, rules: &PagingRules) -> f64 {
        let known = self.first_unknown.0.saturating_sub(self.next_in_order.max(next).0);
        f64::from(known) + f64::from(self.unknown(rules).max(1))
    }

    /// The farthest page that exists, trusted or not.
    fn exists(&self) -> PageNum {
        self.farthest.unwrap_or(PageNum(self.first_unknown.0.saturating_sub(1)))
    }

    /// The first needed page that was not requested.
    pub(crate) fn next_needed(&self, pages: WalkPages<'_>) -> Option<PageNum> {
        let last = self.first_unknown.min(pages.rules.limit()).0.min(pages.next.0.saturating_add(WINDOW));
        let mut needed = (self.next_in_order.max(pages.next).0..=last).map(PageNum);
        needed.find(|page| self.is_free(*page, pages))
    }

    /// The first page that is not known to exist, if it can be requested and was not. Pages before it may be missing.
    pub(crate) fn next_unknown(&self, pages: WalkPages<'_>) -> Option<PageNum> {
        let last = pages.rules.limit().0.min(pages.next.0.saturating_add(WINDOW));
        let page = self.first_unknown;
        (page >= self.next_in_order && page.0 <= last && self.is_free(page, pages)).then_some(page)
    }

    /// Whether a page did not come and was not requested out of order.
    fn is_free(&self, page: PageNum, pages: WalkPages<'_>) -> bool {
        pages.state(page) == PageState::Missing && !self.out_of_order.contains(&page)
    }

    /// Records that the first needed page is requested.
    pub(crate) fn send_in_order(&mut self, page: PageNum) {
        self.next_in_order = page.next();
    }

    /// The page ahead that says most about where the end is.
    pub(crate) fn probe(&self, pages: WalkPages<'_>) -> Option<(Stage, PageNum)> {
        let is_free = |page: PageNum| page > self.first_unknown && self.is_free(page, pages);
        if self.is_untrusted {
            return None;
        }
        let neighbour = self.farthest.map(|farthest| PageNum(farthest.0.saturating_sub(1)));
        if let Some(neighbour) = neighbour.filter(|page| is_free(*page)) {
            return Some((Stage::Confirm, neighbour));
        }
        let is_probe = |page: &PageNum| *page > self.first_unknown && Some(*page) != neighbour;
        let exists = self.exists();
        let first = pages.rules.first.0;
        let (count, read) = (exists.0.saturating_add(1).saturating_sub(first), pages.next.0.saturating_sub(first));
        // Where the hint is right, the page behind it shows that: it is needed in any case.
        if self.out_of_order.iter().any(is_probe)
            || count == 0
            || read < MIN_PAGES && self.hint.is_none()
            || self.hint == Some(exists)
        {
            return None;
        }
        let farther = exists.0.saturating_add((count / 2).max(1));
        let target = match (self.last_possible, self.hint) {
            (Some(last), _) => farther.min(exists.0 + last.0.saturating_sub(exists.0) / 2),
            (None, Some(hint)) if hint > exists => hint.0,
            (None, _) => farther,
        };
        let target = PageNum(target).min(pages.rules.limit());
        let stage = if self.has_started { Stage::Search } else { Stage::Start };
        (target > exists && is_free(target)).then_some((stage, target))
    }

    /// Records that a page is requested before those in front of it.
    pub(crate) fn send_out_of_order(&mut self, page: PageNum) {
        self.has_started |= page > self.first_unknown;
        self.out_of_order.insert(page);
    }

    /// Records that a probe failed: the API refused it, or its response was lost.
    pub(crate) fn record_failure(&mut self, probe: PageNum, is_refused: bool) {
        self.out_of_order.remove(&probe);
        if is_refused {
            self.limit_to(probe);
        } else {
            self.distrust();
        }
    }

    /// Records a page that arrived, and that `pages` includes.
    pub(crate) fn record_page(&mut self, page: PageNum, counts: Counts, pages: WalkPages<'_>) {
        self.out_of_order.remove(&page);
        let before = PageNum(page.0.saturating_sub(1));
        if page < self.first_unknown {
            return;
        }
        if page == self.first_unknown {
            if pages.state(page) == PageState::FullNew || pages.rules.is_full(counts) && counts.has_no_valid_rows() {
                self.extend_to(page.next(), pages);
            }
        } else if self.farthest == Some(page.next()) && pages.state(page) == PageState::FullNew {
            // Its rows may be those of the page behind it, which then has none of its own.
            if pages.state(page.next()) == PageState::Repeat { self.distrust() } else { self.trust(page.next(), pages) }
        } else if counts.is_new() && pages.state(before) == PageState::FullNew {
            self.trust(page, pages);
        } else if counts.is_new() {
            self.farthest = self.farthest.max(Some(page));
        } else if counts.received > 0 {
            self.distrust();
        }
        if !pages.rules.is_full(counts) {
            self.limit_to(page);
        }
    }

    /// Records that a page that was requested must be requested again.
    pub(crate) fn request_again(&mut self, page: PageNum) {
        self.next_in_order = self.next_in_order.min(page);
        self.out_of_order.remove(&page);
    }

    /// Forgets where the end was seen, because the rules have changed.
    pub(crate) fn forget_end(&mut self) {
        self.last_possible = None;
    }

    pub(crate) fn first_unknown(&self) -> PageNum {
        self.first_unknown
    }

    /// Whether pages ahead repeat other pages.
    pub(crate) fn is_untrusted(&self) -> bool {
        self.is_untrusted
    }

    /// Records that the walk continues at a page, so that it is needed.
    pub(crate) fn require(&mut self, next: PageNum) {
        self.first_unknown = self.first_unknown.max(next);
    }

    /// Two neighbours with new rows cannot both be what the API shows for any number: this page and all before it exist.
    fn trust(&mut self, page: PageNum, pages: WalkPages<'_>) {
        self.extend_to(if pages.state(page) == PageState::FullNew { page.next() } else { page }, pages);
    }

    fn extend_to(&mut self, page: PageNum, pages: WalkPages<'_>) {
        self.first_unknown = self.first_unknown.max(page);
        while pages.state(self.first_unknown) == PageState::FullNew {
            self.first_unknown = self.first_unknown.next();
        }
        self.farthest = self.farthest.filter(|farthest| *farthest > self.first_unknown);
    }

    fn limit_to(&mut self, page: PageNum) {
        self.last_possible = Some(self.last_possible.map_or(page, |last| last.min(page)));
    }

    /// From here on the walk goes page by page.
    fn distrust(&mut self) {
        (self.is_untrusted, self.farthest) = (true, None);
    }
}
