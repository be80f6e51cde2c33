//! When the next permit is due: an absolute schedule, implemented by governor.
//!
//! governor's GCRA has a burst of one here, and reads a clock that shows the time of the schedule instead of the real time. A
//! permit that a timer delivers late counts as taken when it was due, so a late timer loses none. A permit that is taken more
//! than [`MAX_LATENESS`] late was not needed earlier (idle time, a cooldown, a suspended machine): the schedule restarts, and no
//! burst follows.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use super::window_guard::WindowGuard;

/// Maximum lateness of a permit that does not move the next ones: a timer's resolution is a millisecond, and on a busy core the
/// process waits a few more.
pub(super) const MAX_LATENESS: Duration = Duration::from_millis(20);
/// The time of a new schedule: later than the longest period, so that no time is negative.
const HEAD_START: Duration = Duration::from_secs(3_600);

type Limiter = RateLimiter<NotKeyed, InMemoryState, ScheduleClock, NoOpMiddleware<Nanos>>;

/// The clock that governor reads.
#[derive(Clone, Debug, Default)]
struct ScheduleClock(Arc<AtomicU64>);

impl ScheduleClock {
    fn set(&self, time: Nanos) {
        self.0.store(time.as_u64(), Ordering::Relaxed);
    }
}

impl Clock for ScheduleClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.load(Ordering::Relaxed))
    }
}

#[derive(Debug)]
pub(super) struct Pacer {
    origin: Instant,
    guard: Option<WindowGuard>,
    period: Duration,
    clock: ScheduleClock,
    limiter: Limiter,
}

impl Pacer {
    /// `rate` is in permits a second. The first one is due now.
    pub(super) fn new(rate: f64, now: Instant) -> Self {
        let period = period(rate);
        let (limiter, clock) = limiter(period, Nanos::from(HEAD_START.saturating_sub(period)));
        Self { origin: now, guard: None, period, clock, limiter }
    }

    /// Takes a permit, unless the next one is due later or `now` is before `from`: then returns when to try again.
    pub(super) fn take(&self, now: Instant, from: Instant) -> Option<Instant> {
        let (due, present) = (self.due().max(self.time(from)), self.time(now));
        if present < due {
            let moment = self.guard.map_or(due.as_u64(), |guard| guard.to_real(due.as_u64()));
            return Some(self.origin + Duration::from_nanos(moment).saturating_sub(HEAD_START));
        }
        let late = Duration::from(present.saturating_sub(due));
        self.clock.set(if late <= MAX_LATENESS { due } else { present });
        self.limiter.check().err().map(|_| now)
    }

    /// Changes the rate. The next permit is due a new period after the last one.
    pub(super) fn set_rate(&mut self, rate: f64) {
        let last = self.due().saturating_sub(Nanos::from(self.period));
        self.period = period(rate);
        (self.limiter, self.clock) = limiter(self.period, last);
    }

    /// Changes to guarded time, or back to real time. The next permit is due at the same moment as before.
    pub(super) fn set_guard(&mut self, guard: Option<WindowGuard>) {
        let due = self.due().as_u64();
        let moment = self.guard.map_or(due, |guard| guard.to_real(due));
        let due = Nanos::from(guard.map_or(moment, |guard| guard.to_guarded(moment)));
        self.guard = guard;
        (self.limiter, self.clock) = limiter(self.period, due.saturating_sub(Nanos::from(self.period)));
    }

    /// Real time since the schedule began, plus [`HEAD_START`].
    pub(super) fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.origin).saturating_add(HEAD_START)
    }

    /// When the next permit is due: governor says so when it refuses one that is requested far too early.
    fn due(&self) -> Nanos {
        self.clock.set(Nanos::from(0));
        self.limiter.check().err().map_or(Nanos::from(0), |early| early.earliest_possible())
    }

    /// The schedule's time at a moment.
    fn time(&self, at: Instant) -> Nanos {
        let moment = Nanos::from(self.since(at));
        self.guard.map_or(moment, |guard| Nanos::from(guard.to_guarded(moment.as_u64())))
    }
}

fn period(rate: f64) -> Duration {
    Duration::from_secs_f64(1.0 / rate).clamp(Duration::from_nanos(1), HEAD_START / 2)
}

/// A limiter whose last permit was taken at `last`.
fn limiter(period: Duration, last: Nanos) -> (Limiter, ScheduleClock) {
    let clock = ScheduleClock::default();
    let quota = Quota::with_period(period).unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN));
    let limiter = RateLimiter::direct_with_clock(quota.allow_burst(NonZeroU32::MIN), clock.clone());
    clock.set(last);
    limiter.check().ok(); // the first one always passes
    (limiter, clock)
}
