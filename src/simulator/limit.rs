//! The simulated API's rate limit.
//!
//! The real API does not document how it counts, so a client must cope with all three ways. Arithmetic is in whole nanoseconds
//! of `clock`, so that tests in paused time see exact numbers. A refused request does not count.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::settings::{LimitSpec, Window};
use crate::model::clock;

/// The bucket counts billionths of a token.
const TOKEN: u64 = 1_000_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// Counts requests against a rate limit.
#[derive(Debug)]
pub struct Limit {
    /// Without a counter before the first request.
    state: Mutex<(LimitSpec, Option<Counter>)>,
}

#[derive(Debug)]
enum Counter {
    /// The time of the last refill, and the billionths of a token.
    Bucket(Instant, u64),
    /// The start of the window, and its admitted requests.
    Fixed(Instant, u32),
    /// The admitted requests of the last second.
    Sliding(VecDeque<Instant>),
}

impl Limit {
    /// A limit that has counted nothing yet.
    pub fn new(spec: LimitSpec) -> Self {
        Self { state: Mutex::new((spec, None)) }
    }

    /// Changes the limit, requests a second.
    pub fn set(&self, per_second: NonZeroU32) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.per_second = per_second;
    }

    /// Counts a request, and says whether it is below the limit.
    pub fn admits(&self) -> bool {
        let now = clock::now();
        let (spec, counter) = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = spec.per_second.get();
        match counter.get_or_insert_with(|| spec.counter(now)) {
            Counter::Bucket(filled_at, tokens) => {
                let elapsed = u64::try_from(now.saturating_duration_since(*filled_at).as_nanos()).unwrap_or(u64::MAX);
                let refill = elapsed.saturating_mul(u64::from(allowed));
                (*filled_at, *tokens) = (now, tokens.saturating_add(refill).min(spec.capacity()));
                let left = tokens.checked_sub(TOKEN);
                *tokens = left.unwrap_or(*tokens);
                left.is_some()
            }
            Counter::Fixed(started_at, count) => {
                let elapsed = now.saturating_duration_since(*started_at);
                if elapsed >= SECOND {
                    (*started_at, *count) = (*started_at + Duration::from_secs(elapsed.as_secs()), 0);
                }
                let is_admitted = *count < allowed;
                *count += u32::from(is_admitted);
                is_admitted
            }
            Counter::Sliding(admitted) => {
                while admitted.front().is_some_and(|first| now.saturating_duration_since(*first) >= SECOND) {
                    admitted.pop_front();
                }
                let is_admitted = u32::try_from(admitted.len()).is_ok_and(|count| count < allowed);
                admitted.extend(is_admitted.then_some(now));
                is_admitted
            }
        }
    }
}

impl LimitSpec {
    fn counter(&self, now: Instant) -> Counter {
        match self.window {
            Window::Bucket => Counter::Bucket(now, self.capacity()),
            Window::Fixed => Counter::Fixed(now.checked_sub(self.phase).unwrap_or(now), 0),
            Window::Sliding => Counter::Sliding(VecDeque::new()),
        }
    }

    /// Billionths of a token in a full bucket.
    fn capacity(&self) -> u64 {
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
    async fn a_bucket_admits_a_burst_and_refills_continuously() {
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
    async fn a_window_counts_each_second_separately() {
        let limit = limit(Window::Fixed);
        assert_eq!(admitted(&limit, 7), 7);
        tokio::time::advance(Duration::from_millis(900)).await;
        assert_eq!(admitted(&limit, 30), 3);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(admitted(&limit, 30), 10);
        // Windows start at whole seconds, however late the next request comes.
        tokio::time::advance(Duration::from_millis(2900)).await;
        assert_eq!(admitted(&limit, 30), 10);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(admitted(&limit, 30), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_may_start_before_the_first_request() {
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
    async fn a_bucket_of_one_token_admits_one_request_at_a_time_and_a_limit_may_change() {
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
