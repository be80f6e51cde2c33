//! The production quota against one of the embedded API's limits, in virtual time: nothing but permits, ways and answers.

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

/// Longest way of a request, and how much shorter it may be.
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

/// What the answers of a stretch of time were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) passed: u32,
    pub(crate) refused: u32,
}

impl Answers {
    /// Share of the answers that were 429.
    pub(crate) fn refused_share(self) -> f64 {
        f64::from(self.refused) / f64::from((self.passed + self.refused).max(1))
    }
}

/// A server and its client.
pub(crate) struct World {
    pub(crate) quota: Arc<RateLimiter>,
    pub(crate) limit: Arc<Limit>,
    way: Way,
    wish: Option<Duration>,
    dice: Mutex<SplitMix64>,
    answers: Arc<Mutex<Answers>>,
    in_flight: JoinSet<()>,
    /// When each permit was given.
    pub(crate) sent: Vec<Instant>,
}

/// A limit of so many a second.
pub(crate) fn qps(per_second: u32, window: Window) -> LimitSpec {
    LimitSpec { per_second: NonZeroU32::new(per_second).unwrap(), window, burst: None, phase: Duration::ZERO }
}

impl World {
    pub(crate) fn new(asked: RateLimit, limit: LimitSpec, way: Way) -> Self {
        Self {
            quota: Arc::new(RateLimiter::new(asked)),
            limit: Arc::new(Limit::new(limit)),
            way,
            wish: None,
            dice: Mutex::new(SplitMix64::seed_from_u64(7)),
            answers: Arc::default(),
            in_flight: JoinSet::new(),
            sent: Vec::new(),
        }
    }

    /// The same, but every 429 asks for a pause.
    pub(crate) fn with_retry_after(self, wish: Duration) -> Self {
        Self { wish: Some(wish), ..self }
    }

    /// Asks for so long, and gives what was answered meanwhile.
    pub(crate) async fn work(&mut self, time: Duration) -> Answers {
        let end = clock::now() + time;
        *self.answers.lock().unwrap() = Answers::default();
        while tokio::time::timeout_at(end, self.quota.acquire()).await.is_ok() {
            self.send();
            while self.in_flight.try_join_next().is_some() {}
        }
        *self.answers.lock().unwrap()
    }

    fn send(&mut self) {
        let sent = clock::now();
        self.sent.push(sent);
        let bits = self.dice.lock().unwrap().next_u64() >> 32;
        let share = f64::from(u32::try_from(bits).unwrap()) / f64::from(u32::MAX);
        let way = self.way.least + self.way.jitter.mul_f64(share);
        let (quota, limit) = (Arc::clone(&self.quota), Arc::clone(&self.limit));
        let (answers, wish) = (Arc::clone(&self.answers), self.wish);
        self.in_flight.spawn(async move {
            if !way.is_zero() {
                tokio::time::sleep(way).await;
            }
            let admitted = limit.admits();
            if admitted {
                answers.lock().unwrap().passed += 1;
                quota.record_response(sent);
            } else {
                answers.lock().unwrap().refused += 1;
                quota.record_throttle(sent, wish);
            }
        });
    }
}
