//! The progress of a run: a bar on a terminal, a line at each heartbeat elsewhere.
//!
//! Events only change counters; a task shows them. Log lines go through the display, so that they never tear.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;
use indicatif::{FormattedDuration, HumanCount, HumanFloatCount};
use tokio::time::Instant;

use crate::cli::layout::{arranged, bar};
use crate::cli::live_lines::LiveLines;
use crate::cli::rate_news::RateNews;
use crate::model::attempt::AttemptResult;
use crate::model::clock;
use crate::model::event::{Event, EventSink, ProgressSnapshot};
use crate::model::page::{Charge, ItemId, StopReason};
use crate::model::sanitize::Sanitized;
use crate::report::totals::{Count, as_u64, repair_price};
use crate::settings::{Progress, Settings};

/// Time between two updates on a terminal.
const TICK: Duration = Duration::from_millis(200);
/// The period of the shown rate.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// Failed or incomplete products that are logged one by one; `products.parquet` lists them all.
const LOGGED: u64 = 20;

/// Counts the events of a run and shows them.
#[derive(Debug)]
pub(crate) struct ProgressReporter {
    /// On a terminal.
    live: Option<LiveLines>,
    opened: Instant,
    heartbeat: Option<Duration>,
    max_credits: Option<u64>,
    is_replay: bool,
    is_json: bool,
    state: Mutex<ProgressState>,
}

#[derive(Debug, Default)]
struct ProgressState {
    counts: ProgressSnapshot,
    failed: u64,
    requests: u64,
    retries: u64,
    throttled: u64,
    reread: u64,
    /// The segment that is being rebuilt, from 1, and the number of segments to rebuild.
    rebuilding: (usize, usize),
    /// The current rate limit, requests per second.
    limit: Option<f64>,
    rate_news: RateNews,
    /// When requests started, and how many products had ended before.
    started: Option<(Instant, u64)>,
}

impl ProgressReporter {
    /// For an export whose rate limit starts at `limit` requests per second.
    pub(crate) fn new(settings: &Settings, limit: Option<f64>) -> Self {
        let has_bar = match settings.progress {
            Progress::Auto => !settings.json_logs,
            Progress::Bar => true,
            Progress::Plain | Progress::None => false,
        };
        let live = if has_bar { LiveLines::open() } else { None };
        let is_plain = live.is_none() && settings.progress != Progress::None;
        Self {
            live,
            opened: clock::now(),
            heartbeat: is_plain.then_some(settings.heartbeat),
            max_credits: settings.max_credits,
            is_replay: false,
            is_json: settings.json_logs,
            state: Mutex::new(ProgressState { limit, rate_news: RateNews::new(limit), ..ProgressState::default() }),
        }
    }

    pub(crate) fn for_replay(settings: &Settings) -> Self {
        Self { is_replay: true, ..Self::new(settings, None) }
    }

    fn state(&self) -> MutexGuard<'_, ProgressState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the counters until it is dropped.
    pub(crate) async fn show(&self) -> Infallible {
        let every = if self.live.is_some() { Some(TICK) } else { self.heartbeat };
        let Some(every) = every else { return std::future::pending().await };
        let mut throughput = Throughput::new(self.state().requests);
        loop {
            tokio::time::sleep(every).await;
            let state = self.state();
            let rate = throughput.update(state.requests);
            if let Some(live) = &self.live {
                let lines = self.lines(&state, rate, LiveLines::width());
                drop(state);
                live.show(&lines);
            } else if state.started.is_some() {
                let ProgressSnapshot { items, ended, .. } = state.counts;
                let fields = state.fields(rate, self.max_credits).concat().join("  ");
                let message = format!("{}/{} products  {fields}", HumanCount(ended), HumanCount(items));
                if self.is_json {
                    state.log_counters(rate, &message);
                } else {
                    tracing::info!("{message}");
                }
            } else {
                tracing::info!("{}", state.preparation());
            }
        }
    }

    /// What a terminal of this width shows, under an empty line.
    fn lines(&self, state: &ProgressState, rate: f64, width: usize) -> Vec<String> {
        let elapsed = |since: Instant| FormattedDuration(clock::now() - since).to_string();
        let groups = match state.started {
            Some((since, _)) => {
                let [pages, credits] = state.fields(rate, self.max_credits);
                vec![bar(state.counts.ended, state.counts.items, elapsed(since), width), pages, credits]
            }
            None => vec![vec![state.preparation(), elapsed(self.opened)]],
        };
        let mut lines = vec![String::new()];
        lines.extend(arranged(&groups, width));
        lines
    }

