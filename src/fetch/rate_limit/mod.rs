//! The one gate before every request, and the one owner of 429.
//!
//! `pace` says when the next permit is due, `rate` how many a second there are, `hold` how long a 429 makes everyone wait,
//! `window` whether the server counts by the second, and `lap` keeps requests away from where such a second ends. This file is the gate around them: one dispenser waits at it, and every answer is reported to it.

mod hold;
mod lap;
mod pace;
mod rate;
mod window;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::clock;
use crate::model::page::AttemptId;
use crate::settings::RateLimit;
use hold::Cooldown;
use lap::WindowGuard;
use pace::Pacer;
use rate::RateController;
use window::WindowDetector;

/// Longest wait that a server may ask for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How far requests keep away from a window's end: so many mean deviations of the time that an answer takes (RFC 6298 waits
/// for four, of which the way back is a part here), and between these.
const GUARD: u32 = 3;
const LEAST_GUARD: Duration = Duration::from_millis(5);
const MOST_GUARD: Duration = Duration::from_millis(100);
/// How far back a quota without a number remembers how fast it was used.
const REMEMBERED: Duration = Duration::from_secs(2);

/// The gate. One dispenser waits at it; see `dispatch`.
#[derive(Debug)]
pub struct RateLimiter {
    state: Mutex<LimiterState>,
    /// Attempts whose 429 makes nobody wait: of pages that are refused by themselves.
    excused: Mutex<BTreeSet<AttemptId>>,
}

#[derive(Debug)]
struct LimiterState {
    /// None: nothing limits.
    paced: Option<(RateController, Pacer)>,
    hold: Cooldown,
    windows: WindowDetector,
    /// The time that an answer takes, smoothed, and how far it is from that.
    round: Duration,
    swing: Duration,
    /// Permits since `counted`: the rate that was reached, for a quota without a number.
    permits: u32,
    counted: Instant,
}

/// A 429 that made everyone wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throttle {
    /// For how long from now.
    pub wait: Duration,
    /// The rate allowed afterwards, requests a second.
    pub rate: f64,
}

impl RateLimiter {
    /// A gate for what is known of the limit.
    pub fn new(asked: impl Into<RateLimit>) -> Self {
        let now = clock::now();
        let rate = match asked.into() {
            RateLimit::PerSecond(number) => Some(RateController::asked(number, now)),
            RateLimit::Auto(known) => Some(RateController::auto(known, now)),
            RateLimit::Unlimited => None,
        };
        let paced = rate.map(|rate| {
            let pace = Pacer::new(rate.current(), now);
            (rate, pace)
        });
        let state = LimiterState {
            paced,
            hold: Cooldown::new(now),
            windows: WindowDetector::default(),
            round: Duration::ZERO,
            swing: Duration::ZERO,
            permits: 0,
            counted: now,
        };
        Self { state: Mutex::new(state), excused: Mutex::default() }
    }

    /// The rate allowed at present, requests a second; none if there is no limit.
    pub fn rate(&self) -> Option<f64> {
        self.state().paced.as_ref().map(|(rate, _)| rate.current())
    }

    /// The time that an answer takes, smoothed; none before the first.
    pub fn latency(&self) -> Duration {
        self.state().round
    }

    /// What the limit was found to be, requests a second; none as long as refusals have not shown it.
    pub fn found(&self) -> Option<f64> {
        self.state().paced.as_ref().and_then(|(rate, _)| rate.found())
    }

    /// 429s turned out to be a page's own: the rate is what it was asked to be again.
    pub fn pardon(&self) {
        let now = clock::now();
        if let Some((rate, pace)) = &mut self.state().paced {
            rate.pardon(now);
            pace.set_rate(rate.current());
        }
    }

    /// A 429 to this attempt will make nobody wait.
    pub fn excuse(&self, attempt: AttemptId) {
        self.excused.lock().unwrap_or_else(PoisonError::into_inner).insert(attempt);
    }

    /// Whether an attempt was excused; it is over.
    pub fn take_excused(&self, attempt: AttemptId) -> bool {
        self.excused.lock().unwrap_or_else(PoisonError::into_inner).remove(&attempt)
    }

