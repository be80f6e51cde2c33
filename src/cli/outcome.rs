//! What a command prints, and what is printed of a command that failed.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::IsTerminal;

use serde::Serialize;

use super::log;
use crate::error::{Error, ExitCode};
use crate::model::sanitize::{chain, json};

/// The result of a command.
#[derive(Debug)]
pub enum CommandOutput {
    /// Text for stdout; the exit code is 0.
    Text(String),
    /// Work that ended, well or not.
    Ended {
        /// For a person, on stderr.
        message: String,
        /// For stdout: one JSON object on one line, or nothing on a terminal.
        printed: String,
        /// The exit code.
        exit: ExitCode,
    },
}

impl CommandOutput {
    /// Work that ended. If log lines are JSON, the object on stdout is all; on a terminal the text for a person is, unless
    /// `is_json_requested`.
    pub(super) fn ended(report: &(impl Display + Serialize), exit: ExitCode, is_json_requested: bool) -> Self {
        let message = if log::is_json() { String::new() } else { format!("{report}\n") };
        let printed = if prints_json(is_json_requested) { json(report) + "\n" } else { String::new() };
        Self::Ended { message, printed, exit }
    }
}

/// Whether a result is printed as JSON: on a terminal only on request.
fn prints_json(is_requested: bool) -> bool {
    is_requested || log::is_json() || !std::io::stdout().is_terminal()
}

/// Whether a failure of this command line is printed as JSON too, on stdout.
pub fn prints_json_error(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let mut arguments = arguments.into_iter().skip(1);
    let command = arguments.next().unwrap_or_default();
    let is_requested = arguments.any(|argument| argument == "--json");
    match command.to_str() {
        Some("export" | "replay" | "verify") => prints_json(is_requested),
        Some("status") => is_requested,
        Some(_) | None => false,
    }
}

/// The lines about an error, for stderr.
pub fn error_lines(error: &Error) -> String {
    let chain = chain(error);
    if log::is_json() {
        return log::json_line("ERROR", &chain, error.next_step());
    }
    let next = error.next_step().map(|next| format!("  next: {next}\n")).unwrap_or_default();
    format!("error: {chain}\n{next}")
}

/// An error as JSON, for stdout: the first fields of a summary.
pub fn error_json(error: &Error) -> String {
    let code = error.exit_code();
    json(&serde_json::json!({
        "status": code.as_str(),
        "exit_code": code.number(),
        "cause": chain(error),
        "next": error.next_step(),
    }))
}
