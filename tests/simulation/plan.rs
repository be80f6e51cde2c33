//! What a seed determines: lists, limits, the kinds of faults that happen, and where each life of the run ends.

use std::time::Duration;

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

use crate::common::world::Behind;
use crate::server::no_such_page;

/// Random numbers from a seed.
#[derive(Debug)]
pub(crate) struct Dice(SplitMix64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// One of `0..below`.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.0.next_u64() % below.max(1)
    }

    /// True in one of so many cases.
    pub(crate) fn one_in(&mut self, cases: u64) -> bool {
        self.below(cases) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len().try_into().unwrap())).unwrap()]
    }
}

/// What may go wrong with a request, apart from limits and credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// HTTP 500 with an envelope: free.
    Error,
    /// The same inside a 200.
    ErrorInside,
    /// HTTP 502 with a page of HTML.
    Html,
    /// No connection: nothing was sent.
    NoConnection,
    /// The connection broke before the server read the request.
    LostBefore,
    /// It broke after the server had charged it.
    LostAfter,
    /// The body ends too early and the transport did not notice.
    Truncated,
    /// Success without a list.
    NoList,
    /// The answer comes after the time limit.
    TooLate,
    /// The answer comes late, but in time.
    Slow,
    /// The list gained a row at its front meanwhile: rows come a second time.
    Shifted,
    /// A cell of another type, a field that nobody knows, a row without identity.
    Dirty,
}

impl Fault {
    pub(crate) const ALL: [Self; 12] = [
        Self::Error,
        Self::ErrorInside,
        Self::Html,
        Self::NoConnection,
        Self::LostBefore,
        Self::LostAfter,
        Self::Truncated,
        Self::NoList,
        Self::TooLate,
        Self::Slow,
        Self::Shifted,
        Self::Dirty,
    ];
}

/// What the run takes for the end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It finds out.
    Auto,
    /// It trusts that a page with fewer rows than requested is the last one.
    ShortPage,
    /// It trusts that an empty page is the end.
    EmptyPage,
}

/// How a life of the run ends, if it does not end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// At the step of this number around a durable operation.
    Failpoint(u64),
    /// Not the machine, only the operation at that step fails: the run sees an error and ends.
    Refusal(u64),
    /// The published file of this number cannot be given its name: the run ends while answers are in flight.
    Unpublished(u64),
    /// When the request of this number has left.
    Request(u64),
    /// By a signal when the request of this number has left.
    Signal(u64),
}

/// How a server's pages differ from what is requested.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OddPages {
    /// Rows a page at most, below what is requested.
    pub(crate) cap: Option<u32>,
    /// So many pages of a hundred lack one of their rows.
    pub(crate) filtered: u64,
    /// Whether null comes in place of an empty list.
    pub(crate) ends_with_null: bool,
    /// Whether its lists gain rows at their heads.
    pub(crate) grows: Option<Growth>,
}

/// How a list grows while it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    /// Pages of it that are served before.
    pub(crate) after: u64,
    /// Then every page whose number among the following ones is a multiple of this brings a row.
    pub(crate) one_in: u64,
}

/// Everything that is random about a seed.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Rows of each product's list.
    pub(crate) lists: Vec<u64>,
    pub(crate) page_size: u32,
    pub(crate) qps: Option<f64>,
    /// Whether the rate is to be found out; then there is none.
    pub(crate) auto: bool,
    /// Requests a second that the server allows; none: as many as come.
    pub(crate) limit: Option<u32>,
    pub(crate) max_in_flight: usize,
    pub(crate) segment_size: u64,
    pub(crate) behind: Behind,
    /// Percent of the credits that may be wasted on looking ahead.
    pub(crate) lookahead: u32,
    pub(crate) end: End,
    pub(crate) odd: OddPages,
    pub(crate) max_pages: Option<u32>,
    /// The client's own limit; raised when it is reached.
    pub(crate) max_credits: Option<u64>,
    /// The server's; topped up when it is used up.
    pub(crate) credits: Option<u64>,
    /// The kinds that are on: a few each time, so that rare ones are not drowned.
    pub(crate) faults: Vec<Fault>,
    /// One request in so many is hit.
    pub(crate) fault_in: u64,
    /// A product whose every page fails for ever, by its place.
    pub(crate) dead: Option<u64>,
    /// A product that the API refuses.
    pub(crate) refused: Option<u64>,
    /// The API is gone from then on for so long, seconds of virtual time since the first life started.
    pub(crate) outage: Option<(u64, u64)>,
    pub(crate) latency: Duration,
    pub(crate) deaths: Vec<Death>,
    /// Whether the output is in a bucket, whose requests fail, too.
    pub(crate) is_in_bucket: bool,
}

