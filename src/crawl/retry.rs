//! When a page is requested again, and how many retries there are over all: intervals from the `backoff` crate, jitter from a seed.
//!
//! One budget for all pages bounds the retries, however many pages fail: each page that comes earns a fifth of a retry. Without
//! budget a failed page waits, and new pages go first.
//!
//! The only user of `backoff` (unmaintained; see deny.toml), which only makes the intervals: everything that must be decided
//! or repeated exactly is here. Whether to request again at all is decided in `judgement`.

use std::time::Duration;

use crate::model::clock::TokioClock;
use crate::settings::RetryPolicy;
use backoff::backoff::Backoff;
use backoff::exponential::ExponentialBackoff;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

/// Pages that earn one retry.
const PAGES_PER_RETRY: u32 = 5;
/// Maximum number of saved retries.
const MAX_SAVED: u32 = 100;

/// The retry budget, and the waits.
#[derive(Debug)]
pub(crate) struct Retry {
    policy: RetryPolicy,
    random: SplitMix64,
    /// What is left of the budget, in the pages that earn it.
    budget: u32,
}

/// The failures of one page so far.
#[derive(Debug)]
pub(crate) struct RetryState {
    intervals: ExponentialBackoff<TokioClock>,
    /// Failed attempts.
    pub(crate) failed: u32,
}

impl Retry {
    /// `seed` is the jitter's; `saved` the number of retries to start with, [`MAX_SAVED`] at most.
    pub(crate) fn new(policy: RetryPolicy, seed: u64, saved: usize) -> Self {
        let saved = u32::try_from(saved).unwrap_or(u32::MAX).min(MAX_SAVED);
        Self { policy, random: SplitMix64::seed_from_u64(seed), budget: saved * PAGES_PER_RETRY }
    }

    pub(crate) fn record_page(&mut self) {
        self.budget = self.budget.saturating_add(1).min(MAX_SAVED * PAGES_PER_RETRY);
    }

    /// Whether the budget has a retry.
    pub(crate) fn has_one(&self) -> bool {
        self.budget >= PAGES_PER_RETRY
    }

    pub(crate) fn spend(&mut self) {
        self.budget = self.budget.checked_sub(PAGES_PER_RETRY).unwrap_or(self.budget);
    }

    pub(crate) fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    /// The state of a page that fails for the first time.
    pub(crate) fn new_state(&self) -> RetryState {
        let intervals = ExponentialBackoff {
            current_interval: self.policy.first,
            initial_interval: self.policy.first,
            multiplier: 2.0,
            max_interval: self.policy.longest,
            randomization_factor: 0.0, // its own random numbers cannot be seeded
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        RetryState { intervals, failed: 0 }
    }

    /// The wait before the next attempt: the interval, a quarter shorter to a quarter longer.
    pub(crate) fn wait(&mut self, state: &mut RetryState) -> Duration {
        let interval = state.intervals.next_backoff().unwrap_or(self.policy.longest).min(self.policy.longest);
        let share = f64::from(u32::try_from(self.random.next_u64() >> 32).unwrap_or_default()) / f64::from(u32::MAX);
        interval.mul_f64(0.75 + share / 2.0)
    }

    /// The wait before the only retry of what may have been billed: long enough for others to show whether it was this page or
    /// the API.
    pub(crate) fn long_wait(&self) -> Duration {
        self.policy.first.saturating_mul(8).min(self.policy.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::{Retry, RetryPolicy};
    use std::time::Duration;

    const POLICY: RetryPolicy = RetryPolicy {
        first: Duration::from_millis(500),
        longest: Duration::from_secs(30),
        attempts: 3,
        max_outage: Duration::from_secs(300),
    };

    #[test]
    fn waits_double_up_to_the_longest_and_jitter_stays_within_a_quarter() {
        let mut retry = Retry::new(POLICY, 7, 0);
        let mut state = retry.new_state();
        for expected in [500.0, 1_000.0, 2_000.0, 4_000.0, 8_000.0, 16_000.0, 30_000.0, 30_000.0] {
            let wait = retry.wait(&mut state).as_secs_f64() * 1_000.0;
            assert!((0.75 * expected - 1.0..=1.25 * expected + 1.0).contains(&wait), "{wait} for {expected}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let waits = |seed| {
            let mut retry = Retry::new(POLICY, seed, 0);
            let mut state = retry.new_state();
            [(); 5].map(|()| retry.wait(&mut state))
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }

    #[test]
    fn five_pages_earn_a_retry_and_no_more_than_a_hundred_are_saved() {
        let mut retry = Retry::new(POLICY, 1, 2);
        let spent = |retry: &mut Retry| std::iter::from_fn(|| retry.has_one().then(|| retry.spend())).count();
        assert_eq!(spent(&mut retry), 2);
        (0..14).for_each(|_| retry.record_page());
        assert_eq!(spent(&mut retry), 2, "four pages' worth stay");
        retry.record_page();
        assert_eq!(spent(&mut retry), 1);
        (0..9_999).for_each(|_| retry.record_page());
        assert_eq!(spent(&mut retry), 100);
        assert_eq!(spent(&mut Retry::new(POLICY, 1, usize::MAX)), 100);
    }

    #[test]
    fn an_early_end_of_an_outage_comes_after_five_minutes() {
        assert_eq!(RetryPolicy { max_outage: Duration::from_secs(7_200), ..POLICY }.soon(), Duration::from_secs(300));
        assert_eq!(RetryPolicy { max_outage: Duration::from_secs(2), ..POLICY }.soon(), Duration::from_secs(2));
    }
}
