//! What a world admits, over time: each limit applies until the next one does.

use std::time::Duration;

use pagehaul::simulator::{self, LimitSpec};

use super::replies::refusal;
use crate::common::scripted::Reply;

/// How requests are counted.
#[derive(Debug)]
pub(crate) enum Counter {
    /// By time, as the embedded API counts them.
    Rate(simulator::Limit, LimitSpec),
    /// Those that are with the API at one time.
    AtOnce(u32),
}

/// A limit.
#[derive(Debug)]
pub(crate) struct Limit {
    /// When it starts to apply.
    pub(crate) from: Duration,
    pub(crate) counter: Counter,
    /// What a 429 asks for.
    pub(crate) retry_after: Option<Duration>,
}

impl Limit {
    /// A limit by time that applies from the start.
    pub(crate) fn new(spec: LimitSpec) -> Self {
        Self { from: Duration::ZERO, counter: Counter::Rate(simulator::Limit::new(spec), spec), retry_after: None }
    }

    /// Requests that it admits in a second; none where it does not count them by time.
    pub(crate) fn per_second(&self) -> Option<u32> {
        match &self.counter {
            Counter::Rate(_, spec) => Some(spec.per_second.get()),
            Counter::AtOnce(_) => None,
        }
    }

    pub(super) fn restart(&mut self) {
        if let Counter::Rate(counter, spec) = &mut self.counter {
            *counter = simulator::Limit::new(*spec);
        }
    }
}

/// The 429 for a request that arrives, unless the limit of that time admits and counts it.
pub(super) fn refusal_at(limits: &[Limit], now: Duration, in_flight: u32) -> Option<Reply> {
    let limit = limits.iter().rfind(|limit| limit.from <= now)?;
    let admits = match &limit.counter {
        Counter::Rate(counter, _) => counter.admits(),
        Counter::AtOnce(most) => in_flight < *most,
    };
    let reply = || refusal(429, "qps limit exceeded");
    (!admits).then(|| limit.retry_after.map_or_else(reply, |pause| reply().with_retry_after(pause)))
}
