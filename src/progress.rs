//! What a person sees while a run works: a bar on a terminal, a line from time to time elsewhere.
//!
//! Events only add to counters; a task looks at them and shows. Log lines go through the bar, so that they never tear.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::clock;
use crate::event::{Event, Monitor};
use crate::figures::Grouped;
use crate::page::{Charge, StopReason};
use crate::sanitize::Sanitized;
use crate::settings::{Progress, Settings};

/// How often a bar is drawn.
const TICK: Duration = Duration::from_millis(200);
/// How far back the shown rate looks.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// The monitor of a run with a face.
#[derive(Debug)]
pub struct Face {
    bar: Option<ProgressBar>,
    heartbeat: Option<Duration>,
    counters: Counters,
    allowed: Mutex<Option<f64>>,
    max_credits: Option<u64>,
}

#[derive(Debug, Default)]
struct Counters {
    items: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
    pages: AtomicU64,
    rows: AtomicU64,
    credits: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Face {
    /// The face that the settings ask for.
    pub fn new(settings: &Settings, allowed: Option<f64>) -> Arc<Self> {
        let terminal = io::stderr().is_terminal() && !settings.json_logs;
        let bar = match settings.progress {
            Progress::Auto => terminal,
            Progress::Bar => true,
            Progress::Plain | Progress::None => false,
        };
        let bar = bar.then(bar_of).filter(|bar| !bar.is_hidden());
        let plain = bar.is_none() && settings.progress != Progress::None;
        Arc::new(Self {
            bar,
            heartbeat: plain.then_some(settings.heartbeat),
            counters: Counters::default(),
            allowed: Mutex::new(allowed),
            max_credits: settings.max_credits,
        })
    }

    /// Shows the counters until it is dropped.
    pub async fn show(&self) -> Infallible {
        let every = if self.bar.is_some() { Some(TICK) } else { self.heartbeat };
        let Some(every) = every else { return std::future::pending().await };
        let mut pace = Pace::new(get(&self.counters.requests), get(&self.counters.ended));
        loop {
            tokio::time::sleep(every).await;
            let (rate, eta) = pace.look(&self.counters);
            let Some(bar) = &self.bar else {
                tracing::info!("{}", self.plain(rate, eta));
                continue;
            };
            bar.set_length(get(&self.counters.items));
            bar.set_position(get(&self.counters.ended));
            bar.set_message(self.line(rate, eta));
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
            format!("{} pages  {} rows  {rate:.0}", Grouped(get(&counters.pages)), Grouped(get(&counters.rows)));
        if let Some(allowed) = *self.allowed.lock().unwrap_or_else(PoisonError::into_inner) {
            push(&mut line, format_args!("/{allowed:.0}"));
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

fn bar_of() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    let template = "  {bar:30} {human_pos}/{human_len} products  {elapsed_precise}\n  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(TICK);
    bar
}

/// Rates from what the counters were some seconds ago.
struct Pace {
    began: Instant,
    first_ended: u64,
    seen: std::collections::VecDeque<(Instant, u64)>,
}

impl Pace {
    fn new(requests: u64, ended: u64) -> Self {
        Self { began: clock::now(), first_ended: ended, seen: [(clock::now(), requests)].into() }
    }

    /// Requests a second of late, and how long it will take if products go on ending as they did.
    fn look(&mut self, counters: &Counters) -> (f64, Option<Duration>) {
        let now = clock::now();
        let requests = get(&counters.requests);
        self.seen.push_back((now, requests));
        while self.seen.len() > 2 && self.seen.front().is_some_and(|(then, _)| now - *then > RATE_WINDOW) {
            self.seen.pop_front();
        }
        let (then, before) = self.seen.front().copied().unwrap_or((now, requests));
        let number = |count: u64| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
        let seconds = (now - then).as_secs_f64().max(0.001);
        let (ended, items) = (get(&counters.ended), get(&counters.items));
        if self.first_ended == 0 && ended > 0 && self.began.elapsed() < TICK * 2 {
            self.first_ended = ended; // products that earlier runs ended say nothing about the speed of this one
        }
        let done = number(ended.saturating_sub(self.first_ended));
        let left = number(items.saturating_sub(ended));
        let eta = (done > 0.0).then(|| (now - self.began).mul_f64((left / done).min(1e6)));
        (number(requests.saturating_sub(before)) / seconds, eta)
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

/// How many ids of a list stood in it before; nothing if none did.
struct Again(u64);

impl std::fmt::Display for Again {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 > 0 { write!(f, " ({} of them again)", Grouped(self.0)) } else { Ok(()) }
    }
}

impl Monitor for Face {
    fn event(&self, event: &Event<'_>) {
        let counters = &self.counters;
        match event {
            Event::Planned { listed, new, repeated, reopened } => {
                let (listed, new) = (Grouped(*listed), Grouped(*new));
                tracing::info!("{listed} ids listed{}, {new} new, {reopened} to try again", Again(*repeated));
            }
            Event::Opened(standing) => {
                counters.items.store(standing.items, Ordering::Relaxed);
                counters.ended.store(standing.ended, Ordering::Relaxed);
                counters.pages.store(standing.pages, Ordering::Relaxed);
                counters.rows.store(standing.rows, Ordering::Relaxed);
                counters.credits.store(standing.credits, Ordering::Relaxed);
            }
            Event::Attempted { charge, throttled } => {
                add(&counters.requests, 1);
                add(&counters.credits, u64::from(*charge != Charge::Free));
                add(&counters.throttled, u64::from(*throttled));
                add(&counters.retries, u64::from(*throttled));
            }
            Event::Read { kept, .. } => {
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
                    add(&counters.failed, 1);
                    let failed = matches!(stop, StopReason::Failed | StopReason::Rejected);
                    let word = if failed { "failed" } else { "cut short" };
                    tracing::warn!("product {id} {word} ({stop}): {}", error.unwrap_or_default());
                }
            }
            Event::Held { wait, rate } => {
                *self.allowed.lock().unwrap_or_else(PoisonError::into_inner) = Some(*rate);
                tracing::info!("429: every request waits {wait:.1?}, then {rate:.1} a second");
            }
            Event::Rate(rate) => *self.allowed.lock().unwrap_or_else(PoisonError::into_inner) = Some(*rate),
            Event::Warning(said) => tracing::warn!("{said}"),
            Event::Outage { cause } => {
                tracing::warn!("nothing succeeds any more, from now on one request at a time: {cause}");
            }
            Event::Recovered => tracing::info!("the API works again"),
            Event::Rebuilding { segment, why } => {
                tracing::info!("segment {segment} is built again from its journal: {}", Sanitized(why));
            }
            Event::Published { segment, files, rows, bytes } => {
                tracing::info!(
                    "segment {segment} published: {files} files, {} rows, {} bytes",
                    Grouped(*rows),
                    Grouped(*bytes)
                );
            }
            Event::Stopping { cause, in_flight } => {
                tracing::warn!("stopping: {cause}; waiting for up to {in_flight} answers under way");
            }
        }
    }
}

/// Standard error, with the bar out of the way while something is written. A line that cannot be written is dropped.
#[derive(Clone, Debug)]
pub struct Lines(pub Option<Arc<Face>>);

impl Write for Lines {
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
