//! The API of a scenario, in virtual time: it hands out the rows of its lists, counts requests against its limit, lets
//! go wrong what the file says, and remembers every request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use pagehaul::fetch::FetchErrorKind;
use pagehaul::fetch::{Fetch, FetchError, RawResponse};
use pagehaul::model::clock;
use pagehaul::model::page::Request;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;
use tokio::time::Instant;

use super::file::{By, FailureStreak, Fault, Limit, World};
use crate::common::Answer;
use crate::common::scripted::Reply;

/// Every product's id is this and its place in the list.
const FIRST_ID: u64 = 1_729_000_000;

/// A request, as the API saw it. Times are counted from the first one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// When it left.
    pub(crate) left: Duration,
    /// When the API looked at it.
    pub(crate) came: Duration,
    /// When its answer, or the lack of one, was known; none while it is in flight.
    pub(crate) ended: Option<Duration>,
    /// Whether the limit let it pass.
    pub(crate) passed: bool,
    /// Whether it was answered 429.
    pub(crate) throttled: bool,
    /// Whether it was answered with a page.
    pub(crate) is_page: bool,
}

/// The API.
#[derive(Debug)]
pub(crate) struct Server {
    world: World,
    depths: Vec<u32>,
    page_size: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    seen: Vec<Seen>,
    count: Count,
    /// Pages that were billed, and how often.
    billed: BTreeMap<(u32, u32), u32>,
    spent: u64,
}

/// What was counted against the limit.
#[derive(Debug, Default)]
struct Count {
    /// Which limit it is that is counted against.
    limit: usize,
    tokens: f64,
    refilled: Duration,
    /// When requests passed, within the last second.
    passed: VecDeque<Duration>,
    /// Requests that passed and have not ended.
    in_flight: u32,
}

impl Server {
    pub(crate) fn new(world: World, page_size: u32) -> Self {
        Self { depths: world.depths(), world, page_size, state: Mutex::default() }
    }

    /// The ids of the products, in order.
    pub(crate) fn ids(&self) -> Vec<String> {
        (0..self.depths.len()).map(|at| (FIRST_ID + u64::try_from(at).unwrap()).to_string()).collect()
    }

    /// The fewest requests that read these products to their ends.
    pub(crate) fn fewest(&self) -> u64 {
        self.depths.iter().map(|pages| u64::from(*pages).max(1)).sum()
    }

    /// Rows of all lists together.
    pub(crate) fn rows(&self) -> u64 {
        self.depths.iter().map(|pages| u64::from(rows(*pages, self.page_size))).sum()
    }

    /// Every request, in the order in which they left.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// Pages that it billed, delivered or not, and how many of them it billed more than once.
    pub(crate) fn billed(&self) -> (u64, usize) {
        let state = self.state();
        (state.spent, state.billed.values().filter(|times| **times > 1).count())
    }

    /// Requests that the limit lets pass in a part of the run; none where it does not count them by time.
    pub(crate) fn permitted(&self, from: Duration, until: Duration) -> Option<f64> {
        let limits = &self.world.limit;
        let mut permitted = 0.0;
        for (at, limit) in limits.iter().enumerate() {
            let end = limits.get(at + 1).map_or(Duration::MAX, |next| next.from).min(until);
            let seconds = end.saturating_sub(limit.from.max(from)).as_secs_f64();
            if limit.by == By::InFlight && seconds > 0.0 {
                return None;
            }
            permitted += seconds * f64::from(limit.lets);
        }
        Some(permitted).filter(|permitted| *permitted > 0.0)
    }

