//! When the next permit is due: an absolute schedule, kept by governor.
//!
//! governor's GCRA has no burst here and reads a clock that shows it the time of the schedule instead of the present: a permit
//! that a timer brought late counts as taken when it was due, so lateness loses none. One that is later than [`LATENESS`] was
//! not late, nobody came for it (an idle stretch, a hold, a suspend): the schedule begins anew, so no burst makes up for it.

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

use super::lap::WindowGuard;

/// The most by which a permit may be late and the next ones still keep their times: a timer's wheel turns every millisecond,
/// and a busy core makes the process wait a few more.
pub(super) const LATENESS: Duration = Duration::from_millis(20);
/// The schedule's time when it was made: later than the longest period.
const HEAD_START: Duration = Duration::from_secs(3_600);

/// What governor takes for the present.
#[derive(Clone, Debug, Default)]
struct Shown(Arc<AtomicU64>);

impl Shown {
    fn set(&self, time: Nanos) {
        self.0.store(time.as_u64(), Ordering::Relaxed);
    }
}

impl Clock for Shown {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.load(Ordering::Relaxed))
    }
}

/// A schedule of permits.
#[derive(Debug)]
pub(super) struct Pacer {
    origin: Instant,
    lap: Option<WindowGuard>,
    period: Duration,
    shown: Shown,
    limiter: RateLimiter<NotKeyed, InMemoryState, Shown, NoOpMiddleware<Nanos>>,
}

impl Pacer {
    /// So many permits a second, the first one now.
    pub(super) fn new(rate: f64, now: Instant) -> Self {
        let period = period(rate);
        let (limiter, shown) = limiter(period, Nanos::from(HEAD_START.saturating_sub(period)));
        Self { origin: now, lap: None, period, shown, limiter }
    }

    /// Takes the permit that is due, if it is, and it is not before `from`. Otherwise says when it will be.
    pub(super) fn take(&self, now: Instant, from: Instant) -> Option<Instant> {
        let (due, present) = (self.due().max(self.time(from)), self.time(now));
        if present < due {
            let moment = self.lap.map_or(due.as_u64(), |lap| lap.moment(due.as_u64()));
            return Some(self.origin + Duration::from_nanos(moment).saturating_sub(HEAD_START));
        }
        let late = Duration::from(present.saturating_sub(due));
        self.shown.set(if late <= LATENESS { due } else { present });
        self.limiter.check().err().map(|_| now)
    }

    /// Changes the rate. The next permit is due a new period after the last one.
    pub(super) fn set_rate(&mut self, rate: f64) {
        let last = self.due().saturating_sub(Nanos::from(self.period));
        self.period = period(rate);
        (self.limiter, self.shown) = limiter(self.period, last);
    }

    /// Changes to lap time, or back from it. The next permit is due when it was.
    pub(super) fn set_lap(&mut self, lap: Option<WindowGuard>) {
        let due = self.due().as_u64();
        let moment = self.lap.map_or(due, |lap| lap.moment(due));
        let due = Nanos::from(lap.map_or(moment, |lap| lap.of(moment)));
        self.lap = lap;
        (self.limiter, self.shown) = limiter(self.period, due.saturating_sub(Nanos::from(self.period)));
    }

    /// How far a moment is into the schedule's time.
    pub(super) fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.origin).saturating_add(HEAD_START)
    }

    /// When the next permit is due: what governor says to somebody who comes far too early.
    fn due(&self) -> Nanos {
        self.shown.set(Nanos::from(0));
        self.limiter.check().err().map_or(Nanos::from(0), |early| early.earliest_possible())
    }

    fn time(&self, at: Instant) -> Nanos {
        let moment = Nanos::from(self.since(at));
        self.lap.map_or(moment, |lap| Nanos::from(lap.of(moment.as_u64())))
    }
}

fn period(rate: f64) -> Duration {
    Duration::from_secs_f64(1.0 / rate).clamp(Duration::from_nanos(1), HEAD_START / 2)
}

/// A limiter whose last permit was taken at this time.
fn limiter(
    period: Duration,
    last: Nanos,
) -> (RateLimiter<NotKeyed, InMemoryState, Shown, NoOpMiddleware<Nanos>>, Shown) {
    let shown = Shown::default();
    let quota = Quota::with_period(period).unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN));
    let limiter = RateLimiter::direct_with_clock(quota.allow_burst(NonZeroU32::MIN), shown.clone());
    shown.set(last);
    limiter.check().ok(); // the first one always passes
    (limiter, shown)
}
