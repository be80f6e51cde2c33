//! Lines on standard error: text or JSON, with the time of the program's own clock, out of the way of a bar.

use std::sync::Arc;

use crate::progress::{Face, Lines};
use crate::settings::Settings;

/// Lines for a run with a face.
pub fn log(settings: &Settings, face: &Arc<Face>) {
    log_to(Lines(Some(Arc::clone(face))), settings.json_logs);
}

/// Lines on standard error; `RUST_LOG` may name another level than info.
pub fn log_to(lines: Lines, json: bool) {
    let level = std::env::var("RUST_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(tracing::Level::INFO);
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
}

/// The time of a log line, from the program's own clock.
struct WallTime;

impl tracing_subscriber::fmt::time::FormatTime for WallTime {
    fn format_time(&self, line: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(line, "{}", crate::clock::wall())
    }
}
