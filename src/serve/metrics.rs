//! The metrics of a run, from its events.
//!
//! Counters begin at zero with each process. Gauges of the export are over all its runs. Labels have few values, all known
//! here, and each series is there from the start.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::registry::{Disks, PRODUCT_STATES, Parts, ROW_OUTCOMES, register};
use crate::model::attempt::AttemptResult;
use crate::model::clock;
use crate::model::event::{Event, EventSink, ProgressSnapshot};
use crate::model::page::{Charge, StopReason};
use crate::settings::Settings;

#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    parts: Parts,
    disks: Disks,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Of the whole export.
    counts: ProgressSnapshot,
    /// Until when the last 429 makes all requests wait.
    throttled_until: Instant,
}

/// The two text formats that Prometheus reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    Prometheus,
    OpenMetrics,
}

impl TextFormat {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Metrics {
    /// For a run whose rate limit starts at `rate` requests per second.
    pub fn new(settings: &Settings, rate: Option<f64>) -> Self {
        let parts = Parts::new();
        if let Some(rate) = rate {
            parts.rate_limit.get_or_create(&[]).set(rate);
        }
        let disks = Disks::new(settings);
        let registry = register(&parts, &disks, settings.max_credits);
        let state = State { counts: ProgressSnapshot::default(), throttled_until: clock::now() };
        Self { registry, parts, disks, state: Mutex::new(state) }
    }

    /// All metrics as they are now.
    pub fn text(&self, format: TextFormat) -> Result<String, fmt::Error> {
        self.disks.measure();
        self.set_gauges(self.state().counts);
        let mut text = String::new();
        match format {
            TextFormat::Prometheus => prometheus_text::encode(&mut text, &self.registry)?,
            TextFormat::OpenMetrics => text::encode(&mut text, &self.registry)?,
        }
        Ok(text)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which products were started is known up to those that failed later than at their first page.
    fn set_gauges(&self, counts: ProgressSnapshot) {
        let ProgressSnapshot { items, ended, failed, cut, begun, pages, rows, credits } = counts;
        let begun = begun.clamp(ended, items.max(ended));
        let complete = ended.saturating_sub(failed + cut);
        let states = [items.saturating_sub(begun), begun - ended, complete, failed, cut];
        for (state, products) in PRODUCT_STATES.into_iter().zip(states) {
            self.parts.products.get_or_create(&[("state", state)]).set(signed(products));
        }
        self.parts.export_pages.set(signed(pages));
        self.parts.export_rows.set(signed(rows));
        self.parts.export_credits.set(signed(credits));
    }

    fn attempted(&self, charge: Charge, result: AttemptResult, latency: Duration) {
        self.parts.requests.get_or_create(&[("result", result.as_str())]).inc();
        self.parts.request_time.observe(latency.as_secs_f64());
        if charge != Charge::Free {
            self.parts.credits.get_or_create(&[("charge", charge.as_str())]).inc();
            self.state().counts.credits += 1;
        }
    }

    fn read(&self, is_first: bool, [kept, duplicates, rejected]: [u64; 3]) {
        self.parts.pages.inc();
        for (outcome, rows) in ROW_OUTCOMES.into_iter().zip([kept, duplicates, rejected]) {
            self.parts.rows.get_or_create(&[("outcome", outcome)]).inc_by(rows);
        }
        let counts = &mut self.state().counts;
        counts.begun += u64::from(is_first);
        counts.pages += 1;
        counts.rows += kept;
    }

    fn ended(&self, stop: StopReason) {
        let counts = &mut self.state().counts;
        counts.ended += 1;
        if stop.is_failure() {
            counts.failed += 1;
            counts.begun += u64::from(stop == StopReason::Failed); // most fail at their first page
        } else if !stop.is_complete() {
            counts.cut += 1;
        }
    }

    /// A wait that begins while another one lasts counts from the end of that one.
    fn throttled(&self, wait: Duration, rate: f64) {
        let now = clock::now();
        let until = &mut self.state().throttled_until;
        let more = (now + wait).saturating_duration_since((*until).max(now));
        *until = (*until).max(now + wait);
        self.parts.throttle_wait.inc_by(more.as_secs_f64());
        self.parts.rate_limit.get_or_create(&[]).set(rate);
    }
}

impl EventSink for Metrics {
    fn event(&self, event: &Event<'_>) {
        let parts = &self.parts;
        match event {
            Event::Opened(counts) => {
                self.state().counts = *counts;
                parts.is_outage.set(0);
            }
            Event::Recounted(counts) => self.state().counts = *counts,
            Event::Ticked { in_flight, journal } => {
                parts.in_flight.set(i64::try_from(*in_flight).unwrap_or(i64::MAX));
                parts.journal.set(signed(*journal));
            }
            Event::Attempted { charge, result, latency } => self.attempted(*charge, *result, *latency),
            Event::Read { first, kept, duplicates, rejected } => self.read(*first, [*kept, *duplicates, *rejected]),
            Event::Retrying { .. } => drop(parts.retries.inc()),
            Event::Ended { stop, .. } => self.ended(*stop),
            Event::Reopened(lists) => {
                let ended = &mut self.state().counts.ended;
                *ended = ended.saturating_sub(u64::try_from(*lists).unwrap_or(u64::MAX));
            }
            Event::Throttled { wait, rate } => self.throttled(*wait, *rate),
            Event::Rate(rate) => drop(parts.rate_limit.get_or_create(&[]).set(*rate)),
            Event::Outage { .. } => {
                parts.outages.inc();
                parts.is_outage.set(1);
            }
            Event::Recovered => drop(parts.is_outage.set(0)),
            Event::Published { files, rows, bytes, .. } => {
                parts.journal.set(0); // an earlier segment that is built again is published before the first tick
                parts.published_segments.inc();
                parts.published_files.inc_by(*files);
                parts.published_rows.inc_by(*rows);
                parts.published_bytes.inc_by(*bytes);
            }
            Event::Registered { .. }
            | Event::Continued { .. }
            | Event::Repair { .. }
            | Event::Overhead { .. }
            | Event::Warning(_)
            | Event::Rebuilding { .. }
            | Event::Reread(_)
            | Event::Publishing(_)
            | Event::Snapshots(_)
            | Event::Probed(_)
            | Event::Stopping { .. } => {}
        }
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Metrics, TextFormat};
    use crate::model::attempt::AttemptResult;
    use crate::model::event::{Event, EventSink, ProgressSnapshot};
    use crate::model::page::{Charge, ItemId, StopReason};
    use crate::serve::fixture::settings;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn metrics(more: &[(&str, &str)], rate: Option<f64>) -> Metrics {
        Metrics::new(&settings(more), rate)
    }

