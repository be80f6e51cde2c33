//! Whether a run does what it is for: requests flow, or it waits for something that it names.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::clock;
use crate::model::event::{Event, EventSink};
use crate::model::page::SegmentId;
use crate::model::sanitize::{Sanitized, sanitize};
use crate::settings::Settings;

/// How long a run may be without a response beyond what its timeouts and its rate limit explain.
const SLACK: Duration = Duration::from_secs(10);
/// Requests whose time at the rate limit may pass without a response.
const REQUESTS: f64 = 2.0;

#[derive(Debug)]
pub(crate) struct Readiness {
    /// The longest time of a request.
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Whether this process works on the export: its lock is taken, and its ledger is there.
    is_open: bool,
    /// The last error of an outage.
    outage: Option<String>,
    publishing: Option<SegmentId>,
    throttled_until: Instant,
    retry_at: Instant,
    /// When the last response came, or the phase began.
    last_response: Instant,
    /// Requests per second; none if unlimited.
    rate: Option<f64>,
}

#[derive(Debug)]
enum Phase {
    /// Before the first request, and what is done.
    Starting(String),
    Requesting,
    /// No more requests are sent, and why.
    Stopping(String),
}

impl Readiness {
    /// For a run whose rate limit starts at `rate` requests per second.
    pub(crate) fn new(settings: &Settings, rate: Option<f64>) -> Self {
        let now = clock::now();
        let state = State {
            phase: Phase::Starting("opening the export".to_owned()),
            is_open: false,
            outage: None,
            publishing: None,
            throttled_until: now,
            retry_at: now,
            last_response: now,
            rate,
        };
        Self { timeout: settings.connect_timeout + settings.request_timeout, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state().is_open
    }

    /// What the run does; the error is a reason why it is not ready.
    pub(crate) fn check(&self) -> Result<String, String> {
        let (state, now) = (self.state(), clock::now());
        match &state.phase {
            Phase::Starting(what) => return Err(what.clone()),
            Phase::Stopping(cause) => return Err(format!("stopping: {cause}")),
            Phase::Requesting => {}
        }
        if let Some(segment) = state.publishing {
            return Ok(format!("segment {segment} is being published"));
        }
        if let Some(cause) = &state.outage {
            return Ok(format!("all requests fail, one at a time is sent until one succeeds: {cause}"));
        }
        let seconds_to = |then: Instant| then.saturating_duration_since(now).as_secs();
        if state.throttled_until > now {
            return Ok(format!("all requests wait {} s more after a 429", seconds_to(state.throttled_until)));
        }
        let quiet = now.saturating_duration_since(state.last_response);
        let paced = state.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(REQUESTS / rate.max(0.001)));
        if quiet <= self.timeout + paced + SLACK {
            return Ok("requests flow".to_owned());
        }
        if state.retry_at > now {
            return Ok(format!("the next retry is due in {} s", seconds_to(state.retry_at)));
        }
        Err(format!("no response for {} s", quiet.as_secs()))
    }
}

