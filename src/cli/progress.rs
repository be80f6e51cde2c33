//! What a person sees while a run works: a bar on a terminal, a line from time to time elsewhere.
//!
//! Events only add to counters; a task looks at them and shows. Log lines go through the bar, so that they never tear.

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

/// How often a bar is drawn.
const TICK: Duration = Duration::from_millis(200);
/// How far back the shown rate looks.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// Products that are named when they do not end well; the file of all products names them all.
const NAMED: u64 = 20;

/// The monitor of a run with a face.
#[derive(Debug)]
pub struct ProgressReporter {
    bar: Option<ProgressBar>,
    heartbeat: Option<Duration>,
    counters: Counters,
    allowed: Mutex<Option<f64>>,
    rate_news: RateNews,
    max_credits: Option<u64>,
    /// When walks began, and how many products had ended before; none before that, and in a replay.
    walking: OnceLock<(Instant, u64)>,
    walks: bool,
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
    /// The face that the settings ask for, of an export.
    pub fn new(settings: &Settings, allowed: Option<f64>) -> Arc<Self> {
        Self::of(settings, allowed, true)
    }

    /// The same of a replay, which walks nothing.
    pub fn of_replay(settings: &Settings) -> Arc<Self> {
        Self::of(settings, None, false)
    }

    fn of(settings: &Settings, allowed: Option<f64>, walks: bool) -> Arc<Self> {
        let terminal = io::stderr().is_terminal() && !settings.json_logs;
        let bar = match settings.progress {
            Progress::Auto => terminal,
            Progress::Bar => true,
            Progress::Plain | Progress::None => false,
        };
        let bar = bar.then(spinner).filter(|bar| !bar.is_hidden());
        let plain = bar.is_none() && settings.progress != Progress::None;
        Arc::new(Self {
            bar,
            heartbeat: plain.then_some(settings.heartbeat),
            counters: Counters::default(),
            allowed: Mutex::new(allowed),
            rate_news: RateNews::new(allowed),
            max_credits: settings.max_credits,
            walking: OnceLock::new(),
            walks,
        })
    }

    /// Shows the counters until it is dropped.
    pub async fn show(&self) -> Infallible {
        let every = if self.bar.is_some() { Some(TICK) } else { self.heartbeat };
        let Some(every) = every else { return std::future::pending().await };
        let mut pace = Throughput::new(get(&self.counters.requests));
        loop {
            tokio::time::sleep(every).await;
            let rate = pace.look(get(&self.counters.requests));
            match (&self.bar, self.walking.get()) {
                (None, None) => tracing::info!("{}", self.before()),
                (Some(bar), None) => bar.set_message(self.before()),
                (None, Some(_)) => tracing::info!("{}", self.plain(rate, self.eta())),
                (Some(bar), Some(_)) => {
                    bar.set_length(get(&self.counters.items));
                    bar.set_position(get(&self.counters.ended));
                    bar.set_message(self.line(rate, self.eta()));
                }
            }
        }
    }

    /// How long it will take if products go on ending as they did in this run. Unknown when every one has begun: how long
    /// the lists are that are left, nobody knows.
    fn eta(&self) -> Option<Duration> {
        let (since, ended_before) = *self.walking.get()?;
        let [items, begun, ended] = [&self.counters.items, &self.counters.begun, &self.counters.ended].map(get);
        let number = |count: u64| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
        let (done, left) = (number(ended.saturating_sub(ended_before)), number(items.saturating_sub(ended)));
        let is_known = done > 0.0 && (begun < items || ended >= items);
        is_known.then(|| (clock::now() - since).mul_f64((left / done).min(1e6)))
    }

    /// What is there to see before walks begin, and in a replay.
    fn before(&self) -> String {
        let [read, nth, of] = [&self.counters.reread, &self.counters.rebuilt, &self.counters.to_rebuild].map(get);
        match (of, read) {
            (0, 0) => "looking at what is there".to_owned(),
            (0, read) => format!("{} of the journal read", Count(read, "page")),
            (of, read) => format!("segment {nth} of {of}, {} read", Count(read, "page")),
        }
    }

    /// Says what is kept when a run cannot go on in the middle of its work.
    pub fn kept(&self) {
        let (pages, credits) = (Count(get(&self.counters.pages), "page"), Count(get(&self.counters.credits), "credit"));
        if self.walking.get().is_some() {
            tracing::info!("kept: {pages} in the journal; {credits} known to be spent");
        }
    }

