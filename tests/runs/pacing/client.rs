//! The production rate limiter against one of the embedded API's limits, in virtual time: nothing but permits, latencies and
//! responses. It is not a fake of the API: there are no pages, no runs and no ledger, so that an hour at 500 requests a second takes
//! a second.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagehaul::fetch::rate_limit::RateLimiter;
use pagehaul::model::clock;
use pagehaul::settings::RateLimit;
use pagehaul::simulator::{Limit, LimitSpec, Window};
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The time until a request is counted: at least `least`, and up to `jitter` more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) least: Duration,
    pub(crate) jitter: Duration,
}

impl Way {
    /// No latency at all.
    pub(crate) const NONE: Self = Self { least: Duration::ZERO, jitter: Duration::ZERO };
    /// 80 ± 40 ms, all of it before the request is counted, which is where it hurts.
    pub(crate) const FAR: Self = Self { least: Duration::from_millis(40), jitter: Duration::from_millis(80) };
}

/// The responses in a stretch of time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Responses {
    pub(crate) passed: u32,
    pub(crate) refused: u32,
}

impl Responses {
    /// The share of the responses that were 429.
    pub(crate) fn refused_share(self) -> f64 {
        f64::from(self.refused) / f64::from((self.passed + self.refused).max(1))
    }
}

/// A client that asks the rate limiter before each request, and the limit that counts its requests.
pub(crate) struct LimitedClient {
    pub(crate) limiter: Arc<RateLimiter>,
    pub(crate) limit: Arc<Limit>,
    way: Way,
    retry_after: Option<Duration>,
    dice: Mutex<SplitMix64>,
    responses: Arc<Mutex<Responses>>,
    in_flight: JoinSet<()>,
    /// When each permit was given.
    pub(crate) sent: Vec<Instant>,
}

/// A limit of this many requests a second.
pub(crate) fn qps(per_second: u32, window: Window) -> LimitSpec {
    LimitSpec { per_second: NonZeroU32::new(per_second).unwrap(), window, burst: None, phase: Duration::ZERO }
}

impl LimitedClient {
    pub(crate) fn new(requested: RateLimit, limit: LimitSpec, way: Way) -> Self {
        Self {
            limiter: Arc::new(RateLimiter::new(requested)),
            limit: Arc::new(Limit::new(limit)),
            way,
            retry_after: None,
            dice: Mutex::new(SplitMix64::seed_from_u64(7)),
            responses: Arc::default(),
            in_flight: JoinSet::new(),
            sent: Vec::new(),
        }
    }

    /// The same, but every 429 requests a pause.
    pub(crate) fn with_retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    /// Sends requests for this long. Returns the responses that came meanwhile.
    pub(crate) async fn work(&mut self, time: Duration) -> Responses {
        let end = clock::now() + time;
        *self.responses.lock().unwrap() = Responses::default();
        while tokio::time::timeout_at(end, self.limiter.acquire()).await.is_ok() {
            self.send();
            while self.in_flight.try_join_next().is_some() {}
        }
        *self.responses.lock().unwrap()
    }

    fn send(&mut self) {
        let sent = clock::now();
        self.sent.push(sent);
        let bits = self.dice.lock().unwrap().next_u64() >> 32;
        let share = f64::from(u32::try_from(bits).unwrap()) / f64::from(u32::MAX);
        let way = self.way.least + self.way.jitter.mul_f64(share);
        let (limiter, limit) = (Arc::clone(&self.limiter), Arc::clone(&self.limit));
        let (responses, retry_after) = (Arc::clone(&self.responses), self.retry_after);
        self.in_flight.spawn(async move {
            if !way.is_zero() {
                tokio::time::sleep(way).await;
            }
            let admitted = limit.admits();
            if admitted {
                responses.lock().unwrap().passed += 1;
                limiter.record_response(sent);
            } else {
                responses.lock().unwrap().refused += 1;
                limiter.record_throttle(sent, retry_after);
            }
        });
    }
}