    /// Waits for a permit. Cancelling it takes none.
    pub async fn ready(&self) {
        while let Some(due) = self.take() {
            tokio::time::sleep_until(due).await;
        }
    }

    /// Takes a permit, or says when to try next.
    fn take(&self) -> Option<Instant> {
        let now = clock::now();
        let mut state = self.state();
        let LimiterState { paced, hold, round, permits, counted, .. } = &mut *state;
        let due = match paced {
            None => Some(hold.until).filter(|until| *until > now),
            Some((rate, pace)) => {
                if rate.step(now, *round) {
                    pace.set_rate(rate.current());
                }
                pace.take(now, hold.until)
            }
        };
        if due.is_none() {
            if let Some((rate, _)) = paced {
                rate.permit();
            }
            if now.saturating_duration_since(*counted) > REMEMBERED {
                (*counted, *permits) = (now, 0);
            }
            *permits = permits.saturating_add(1);
        }
        due
    }

    /// Takes note of an answer that was no 429 to a request that left at `sent`.
    pub fn passed(&self, sent: Instant) {
        let now = clock::now();
        let mut state = self.state();
        state.measure(now.saturating_duration_since(sent));
        let LimiterState { paced, hold, .. } = &mut *state;
        hold.passed(sent);
        if let Some((rate, pace)) = paced
            && rate.passed(now, sent)
        {
            pace.set_rate(rate.current());
        }
    }

    /// Takes note of a 429 to a request that left at `sent`. None: it belongs to a burst that everyone waits for already.
    pub fn throttled(&self, sent: Instant, retry_after: Option<Duration>) -> Option<Throttle> {
        let now = clock::now();
        let mut state = self.state();
        let reached = state.reached(now);
        let guard = (state.swing * GUARD).clamp(LEAST_GUARD, MOST_GUARD);
        let LimiterState { paced, hold, windows, .. } = &mut *state;
        let (rate, pace) = paced.get_or_insert_with(|| {
            let rate = RateController::reached(reached, now);
            let pace = Pacer::new(rate.current(), now);
            (rate, pace)
        });
        let wait = hold.refused(now, sent, Duration::from_secs_f64(1.0 / rate.current()), retry_after);
        if rate.refused(now, sent, wait.unwrap_or_default()) {
            pace.set_rate(rate.current());
        }
        if wait.is_some() {
            let was_sure = windows.end().is_some();
            windows.refused(pace.since(sent));
            let end = windows.end();
            pace.set_lap(end.map(|end| WindowGuard::new(end, guard)));
            if end.is_some() && !was_sure {
                rate.pardon(now);
                pace.set_rate(rate.current());
            }
        }
        wait.map(|wait| Throttle { wait, rate: rate.current() })
    }