    /// Takes the bar off the screen.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// The counters under a bar: at most 80 columns for ten million of everything.
    fn line(&self, rate: f64, eta: Option<Duration>) -> String {
        let counters = &self.counters;
        let mut line =
            format!("{} pages  {} rows  {}", Grouped(get(&counters.pages)), Grouped(get(&counters.rows)), Rate(rate));
        if let Some(allowed) = *self.allowed.lock().unwrap_or_else(PoisonError::into_inner) {
            push(&mut line, format_args!("/{}", Rate(allowed)));
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

/// What a bar is before anybody knows how much there is to do.
fn spinner() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    set_style(&bar, "\n  {spinner} {msg}  {elapsed_precise}");
    bar.enable_steady_tick(TICK);
    bar
}

/// Every template begins with an empty line. A terminal shows a Ctrl-C as `^C` behind the bar, where its last line is full: all
/// moves up by a line, and what can no more be cleared is the first.
fn set_style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
}

/// Rates from what the counter of requests was some seconds ago.
struct Throughput(VecDeque<(Instant, u64)>);

impl Throughput {
    fn new(requests: u64) -> Self {
        Self([(clock::now(), requests)].into())
    }

    /// Requests a second of late.
    fn look(&mut self, requests: u64) -> f64 {
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

/// A count that is said where it is not zero.
struct Also(&'static str, u64, &'static str);

impl std::fmt::Display for Also {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(before, count, after) = *self;
        if count > 0 { write!(f, "{before}{}{after}", Grouped(count)) } else { Ok(()) }
    }
}

impl ProgressReporter {
    fn opened(&self, standing: ProgressSnapshot) {
        let (counters, ProgressSnapshot { items, ended, begun, pages, rows, credits }) = (&self.counters, standing);
        let before = [
            (&counters.items, items),
            (&counters.ended, ended),
            (&counters.begun, begun),
            (&counters.pages, pages),
            (&counters.rows, rows),
            (&counters.credits, credits),
        ];
        for (counter, number) in before {
            counter.store(number, Ordering::Relaxed);
        }
        if !self.walks {
            return;
        }
        if pages > 0 || ended > 0 {
            let (done, items, pages) = (Grouped(ended), Grouped(items), Count(pages, "page"));
            tracing::info!("resuming: {done} of {items} products done, {pages} paid for");
        }
        self.walking.get_or_init(|| (clock::now(), ended));
        if let Some(bar) = &self.bar {
            set_style(bar, "\n  {bar:30} {human_pos}/{human_len} products  {elapsed_precise}\n  {msg}");
        }
    }

    fn say(line: Option<String>) {
        if let Some(line) = line {
            tracing::info!("{line}");
        }
    }

