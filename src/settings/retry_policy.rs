//! Attempts, delays and outages: how long a run copes with temporary failures.

use std::time::Duration;

/// Maximum outage if nothing has succeeded in this run, or if all remaining pages have used up their attempts.
const SOON: Duration = Duration::from_secs(5 * 60);

/// How long a run copes with temporary failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Delay before the second attempt at a page; doubled for each further one.
    pub first: Duration,
    /// Maximum delay between two attempts.
    pub longest: Duration,
    /// Maximum attempts at a page while others succeed.
    pub attempts: u32,
    /// Maximum time without any success before the run ends with exit code 5.
    pub max_outage: Duration,
}

impl RetryPolicy {
    /// The same if there is little hope: five minutes at most.
    pub fn soon(&self) -> Duration {
        self.max_outage.min(SOON)
    }
}