impl Plan {
    /// Whether journal files are removed as soon as their segments are published.
    pub(crate) fn removes_journal(&self) -> bool {
        self.seed % 3 == 2
    }

    /// Whether a run may end without some product's whole list and be right.
    pub(crate) fn may_lack_something(&self) -> bool {
        let is_odd = !matches!(self.behind, Behind::Empty) || self.odd.grows.is_some();
        !self.faults.is_empty() || self.dead.is_some() || self.refused.is_some() || is_odd
    }

    /// Whether an API that never gave a page may have answered every product twice with a 200 that is none.
    pub(crate) fn may_seem_foreign(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault, Fault::Truncated | Fault::NoList))
    }

    /// Whether every row of every list can be had, and at its price.
    pub(crate) fn is_fair(&self) -> bool {
        let lost = !self.faults.is_empty() || self.dead.is_some() || self.refused.is_some();
        // Where short pages are no end and the last page comes again and again, nothing says where the list ends but that.
        !lost && self.outage.is_none()
    }

    /// Rows that a page of this server has at most.
    pub(crate) fn rows_a_page(&self) -> u64 {
        u64::from(self.odd.cap.map_or(self.page_size, |cap| cap.min(self.page_size)))
    }

    /// Whether the page with this row lacks it. No page lacks more than one, and none of which it is the only row.
    pub(crate) fn hides(&self, item: u64, at: u64) -> bool {
        let (size, rows) = (self.rows_a_page(), self.lists[usize::try_from(item).unwrap()]);
        let page = at / size;
        let on_page = rows.saturating_sub(page * size).min(size);
        let mut dice = Dice::new(self.seed ^ (item << 40) ^ (page << 20) ^ 0xF117);
        self.odd.filtered > 0 && on_page > 1 && dice.below(100) < self.odd.filtered && dice.below(on_page) == at % size
    }

    /// Whether pages may be short where their list continues.
    pub(crate) fn has_short_pages(&self) -> bool {
        self.odd.cap.is_some_and(|cap| cap < self.page_size) || self.odd.filtered > 0
    }

    /// Whether a run that calls itself complete must have every row. Where pages are short in mid-list, a run that was set to
    /// trust a short page need not; one that finds out does, if nothing keeps it from asking for its evidence: a life that
    /// ends, a limit, or more lists than the few that are always checked.
    pub(crate) fn must_be_whole(&self) -> bool {
        let is_free = self.max_pages.is_none() && self.max_credits.is_none() && self.credits.is_none();
        match self.end {
            _ if !self.has_short_pages() => true,
            End::EmptyPage => true,
            End::ShortPage => false,
            End::Auto => self.is_fair() && is_free && self.deaths.is_empty() && self.lists.len() <= 3,
        }
    }

    pub(crate) fn new(seed: u64) -> Self {
        Self::rolled(seed).with_odd_pages().with_deep_list()
    }

    fn rolled(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let (page_size, products) = (dice.pick(&[1, 2, 3, 3, 7, 10]), 1 + dice.below(5));
        let size = u64::from(page_size);
        let deep = if dice.one_in(16) { 40 * size } else { 25 };
        let lists = (0..products)
            .map(|_| match dice.below(6) {
                0 => 0,
                1 => size * dice.below(4),
                2 => size * dice.below(4) + 1,
                3 => dice.below(5 * size + 1),
                _ => dice.below(deep),
            })
            .collect();
        let faults = if dice.one_in(4) {
            Vec::new()
        } else {
            let share = 2 + dice.below(4);
            Fault::ALL.into_iter().filter(|_| dice.one_in(share)).collect()
        };
        let qps = if dice.one_in(3) { None } else { Some(dice.pick(&[2.0, 5.0, 20.0, 50.0, 300.0])) };
        let limit = if dice.one_in(3) { Some(dice.pick(&[3, 10, 40])) } else { None };
        let deaths = (0..dice.below(4))
            .map(|_| match dice.below(9) {
                8 => Death::Unpublished(1 + dice.below(6)),
                6 | 7 => Death::Refusal(1 + dice.below(160)),
                0 => Death::Signal(1 + dice.below(12)),
                1 => Death::Request(1 + dice.below(12)),
                _ => Death::Failpoint(1 + dice.below(160)),
            })
            .collect();
        let mut some = |cases: u64, below: u64| dice.one_in(cases).then(|| dice.below(below));
        let (max_pages, max_credits, credits) = (some(6, 4), some(6, 12), some(6, 12));
        // Where nothing else ever worked, a product that is dead cannot be told from an API that is.
        let (dead, refused) = (some(12, products).filter(|_| products > 1), some(12, products));
        let refused = refused.filter(|_| products > 2 && dead != refused);
        let outage = some(8, 5).zip(Some(600));
        Self {
            seed,
            lists,
            page_size,
            qps,
            auto: qps.is_none() && dice.one_in(2),
            limit,
            max_in_flight: dice.pick(&[1, 2, 3, 8, 16]),
            segment_size: dice.pick(&[1 << 31, 1 << 31, 30_000, 8_000]),
            behind: dice.pick(&[Behind::Empty, Behind::Empty, Behind::Last, Behind::First, Behind::Says(no_such_page)]),
            lookahead: dice.pick(&[0, 1, 20, 100]),
            end: if dice.one_in(4) { End::EmptyPage } else { End::Auto },
            odd: OddPages::default(),
            max_pages: max_pages.map(|pages| 1 + u32::try_from(pages).unwrap()),
            max_credits: max_credits.map(|credits| credits + 1),
            credits,
            faults,
            fault_in: dice.pick(&[4, 8, 20]),
            dead,
            refused,
            outage,
            latency: Duration::from_millis(dice.pick(&[3, 40, 700])),
            deaths,
            is_in_bucket: seed % 5 == 3,
        }
    }

    /// A small export into a bucket, of several segments, from an API that never fails.
    pub(crate) fn quiet_in_bucket(seed: u64) -> Self {
        Self {
            lists: vec![12, 0, 7],
            page_size: 3,
            qps: None,
            auto: false,
            limit: None,
            max_in_flight: 1,
            segment_size: 8_000,
            behind: Behind::Empty,
            lookahead: 0,
            end: End::ShortPage,
            odd: OddPages::default(),
            max_pages: None,
            max_credits: None,
            credits: None,
            faults: Vec::new(),
            dead: None,
            refused: None,
            outage: None,
            is_in_bucket: true,
            ..Self::rolled(seed)
        }
    }

    /// With what came later, from dice of its own: a seed's other rolls stay as they were.
    fn with_odd_pages(mut self) -> Self {
        let mut dice = Dice::new(self.seed ^ 0x0DD);
        if self.end == End::Auto && dice.one_in(6) {
            self.end = End::ShortPage;
        }
        self.odd.cap = dice.one_in(6).then(|| 1 + u32::try_from(dice.below(self.page_size.into())).unwrap());
        self.odd.filtered = if dice.one_in(6) { dice.pick(&[5, 20, 60]) } else { 0 };
        self.odd.ends_with_null = dice.one_in(6);
        if self.odd.ends_with_null {
            // A page without a list cannot be told from an end there.
            self.faults.retain(|fault| *fault != Fault::NoList);
        }
        // Rows that are left out are known by their places, which must not change.
        self.odd.grows =
            (self.odd.filtered == 0 && dice.one_in(6)).then(|| Growth { after: 0, one_in: 1 + dice.below(6) });
        self
    }

    /// In some worlds a list is so deep that pages of it are in flight when it moves, or when its end is found ahead.
    fn with_deep_list(mut self) -> Self {
        let mut dice = Dice::new(self.seed ^ 0xDEE9);
        if !dice.one_in(4) {
            return self;
        }
        let size = self.rows_a_page();
        self.lists[0] = size * (12 + dice.below(13)) + dice.below(size);
        (self.lookahead, self.max_in_flight) = (100, 16);
        (self.max_pages, self.max_credits, self.credits) = (None, None, None);
        self.qps = self.qps.filter(|qps| *qps >= 20.0);
        if self.odd.filtered == 0 && dice.one_in(2) {
            // Slower than it is read: at the same speed a reader never comes to the rows behind.
            let one_in = dice.below(6) + if size == 1 { 2 } else { 1 };
            self.odd.grows = Some(Growth { after: 8 + dice.below(8), one_in });
        }
        self
    }
}
