//! What a run keeps of its course, for a report: intervals and decisions, gathered from its events.
//!
//! It is a sink before the one of the caller. An event only adds to counters. A group commit takes an interval that is long enough,
//! so nothing here waits for a disk, and a crash loses the last interval.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::attempt::AttemptResult;
use crate::model::clock;
use crate::model::event::{Event, EventSink};
use crate::model::page::{Charge, StopReason};
use crate::model::sanitize::beginning;
use crate::report::totals::{Count, as_u64, repair_price};
use crate::state::ledger::{DecisionRow, MAX_CREDITS, SeriesRow, Timeline};

/// The length of an interval: a share of the run so far, within these bounds.
const SHARE: u32 = 20;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Decisions that wait for a commit. More are counted with the last one.
const MAX_WAITING: usize = 100;
/// Longest text of a decision, characters.
const LONGEST_TEXT: usize = 500;
/// A wait from here on is a decision of its own.
const LONG_WAIT: Duration = Duration::from_secs(30);

/// Keeps a run's course, and passes its events on.
#[derive(Debug)]
pub(crate) struct TimelineSink {
    next: Arc<dyn EventSink>,
    state: Mutex<TimelineState>,
}

#[derive(Debug, Default)]
struct TimelineState {
    run: i64,
    /// The first event after the export was opened, and the start of the interval.
    started: Option<(Instant, Instant)>,
    interval: SeriesRow,
    /// The current rate limit, requests in 1,000 seconds.
    rate: Option<u64>,
    max_credits: Option<u64>,
    /// What evidence and pages ahead had cost this engine when it last said so.
    overhead: (u64, u64),
    decisions: Vec<DecisionRow>,
}

impl TimelineSink {
    /// `rate`: the limit that the run starts with, requests a second.
    pub(crate) fn new(next: &Arc<dyn EventSink>, rate: Option<f64>, max_credits: Option<u64>) -> Self {
        let state = TimelineState { rate: rate.and_then(thousandfold), max_credits, ..TimelineState::default() };
        Self { next: Arc::clone(next), state: Mutex::new(state) }
    }

    /// Numbers the run.
    pub(crate) fn set_run(&self, run: i64) {
        self.state().run = run;
    }

    /// Takes what a commit should write now.
    pub(crate) fn take_due(&self) -> Timeline {
        let mut state = self.state();
        let now = clock::now();
        let is_due = state.started.is_some_and(|(run, interval)| {
            now.saturating_duration_since(interval) >= ((now - run) / SHARE).clamp(SHORTEST, LONGEST)
        });
        state.take(is_due, now)
    }

    /// Takes all that is left, at the end of a run. `outcome`: the status and its cause.
    pub(crate) fn take_rest(&self, outcome: Option<(&str, &str)>) -> Timeline {
        let mut state = self.state();
        if let Some((status, cause)) = outcome.filter(|_| state.started.is_some()) {
            let separator = if cause.is_empty() { "" } else { ": " };
            state.decide("ended", &format!("{status}{separator}{cause}"));
        }
        let has_some = state.started.is_some() && state.interval != SeriesRow::default();
        state.take(has_some, clock::now())
    }

    fn state(&self) -> MutexGuard<'_, TimelineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TimelineState {
    fn take(&mut self, with_interval: bool, now: Instant) -> Timeline {
        let mut timeline = Timeline { run: self.run, ..Timeline::default() };
        if let Some((_, since)) = self.started.as_mut().filter(|_| with_interval) {
            let length = now.saturating_duration_since(*since);
            *since = now;
            let mut interval = std::mem::take(&mut self.interval);
            interval.at = clock::wall().minus(length);
            interval.millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
            interval.rate = self.rate;
            timeline.interval = Some(interval);
        }
        // Before the first request nothing may have been written for a reason.
        if self.started.is_some() {
            timeline.decisions = std::mem::take(&mut self.decisions);
        }
        timeline
    }

    fn count(&mut self, charge: Charge, result: AttemptResult, latency: Duration) {
        let of_result = AttemptResult::ALL.iter().position(|known| *known == result);
        if let Some(count) = of_result.and_then(|at| self.interval.results.get_mut(at)) {
            *count += 1;
        }
        let of_charge = match charge {
            Charge::Billed => &mut self.interval.billed,
            Charge::Free => &mut self.interval.free,
            Charge::InDoubt => &mut self.interval.in_doubt,
        };
        *of_charge += 1;
        self.interval.waited += u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        self.interval.latencies.record(latency);
    }

