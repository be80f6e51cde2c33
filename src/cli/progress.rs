//! The progress of a run: a bar on a terminal, a line at each heartbeat elsewhere.
//!
//! Events only add to counters; a task shows them. Log lines go through the bar, so that they never tear.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::cli::rate_news::RateNews;
use crate::model::clock;
use crate::model::event::{Event, EventSink, ProgressSnapshot};
use crate::model::page::{Charge, ItemId, StopReason};
use crate::model::sanitize::Sanitized;
use crate::report::totals::{Bytes, Count, Grouped, Rate, as_u64, repair_price};
use crate::settings::{Progress, Settings};

/// Time between two updates of a bar.
const TICK: Duration = Duration::from_millis(200);
/// The period of the shown rate.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// Failed or incomplete products that are logged one by one; `products.parquet` lists them all.
const LOGGED: u64 = 20;

/// Counts the events of a run and shows them.
#[derive(Debug)]
pub(crate) struct ProgressReporter {
    bar: Option<ProgressBar>,
    heartbeat: Option<Duration>,
    counters: Counters,
    /// The current rate limit, requests per second.
    limit: Mutex<Option<f64>>,
    rate_news: RateNews,
    max_credits: Option<u64>,
    /// When requests started, and how many products had ended before.
    started: OnceLock<(Instant, u64)>,
    is_replay: bool,
}

#[derive(Debug, Default)]
struct Counters {
    items: AtomicU64,
    begun: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
    pages: AtomicU64,
    rows: AtomicU64,
    credits: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
    reread: AtomicU64,
    rebuilt: AtomicU64,
    to_rebuild: AtomicU64,
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl ProgressReporter {
    /// For an export whose rate limit starts at `limit` requests per second.
    pub(crate) fn new(settings: &Settings, limit: Option<f64>) -> Arc<Self> {
        Self::create(settings, limit, false)
    }

    pub(crate) fn for_replay(settings: &Settings) -> Arc<Self> {
        Self::create(settings, None, true)
    }

    fn create(settings: &Settings, limit: Option<f64>, is_replay: bool) -> Arc<Self> {
        let has_bar = match settings.progress {
            Progress::Auto => io::stderr().is_terminal() && !settings.json_logs,
            Progress::Bar => true,
            Progress::Plain | Progress::None => false,
        };
        let bar = has_bar.then(spinner).filter(|bar| !bar.is_hidden());
        let is_plain = bar.is_none() && settings.progress != Progress::None;
        Arc::new(Self {
            bar,
            heartbeat: is_plain.then_some(settings.heartbeat),
            counters: Counters::default(),
            limit: Mutex::new(limit),
            rate_news: RateNews::new(limit),
            max_credits: settings.max_credits,
            started: OnceLock::new(),
            is_replay,
        })
    }

    /// Shows the counters until it is dropped.
    pub(crate) async fn show(&self) -> Infallible {
        let every = if self.bar.is_some() { Some(TICK) } else { self.heartbeat };
        let Some(every) = every else { return std::future::pending().await };
        let mut throughput = Throughput::new(get(&self.counters.requests));
        loop {
            tokio::time::sleep(every).await;
            let rate = throughput.update(get(&self.counters.requests));
            match (&self.bar, self.started.get()) {
                (None, None) => tracing::info!("{}", self.preparation()),
                (Some(bar), None) => bar.set_message(self.preparation()),
                (None, Some(_)) => tracing::info!("{}", self.plain(rate, self.eta())),
                (Some(bar), Some(_)) => {
                    bar.set_length(get(&self.counters.items));
                    bar.set_position(get(&self.counters.ended));
                    bar.set_message(self.line(rate, self.eta()));
                }
            }
        }
    }

    /// The time left if products go on ending as they did in this run. Unknown once all have begun: the lengths of the
    /// remaining lists are unknown.
    fn eta(&self) -> Option<Duration> {
        let (since, ended_before) = *self.started.get()?;
        let [items, begun, ended] = [&self.counters.items, &self.counters.begun, &self.counters.ended].map(get);
        let number = |count: u64| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
        let (done, left) = (number(ended.saturating_sub(ended_before)), number(items.saturating_sub(ended)));
        let is_known = done > 0.0 && (begun < items || ended >= items);
        is_known.then(|| (clock::now() - since).mul_f64((left / done).min(1e6)))
    }

    /// The text before requests start, and in a replay.
    fn preparation(&self) -> String {
        let [read, number, total] = [&self.counters.reread, &self.counters.rebuilt, &self.counters.to_rebuild].map(get);
        match (total, read) {
            (0, 0) => "opening the export".to_owned(),
            (0, read) => format!("reading the journal: {}", Count(read, "page")),
            (total, read) => format!("rebuilding segment {number} of {total}: {} read", Count(read, "page")),
        }
    }

    /// Logs what is durable when a run fails while it works.
    pub(crate) fn log_kept(&self) {
        let (pages, credits) = (Count(get(&self.counters.pages), "page"), Count(get(&self.counters.credits), "credit"));
        if self.started.get().is_some() {
            tracing::info!("kept: {pages} in the journal; {credits} known to be spent");
        }
    }

    /// Removes the bar from the screen.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// The counters under a bar: at most 80 columns for ten million of everything.
    fn line(&self, rate: f64, eta: Option<Duration>) -> String {
        let counters = &self.counters;
        let mut line =
            format!("{} pages  {} rows  {}", Grouped(get(&counters.pages)), Grouped(get(&counters.rows)), Rate(rate));
        if let Some(limit) = *self.limit.lock().unwrap_or_else(PoisonError::into_inner) {
            push(&mut line, format_args!("/{}", Rate(limit)));
        }
        push(&mut line, format_args!(" req/s  eta {}\n  credits {}", Eta(eta), Grouped(get(&counters.credits))));
        if let Some(max) = self.max_credits {
            push(&mut line, format_args!("/{}", Grouped(max)));
        }
        push(
            &mut line,
            format_args!("  retries {}  429s {}", Grouped(get(&counters.retries)), Grouped(get(&counters.throttled))),
        );
        push(&mut line, format_args!("  failed {}", Grouped(get(&counters.failed))));
        line
    }

    fn plain(&self, rate: f64, eta: Option<Duration>) -> String {
        let counters = &self.counters;
        let done = format!("{}/{} products  ", Grouped(get(&counters.ended)), Grouped(get(&counters.items)));
        done + &self.line(rate, eta).replace('\n', "")
    }
}

fn push(line: &mut String, arguments: std::fmt::Arguments<'_>) {
    if line.write_fmt(arguments).is_err() {
        line.push('?'); // writing to a String cannot fail
    }
}

/// The bar while the amount of work is unknown.
fn spinner() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    set_style(&bar, "\n  {spinner} {msg}  {elapsed_precise}");
    bar.enable_steady_tick(TICK);
    bar
}

