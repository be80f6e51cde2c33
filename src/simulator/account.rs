//! What the simulator counts and remembers between requests, for tests and for the summary of `pagehaul simulate`.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// How many times each page of each product was billed.
pub type Billed = BTreeMap<(String, u32), u32>;

/// The simulator's counts. Those of responses add up to the requests with a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Account {
    /// Requests that came in.
    pub requests: u64,
    /// Pages sent, hence billed: 200.
    pub pages: u64,
    /// Requests above the limit: 429.
    pub throttled: u64,
    /// Injected errors: 500.
    pub errors: u64,
    /// Requests without an accepted key: 401.
    pub unauthorized: u64,
    /// Requests with a missing or invalid parameter: 400.
    pub invalid: u64,
    /// Requests after the last credit was spent: 402.
    pub unpaid: u64,
    /// Requests for another path: 404.
    pub not_found: u64,
}

impl Account {
    pub(super) fn count_refusal(&mut self, status: u16) {
        let counter = match status {
            400 => &mut self.invalid,
            401 => &mut self.unauthorized,
            402 => &mut self.unpaid,
            404 => &mut self.not_found,
            429 => &mut self.throttled,
            _ => &mut self.errors,
        };
        *counter += 1;
    }
}

/// What changes from request to request.
#[derive(Debug, Default)]
pub(super) struct ApiState {
    pub(super) account: Account,
    /// Requests that the client has sent.
    pub(super) sent: u64,
    /// Credits that are left. None: unlimited.
    pub(super) credits: Option<u64>,
    /// Only recorded on demand: it costs memory.
    pub(super) billed: Option<Billed>,
    /// When all bodies so far will have been sent.
    pub(super) bandwidth_free_at: Option<Instant>,
}
