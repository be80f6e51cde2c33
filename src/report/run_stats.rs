//! What one run counted.

/// What happened in this run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunStats {
    /// Requests sent.
    pub requests: u64,
    /// Pages among the answers.
    pub pages: u64,
    /// Attempts that were followed by another one.
    pub retries: u64,
    /// Answers 429.
    pub throttled: u64,
    /// Pages asked for ahead that brought no row.
    pub wasted: u64,
    /// Credits spent on pages behind the ends of lists, to see whether they are ends, or whether the API serves.
    pub evidence: u64,
    /// From the first request to the last answer, seconds.
    pub seconds: f64,
    /// The limit that refusals have shown, requests a second.
    pub found: Option<f64>,
}
