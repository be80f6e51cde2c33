//! The one gate before every request, and the one owner of 429.
//!
//! governor paces (GCRA) on our clock. A 429 makes everyone wait, honours the server's wish, lowers the rate and lets it
//! climb back: a quarter down, then two hundredths of the asked rate a second up. Answers to requests that left before
//! the last cut do not cut again: one burst of refusals is one refusal.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota as Pace, RateLimiter};
use tokio::time::Instant;

use crate::clock::{self, TokioClock};

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<std::time::Instant>>;

/// What is left of the rate after a 429.
const CUT: f64 = 0.75;
/// What the rate regains each second without one, as a share of the asked rate.
const CLIMB: f64 = 0.02;
/// Lowest rate, requests a second.
const FLOOR: f64 = 0.1;
/// First wait after a 429 that names none; doubled while they follow each other.
const FIRST_HOLD: Duration = Duration::from_millis(250);
/// Longest wait after a 429, whatever the server says.
const LONGEST_HOLD: Duration = Duration::from_secs(300);
/// Without a 429 for so long, the next one counts as the first.
const FORGET: Duration = Duration::from_secs(10);
/// Timer lateness that a burst makes good: tokio's timer wheel turns every millisecond.
const LATENESS: f64 = 0.004;

/// The gate. One dispenser waits at it; see `dispatch`.
#[derive(Debug)]
pub struct Quota {
    asked: Option<f64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limiter: Option<Limiter>,
    rate: f64,
    raised: Instant,
    hold_until: Instant,
    cut: Option<Instant>,
    strikes: u32,
    /// Permits since `counted`: the rate that was reached, for a quota without a number.
    permits: u32,
    counted: Instant,
}

/// A 429 that made everyone wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Held {
    /// For how long from now.
    pub wait: Duration,
    /// The rate allowed afterwards, requests a second.
    pub rate: f64,
}

impl Quota {
    /// A gate for so many requests a second; none: no limit until the server names one by its refusals.
    pub fn new(per_second: Option<f64>) -> Self {
        let now = clock::now();
        let state = State {
            limiter: per_second.map(|rate| limiter(rate, true)),
            rate: per_second.unwrap_or(f64::INFINITY),
            raised: now,
            hold_until: now,
            cut: None,
            strikes: 0,
            permits: 0,
            counted: now,
        };
        Self { asked: per_second, state: Mutex::new(state) }
    }

    /// The rate allowed at present, requests a second; none if there is no limit.
    pub fn rate(&self) -> Option<f64> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.rate.is_finite().then_some(state.rate)
    }

    /// Waits for a permit. Cancelling it takes none.
    pub async fn ready(&self) {
        while let Some(wait) = self.take() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes a permit, or says how long to wait before the next try.
    fn take(&self) -> Option<Duration> {
        let now = clock::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now < state.hold_until {
            return Some(state.hold_until - now);
        }
        state.climb(now, self.asked);
        let wait = state.limiter.as_ref().and_then(|limiter| {
            let refused = limiter.check().err()?;
            Some(refused.wait_time_from(TokioClock.now()))
        });
        if wait.is_none() {
            state.permits = state.permits.saturating_add(1);
        }
        wait
    }

    /// Takes note of a 429 to a request that left at `sent`. None: it belongs to a burst that was already answered to.
    pub fn throttled(&self, sent: Instant, retry_after: Option<Duration>) -> Option<Held> {
        let now = clock::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.cut.is_some_and(|cut| sent <= cut) {
            return None;
        }
        let calm = state.cut.is_none_or(|cut| now - cut > FORGET);
        state.strikes = if calm { 0 } else { state.strikes.saturating_add(1) };
        let own = FIRST_HOLD.saturating_mul(1 << state.strikes.min(16));
        let wait = own.max(retry_after.unwrap_or_default()).min(LONGEST_HOLD);
        let reached = if state.rate.is_finite() { state.rate } else { state.reached(now) };
        state.rate = (reached * CUT).max(FLOOR);
        state.limiter = Some(limiter(state.rate, false));
        state.raised = now + wait;
        state.hold_until = now + wait;
        state.cut = Some(now);
        Some(Held { wait, rate: state.rate })
    }
}

impl State {
    /// Lets a lowered rate climb, at most once a second: each step begins a new limiter.
    fn climb(&mut self, now: Instant, asked: Option<f64>) {
        if now.saturating_duration_since(self.counted) > Duration::from_secs(2) {
            (self.counted, self.permits) = (now, 0);
        }
        let below = asked.map_or(self.rate.is_finite(), |asked| self.rate < asked);
        let calm = now.saturating_duration_since(self.raised);
        if !below || calm < Duration::from_secs(1) {
            return;
        }
        let raised = self.rate + asked.unwrap_or(self.rate) * CLIMB * calm.as_secs_f64();
        self.rate = asked.map_or(raised, |asked| raised.min(asked));
        self.limiter = Some(limiter(self.rate, false));
        self.raised = now;
    }