    fn ended_badly(&self, id: &ItemId, stop: StopReason, message: &str) {
        // One that fails does so at its first page, as a rule.
        add(&self.counters.begun, u64::from(stop == StopReason::Failed));
        let before = self.counters.failed.fetch_add(1, Ordering::Relaxed);
        match before.cmp(&NAMED) {
            std::cmp::Ordering::Greater => {}
            std::cmp::Ordering::Equal => {
                tracing::warn!("further products did not end well: _pagehaul/products.parquet will name them all");
            }
            std::cmp::Ordering::Less if stop == StopReason::Failed => tracing::warn!("product {id} failed: {message}"),
            std::cmp::Ordering::Less if stop == StopReason::Rejected => {
                tracing::warn!("product {id} was rejected: {message}");
            }
            std::cmp::Ordering::Less => tracing::warn!("product {id} was cut short ({stop}): {message}"),
        }
    }
}

impl EventSink for ProgressReporter {
    fn event(&self, event: &Event<'_>) {
        let counters = &self.counters;
        match event {
            Event::Registered { listed, new, repeated, reopened, others } => {
                let (listed, new) = (Count(*listed, "id"), Grouped(*new));
                let again = Also(" (", *repeated, " of them again)");
                let others = Also(", and ", *others, " of earlier lists, which stay in the export");
                tracing::info!("{listed} listed{again}, {new} new, {reopened} to try again{others}");
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
                tracing::debug!("{id}, page {page}: {cause}; again in {after:.1?}");
            }
            Event::Ended { id, stop, error } => {
                add(&counters.ended, 1);
                if !stop.is_complete() {
                    self.ended_badly(id, *stop, error.unwrap_or_default());
                }
            }
            Event::Held { wait, rate } => {
                *self.allowed.lock().unwrap_or_else(PoisonError::into_inner) = Some(*rate);
                Self::say(self.rate_news.held(*wait, *rate));
            }
            Event::Rate(rate) => {
                *self.allowed.lock().unwrap_or_else(PoisonError::into_inner) = Some(*rate);
                Self::say(self.rate_news.moved(*rate));
            }
            Event::Warning(message) => tracing::warn!("{message}"),
            Event::Outage { cause } => {
                tracing::warn!("nothing succeeds any more, from now on one request at a time: {cause}");
            }
            Event::Recovered => tracing::info!("the API works again"),
            Event::Rebuilding { segment, nth, of, reason } => {
                counters.rebuilt.store(as_u64(*nth), Ordering::Relaxed);
                counters.to_rebuild.store(as_u64(*of), Ordering::Relaxed);
                tracing::info!("segment {segment} is built again: {}", Sanitized(reason));
            }
            Event::Published { segment, files, rows, bytes } => {
                let (files, rows) = (Count(*files, "file"), Count(*rows, "row"));
                tracing::info!("segment {segment} published: {files}, {rows}, {}", Bytes(*bytes));
            }
            Event::Stopping { cause, in_flight: 0 } => tracing::warn!("stopping: {cause}"),
            Event::Stopping { cause, in_flight } => {
                let answers = Count(as_u64(*in_flight), "answer");
                tracing::warn!("stopping: {cause}; waiting for up to {answers} under way");
            }
        }
    }
}

/// Standard error, with the bar out of the way while something is written. A line that cannot be written is dropped.
#[derive(Clone, Debug)]
pub struct LogLines(pub Option<Arc<ProgressReporter>>);

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let write = || io::stderr().write_all(bytes);
        let written = match self.0.as_ref().and_then(|face| face.bar.as_ref()) {
            Some(bar) => bar.suspend(write),
            None => write(),
        };
        // Nobody reads it, or there is no room for it: no reason to end a run that is paid for.
        written.ok();
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

    fn face() -> Arc<ProgressReporter> {
        let mut layers = Layers::built_in().unwrap();
        for (key, value) in [("out", "x"), ("progress", "plain")] {
            layers.set(key, value.to_owned(), &Origin::Flag).unwrap();
        }
        ProgressReporter::new(&Settings::resolve(&layers).unwrap(), None)
    }

    fn ended(face: &ProgressReporter, count: u64) {
        for _ in 0..count {
            face.event(&Event::Ended { id: &ItemId::new("1"), stop: StopReason::ShortPage, error: None });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_is_left_counts_what_this_run_ended_and_not_what_earlier_ones_did() {
        let face = face();
        tokio::time::advance(Duration::from_secs(90)).await; // the ledger is being read
        assert_eq!(face.eta(), None);
        face.event(&Event::Opened(ProgressSnapshot {
            items: 1_000,
            ended: 900,
            begun: 900,
            ..ProgressSnapshot::default()
        }));
        assert_eq!(face.eta(), None, "nothing has ended in this run");
        tokio::time::advance(Duration::from_secs(10)).await;
        ended(&face, 10);
        assert_eq!(face.eta(), Some(Duration::from_secs(90)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_is_left_is_unknown_when_every_list_has_begun() {
        let face = face();
        face.event(&Event::Opened(ProgressSnapshot { items: 40, ..ProgressSnapshot::default() }));
        for _ in 0..40 {
            face.event(&Event::Read { first: true, kept: 1, duplicates: 0, rejected: 0 });
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        ended(&face, 39);
        assert_eq!(face.eta(), None);
        ended(&face, 1);
        assert_eq!(face.eta(), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_shown_before_the_first_request_and_in_a_replay_is_what_is_read() {
        let face = face();
        assert_eq!(face.before(), "looking at what is there");
        face.event(&Event::Reread(1));
        assert_eq!(face.before(), "1 page of the journal read");
        face.event(&Event::Rebuilding { segment: crate::model::page::SegmentId(7), nth: 1, of: 3, reason: "all" });
        face.event(&Event::Reread(1_199));
        assert_eq!(face.before(), "segment 1 of 3, 1,200 pages read");
    }
}
