//! The limit in queries per second, as the simulated API enforces it.
//!
//! Three ways of counting, because the documented one is not: a client must live with all of them. All arithmetic is on whole
//! nanoseconds of `clock`, so that paused-time tests see exact numbers. A request that may not pass costs nothing.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::settings::{LimitSpec, Window};
use crate::model::clock;

/// One token, in the unit in which the bucket is refilled: a billionth.
const TOKEN: u64 = 1_000_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// Counts requests against a limit.
#[derive(Debug)]
pub struct Limit(Mutex<State>);

#[derive(Debug)]
struct State {
    qps: LimitSpec,
    counter: Counter,
}

#[derive(Debug)]
enum Counter {
    /// Before the first request.
    Fresh,
    /// When it was filled last, and what it holds, in billionths of a token.
    Bucket(Instant, u64),
    /// When the window began, and the requests that passed in it.
    Fixed(Instant, u32),
    /// When each request of the last second passed.
    Sliding(VecDeque<Instant>),
}

impl Limit {
    /// A limit that nobody has used.
    pub fn new(qps: LimitSpec) -> Self {
        Self(Mutex::new(State { qps, counter: Counter::Fresh }))
    }

    /// Allows so many requests a second from now on.
    pub fn set(&self, per_second: NonZeroU32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).qps.per_second = per_second;
    }

    /// Whether one more request may pass now.
    pub fn admits(&self) -> bool {
        let now = clock::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { qps, counter } = &mut *state;
        if let Counter::Fresh = counter {
            *counter = qps.fresh(now);
        }
        let allowed = qps.per_second.get();
        match counter {
            Counter::Fresh => true,
            Counter::Bucket(filled, held) => {
                let passed = u64::try_from(now.saturating_duration_since(*filled).as_nanos()).unwrap_or(u64::MAX);
                let refill = passed.saturating_mul(u64::from(allowed));
                (*filled, *held) = (now, held.saturating_add(refill).min(qps.full()));
                let left = held.checked_sub(TOKEN);
                *held = left.unwrap_or(*held);
                left.is_some()
            }
            Counter::Fixed(began, count) => {
                let passed = now.saturating_duration_since(*began);
                if passed >= SECOND {
                    (*began, *count) = (*began + Duration::from_secs(passed.as_secs()), 0);
                }
                let admitted = *count < allowed;
                *count += u32::from(admitted);
                admitted
            }
            Counter::Sliding(passed) => {
                while passed.front().is_some_and(|first| now.saturating_duration_since(*first) >= SECOND) {
                    passed.pop_front();
                }
                let admitted = u32::try_from(passed.len()).is_ok_and(|count| count < allowed);
                if admitted {
                    passed.push_back(now);
                }
                admitted
            }
        }
    }
}

impl LimitSpec {
    fn fresh(&self, now: Instant) -> Counter {
        match self.window {
            Window::Bucket => Counter::Bucket(now, self.full()),
            // The first window began before the first request, if that came in its midst.
            Window::Fixed => Counter::Fixed(now.checked_sub(self.phase).unwrap_or(now), 0),
            Window::Sliding => Counter::Sliding(VecDeque::new()),
        }
    }

    /// What the bucket holds at most.
    fn full(&self) -> u64 {
        u64::from(self.burst.unwrap_or(self.per_second).get()).saturating_mul(TOKEN)
    }
}

#[cfg(test)]
mod tests {
    use super::Limit;
    use crate::simulator::settings::{LimitSpec, Window};
    use std::num::NonZeroU32;
    use std::time::Duration;

    fn qps(window: Window) -> LimitSpec {
        LimitSpec { per_second: NonZeroU32::new(10).unwrap(), window, burst: None, phase: Duration::ZERO }
    }

    fn limit(window: Window) -> Limit {
        Limit::new(qps(window))
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

    #[tokio::test(start_paused = true)]
    async fn a_window_may_have_begun_before_the_first_request() {
        let limit = Limit::new(LimitSpec { phase: Duration::from_millis(300), ..qps(Window::Fixed) });
        assert_eq!(admitted(&limit, 30), 10);
        tokio::time::advance(Duration::from_millis(699)).await;
        assert_eq!(admitted(&limit, 30), 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(admitted(&limit, 30), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sliding_window_forgets_each_request_a_second_after_it() {
        let limit = limit(Window::Sliding);
        assert_eq!(admitted(&limit, 4), 4);
        tokio::time::advance(Duration::from_millis(600)).await;
        assert_eq!(admitted(&limit, 30), 6);
        tokio::time::advance(Duration::from_millis(399)).await;
        assert_eq!(admitted(&limit, 30), 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(admitted(&limit, 30), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_of_one_token_lets_nothing_pass_before_its_time_and_a_limit_may_change() {
        let one = Limit::new(LimitSpec { burst: NonZeroU32::new(1), ..qps(Window::Bucket) });
        assert_eq!(admitted(&one, 5), 1);
        tokio::time::advance(Duration::from_millis(99)).await;
        assert_eq!(admitted(&one, 5), 0);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(admitted(&one, 5), 1);
        one.set(NonZeroU32::new(20).unwrap());
        tokio::time::advance(Duration::from_millis(50)).await;
        assert_eq!(admitted(&one, 5), 1);
    }
}
