//! How patient a run is with failures that may pass.

use std::time::Duration;

/// Waiting is in vain after so long if nothing has succeeded in this run, or only pages are left that had all their
/// attempts.
const SOON: Duration = Duration::from_secs(5 * 60);

/// How patient a run is with failures that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Wait before the second attempt at a page; doubled for each one after.
    pub first: Duration,
    /// Longest wait between two attempts.
    pub longest: Duration,
    /// Attempts at one page, while others succeed.
    pub attempts: u32,
    /// How long nothing at all may succeed before the run ends as temporarily failed.
    pub max_outage: Duration,
}

impl RetryPolicy {
    /// How long nothing at all may succeed where there is little hope.
    pub fn soon(&self) -> Duration {
        self.max_outage.min(SOON)
    }
}
