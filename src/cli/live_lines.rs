//! A few lines at the end of a terminal that are rewritten in place, with log lines above them. indicatif draws them.
//!
//! No line is as wide as the terminal: one that is full would wrap, and so would the `^C` that a terminal shows behind the last one.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use terminal_size::{Width, terminal_size_of};

/// Columns that stay free at the end of a line.
pub(super) const MARGIN: usize = 3;
/// The width of a terminal that does not say it.
const DEFAULT_WIDTH: usize = 80;
/// The most updates a second.
const MAX_RATE: u8 = 10;

#[derive(Debug)]
pub(super) struct LiveLines(ProgressBar);

impl LiveLines {
    /// None where stderr is no terminal, or one that cannot move its cursor.
    pub(super) fn open() -> Option<Self> {
        let is_dumb = std::env::var_os("TERM").is_some_and(|kind| kind == "dumb");
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(MAX_RATE));
        let style = ProgressStyle::with_template("{msg}").ok()?;
        (!is_dumb && !bar.is_hidden()).then(|| Self(bar.with_style(style)))
    }

    /// The terminal's columns.
    pub(super) fn width() -> usize {
        let size = terminal_size_of(io::stderr()).filter(|(width, _)| width.0 > 0);
        size.map_or(DEFAULT_WIDTH, |(Width(width), _)| width.into())
    }

    /// Shows these lines in place of those before.
    pub(super) fn show(&self, lines: &[String]) {
        let columns = Self::width().saturating_sub(MARGIN);
        let lines: Vec<String> = lines.iter().map(|line| line.chars().take(columns).collect()).collect();
        self.0.set_message(lines.join("\n"));
    }

    /// Writes whole lines above the live ones.
    pub(super) fn print_above(&self, text: &[u8]) {
        // A display is no reason to end a run that is paid for.
        self.0.suspend(|| io::stderr().write_all(text).unwrap_or_default());
    }

    /// Removes the lines for good.
    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