    /// Permits a second since the counter was begun.
    fn reached(&self, now: Instant) -> f64 {
        let seconds = now.saturating_duration_since(self.counted).as_secs_f64();
        f64::from(self.permits) / seconds.max(0.05)
    }
}

/// A limiter of this rate. Its burst covers the timer's lateness, so that a late wake-up is caught up with; a limiter that
/// takes over from another begins without one.
fn limiter(rate: f64, full: bool) -> Limiter {
    let period = Duration::from_secs_f64(1.0 / rate.max(FLOOR)).max(Duration::from_nanos(1));
    let burst = burst(rate);
    let pace = Pace::with_period(period).unwrap_or_else(|| Pace::per_second(NonZeroU32::MIN)).allow_burst(burst);
    let limiter = RateLimiter::direct_with_clock(pace, TokioClock);
    if !full {
        for _ in 1..burst.get() {
            if limiter.check().is_err() {
                break;
            }
        }
    }
    limiter
}

/// The most permits that may come at once: two, or four milliseconds' worth.
pub fn burst(rate: f64) -> NonZeroU32 {
    let mut burst = NonZeroU32::MIN.saturating_add(1);
    while f64::from(burst.get()) < rate * LATENESS && burst.get() < 10_000 {
        burst = burst.saturating_add(1);
    }
    burst
}

#[cfg(test)]
mod tests {
    use super::{Quota, burst};
    use crate::clock;
    use std::time::Duration;

    async fn permits(quota: &Quota, count: u32) -> Vec<Duration> {
        let start = clock::now();
        let mut times = Vec::new();
        for _ in 0..count {
            quota.ready().await;
            times.push(clock::now() - start);
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn no_window_holds_more_than_the_rate_and_a_burst_and_none_of_the_rate_is_lost() {
        for rate in [2_u32, 10, 50, 500, 5_000] {
            let quota = Quota::new(Some(f64::from(rate)));
            let times = permits(&quota, rate * 10).await;
            let most = usize::try_from(rate + burst(f64::from(rate)).get()).unwrap();
            for (at, from) in times.iter().enumerate() {
                let within = times[at..].iter().take_while(|time| **time < *from + Duration::from_secs(1)).count();
                assert!(within <= most, "{rate}/s: {within} in a second");
            }
            let took = times.last().unwrap().as_secs_f64();
            assert!(took <= 10.05, "{rate}/s: ten seconds' worth took {took} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_holds_everyone_for_as_long_as_the_server_asks() {
        let quota = Quota::new(Some(100.0));
        quota.ready().await;
        let held = quota.throttled(clock::now(), Some(Duration::from_secs(7))).unwrap();
        assert_eq!((held.wait, held.rate), (Duration::from_secs(7), 75.0));
        let times = permits(&quota, 1).await;
        assert!(times[0] >= Duration::from_secs(7) && times[0] < Duration::from_millis(7_100), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_429s_cuts_once_and_the_rate_climbs_back() {
        let quota = Quota::new(Some(100.0));
        let sent = clock::now();
        tokio::time::advance(Duration::from_millis(80)).await;
        assert!(quota.throttled(sent, None).is_some());
        for _ in 0..50 {
            assert_eq!(quota.throttled(sent, None), None);
        }
        assert_eq!(quota.rate(), Some(75.0));
        permits(&quota, 2_000).await;
        assert_eq!(quota.rate(), Some(100.0));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_while_429s_follow_each_other_and_are_clamped() {
        let quota = Quota::new(Some(10.0));
        let mut waits = Vec::new();
        for _ in 0..14 {
            tokio::time::advance(Duration::from_millis(1)).await;
            waits.push(quota.throttled(clock::now(), Some(Duration::ZERO)).unwrap().wait.as_millis());
        }
        assert_eq!((&waits[..4], *waits.last().unwrap()), (&[250, 500, 1_000, 2_000][..], 300_000));
        assert_eq!(
            quota.throttled(clock::now() + Duration::from_secs(1), Some(Duration::MAX)).unwrap().wait.as_secs(),
            300
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_number_the_first_429_sets_a_rate_from_what_was_reached() {
        let quota = Quota::new(None);
        assert_eq!(quota.rate(), None);
        for _ in 0..100 {
            quota.ready().await;
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        let held = quota.throttled(clock::now(), None).unwrap();
        assert!((held.rate - 75.0).abs() < 1.0, "{held:?}");
    }
}
