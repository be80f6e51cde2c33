//! The rate limit: every request waits for its permit here, and every 429 causes its cooldown here.
//!
//! `pacer` says when the next permit is due, `controller` how many there are a second, `cooldown` how long all requests wait after
//! a 429, `window_detector` whether the server counts by the second, and `window_guard` keeps requests away from the end of such a
//! second. This file combines them. One dispatcher waits for permits, and every response is reported.

mod controller;
mod cooldown;
mod pacer;
mod window_detector;
mod window_guard;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::clock;
use crate::model::page::AttemptId;
use crate::settings::RateLimit;
use controller::RateController;
use cooldown::Cooldown;
use pacer::Pacer;
use window_detector::WindowDetector;
use window_guard::WindowGuard;

/// The longest cooldown, whether the server asks for it or not.
pub const MAX_WAIT: Duration = Duration::from_secs(300);
/// How far requests keep away from a window's end: this many mean deviations of the latency, within these bounds. RFC 6298
/// waits for four; here the way back is a part of the deviation that does not matter.
const MARGIN_DEVIATIONS: u32 = 3;
const MIN_MARGIN: Duration = Duration::from_millis(5);
const MAX_MARGIN: Duration = Duration::from_millis(100);
/// The time over which the rate of requests is measured while there is no limit.
const RATE_SPAN: Duration = Duration::from_secs(2);

/// Permits requests. One dispatcher waits for permits; see [`dispatcher`](super::dispatcher).
#[derive(Debug)]
pub struct RateLimiter {
    state: Mutex<LimiterState>,
}

#[derive(Debug)]
struct LimiterState {
    /// None: there is no limit.
    limit: Option<(RateController, Pacer)>,
    cooldown: Cooldown,
    windows: WindowDetector,
    /// The time of a response, smoothed, and its mean deviation.
    latency: Duration,
    deviation: Duration,
    /// Permits since `counting_since`: the rate that is reached without a limit.
    permits: u32,
    counting_since: Instant,
    /// Attempts whose 429 causes no wait, because it is the page that is refused.
    exempt: BTreeSet<AttemptId>,
}

/// A 429 that makes all requests wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throttle {
    /// How long, from now.
    pub wait: Duration,
    /// The rate allowed afterwards, requests a second.
    pub rate: f64,
}

impl RateLimiter {
    /// A limiter for what is known of the limit.
    pub fn new(limit: impl Into<RateLimit>) -> Self {
        let now = clock::now();
        let controller = match limit.into() {
            RateLimit::PerSecond(number) => Some(RateController::fixed(number, now)),
            RateLimit::Auto(known) => Some(RateController::auto(known, now)),
            RateLimit::Unlimited => None,
        };
        let state = LimiterState {
            limit: controller.map(|controller| paced(controller, now)),
            cooldown: Cooldown::new(now),
            windows: WindowDetector::default(),
            latency: Duration::ZERO,
            deviation: Duration::ZERO,
            permits: 0,
            counting_since: now,
            exempt: BTreeSet::new(),
        };
        Self { state: Mutex::new(state) }
    }

    /// The current rate, requests a second. None: there is no limit.
    pub fn rate(&self) -> Option<f64> {
        self.state().limit.as_ref().map(|(controller, _)| controller.current)
    }

    /// The time of a response, smoothed; zero before the first.
    pub fn latency(&self) -> Duration {
        self.state().latency
    }

    /// What the limit seems to be, requests a second. None: no 429s have shown it.
    pub fn discovered(&self) -> Option<f64> {
        self.state().limit.as_ref().and_then(|(controller, _)| controller.discovered())
    }

    /// Returns to the given number, because the 429s turned out to be one page's own.
    pub fn restore(&self) {
        if let Some((controller, pacer)) = &mut self.state().limit {
            controller.restore(clock::now());
            pacer.set_rate(controller.current);
        }
    }

    /// A 429 to this attempt is to cause no wait.
    pub fn exempt(&self, attempt: AttemptId) {
        self.state().exempt.insert(attempt);
    }

    /// Whether an attempt, which is over now, was exempt.
    pub fn take_exempt(&self, attempt: AttemptId) -> bool {
        self.state().exempt.remove(&attempt)
    }

    /// Waits for a permit. If it is cancelled, no permit is taken.
    pub async fn acquire(&self) {
        while let Some(due) = self.take() {
            tokio::time::sleep_until(due).await;
        }
    }