    /// Logs what is durable when a run fails while it works.
    pub(crate) fn log_kept(&self) {
        let state = self.state();
        if state.started.is_some() {
            let (pages, credits) = (Count(state.counts.pages, "page"), Count(state.counts.credits, "credit"));
            tracing::info!("kept: {pages} in the journal; {credits} known to be spent");
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(live) = &self.live {
            live.clear();
        }
    }

    fn opened(&self, state: &mut ProgressState) {
        let ProgressSnapshot { items, ended, pages, .. } = state.counts;
        if self.is_replay {
            return;
        }
        // A run that continues an earlier export opens its own once more.
        if state.started.is_none() && (pages > 0 || ended > 0) {
            let (done, items, pages) = (HumanCount(ended), HumanCount(items), Count(pages, "page"));
            tracing::info!("resuming: {done} of {items} products done, {pages} paid for");
        }
        state.started.get_or_insert_with(|| (clock::now(), ended));
    }
}

impl ProgressState {
    /// The time left if products end as fast as in this run. Unknown once all have started: the lengths of the
    /// remaining lists are unknown.
    fn eta(&self) -> Option<Duration> {
        let (since, ended_before) = self.started?;
        let ProgressSnapshot { items, begun, ended, .. } = self.counts;
        let number = |count: u64| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
        let (done, left) = (number(ended.saturating_sub(ended_before)), number(items.saturating_sub(ended)));
        let is_known = done > 0.0 && (begun < items || ended >= items);
        is_known.then(|| (clock::now() - since).mul_f64((left / done).min(1e6)))
    }

    /// The text before requests start, and in a replay.
    fn preparation(&self) -> String {
        match (self.rebuilding, self.reread) {
            ((_, 0), 0) => "opening the export".to_owned(),
            ((_, 0), read) => format!("reading the journal: {}", Count(read, "page")),
            ((nth, of), read) => format!("rebuilding segment {nth} of {of}: {} read", Count(read, "page")),
        }
    }

    /// The counters, in two groups.
    fn fields(&self, rate: f64, max_credits: Option<u64>) -> [Vec<String>; 2] {
        let ProgressSnapshot { pages, rows, credits, .. } = self.counts;
        let [pages, rows, credits, retries, throttled, failed] =
            [pages, rows, credits, self.retries, self.throttled, self.failed].map(HumanCount);
        let limit = self.limit.map(|limit| format!("/{:.0}", HumanFloatCount(limit))).unwrap_or_default();
        let max = max_credits.map(|max| format!("/{}", HumanCount(max))).unwrap_or_default();
        let eta = self.eta().map_or("-".to_owned(), |eta| FormattedDuration(eta).to_string());
        let rate = HumanFloatCount(rate);
        [
            vec![
                format!("{pages} pages"),
                format!("{rows} rows"),
                format!("{rate:.0}{limit} req/s"),
                format!("eta {eta}"),
            ],
            vec![
                format!("credits {credits}{max}"),
                format!("retries {retries}"),
                format!("429s {throttled}"),
                format!("failed {failed}"),
            ],
        ]
    }

    fn count_attempt(&mut self, charge: Charge, result: AttemptResult) {
        let throttled = u64::from(result == AttemptResult::Throttled);
        self.requests += 1;
        self.counts.credits += u64::from(charge != Charge::Free);
        self.throttled += throttled;
    }

    /// A line of progress with its counters as fields, for a program that reads the lines.
    fn log_counters(&self, rate: f64, message: &str) {
        let ProgressSnapshot { items, ended, pages, rows, credits, .. } = self.counts;
        let seconds = self.started.map(|(since, _)| clock::now() - since).unwrap_or_default().as_secs_f64();
        tracing::info!(
            products = items,
            products_done = ended,
            products_failed = self.failed,
            pages,
            rows,
            credits,
            requests = self.requests,
            retries = self.retries,
            throttled = self.throttled,
            requests_per_second = rate,
            seconds,
            eta_seconds = self.eta().map(|eta| eta.as_secs_f64()),
            "{message}"
        );
    }

    fn log_incomplete(&mut self, id: &ItemId, stop: StopReason, message: &str) {
        // Most products that fail do so at their first page.
        self.counts.begun += u64::from(stop == StopReason::Failed);
        self.failed += 1;
        if self.failed > LOGGED {
            if self.failed == LOGGED + 1 {
                tracing::warn!("more products failed or are incomplete: _pagehaul/products.parquet lists them all");
            }
        } else if stop == StopReason::Failed {
            tracing::warn!("product {id} failed: {message}");
        } else if stop.is_failure() {
            tracing::warn!("product {id} was rejected: {message}");
        } else {
            tracing::warn!("product {id} is incomplete ({stop}): {message}");
        }
    }

