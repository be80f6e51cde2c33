//! Counts what the simulator was asked and how it responded, for tests and for the summary of `pagehaul simulate`.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::request::Refusal;

/// How many times each page of each product was billed.
pub type Billed = BTreeMap<(String, u32), u32>;

/// The simulator's counts. Those of responses add up to the requests that were answered.
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

/// The live counters of an [`Account`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    sent: AtomicU64,
    requests: AtomicU64,
    pages: AtomicU64,
    throttled: AtomicU64,
    errors: AtomicU64,
    unauthorized: AtomicU64,
    invalid: AtomicU64,
    unpaid: AtomicU64,
    not_found: AtomicU64,
    /// Only recorded on demand: it costs memory and a lock.
    billed: Option<Mutex<HashMap<(String, u32), u32>>>,
}

impl Counters {
    pub(super) fn new(record: bool) -> Self {
        Self { billed: record.then(Mutex::default), ..Self::default() }
    }

    /// The number, from 0, of a request that the client has sent.
    pub(super) fn count_sent(&self) -> u64 {
        self.sent.fetch_add(1, Ordering::Relaxed)
    }

    /// The number, from 0, of a request that has come in.
    pub(super) fn count_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn count_page(&self, item: &str, page: u32) {
        self.pages.fetch_add(1, Ordering::Relaxed);
        if let Some(billed) = &self.billed {
            let mut billed = billed.lock().unwrap_or_else(PoisonError::into_inner);
            *billed.entry((item.to_owned(), page)).or_default() += 1;
        }
    }

    pub(super) fn count_refusal(&self, refusal: &Refusal) {
        let counter = match refusal {
            Refusal::NotFound => &self.not_found,
            Refusal::Unauthorized => &self.unauthorized,
            Refusal::Throttled => &self.throttled,
            Refusal::Missing(_) | Refusal::Invalid(_) => &self.invalid,
            Refusal::Injected => &self.errors,
            Refusal::Unpaid => &self.unpaid,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn account(&self) -> Account {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Account {
            requests: read(&self.requests),
            pages: read(&self.pages),
            throttled: read(&self.throttled),
            errors: read(&self.errors),
            unauthorized: read(&self.unauthorized),
            invalid: read(&self.invalid),
            unpaid: read(&self.unpaid),
            not_found: read(&self.not_found),
        }
    }

    pub(super) fn billed(&self) -> Billed {
        let billed = self.billed.iter().map(|billed| billed.lock().unwrap_or_else(PoisonError::into_inner));
        billed
            .flat_map(|billed| billed.iter().map(|(page, times)| (page.clone(), *times)).collect::<Vec<_>>())
            .collect()
    }
}
