//! Log lines on stderr, as text or JSON, with the time of the program's own clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::progress::{LogLines, ProgressReporter};
use crate::model::{clock, sanitize};
use crate::settings::Settings;

static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Sets whether every line on stderr is JSON.
pub fn set_json(is_json: bool) {
    IS_JSON.store(is_json, Ordering::Relaxed);
}

/// Whether every line on stderr is JSON.
pub fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// A line of JSON like the log lines of a run, for messages outside a run.
pub fn json_line(level: &str, message: &str, next: Option<&str>) -> String {
    let fields = match next {
        Some(next) => serde_json::json!({ "message": message, "next": next }),
        None => serde_json::json!({ "message": message }),
    };
    let line = serde_json::json!({ "timestamp": clock::wall().to_string(), "level": level, "fields": fields });
    sanitize::json(&line) + "\n"
}

/// Starts logging for a run, out of the way of its progress bar.
pub(super) fn init(settings: &Settings, reporter: &Arc<ProgressReporter>) {
    init_for(LogLines(Some(Arc::clone(reporter))), settings.json_logs);
}

/// Starts logging. `RUST_LOG` may name another level than info.
pub(super) fn init_for(lines: LogLines, is_json: bool) {
    let given = std::env::var("RUST_LOG").ok().filter(|level| !level.is_empty());
    let level = given.as_deref().map_or(Ok(tracing::Level::INFO), str::parse);
    let (level, is_known) = level.map_or((tracing::Level::INFO, false), |level| (level, true));
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        .with_timer(WallTime)
        .with_writer(move || lines.clone());
    // A second call, in a test, keeps the first subscriber.
    // Only this program's own lines: what its libraries say is for whoever looks for a bug in them.
    let own =
        filter_fn(move |about| about.target().starts_with(env!("CARGO_PKG_NAME")) || level > tracing::Level::INFO);
    if is_json {
        builder.json().finish().with(own).try_init().ok()
    } else {
        builder.compact().finish().with(own).try_init().ok()
    };
    if !is_known {
        tracing::warn!("RUST_LOG must be error, warn, info, debug or trace; using info");
    }
}

struct WallTime;

impl tracing_subscriber::fmt::time::FormatTime for WallTime {
    fn format_time(&self, line: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(line, "{}", clock::wall())
    }
}