    /// Takes a permit, or returns when to try again.
    fn take(&self) -> Option<Instant> {
        let now = clock::now();
        let mut state = self.state();
        let LimiterState { limit, cooldown, latency, permits, counting_since, .. } = &mut *state;
        let due = match limit {
            None => Some(cooldown.until).filter(|until| *until > now),
            Some((controller, pacer)) => {
                if controller.step(now, *latency) {
                    pacer.set_rate(controller.current);
                }
                pacer.take(now, cooldown.until)
            }
        };
        if due.is_none() {
            if let Some((controller, _)) = limit {
                controller.record_permit();
            }
            if now.saturating_duration_since(*counting_since) > RATE_SPAN {
                (*counting_since, *permits) = (now, 0);
            }
            *permits = permits.saturating_add(1);
        }
        due
    }

    /// Records a response that is not a 429, to a request that was sent at `sent`.
    pub fn record_response(&self, sent: Instant) {
        let now = clock::now();
        let mut state = self.state();
        state.measure(now.saturating_duration_since(sent));
        let LimiterState { limit, cooldown, .. } = &mut *state;
        cooldown.record_response(sent);
        if let Some((controller, pacer)) = limit
            && controller.record_response(now, sent)
        {
            pacer.set_rate(controller.current);
        }
    }

    /// Records a 429 to a request that was sent at `sent`. None: it belongs to a burst that all requests wait for already.
    pub fn record_throttle(&self, sent: Instant, retry_after: Option<Duration>) -> Option<Throttle> {
        let now = clock::now();
        let mut state = self.state();
        let reached = state.reached(now);
        let margin = (state.deviation * MARGIN_DEVIATIONS).clamp(MIN_MARGIN, MAX_MARGIN);
        let LimiterState { limit, cooldown, windows, .. } = &mut *state;
        let (controller, pacer) = limit.get_or_insert_with(|| paced(RateController::from_reached(reached, now), now));
        let period = Duration::from_secs_f64(1.0 / controller.current);
        let wait = cooldown.record_throttle(now, sent, period, retry_after);
        if controller.record_throttle(now, sent, wait.unwrap_or_default()) {
            pacer.set_rate(controller.current);
        }
        if wait.is_some() {
            let was_known = windows.end().is_some();
            windows.record_throttle(pacer.since(sent));
            let end = windows.end();
            pacer.set_guard(end.map(|end| WindowGuard::new(end, margin)));
            if end.is_some() && !was_known {
                controller.restore(now); // the window's end was the cause of the 429s so far
                pacer.set_rate(controller.current);
            }
        }
        wait.map(|wait| Throttle { wait, rate: controller.current })
    }

