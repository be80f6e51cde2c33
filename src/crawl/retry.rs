//! When to ask again, and how often over all: intervals from the `backoff` crate, jitter from a seed, and no sleeping.
//!
//! One budget for all pages bounds what retries may add to the requests, however many pages fail: each page that comes
//! earns a fifth of a retry. Without one a failed page waits, and new pages go first.
//!
//! The only user of `backoff` (unmaintained; see deny.toml): it makes the intervals, everything that must be decided or
//! repeated exactly is ours. Whether to ask again at all is the verdict's business.

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::exponential::ExponentialBackoff;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;
use tokio::time::Instant;

use crate::model::clock::{self, TokioClock};
use crate::settings::RetryPolicy;

/// Pages that earn one retry.
const PAGES_A_RETRY: u32 = 5;
/// Most retries that may be saved up.
const MOST_RETRIES: u32 = 100;

/// Hands out waits and retries.
#[derive(Debug)]
pub(crate) struct Retry {
    policy: RetryPolicy,
    random: SplitMix64,
    /// What is left of the budget, counted in the pages that earn it.
    budget: u32,
}

/// The failures of one page so far.
#[derive(Debug)]
pub struct RetryState {
    intervals: ExponentialBackoff<TokioClock>,
    /// Failed attempts.
    pub failed: u32,
    /// When the first one failed.
    pub since: Instant,
}

impl Retry {
    /// A policy, with the seed of its jitter and the retries to begin with: 100 at most, which is also the most that may
    /// be saved up.
    pub(crate) fn new(policy: RetryPolicy, seed: u64, reserve: usize) -> Self {
        let reserve = u32::try_from(reserve).unwrap_or(u32::MAX).min(MOST_RETRIES);
        Self { policy, random: SplitMix64::seed_from_u64(seed), budget: reserve * PAGES_A_RETRY }
    }

    /// A page came: a share of a retry is earned.
    pub(crate) fn earn(&mut self) {
        self.budget = self.budget.saturating_add(1).min(MOST_RETRIES * PAGES_A_RETRY);
    }

    /// Whether the budget has a retry.
    pub(crate) fn has_one(&self) -> bool {
        self.budget >= PAGES_A_RETRY
    }

    /// Takes a retry, if there is one.
    pub(crate) fn spend(&mut self) {
        self.budget = self.budget.checked_sub(PAGES_A_RETRY).unwrap_or(self.budget);
    }

    /// The policy.
    pub(crate) fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    /// The state of a page that failed for the first time.
    pub(crate) fn begin(&self) -> RetryState {
        let intervals = ExponentialBackoff {
            current_interval: self.policy.first,
            initial_interval: self.policy.first,
            multiplier: 2.0,
            max_interval: self.policy.longest,
            randomization_factor: 0.0, // its own random numbers cannot be seeded
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        RetryState { intervals, failed: 0, since: clock::now() }
    }

    /// The wait before the next attempt: the interval, a quarter shorter to a quarter longer.
    pub(crate) fn wait(&mut self, tries: &mut RetryState) -> Duration {
        let interval = tries.intervals.next_backoff().unwrap_or(self.policy.longest).min(self.policy.longest);
        let share = f64::from(u32::try_from(self.random.next_u64() >> 32).unwrap_or_default()) / f64::from(u32::MAX);
        interval.mul_f64(0.75 + share / 2.0)
    }

    /// The wait before the one more attempt at what may have been billed: long enough for others to show whether it was
    /// this page or the API.
    pub(crate) fn later(&self) -> Duration {
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
        let mut tries = retry.begin();
        for expected in [500.0, 1_000.0, 2_000.0, 4_000.0, 8_000.0, 16_000.0, 30_000.0, 30_000.0] {
            let wait = retry.wait(&mut tries).as_secs_f64() * 1_000.0;
            assert!((0.75 * expected - 1.0..=1.25 * expected + 1.0).contains(&wait), "{wait} for {expected}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let waits = |seed| {
            let mut retry = Retry::new(POLICY, seed, 0);
            let mut tries = retry.begin();
            [(); 5].map(|()| retry.wait(&mut tries))
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }

    #[test]
    fn every_fifth_page_earns_a_retry_and_no_more_than_a_hundred_are_saved_up() {
        let mut retry = Retry::new(POLICY, 1, 2);
        let spent = |retry: &mut Retry| std::iter::from_fn(|| retry.has_one().then(|| retry.spend())).count();
        assert_eq!(spent(&mut retry), 2);
        (0..14).for_each(|_| retry.earn());
        assert_eq!(spent(&mut retry), 2, "four pages' worth stay");
        retry.earn();
        assert_eq!(spent(&mut retry), 1);
        (0..9_999).for_each(|_| retry.earn());
        assert_eq!(spent(&mut retry), 100);
        assert_eq!(spent(&mut Retry::new(POLICY, 1, usize::MAX)), 100);
    }

    #[test]
    fn where_there_is_little_hope_patience_ends_after_five_minutes() {
        assert_eq!(RetryPolicy { max_outage: Duration::from_secs(7_200), ..POLICY }.soon(), Duration::from_secs(300));
        assert_eq!(RetryPolicy { max_outage: Duration::from_secs(2), ..POLICY }.soon(), Duration::from_secs(2));
    }
}