/// Every template begins with an empty line. A terminal shows Ctrl-C as `^C` after the bar. If the bar's last line is full, all
/// lines move up by one, and the first one can no longer be cleared.
fn set_style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
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

struct Eta(Option<Duration>);

impl std::fmt::Display for Eta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(seconds) = self.0.map(|eta| eta.as_secs()) else { return f.write_str("-") };
        match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
            (0, 0, seconds) => write!(f, "{seconds}s"),
            (0, minutes, seconds) => write!(f, "{minutes}m{seconds:02}s"),
            (hours, minutes, _) => write!(f, "{hours}h{minutes:02}m"),
        }
    }
}

/// A count with text around it; nothing if it is zero.
struct Nonzero(&'static str, u64, &'static str);

impl std::fmt::Display for Nonzero {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(before, count, after) = *self;
        if count > 0 { write!(f, "{before}{}{after}", Grouped(count)) } else { Ok(()) }
    }
}

impl ProgressReporter {
    fn opened(&self, snapshot: ProgressSnapshot) {
        let (counters, ProgressSnapshot { items, ended, begun, pages, rows, credits }) = (&self.counters, snapshot);
        let values = [
            (&counters.items, items),
            (&counters.ended, ended),
            (&counters.begun, begun),
            (&counters.pages, pages),
            (&counters.rows, rows),
            (&counters.credits, credits),
        ];
        for (counter, number) in values {
            counter.store(number, Ordering::Relaxed);
        }
        if self.is_replay {
            return;
        }
        if pages > 0 || ended > 0 {
            let (done, items, pages) = (Grouped(ended), Grouped(items), Count(pages, "page"));
            tracing::info!("resuming: {done} of {items} products done, {pages} paid for");
        }
        self.started.get_or_init(|| (clock::now(), ended));
        if let Some(bar) = &self.bar {
            set_style(bar, "\n  {bar:30} {human_pos}/{human_len} products  {elapsed_precise}\n  {msg}");
        }
    }

    fn log(line: Option<String>) {
        if let Some(line) = line {
            tracing::info!("{line}");
        }
    }

    fn log_incomplete(&self, id: &ItemId, stop: StopReason, message: &str) {
        // Most products that fail do so at their first page.
        add(&self.counters.begun, u64::from(stop == StopReason::Failed));
        let before = self.counters.failed.fetch_add(1, Ordering::Relaxed);
        match before.cmp(&LOGGED) {
            std::cmp::Ordering::Greater => {}
            std::cmp::Ordering::Equal => {
                tracing::warn!("more products failed or are incomplete: _pagehaul/products.parquet lists them all");
            }
            std::cmp::Ordering::Less if stop == StopReason::Failed => tracing::warn!("product {id} failed: {message}"),
            std::cmp::Ordering::Less if stop == StopReason::Rejected => {
                tracing::warn!("product {id} was rejected: {message}");
            }
            std::cmp::Ordering::Less => tracing::warn!("product {id} is incomplete ({stop}): {message}"),
        }
    }
}