    fn add_overhead(&mut self, evidence: u64, ahead: u64) {
        let change = |now: u64, before: u64| {
            let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            signed(now) - signed(before)
        };
        self.interval.evidence += change(evidence, self.overhead.0);
        self.interval.ahead += change(ahead, self.overhead.1);
        self.overhead = (evidence, ahead);
    }

    fn decide(&mut self, kind: &str, text: &str) {
        let at = clock::wall();
        let decision = DecisionRow {
            run: self.run,
            at,
            until: at,
            kind: kind.to_owned(),
            text: beginning(text.as_bytes(), LONGEST_TEXT),
            times: 1,
        };
        let is_full = self.decisions.len() >= MAX_WAITING;
        match self.decisions.last_mut() {
            Some(last) if is_full || last.may_include(&decision) => (last.until, last.times) = (at, last.times + 1),
            _ => self.decisions.push(decision),
        }
    }

    fn opened(&mut self, text: &str) {
        self.overhead = (0, 0); // another engine counts from here on
        if self.started.is_none() {
            let now = clock::now();
            self.started = Some((now, now));
            self.decide("started", text);
            if let Some(max) = self.max_credits {
                self.decide(MAX_CREDITS, &max.to_string());
            }
        }
    }

    fn stopped(&mut self, stop: StopReason, text: &str) {
        match stop {
            StopReason::Shifted => self.decide("moved", text),
            StopReason::PageCap
            | StopReason::RepeatedPage
            | StopReason::Rejected
            | StopReason::ForeignPage
            | StopReason::Failed => self.decide("failed", text),
            StopReason::ShortPage
            | StopReason::EmptyPage
            | StopReason::MaxPages
            | StopReason::EndRefused
            | StopReason::EndRepeated => {}
        }
    }

    /// Notes a 429 that makes all wait.
    fn throttled(&mut self, wait: Duration, rate: f64) {
        self.rate = thousandfold(rate);
        let kind = if wait >= LONG_WAIT { "waiting" } else { "throttled" };
        self.decide(kind, &format!("HTTP 429: all requests wait {wait:.1?}, then {rate:.1} requests per second"));
    }

    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Attempted { charge, result, latency } => self.count(*charge, *result, *latency),
            Event::Read { kept, .. } => self.interval.rows += kept,
            Event::Overhead { evidence, ahead } => self.add_overhead(*evidence, *ahead),
            Event::Rate(rate) => self.rate = thousandfold(*rate),
            Event::Throttled { wait, rate } => self.throttled(*wait, *rate),
            Event::Registered { listed, new, .. } => {
                self.decide("list", &format!("{} listed, {} new", Count(*listed, "id"), Count(*new, "id")));
            }
            Event::Continued { since, lists } => self.decide("since", &format!("continues {since}: {lists}")),
            Event::Repair { moved, empty, pages } => self.decide("repair", &repair_price(*moved, *empty, *pages)),
            Event::Opened(found) => {
                let (ended, items, pages) = (found.ended, found.items, Count(found.pages, "page"));
                self.opened(&format!("{ended} of {items} products done, {pages} in the journal"));
            }
            Event::Ended { id, stop, error } => {
                if !stop.is_complete() {
                    self.stopped(*stop, &format!("product {id} ({stop}): {}", error.unwrap_or_default()));
                }
            }
            Event::Warning(message) => self.decide("warning", message),
            Event::Outage { cause } => self.decide("outage", &format!("one request at a time from here on: {cause}")),
            Event::Recovered => self.decide("recovered", "the API works again"),
            Event::Rebuilding { segment, reason, .. } => {
                self.decide("rebuilt", &format!("segment {segment}: {reason}"));
            }
            Event::Published { segment, files, rows, .. } => {
                let (files, rows) = (Count(*files, "file"), Count(*rows, "row"));
                self.decide("published", &format!("segment {segment}: {files}, {rows}"));
            }
            Event::Snapshots(message) => self.decide("snapshots", message),
            Event::Probed(cause) => self.decide("stopping", cause),
            Event::Stopping { cause, in_flight } => {
                let responses = Count(as_u64(*in_flight), "response");
                self.decide("stopping", &format!("{cause}; up to {responses} in flight"));
            }
            Event::Retrying { .. }
            | Event::Reread(_)
            | Event::Recounted(_)
            | Event::Ticked { .. }
            | Event::Reopened(_)
            | Event::Publishing(_) => {}
        }
    }
}