    fn state(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LimiterState {
    /// Smooths the time that an answer took, and its deviation, as RFC 6298 does.
    fn measure(&mut self, took: Duration) {
        if self.round.is_zero() {
            self.round = took;
        }
        self.swing = (self.swing * 15 + self.round.abs_diff(took)) / 16;
        self.round = (self.round * 15 + took) / 16;
    }

    /// Permits a second since the counter was begun.
    fn reached(&self, now: Instant) -> f64 {
        let seconds = now.saturating_duration_since(self.counted).as_secs_f64();
        f64::from(self.permits) / seconds.max(0.05)
    }
}

/// The most permits that may come at once: one, and what a late timer makes good.
pub fn burst(rate: f64) -> NonZeroU32 {
    let mut burst = NonZeroU32::MIN;
    while f64::from(burst.get()) < 1.0 + rate * pace::LATENESS.as_secs_f64() && burst.get() < 100_000 {
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

    async fn permits(quota: &RateLimiter, count: u32) -> Vec<Duration> {
        let start = clock::now();
        let mut times = Vec::new();
        for _ in 0..count {
            quota.ready().await;
            times.push(clock::now() - start);
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn no_window_holds_more_than_the_rate_and_a_late_timer_s_share_and_none_of_the_rate_is_lost() {
        for rate in [2_u32, 10, 50, 500, 5_000] {
            let quota = RateLimiter::new(Some(f64::from(rate)));
            let times = permits(&quota, rate * 10).await;
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
            let quota = RateLimiter::new(Some(f64::from(rate)));
            let (start, mut given) = (clock::now(), 0_u32);
            while clock::now() - start < SECOND * 10 {
                let late = Duration::from_millis(u64::from(given * 7 % 19));
                quota.ready().await;
                tokio::time::advance(late).await;
                given += 1;
                while quota.take().is_none() {
                    given += 1;
                }
            }
            assert!((rate * 10..=rate * 10 + rate / 20 + 2).contains(&given), "{given} permits at {rate}/s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_makes_up_for_a_start_an_idle_stretch_a_hold_or_a_suspend() {
        for rate in [5_u32, 50, 500, 5_000] {
            let quota = RateLimiter::new(Some(f64::from(rate)));
            let at_once = || (0..100_u32).take_while(|_| quota.take().is_none()).count();
            assert_eq!(at_once(), 1, "at the start");
            for idle in [Duration::from_millis(250), Duration::from_secs(10), Duration::from_secs(8 * 3_600)] {
                tokio::time::advance(idle).await;
                assert_eq!(at_once(), 1, "{rate}/s after {idle:?}");
            }
            quota.throttled(clock::now(), Some(Duration::from_secs(40))).unwrap();
            tokio::time::advance(Duration::from_secs(41)).await;
            assert_eq!(at_once(), 1, "{rate}/s after a hold");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_holds_everyone_for_as_long_as_the_server_asks() {
        let quota = RateLimiter::new(Some(100.0));
        quota.ready().await;
        let held = quota.throttled(clock::now(), Some(Duration::from_secs(7))).unwrap();
        assert_eq!((held.wait, held.rate), (Duration::from_secs(7), 98.0));
        let times = permits(&quota, 1).await;
        assert!(times[0] >= Duration::from_secs(7) && times[0] < Duration::from_millis(7_100), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_429_never_shortens_the_wait_that_an_earlier_one_asked_for() {
        let quota = RateLimiter::new(Some(100.0));
        quota.throttled(clock::now(), Some(Duration::from_secs(60))).unwrap();
        tokio::time::advance(SECOND).await;
        // It left after the first one had arrived: one of a few that were about to.
        let held = quota.throttled(clock::now(), Some(SECOND)).unwrap();
        assert_eq!(held.wait, Duration::from_secs(59));
        let times = permits(&quota, 1).await;
        assert!(times[0] >= Duration::from_secs(59), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_429s_cuts_once_and_the_rate_climbs_back() {
        let quota = RateLimiter::new(Some(100.0));
        let sent = clock::now();
        tokio::time::advance(Duration::from_millis(80)).await;
        assert!(quota.throttled(sent, None).is_some());
        for _ in 0..50 {
            assert_eq!(quota.throttled(sent, None), None);
        }
        assert_eq!(quota.rate(), Some(98.0));
        for _ in 0..60_000 {
            quota.ready().await;
            quota.passed(clock::now());
        }
        assert_eq!(quota.rate(), Some(100.0));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_while_429s_follow_each_other_and_are_clamped() {
        let quota = RateLimiter::new(Some(10.0));
        let mut waits = Vec::new();
        for _ in 0..14 {
            tokio::time::advance(Duration::from_millis(1)).await;
            waits.push(quota.throttled(clock::now(), Some(Duration::ZERO)).unwrap().wait.as_millis());
        }
        assert_eq!((&waits[..5], *waits.last().unwrap()), (&[200, 250, 500, 1_000, 2_000][..], 300_000));
        let sent = clock::now() + SECOND;
        tokio::time::advance(SECOND).await;
        assert_eq!(quota.throttled(sent, Some(Duration::MAX)).unwrap().wait.as_secs(), 300);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_number_the_first_429_sets_a_rate_from_what_was_reached() {
        let quota = RateLimiter::new(None);
        assert_eq!(quota.rate(), None);
        for _ in 0..100 {
            quota.ready().await;
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        let held = quota.throttled(clock::now(), None).unwrap();
        assert!((held.rate - 36.8).abs() < 1.0, "{held:?}");
    }

    #[test]
    fn a_burst_is_one_permit_and_what_a_late_timer_makes_good() {
        assert_eq!([2.0, 50.0, 500.0, 5_000.0].map(|rate| burst(rate).get()), [2, 2, 11, 101]);
    }
}