    /// The value of a series; none if it is not there.
    fn value(metrics: &Metrics, series: &str) -> Option<f64> {
        let text = metrics.text(TextFormat::Prometheus).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// The value of a series that counts.
    fn whole(metrics: &Metrics, series: &str) -> u64 {
        let text = metrics.text(TextFormat::Prometheus).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap().parse().unwrap()
    }

    #[test]
    fn products_are_in_one_state_each_and_lists_that_are_read_on_are_complete_no_more() {
        let metrics = metrics(&[], None);
        let states = || {
            ["not_started", "started", "complete", "failed", "cut"]
                .map(|state| whole(&metrics, &format!("pagehaul_products{{state=\"{state}\"}}")))
        };
        let of_earlier_runs =
            ProgressSnapshot { items: 10, ended: 4, failed: 1, cut: 1, begun: 5, ..Default::default() };
        metrics.event(&Event::Opened(of_earlier_runs));
        assert_eq!(states(), [5, 1, 2, 1, 1]);
        metrics.event(&Event::Read { first: true, kept: 7, duplicates: 2, rejected: 1 });
        assert_eq!(states(), [4, 2, 2, 1, 1]);
        for stop in [StopReason::ShortPage, StopReason::Shifted, StopReason::Failed] {
            metrics.event(&Event::Ended { id: &ItemId::new("7"), stop, error: None });
        }
        assert_eq!(states(), [3, 0, 3, 2, 2]);
        metrics.event(&Event::Reopened(2));
        assert_eq!(states(), [3, 2, 1, 2, 2]);
        metrics.event(&Event::Recounted(ProgressSnapshot { items: 10, ended: 10, failed: 10, ..Default::default() }));
        assert_eq!(states(), [0, 0, 0, 10, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_after_429s_that_overlap_count_once() {
        let metrics = metrics(&[], None);
        let waited = || value(&metrics, "pagehaul_throttle_wait_seconds_total").unwrap();
        metrics.event(&Event::Throttled { wait: SECOND * 10, rate: 5.0 });
        tokio::time::advance(SECOND * 4).await;
        metrics.event(&Event::Throttled { wait: SECOND * 6, rate: 4.0 });
        assert!((waited() - 10.0).abs() < 0.01);
        metrics.event(&Event::Throttled { wait: SECOND * 9, rate: 3.0 });
        assert!((waited() - 13.0).abs() < 0.01);
        tokio::time::advance(SECOND * 60).await;
        metrics.event(&Event::Throttled { wait: SECOND, rate: 2.0 });
        assert!((waited() - 14.0).abs() < 0.01);
        assert_eq!(value(&metrics, "pagehaul_rate_limit_requests_per_second"), Some(2.0));
    }

    #[test]
    fn what_is_not_set_or_not_known_has_no_series() {
        let without = metrics(&[], None);
        let with = metrics(&[("max_credits", "9"), ("out", "/")], Some(50.0));
        let series =
            [("pagehaul_export_credits_max", Some(9.0)), ("pagehaul_rate_limit_requests_per_second", Some(50.0))];
        for (series, expected) in series {
            assert_eq!((value(&without, series), value(&with, series)), (None, expected), "{series}");
        }
        let free = "pagehaul_disk_free_bytes{disk=\"output\"}";
        assert!(value(&without, free).is_none() && value(&with, free).is_some());
        let text = without.text(TextFormat::Prometheus).unwrap();
        assert!(!text.contains("rate_limit") && !text.contains("disk_free"), "{text}");
    }

    #[test]
    fn a_free_attempt_is_a_request_and_no_credit() {
        let metrics = metrics(&[], None);
        for charge in [Charge::Billed, Charge::Free, Charge::InDoubt, Charge::Billed] {
            metrics.event(&Event::Attempted { charge, result: AttemptResult::Page, latency: SECOND });
        }
        let of = |series| whole(&metrics, series);
        assert_eq!(of("pagehaul_requests_total{result=\"page\"}"), 4);
        assert_eq!(of("pagehaul_credits_total{charge=\"billed\"}"), 2);
        assert_eq!(of("pagehaul_credits_total{charge=\"in_doubt\"}"), 1);
        assert_eq!(of("pagehaul_export_credits"), 3);
        assert_eq!(value(&metrics, "pagehaul_request_duration_seconds_sum"), Some(4.0));
        assert_eq!(of("pagehaul_request_duration_seconds_count"), 4);
    }
}