impl EventSink for TimelineSink {
    fn event(&self, event: &Event<'_>) {
        self.state().event(event);
        self.next.event(event);
    }
}

/// A rate of requests as the ledger has it: in 1,000 seconds.
fn thousandfold(rate: f64) -> Option<u64> {
    Duration::try_from_secs_f64(rate).ok().map(|rate| u64::try_from(rate.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::TimelineSink;
    use crate::model::attempt::AttemptResult;
    use crate::model::event::{Event, EventSink, NullSink, ProgressSnapshot};
    use crate::model::page::{Charge, SegmentId};
    use crate::state::ledger::Timeline;
    use std::sync::Arc;
    use std::time::Duration;

    fn sink() -> TimelineSink {
        let next: Arc<dyn EventSink> = Arc::new(NullSink);
        let sink = TimelineSink::new(&next, Some(50.0), None);
        sink.set_run(4);
        sink
    }

    fn attempt(sink: &TimelineSink, result: AttemptResult, charge: Charge) {
        sink.event(&Event::Attempted { charge, result, latency: Duration::from_millis(80) });
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn intervals_are_short_at_first_and_a_minute_later_and_have_every_attempt() {
        let sink = sink();
        attempt(&sink, AttemptResult::Page, Charge::Billed);
        assert!(sink.take_due().is_empty(), "the export is not open");
        sink.event(&Event::Opened(ProgressSnapshot::default()));
        let (mut lengths, mut pages) = (Vec::new(), 0);
        for _ in 0..4 * 3_600 {
            pass(1).await;
            attempt(&sink, AttemptResult::Page, Charge::Billed);
            if let Timeline { interval: Some(row), run: 4, .. } = sink.take_due() {
                lengths.push(row.millis);
                pages += row.results[0];
                assert_eq!((row.billed, row.rate, row.waited), (row.results[0], Some(50_000), 80 * row.results[0]));
            }
        }
        assert_eq!(pages + sink.take_rest(None).interval.map_or(0, |row| row.results[0]), 4 * 3_600 + 1);
        assert_eq!((lengths[0], *lengths.last().unwrap()), (1_000, 60_000));
        assert!(lengths.is_sorted() && lengths.len() < 340, "{}", lengths.len());
    }

    #[tokio::test(start_paused = true)]
    async fn what_evidence_costs_is_the_change_since_the_last_time_also_when_another_engine_starts() {
        let sink = sink();
        sink.event(&Event::Opened(ProgressSnapshot::default()));
        for (evidence, ahead) in [(3, 0), (2, 5)] {
            sink.event(&Event::Overhead { evidence, ahead });
        }
        sink.event(&Event::Opened(ProgressSnapshot::default()));
        sink.event(&Event::Overhead { evidence: 1, ahead: 1 });
        let row = sink.take_rest(None).interval.unwrap();
        assert_eq!((row.evidence, row.ahead), (3, 6));
    }

    #[tokio::test(start_paused = true)]
    async fn decisions_are_few_whatever_happens_and_say_how_often() {
        let sink = sink();
        let throttled = |wait| sink.event(&Event::Throttled { wait, rate: 48.0 });
        sink.event(&Event::Opened(ProgressSnapshot::default()));
        (0..1_000).for_each(|_| throttled(Duration::from_millis(200)));
        throttled(Duration::from_secs(90));
        sink.event(&Event::Warning("a\u{202e}\u{1b}[31mb"));
        let timeline = sink.take_rest(Some(("limit", "max_credits is reached")));
        let made: Vec<_> = timeline.decisions.iter().map(|made| (made.kind.as_str(), made.times)).collect();
        assert_eq!(made, [("started", 1), ("throttled", 1_000), ("waiting", 1), ("warning", 1), ("ended", 1)]);
        assert_eq!(timeline.decisions[3].text, "a\u{fffd}\u{fffd}[31mb");
        assert_eq!(timeline.decisions[4].text, "limit: max_credits is reached");
        assert_eq!(timeline.interval, None, "no attempt was made");
        let published = Event::Published { segment: SegmentId(1), files: 1, rows: 1, bytes: 1 };
        (0..500).for_each(|_| {
            sink.event(&published);
            sink.event(&Event::Recovered);
        });
        assert_eq!(sink.take_rest(None).decisions.len(), 100);
    }
}
