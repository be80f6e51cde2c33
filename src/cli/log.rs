//! Lines on standard error: text or JSON, with the time of the program's own clock, out of the way of a bar.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::progress::{LogLines, ProgressReporter};
use crate::settings::Settings;

/// Whether every line on standard error is to be JSON.
static JSON: AtomicBool = AtomicBool::new(false);

/// From now on every line on standard error is JSON, or is not.
pub fn speak_json(json: bool) {
    JSON.store(json, Ordering::Relaxed);
}

/// Whether every line on standard error is to be JSON.
pub fn speaks_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// A line of JSON like those of a run, for what is said outside of one.
pub fn json_line(level: &str, message: &str, next: Option<&str>) -> String {
    let fields = match next {
        Some(next) => serde_json::json!({ "message": message, "next": next }),
        None => serde_json::json!({ "message": message }),
    };
    let line =
        serde_json::json!({ "timestamp": crate::model::clock::wall().to_string(), "level": level, "fields": fields });
    crate::model::sanitize::json(&line) + "\n"
}

/// Lines for a run with a face.
pub fn log(settings: &Settings, face: &Arc<ProgressReporter>) {
    log_to(LogLines(Some(Arc::clone(face))), settings.json_logs);
}

/// Lines on standard error; `RUST_LOG` may name another level than info.
pub fn log_to(lines: LogLines, json: bool) {
    let asked = std::env::var("RUST_LOG").ok().filter(|level| !level.is_empty());
    let level = asked.as_deref().map_or(Ok(tracing::Level::INFO), str::parse);
    let (level, is_known) = level.map_or((tracing::Level::INFO, false), |level| (level, true));
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_timer(WallTime)
        .with_writer(move || lines.clone());
    // A second call, in a test, keeps the first one's lines.
    if json {
        builder.json().try_init().ok()
    } else {
        builder.compact().try_init().ok()
    };
    if !is_known {
        tracing::warn!("RUST_LOG is none of error, warn, info, debug and trace: info holds");
    }
}

/// The time of a log line, from the program's own clock.
struct WallTime;

impl tracing_subscriber::fmt::time::FormatTime for WallTime {
    fn format_time(&self, line: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(line, "{}", crate::model::clock::wall())
    }
}
