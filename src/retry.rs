//! When to ask again: intervals from the `backoff` crate, jitter from a seed, and no sleeping.
//!
//! The only user of `backoff` (unmaintained; see deny.toml): it makes the intervals, everything that must be decided or
//! repeated exactly is ours. Whether to ask again at all is the verdict's business.

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::exponential::ExponentialBackoff;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;
use tokio::time::Instant;

use crate::clock::{self, TokioClock};

/// How patient a run is with failures that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Wait before the second attempt at a page; doubled for each one after.
    pub first: Duration,
    /// Longest wait between two attempts.
    pub longest: Duration,
    /// Attempts at one page, while others succeed.
    pub attempts: u32,
    /// How long nothing at all may succeed before the run ends as temporarily failed.
    pub patience: Duration,
}

/// Hands out waits.
#[derive(Debug)]
pub struct Retry {
    policy: Policy,
    random: SplitMix64,
}

/// The failures of one page so far.
#[derive(Debug)]
pub struct Tries {
    intervals: ExponentialBackoff<TokioClock>,
    /// Failed attempts.
    pub failed: u32,
    /// When the first one failed.
    pub since: Instant,
}

impl Retry {
    /// A policy, with the seed of its jitter.
    pub fn new(policy: Policy, seed: u64) -> Self {
        Self { policy, random: SplitMix64::seed_from_u64(seed) }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The state of a page that failed for the first time.
    pub fn begin(&self) -> Tries {
        let intervals = ExponentialBackoff {
            current_interval: self.policy.first,
            initial_interval: self.policy.first,
            multiplier: 2.0,
            max_interval: self.policy.longest,
            randomization_factor: 0.0, // its own random numbers cannot be seeded
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Tries { intervals, failed: 0, since: clock::now() }
    }

    /// Counts a failure and gives the wait before the next attempt: the interval, a quarter shorter to a quarter longer.
    pub fn wait(&mut self, tries: &mut Tries) -> Duration {
        tries.failed = tries.failed.saturating_add(1);
        let interval = tries.intervals.next_backoff().unwrap_or(self.policy.longest).min(self.policy.longest);
        let share = f64::from(u32::try_from(self.random.next_u64() >> 32).unwrap_or_default()) / f64::from(u32::MAX);
        interval.mul_f64(0.75 + share / 2.0)
    }

    /// Whether a page has had all its attempts, and it is the page: something else succeeded since it first failed.
    pub fn is_exhausted(&self, tries: &Tries, last_success: Option<Instant>) -> bool {
        tries.failed >= self.policy.attempts && last_success.is_some_and(|success| success > tries.since)
    }
}

#[cfg(test)]
mod tests {
    use super::{Policy, Retry};
    use crate::clock;
    use std::time::Duration;

    const POLICY: Policy = Policy {
        first: Duration::from_millis(500),
        longest: Duration::from_secs(30),
        attempts: 3,
        patience: Duration::from_secs(300),
    };

    #[test]
    fn waits_double_up_to_the_longest_and_jitter_stays_within_a_quarter() {
        let mut retry = Retry::new(POLICY, 7);
        let mut tries = retry.begin();
        for expected in [500.0, 1_000.0, 2_000.0, 4_000.0, 8_000.0, 16_000.0, 30_000.0, 30_000.0] {
            let wait = retry.wait(&mut tries).as_secs_f64() * 1_000.0;
            assert!((0.75 * expected - 1.0..=1.25 * expected + 1.0).contains(&wait), "{wait} for {expected}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let waits = |seed| {
            let mut retry = Retry::new(POLICY, seed);
            let mut tries = retry.begin();
            [(); 5].map(|()| retry.wait(&mut tries))
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_is_given_up_only_while_others_succeed() {
        let mut retry = Retry::new(POLICY, 1);
        let before = clock::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        let mut tries = retry.begin();
        for _ in 0..9 {
            retry.wait(&mut tries);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!retry.is_exhausted(&tries, None) && !retry.is_exhausted(&tries, Some(before)));
        assert!(retry.is_exhausted(&tries, Some(clock::now())));
    }
}
