//! What a world admits, over time: each limit applies until the next one does.

use std::time::Duration;

use pagehaul::simulator::{self, LimitSpec};

use super::replies::refusal;
use crate::common::scripted::Reply;

/// How requests are counted.
#[derive(Debug)]
enum Counter {
    /// By time, as the embedded API counts them.
    Rate(simulator::Limit, LimitSpec),
    /// Those that are with the API at one time.
    AtOnce(u32),
}

/// A limit.
#[derive(Debug)]
pub(crate) struct Limit {
    from: Duration,
    counter: Counter,
    retry_after: Option<Duration>,
}

impl Limit {
    /// A limit by time that applies from the start.
    pub(crate) fn new(spec: LimitSpec) -> Self {
        Self::counting(Counter::Rate(simulator::Limit::new(spec), spec))
    }

    /// A limit of requests that are with the API at one time.
    pub(crate) fn at_once(most: u32) -> Self {
        Self::counting(Counter::AtOnce(most))
    }

    /// The same from a time on.
    pub(crate) fn applying_from(self, from: Duration) -> Self {
        Self { from, ..self }
    }

    /// The same, with a `Retry-After` in its 429s.
    pub(crate) fn asking_for(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    fn counting(counter: Counter) -> Self {
        Self { from: Duration::ZERO, counter, retry_after: None }
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

/// Requests that limits admit in a part of the run; none where one of them does not count by time.
pub(super) fn permitted(limits: &[Limit], from: Duration, until: Duration) -> Option<f64> {
    let mut permitted = 0.0;
    for (at, limit) in limits.iter().enumerate() {
        let end = limits.get(at + 1).map_or(Duration::MAX, |next| next.from).min(until);
        let seconds = end.saturating_sub(limit.from.max(from)).as_secs_f64();
        match &limit.counter {
            Counter::Rate(_, spec) => permitted += seconds * f64::from(spec.per_second.get()),
            Counter::AtOnce(_) if seconds > 0.0 => return None,
            Counter::AtOnce(_) => {}
        }
    }
    Some(permitted).filter(|permitted| *permitted > 0.0)
}