impl EventSink for Readiness {
    fn event(&self, event: &Event<'_>) {
        let (state, now) = (&mut *self.state(), clock::now());
        match event {
            Event::Registered { .. } => {
                state.is_open = true;
                state.phase = Phase::Starting("finishing what earlier runs left".to_owned());
            }
            Event::Rebuilding { segment, nth, of, .. } => {
                state.phase = Phase::Starting(format!("rebuilding segment {segment}, {nth} of {of}"));
            }
            Event::Opened(_) => {
                (state.phase, state.outage) = (Phase::Requesting, None);
                state.last_response = now;
            }
            Event::Attempted { .. } => state.last_response = now,
            Event::Retrying { after, .. } => state.retry_at = state.retry_at.max(now + *after),
            Event::Throttled { wait, rate } => {
                state.throttled_until = state.throttled_until.max(now + *wait);
                state.rate = Some(*rate);
            }
            Event::Rate(rate) => state.rate = Some(*rate),
            Event::Outage { cause } => state.outage = Some(sanitize(cause)),
            Event::Recovered => state.outage = None,
            Event::Publishing(segment) => state.publishing = Some(*segment),
            Event::Published { .. } => {
                state.publishing = None;
                state.last_response = now; // nothing was requested meanwhile
            }
            Event::Stopping { cause, .. } => state.phase = Phase::Stopping(Sanitized(cause).to_string()),
            Event::Continued { .. }
            | Event::Repair { .. }
            | Event::Recounted(_)
            | Event::Ticked { .. }
            | Event::Read { .. }
            | Event::Ended { .. }
            | Event::Reopened(_)
            | Event::Overhead { .. }
            | Event::Warning(_)
            | Event::Reread(_)
            | Event::Snapshots(_)
            | Event::Probed(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness;
    use crate::model::attempt::AttemptResult;
    use crate::model::event::{Event, EventSink, ProgressSnapshot};
    use crate::model::page::{Charge, SegmentId};
    use crate::serve::fixture::settings;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn attempted(readiness: &Readiness) {
        let (charge, result) = (Charge::Billed, AttemptResult::Page);
        readiness.event(&Event::Attempted { charge, result, latency: SECOND });
    }

    fn opened(rate: Option<f64>) -> Readiness {
        let readiness = Readiness::new(&settings(&[("request_timeout", "30s"), ("connect_timeout", "5s")]), rate);
        readiness.event(&Event::Opened(ProgressSnapshot::default()));
        readiness
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_is_ready_from_its_first_request_until_it_stops() {
        let readiness = Readiness::new(&settings(&[]), None);
        assert_eq!(readiness.check(), Err("opening the export".to_owned()));
        assert!(!readiness.is_open());
        readiness.event(&Event::Registered { listed: 9, new: 9, repeated: 0, reopened: 0, others: 0 });
        assert_eq!(readiness.check(), Err("finishing what earlier runs left".to_owned()));
        assert!(readiness.is_open());
        readiness.event(&Event::Rebuilding { segment: SegmentId(7), nth: 1, of: 3, reason: "all" });
        assert_eq!(readiness.check(), Err("rebuilding segment 7, 1 of 3".to_owned()));
        readiness.event(&Event::Opened(ProgressSnapshot::default()));
        assert_eq!(readiness.check(), Ok("requests flow".to_owned()));
        readiness.event(&Event::Stopping { cause: "bad\u{1b}[2J", in_flight: 3 });
        assert_eq!(readiness.check(), Err("stopping: bad\u{fffd}[2J".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_response_it_is_ready_for_as_long_as_timeouts_and_the_rate_explain_it() {
        for (rate, seconds) in [(None, 45), (Some(10.0), 45), (Some(0.01), 245)] {
            let readiness = opened(rate);
            tokio::time::advance(SECOND * seconds).await;
            assert!(readiness.check().is_ok(), "{rate:?}");
            tokio::time::advance(SECOND).await;
            assert_eq!(readiness.check(), Err(format!("no response for {} s", seconds + 1)), "{rate:?}");
            attempted(&readiness);
            assert_eq!(readiness.check(), Ok("requests flow".to_owned()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_it_names_is_no_reason_not_to_be_ready() {
        let readiness = opened(None);
        readiness.event(&Event::Throttled { wait: SECOND * 300, rate: 2.0 });
        tokio::time::advance(SECOND * 290).await;
        assert_eq!(readiness.check(), Ok("all requests wait 10 s more after a 429".to_owned()));
        tokio::time::advance(SECOND * 11).await;
        assert_eq!(readiness.check(), Err("no response for 301 s".to_owned()));

        readiness.event(&Event::Outage { cause: "HTTP 503" });
        tokio::time::advance(SECOND * 3_600).await;
        assert!(readiness.check().unwrap().ends_with("one at a time is sent until one succeeds: HTTP 503"));
        readiness.event(&Event::Recovered);
        attempted(&readiness);

        readiness.event(&Event::Publishing(SegmentId(2)));
        tokio::time::advance(SECOND * 3_600).await;
        assert_eq!(readiness.check(), Ok("segment 2 is being published".to_owned()));
        readiness.event(&Event::Published { segment: SegmentId(2), files: 1, rows: 1, bytes: 1 });
        assert_eq!(readiness.check(), Ok("requests flow".to_owned()));

        let (id, page) = (&crate::model::page::ItemId::new("7"), crate::model::page::PageNum(1));
        readiness.event(&Event::Retrying { id, page, after: SECOND * 60, cause: "HTTP 500" });
        tokio::time::advance(SECOND * 50).await;
        assert_eq!(readiness.check(), Ok("the next retry is due in 10 s".to_owned()));
        tokio::time::advance(SECOND * 10).await;
        assert!(readiness.check().is_err());
    }
}