    fn log_rate(&mut self, rate: f64, wait: Option<Duration>) {
        self.limit = Some(rate);
        if let Some(line) = self.rate_news.line(rate, wait) {
            tracing::info!("{line}");
        }
    }
}

/// Requests per second, from earlier values of the counter of requests.
struct Throughput(VecDeque<(Instant, u64)>);

impl Throughput {
    fn new(requests: u64) -> Self {
        Self([(clock::now(), requests)].into())
    }

    /// Requests per second over the last [`RATE_WINDOW`].
    fn update(&mut self, requests: u64) -> f64 {
        let now = clock::now();
        self.0.push_back((now, requests));
        while self.0.len() > 2 && self.0.front().is_some_and(|(then, _)| now - *then > RATE_WINDOW) {
            self.0.pop_front();
        }
        let (then, before) = self.0.front().copied().unwrap_or((now, requests));
        let sent = u32::try_from(requests.saturating_sub(before)).map_or(f64::INFINITY, f64::from);
        sent / (now - then).as_secs_f64().max(0.001)
    }
}

impl EventSink for ProgressReporter {
    fn event(&self, event: &Event<'_>) {
        let state = &mut *self.state();
        match event {
            Event::Registered { listed, new, repeated, reopened, others } => {
                let unless_zero = |count: u64, text: String| if count > 0 { text } else { String::new() };
                let duplicates = unless_zero(*repeated, format!(" (duplicates: {})", HumanCount(*repeated)));
                let others =
                    unless_zero(*others, format!("; {} from earlier lists stay in the export", HumanCount(*others)));
                let (listed, new) = (Count(*listed, "id"), HumanCount(*new));
                tracing::info!("{listed} listed{duplicates}, {new} new, {reopened} to retry{others}");
            }
            Event::Continued { since, lists } => tracing::info!("since {since}: {lists}"),
            Event::Repair { moved, empty, pages } => tracing::info!("{}", repair_price(*moved, *empty, *pages)),
            Event::Opened(snapshot) => {
                state.counts = *snapshot;
                self.opened(state);
            }
            Event::Recounted(snapshot) => state.counts = *snapshot,
            Event::Reopened(lists) => state.counts.ended = state.counts.ended.saturating_sub(as_u64(*lists)),
            Event::Attempted { charge, result, .. } => state.count_attempt(*charge, *result),
            Event::Reread(pages) => state.reread += as_u64(*pages),
            Event::Read { first, kept, .. } => {
                state.counts.begun += u64::from(*first);
                state.counts.pages += 1;
                state.counts.rows += *kept;
            }
            Event::Retrying { id, page, after, cause } => {
                state.retries += 1;
                tracing::debug!("{id}, page {page}: {cause}; retrying in {after:.1?}");
            }
            Event::Ended { id, stop, error } => {
                state.counts.ended += 1;
                if !stop.is_complete() {
                    state.log_incomplete(id, *stop, error.unwrap_or_default());
                }
            }
            Event::Throttled { wait, rate } => state.log_rate(*rate, Some(*wait)),
            Event::Rate(rate) => state.log_rate(*rate, None),
            Event::Ticked { .. } | Event::Publishing(_) | Event::Overhead { .. } => {}
            Event::Warning(message) => tracing::warn!("{message}"),
            Event::Outage { cause } => {
                tracing::warn!("all requests fail, sending one at a time until one succeeds: {cause}");
            }
            Event::Recovered => tracing::info!("the API works again"),
            Event::Rebuilding { segment, nth, of, reason } => {
                state.rebuilding = (*nth, *of);
                tracing::info!("rebuilding segment {segment}: {}", Sanitized(reason));
            }
            Event::Published { segment, files, rows, bytes } => {
                let (files, rows) = (Count(*files, "file"), Count(*rows, "row"));
                tracing::info!("segment {segment} published: {files}, {rows}, {}", ByteSize(*bytes));
            }
            Event::Snapshots(message) => tracing::info!("{message}"),
            Event::Probed(cause) => tracing::info!("probe: {cause}"),
            Event::Stopping { cause, in_flight: 0 } => tracing::warn!("stopping: {cause}"),
            Event::Stopping { cause, in_flight } => {
                let responses = Count(as_u64(*in_flight), "response");
                tracing::warn!("stopping: {cause}; waiting for up to {responses} in flight");
            }
        }
    }
}

/// Writes to stderr, above the display. A line that cannot be written is dropped.
#[derive(Clone, Debug)]
pub(crate) struct LogLines(pub(crate) Option<Arc<ProgressReporter>>);

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.as_ref().and_then(|reporter| reporter.live.as_ref()) {
            Some(live) => live.print_above(bytes),
            None => io::stderr().write_all(bytes).unwrap_or_default(), // no reason to end a run that is paid for
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::ProgressReporter;
    use crate::model::event::{Event, EventSink, ProgressSnapshot};
    use crate::model::page::{ItemId, StopReason};
    use crate::settings::{Layers, Origin, Settings};
    use std::time::Duration;

    fn reporter() -> ProgressReporter {
        let mut layers = Layers::built_in().unwrap();
        for (key, value) in [("out", "x"), ("progress", "plain")] {
            layers.set(key, value.to_owned(), &Origin::Flag).unwrap();
        }
        ProgressReporter::new(&Settings::resolve(&layers).unwrap(), None)
    }

    fn ended(reporter: &ProgressReporter, count: u64) {
        for _ in 0..count {
            reporter.event(&Event::Ended { id: &ItemId::new("1"), stop: StopReason::ShortPage, error: None });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_is_left_counts_what_this_run_ended_and_not_what_earlier_ones_did() {
        let reporter = reporter();
        tokio::time::advance(Duration::from_secs(90)).await; // the ledger is being read
        assert_eq!(reporter.state().eta(), None);
        reporter.event(&Event::Opened(ProgressSnapshot {
            items: 1_000,
            ended: 900,
            begun: 900,
            ..ProgressSnapshot::default()
        }));
        assert_eq!(reporter.state().eta(), None, "nothing has ended in this run");
        tokio::time::advance(Duration::from_secs(10)).await;
        ended(&reporter, 10);
        assert_eq!(reporter.state().eta(), Some(Duration::from_secs(90)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_is_left_is_unknown_when_every_list_has_begun() {
        let reporter = reporter();
        reporter.event(&Event::Opened(ProgressSnapshot { items: 40, ..ProgressSnapshot::default() }));
        for _ in 0..40 {
            reporter.event(&Event::Read { first: true, kept: 1, duplicates: 0, rejected: 0 });
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        ended(&reporter, 39);
        assert_eq!(reporter.state().eta(), None);
        ended(&reporter, 1);
        assert_eq!(reporter.state().eta(), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn ten_million_of_everything_fit_a_terminal_of_any_usual_width() {
        let reporter = reporter();
        let (before, many) = (reporter.lines(&reporter.state(), 0.0, 80), 12_345_678);
        assert_eq!(before, ["", "  opening the export  00:00:00"]);
        let snapshot = ProgressSnapshot {
            items: many,
            ended: many / 2,
            begun: many,
            pages: many,
            rows: many,
            credits: many,
            failed: 0,
            cut: 0,
        };
        reporter.event(&Event::Opened(snapshot));
        tokio::time::advance(Duration::from_secs(400_000)).await;
        for (width, height) in [(80, 4), (60, 6), (40, 7)] {
            let lines = reporter.lines(&reporter.state(), 12_345.6, width);
            assert!(lines.iter().all(|line| line.len() + 3 <= width) && lines.len() <= height, "{width}: {lines:#?}");
        }
        let [pages, credits] = reporter.state().fields(12_345.6, Some(many));
        assert_eq!(pages.join("  "), "12,345,678 pages  12,345,678 rows  12,346 req/s  eta -");
        assert_eq!(credits.join("  "), "credits 12,345,678/12,345,678  retries 0  429s 0  failed 0");
    }

    #[test]
    fn what_is_shown_before_the_first_request_and_in_a_replay_is_what_is_read() {
        let reporter = reporter();
        assert_eq!(reporter.state().preparation(), "opening the export");
        reporter.event(&Event::Reread(1));
        assert_eq!(reporter.state().preparation(), "reading the journal: 1 page");
        reporter.event(&Event::Rebuilding { segment: crate::model::page::SegmentId(7), nth: 1, of: 3, reason: "all" });
        reporter.event(&Event::Reread(1_199));
        assert_eq!(reporter.state().preparation(), "rebuilding segment 1 of 3: 1,200 pages read");
    }
}
