//! The counts of one run.

/// The counts of one run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunStats {
    /// Requests sent.
    pub requests: u64,
    /// Responses that are pages.
    pub pages: u64,
    /// Attempts that were followed by another one.
    pub retries: u64,
    /// Responses 429.
    pub throttled: u64,
    /// Pages requested ahead that are behind the end of a list or repeat others, and lost ones that may have been billed.
    pub wasted: u64,
    /// Credits spent on pages behind the ends of lists, to see whether they are ends, or whether the API serves.
    pub evidence: u64,
    /// From the first request to the last response, seconds.
    pub seconds: f64,
    /// The rate limit that 429s have shown, requests a second.
    pub found: Option<f64>,
}
