//! What a world saw and billed, over all runs.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use pagehaul::model::clock;
use tokio::time::Instant;

use crate::common::lock;
use crate::common::scripted::Sent;

/// Requests that no test needs.
const MOST: usize = 200_000;

/// A request, as a world sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// How many left up to and with this one, over all runs.
    pub(crate) number: usize,
    /// How often this page was requested, this time included.
    pub(crate) nth: u32,
    /// Virtual time since the first request of all: until it left, or once it has arrived until then.
    pub(crate) since: Duration,
    /// The place of the item.
    pub(crate) item: usize,
    /// The page.
    pub(crate) page: u32,
}

/// What became of a request. Times are virtual, since the first request of all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// When it left.
    pub(crate) left: Duration,
    /// When it arrived; none: not yet, or it was lost.
    pub(crate) came: Option<Duration>,
    /// Whether the limit admitted it.
    pub(crate) was_admitted: bool,
    /// The status that it got; none: no response yet, or ever.
    pub(crate) status: Option<u16>,
    /// When it ended, with a response or without; none while it is in flight.
    pub(crate) ended: Option<Duration>,
}

/// What a world saw and did.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Every request, in the order in which they left.
    pub(crate) seen: Vec<Seen>,
    /// Pages that it billed, delivered or not, and how often.
    pub(crate) served: BTreeMap<(usize, u32), u32>,
    /// Pages that it may still bill; none: any number.
    pub(crate) credits: Option<u64>,
    /// Admitted requests that have not ended.
    pub(super) in_flight: u32,
    requested: BTreeMap<(usize, u32), u32>,
    started: Option<Instant>,
    /// Virtual time of the lives before this one.
    lived: Duration,
}

impl Account {
    /// Pages that it billed.
    pub(crate) fn charged(&self) -> u64 {
        self.served.values().map(|times| u64::from(*times)).sum()
    }

    fn now(&self) -> Duration {
        self.lived + self.started.map_or(Duration::ZERO, |started| clock::now() - started)
    }

    pub(super) fn restart(&mut self) {
        self.lived = self.now();
        self.started = None;
    }

    pub(super) fn leaves(&mut self, item: usize, sent: &Sent) -> Call {
        assert!(self.seen.len() < MOST, "it never ends: page {} of {}", sent.page, sent.id);
        self.started.get_or_insert(sent.at);
        let left = self.now();
        self.seen.push(Seen { left, came: None, was_admitted: false, status: None, ended: None });
        let nth = self.requested.entry((item, sent.page)).or_default();
        *nth += 1;
        Call { number: self.seen.len(), nth: *nth, since: left, item, page: sent.page }
    }

    pub(super) fn arrives(&mut self, number: usize) -> Duration {
        let now = self.now();
        self.seen[number - 1].came = Some(now);
        now
    }

    pub(super) fn admits(&mut self, number: usize) {
        self.seen[number - 1].was_admitted = true;
        self.in_flight += 1;
    }

    pub(super) fn answers(&mut self, number: usize, status: Option<u16>) {
        self.seen[number - 1].status = status;
    }

    pub(super) fn has_credits(&self) -> bool {
        self.credits != Some(0)
    }

    pub(super) fn bill(&mut self, call: &Call) {
        self.credits = self.credits.map(|credits| credits - 1);
        *self.served.entry((call.item, call.page)).or_default() += 1;
    }
}

/// A request in flight. It ends when this is dropped: with its response, or because nobody waits for it any longer.
pub(super) struct InFlight<'a> {
    account: &'a Mutex<Account>,
    number: usize,
}

impl<'a> InFlight<'a> {
    pub(super) fn new(account: &'a Mutex<Account>, number: usize) -> Self {
        Self { account, number }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut account = lock(self.account);
        let now = account.now();
        let seen = &mut account.seen[self.number - 1];
        seen.ended = Some(now);
        account.in_flight -= u32::from(account.seen[self.number - 1].was_admitted);
    }
}
