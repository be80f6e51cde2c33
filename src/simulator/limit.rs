//! The limit in queries per second, as the simulated API enforces it.
//!
//! Two ways of counting, because the documented one is not: a client must live with both. All arithmetic is on whole
//! nanoseconds of `clock`, so that paused-time tests see exact numbers.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use super::settings::{Qps, Window};
use crate::clock;

/// One token, in the unit in which the bucket is refilled: a billionth.
const TOKEN: u64 = 1_000_000_000;

/// Counts requests against a limit.
#[derive(Debug)]
pub(super) struct Limit {
    qps: Qps,
    state: Mutex<Option<State>>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Since when: the last request, or the begin of the window.
    since: Instant,
    /// What is left: billionths of a token, or requests.
    left: u64,
}

impl Limit {
    pub(super) fn new(qps: Qps) -> Self {
        Self { qps, state: Mutex::new(None) }
    }

    /// Whether one more request may pass now. One that may not costs nothing.
    pub(super) fn admits(&self) -> bool {
        let now = clock::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = *state;
        let (mut next, cost) = match self.qps.window {
            Window::Bucket => (self.refilled(known, now), TOKEN),
            Window::Fixed => (self.in_window(known, now), 1),
        };
        let admitted = next.left.checked_sub(cost);
        next.left = admitted.unwrap_or(next.left);
        *state = Some(next);
        admitted.is_some()
    }

    fn refilled(&self, known: Option<State>, now: Instant) -> State {
        let rate = u64::from(self.qps.per_second.get());
        let full = rate.saturating_mul(TOKEN);
        let left = known.map_or(full, |state| {
            let passed = u64::try_from(now.saturating_duration_since(state.since).as_nanos()).unwrap_or(u64::MAX);
            state.left.saturating_add(passed.saturating_mul(rate)).min(full)
        });
        State { since: now, left }
    }

    fn in_window(&self, known: Option<State>, now: Instant) -> State {
        let full = u64::from(self.qps.per_second.get());
        let Some(state) = known else {
            return State { since: now, left: full };
        };
        let passed = now.saturating_duration_since(state.since);
        if passed.as_secs() == 0 {
            return state;
        }
        let into_this_one = std::time::Duration::from_nanos(u64::from(passed.subsec_nanos()));
        State { since: now.checked_sub(into_this_one).unwrap_or(now), left: full }
    }
}

#[cfg(test)]
mod tests {
    use super::Limit;
    use crate::simulator::settings::{Qps, Window};
    use std::num::NonZeroU32;
    use std::time::Duration;

    fn limit(window: Window) -> Limit {
        Limit::new(Qps { per_second: NonZeroU32::new(10).unwrap(), window })
    }

    fn admitted(limit: &Limit, requests: usize) -> usize {
        (0..requests).filter(|_| limit.admits()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_lets_a_burst_pass_and_refills_without_steps() {
        let limit = limit(Window::Bucket);
        assert_eq!(admitted(&limit, 30), 10);
        tokio::time::advance(Duration::from_millis(99)).await;
        assert_eq!(admitted(&limit, 5), 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(admitted(&limit, 5), 1);
        tokio::time::advance(Duration::from_millis(350)).await;
        assert_eq!(admitted(&limit, 30), 3);
        tokio::time::advance(Duration::from_secs(1001)).await;
        assert_eq!(admitted(&limit, 30), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_counts_each_second_for_itself() {
        let limit = limit(Window::Fixed);
        assert_eq!(admitted(&limit, 7), 7);
        tokio::time::advance(Duration::from_millis(900)).await;
        assert_eq!(admitted(&limit, 30), 3);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(admitted(&limit, 30), 10);
        // The windows keep their begins, however late the next request comes.
        tokio::time::advance(Duration::from_millis(2900)).await;
        assert_eq!(admitted(&limit, 30), 10);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(admitted(&limit, 30), 10);
    }
}