    /// Notes that a request leaves: its number, and when.
    fn leaves(&self) -> (usize, Duration) {
        let mut state = self.state();
        let left = clock::now() - *state.began.get_or_insert_with(clock::now);
        state.seen.push(Seen { left, came: left, ended: None, passed: false, throttled: false, is_page: false });
        (state.seen.len() - 1, left)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn fault(&self, product: u32, at: Duration, dice: &mut SplitMix64) -> Option<&Fault> {
        let concerns = |fault: &&Fault| fault.concerns(product, at);
        self.world.fault.iter().filter(concerns).find(|fault| fault.share.is_none_or(|share| draw(dice) < share))
    }

    /// Half of the time that an answer takes.
    fn half(&self, fault: Option<&Fault>, dice: &mut SplitMix64) -> Duration {
        let mut latency = self.world.latency + self.world.jitter.mul_f64(draw(dice));
        if let Some(tail) = self.world.tail.as_ref().filter(|tail| draw(dice) < tail.share) {
            latency += tail.adds;
        }
        let slower = fault.filter(|fault| fault.does == FailureStreak::IsSlow).and_then(|fault| fault.factor);
        latency * slower.unwrap_or(1) / 2
    }

    /// What the API says to a request that has come.
    fn answer(&self, number: usize, product: u32, page: u32, fault: Option<&Fault>) -> Reply {
        let mut guard = self.state();
        let state = &mut *guard;
        let now = clock::now() - state.began.unwrap();
        state.seen[number].came = now;
        let refused = self.limit_at(now).filter(|(at, limit)| !state.count.passes(*at, limit, now));
        if let Some((_, limit)) = refused {
            state.seen[number].throttled = true;
            return throttled(limit.retry_after);
        }
        state.seen[number].passed = true;
        state.count.in_flight += 1;
        match fault.map(|fault| fault.does) {
            Some(FailureStreak::Resets) => return Reply::lost(FetchErrorKind::Disconnected),
            Some(FailureStreak::Answers500) => return Reply::refusal(500, "Internal server error"),
            Some(FailureStreak::AnswersHtml) => {
                return Answer::new(502, "<html><h1>502 Bad Gateway</h1></html>").into();
            }
            Some(FailureStreak::Answers429) => {
                state.seen[number].throttled = true;
                return throttled(fault.and_then(|fault| fault.retry_after));
            }
            Some(FailureStreak::RefusesTheKey) => return Reply::refusal(401, "invalid api key"),
            Some(FailureStreak::IsSlow | FailureStreak::IsSilent | FailureStreak::RefusesConnections) | None => {}
        }
        if self.world.credits.is_some_and(|credits| state.spent >= credits) {
            return Reply::refusal(402, "apiKey quota is not enough");
        }
        state.spent += 1;
        *state.billed.entry((product, page)).or_default() += 1;
        if fault.is_some_and(|fault| fault.does == FailureStreak::IsSilent) {
            return Reply::never();
        }
        state.seen[number].is_page = true;
        Reply::page(&self.page(product, page))
    }

    fn limit_at(&self, now: Duration) -> Option<(usize, &Limit)> {
        self.world.limit.iter().enumerate().rfind(|(_, limit)| limit.from <= now)
    }

    /// The rows of a page. Only what a row must have: the tests of the decoder are elsewhere.
    fn page(&self, product: u32, page: u32) -> Vec<String> {
        let all = rows(self.depths[usize::try_from(product).unwrap()], self.page_size);
        let from = (page - 1).saturating_mul(self.page_size);
        let positions = from..from.saturating_add(self.page_size).min(all.max(from));
        let id = FIRST_ID + u64::from(product);
        positions.map(|at| format!(r#"{{"product_id":"{id}","video_id":"v{at}","region":"ID"}}"#)).collect()
    }
}

/// Rows of a list: every page is full but the last one, which holds half as many.
fn rows(pages: u32, page_size: u32) -> u32 {
    pages.saturating_sub(1) * page_size + if pages > 0 { page_size / 2 } else { 0 }
}

fn throttled(retry_after: Option<Duration>) -> Reply {
    let reply = Reply::refusal(429, "qps limit exceeded");
    match retry_after {
        Some(pause) => reply.with_retry_after(pause),
        None => reply,
    }
}

/// A number from 0 to 1.
fn draw(dice: &mut SplitMix64) -> f64 {
    f64::from(u32::try_from(dice.next_u64() >> 32).unwrap()) / f64::from(u32::MAX)
}

impl Count {
    /// Whether a request passes a limit; if it does, it is counted.
    fn passes(&mut self, at: usize, limit: &Limit, now: Duration) -> bool {
        let most = f64::from(limit.lets);
        let is_new = self.limit != at || self.refilled == Duration::ZERO && self.passed.is_empty();
        let full = if limit.by == By::StrictBucket { 1.0 } else { most };
        if is_new {
            (self.limit, self.tokens, self.refilled) = (at, full, now);
        }
        while self.passed.front().is_some_and(|passed| *passed + Duration::from_secs(1) <= now) {
            self.passed.pop_front();
        }
        let passes = match limit.by {
            By::Bucket | By::StrictBucket => {
                // A billionth more: a token that is earned to the nanosecond must not be lost to the last bit of a float.
                self.tokens = (self.tokens + now.saturating_sub(self.refilled).as_secs_f64() * most + 1e-9).min(full);
                self.refilled = now;
                self.tokens >= 1.0
            }
            By::FixedWindow => {
                let window = |at: Duration| (at + Duration::from_secs(1)).saturating_sub(limit.phase).as_secs();
                let here = self.passed.iter().filter(|passed| window(**passed) == window(now)).count();
                here < usize::try_from(limit.lets).unwrap()
            }
            By::SlidingWindow => self.passed.len() < usize::try_from(limit.lets).unwrap(),
            By::InFlight => self.in_flight < limit.lets,
        };
        if passes {
            self.tokens -= 1.0;
            self.passed.push_back(now);
        }
        passes
    }
}

/// A request in flight. It ends when this is dropped: with its answer, or because it is not waited for any longer.
struct InFlight<'a> {
    server: &'a Server,
    number: usize,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut state = self.server.state();
        let now = clock::now() - state.began.unwrap();
        let seen = &mut state.seen[self.number];
        seen.ended = Some(now);
        let passed = seen.passed;
        state.count.in_flight -= u32::from(passed);
    }
}

impl Fetch for Server {
    async fn fetch(&self, request: &Request) -> Result<RawResponse, FetchError> {
        let product = u32::try_from(request.id.as_str().parse::<u64>().unwrap() - FIRST_ID).unwrap();
        let (number, now) = self.leaves();
        let _in_flight = InFlight { server: self, number };
        let seed = self.world.seed << 32 | u64::try_from(number).unwrap();
        let mut dice = SplitMix64::seed_from_u64(SplitMix64::seed_from_u64(seed).next_u64());
        let fault = self.fault(product, now, &mut dice);
        let half = self.half(fault, &mut dice);
        if fault.is_some_and(|fault| fault.does == FailureStreak::RefusesConnections) {
            return Reply::lost(FetchErrorKind::Connect).after(Duration::from_millis(1)).result().await;
        }
        tokio::time::sleep(half).await;
        let answer = self.answer(number, product, request.page.0, fault).result().await;
        tokio::time::sleep(half).await;
        answer
    }
}