impl EventSink for ProgressReporter {
    fn event(&self, event: &Event<'_>) {
        let counters = &self.counters;
        match event {
            Event::Registered { listed, new, repeated, reopened, others } => {
                let (listed, new) = (Count(*listed, "id"), Grouped(*new));
                let duplicates = Nonzero(" (duplicates: ", *repeated, ")");
                let others = Nonzero("; ", *others, " from earlier lists stay in the export");
                tracing::info!("{listed} listed{duplicates}, {new} new, {reopened} to retry{others}");
            }
            Event::Repair { moved, empty, pages } => tracing::info!("{}", repair_price(*moved, *empty, *pages)),
            Event::Opened(standing) => self.opened(*standing),
            Event::Attempted { charge, throttled } => {
                add(&counters.requests, 1);
                add(&counters.credits, u64::from(*charge != Charge::Free));
                add(&counters.throttled, u64::from(*throttled));
                add(&counters.retries, u64::from(*throttled));
            }
            Event::Reread(pages) => add(&counters.reread, as_u64(*pages)),
            Event::Read { first, kept, .. } => {
                add(&counters.begun, u64::from(*first));
                add(&counters.pages, 1);
                add(&counters.rows, *kept);
            }
            Event::Retrying { id, page, after, cause } => {
                add(&counters.retries, 1);
                tracing::debug!("{id}, page {page}: {cause}; retrying in {after:.1?}");
            }
            Event::Ended { id, stop, error } => {
                add(&counters.ended, 1);
                if !stop.is_complete() {
                    self.log_incomplete(id, *stop, error.unwrap_or_default());
                }
            }
            Event::Throttled { wait, rate } => {
                *self.limit.lock().unwrap_or_else(PoisonError::into_inner) = Some(*rate);
                Self::log(self.rate_news.throttled(*wait, *rate));
            }
            Event::Rate(rate) => {
                *self.limit.lock().unwrap_or_else(PoisonError::into_inner) = Some(*rate);
                Self::log(self.rate_news.changed(*rate));
            }
            Event::Warning(message) => tracing::warn!("{message}"),
            Event::Outage { cause } => {
                tracing::warn!("all requests fail, sending one at a time until one succeeds: {cause}");
            }
            Event::Recovered => tracing::info!("the API works again"),
            Event::Rebuilding { segment, nth, of, reason } => {
                counters.rebuilt.store(as_u64(*nth), Ordering::Relaxed);
                counters.to_rebuild.store(as_u64(*of), Ordering::Relaxed);
                tracing::info!("rebuilding segment {segment}: {}", Sanitized(reason));
            }
            Event::Published { segment, files, rows, bytes } => {
                let (files, rows) = (Count(*files, "file"), Count(*rows, "row"));
                tracing::info!("segment {segment} published: {files}, {rows}, {}", Bytes(*bytes));
            }
            Event::Stopping { cause, in_flight: 0 } => tracing::warn!("stopping: {cause}"),
            Event::Stopping { cause, in_flight } => {
                let responses = Count(as_u64(*in_flight), "response");
                tracing::warn!("stopping: {cause}; waiting for up to {responses} in flight");
            }
        }
    }
}

/// Writes to stderr, with the bar out of the way. A line that cannot be written is dropped.
#[derive(Clone, Debug)]
pub(crate) struct LogLines(pub(crate) Option<Arc<ProgressReporter>>);

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let write = || io::stderr().write_all(bytes);
        let written = match self.0.as_ref().and_then(|reporter| reporter.bar.as_ref()) {
            Some(bar) => bar.suspend(write),
            None => write(),
        };
        written.ok(); // a log line is no reason to end a run that is paid for
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
    use std::sync::Arc;
    use std::time::Duration;

    fn reporter() -> Arc<ProgressReporter> {
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
        assert_eq!(reporter.eta(), None);
        reporter.event(&Event::Opened(ProgressSnapshot {
            items: 1_000,
            ended: 900,
            begun: 900,
            ..ProgressSnapshot::default()
        }));
        assert_eq!(reporter.eta(), None, "nothing has ended in this run");
        tokio::time::advance(Duration::from_secs(10)).await;
        ended(&reporter, 10);
        assert_eq!(reporter.eta(), Some(Duration::from_secs(90)));
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
        assert_eq!(reporter.eta(), None);
        ended(&reporter, 1);
        assert_eq!(reporter.eta(), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_shown_before_the_first_request_and_in_a_replay_is_what_is_read() {
        let reporter = reporter();
        assert_eq!(reporter.preparation(), "opening the export");
        reporter.event(&Event::Reread(1));
        assert_eq!(reporter.preparation(), "reading the journal: 1 page");
        reporter.event(&Event::Rebuilding { segment: crate::model::page::SegmentId(7), nth: 1, of: 3, reason: "all" });
        reporter.event(&Event::Reread(1_199));
        assert_eq!(reporter.preparation(), "rebuilding segment 1 of 3: 1,200 pages read");
    }
}