    fn state(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LimiterState {
    /// Smooths the time of a response, and its deviation, as RFC 6298 does.
    fn measure(&mut self, took: Duration) {
        if self.latency.is_zero() {
            self.latency = took;
        }
        self.deviation = (self.deviation * 15 + self.latency.abs_diff(took)) / 16;
        self.latency = (self.latency * 15 + took) / 16;
    }

    /// Permits a second since `counting_since`.
    fn reached(&self, now: Instant) -> f64 {
        let seconds = now.saturating_duration_since(self.counting_since).as_secs_f64();
        f64::from(self.permits) / seconds.max(0.05)
    }
}

fn paced(controller: RateController, now: Instant) -> (RateController, Pacer) {
    let pacer = Pacer::new(controller.current, now);
    (controller, pacer)
}

/// Maximum number of permits at once: one, and those that a late timer delayed.
pub fn burst(rate: f64) -> NonZeroU32 {
    let mut burst = NonZeroU32::MIN;
    while f64::from(burst.get()) < 1.0 + rate * pacer::MAX_LATENESS.as_secs_f64() && burst.get() < 100_000 {
        burst = burst.saturating_add(1);
    }
    burst
}

#[cfg(test)]
mod tests {
    use super::{RateLimiter, burst};
    use crate::model::clock;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    async fn permits(limiter: &RateLimiter, count: u32) -> Vec<Duration> {
        let start = clock::now();
        let mut times = Vec::new();
        for _ in 0..count {
            limiter.acquire().await;
            times.push(clock::now() - start);
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn no_window_has_more_than_the_rate_and_a_late_timer_s_share_and_none_of_the_rate_is_lost() {
        for rate in [2_u32, 10, 50, 500, 5_000] {
            let limiter = RateLimiter::new(Some(f64::from(rate)));
            let times = permits(&limiter, rate * 10).await;
            let within = |from: Duration| times.iter().filter(|time| (from..from + SECOND).contains(*time)).count();
            let most = times.iter().step_by(7).map(|from| within(*from)).max().unwrap();
            // tokio's timer wheel turns every millisecond.
            assert!(most <= usize::try_from(rate + rate.div_ceil(1_000)).unwrap(), "{rate}/s: {most} in a second");
            let took = times.last().unwrap().as_secs_f64();
            assert!(took <= 10.0, "{rate}/s: ten seconds' worth took {took} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_late_loses_no_permit() {
        for rate in [5_u32, 50, 500] {
            let limiter = RateLimiter::new(Some(f64::from(rate)));
            let (start, mut given) = (clock::now(), 0_u32);
            while clock::now() - start < SECOND * 10 {
                let late = Duration::from_millis(u64::from(given * 7 % 19));
                limiter.acquire().await;
                tokio::time::advance(late).await;
                given += 1;
                while limiter.take().is_none() {
                    given += 1;
                }
            }
            assert!((rate * 10..=rate * 10 + rate / 20 + 2).contains(&given), "{given} permits at {rate}/s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_makes_up_for_a_start_idle_time_a_cooldown_or_a_suspend() {
        for rate in [5_u32, 50, 500, 5_000] {
            let limiter = RateLimiter::new(Some(f64::from(rate)));
            let at_once = || (0..100_u32).take_while(|_| limiter.take().is_none()).count();
            assert_eq!(at_once(), 1, "at the start");
            for idle in [Duration::from_millis(250), Duration::from_secs(10), Duration::from_secs(8 * 3_600)] {
                tokio::time::advance(idle).await;
                assert_eq!(at_once(), 1, "{rate}/s after {idle:?}");
            }
            limiter.record_throttle(clock::now(), Some(Duration::from_secs(40))).unwrap();
            tokio::time::advance(Duration::from_secs(41)).await;
            assert_eq!(at_once(), 1, "{rate}/s after a cooldown");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_429_all_requests_wait_for_as_long_as_the_server_asks() {
        let limiter = RateLimiter::new(Some(100.0));
        limiter.acquire().await;
        let throttle = limiter.record_throttle(clock::now(), Some(Duration::from_secs(7))).unwrap();
        assert_eq!((throttle.wait, throttle.rate), (Duration::from_secs(7), 98.0));
        let times = permits(&limiter, 1).await;
        assert!(times[0] >= Duration::from_secs(7) && times[0] < Duration::from_millis(7_100), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_429_never_shortens_the_wait_that_an_earlier_one_asked_for() {
        let limiter = RateLimiter::new(Some(100.0));
        limiter.record_throttle(clock::now(), Some(Duration::from_secs(60))).unwrap();
        tokio::time::advance(SECOND).await;
        // It left after the first one had arrived: one of a few that were about to.
        let throttle = limiter.record_throttle(clock::now(), Some(SECOND)).unwrap();
        assert_eq!(throttle.wait, Duration::from_secs(59));
        let times = permits(&limiter, 1).await;
        assert!(times[0] >= Duration::from_secs(59), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_429s_cuts_once_and_the_rate_climbs_back() {
        let limiter = RateLimiter::new(Some(100.0));
        let sent = clock::now();
        tokio::time::advance(Duration::from_millis(80)).await;
        assert!(limiter.record_throttle(sent, None).is_some());
        for _ in 0..50 {
            assert_eq!(limiter.record_throttle(sent, None), None);
        }
        assert_eq!(limiter.rate(), Some(98.0));
        for _ in 0..60_000 {
            limiter.acquire().await;
            limiter.record_response(clock::now());
        }
        assert_eq!(limiter.rate(), Some(100.0));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_while_429s_follow_each_other_and_are_clamped() {
        let limiter = RateLimiter::new(Some(10.0));
        let mut waits = Vec::new();
        for _ in 0..14 {
            tokio::time::advance(Duration::from_millis(1)).await;
            waits.push(limiter.record_throttle(clock::now(), Some(Duration::ZERO)).unwrap().wait.as_millis());
        }
        assert_eq!((&waits[..5], *waits.last().unwrap()), (&[200, 250, 500, 1_000, 2_000][..], 300_000));
        let sent = clock::now() + SECOND;
        tokio::time::advance(SECOND).await;
        assert_eq!(limiter.record_throttle(sent, Some(Duration::MAX)).unwrap().wait.as_secs(), 300);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_number_the_first_429_sets_a_rate_from_what_was_reached() {
        let limiter = RateLimiter::new(None);
        assert_eq!(limiter.rate(), None);
        for _ in 0..100 {
            limiter.acquire().await;
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        let throttle = limiter.record_throttle(clock::now(), None).unwrap();
        assert!((throttle.rate - 36.8).abs() < 1.0, "{throttle:?}");
    }

    #[test]
    fn a_burst_is_one_permit_and_those_that_a_late_timer_delayed() {
        assert_eq!([2.0, 50.0, 500.0, 5_000.0].map(|rate| burst(rate).get()), [2, 2, 11, 101]);
    }
}
