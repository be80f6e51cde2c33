//! What a command prints, and what is printed of a command that failed.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::IsTerminal;

use serde::Serialize;

use super::colour::{Mood, on_stderr};
use super::log;
use crate::error::{Error, ExitCode};
use crate::model::sanitize::{chain, json};

/// What a command prints, and its exit code.
#[derive(Debug)]
pub struct CommandOutput {
    /// For a person, on stderr.
    pub message: String,
    /// For stdout: a text, or one JSON object on one line, or nothing.
    pub printed: String,
    /// The exit code.
    pub exit: ExitCode,
}

impl CommandOutput {
    pub(super) fn text(printed: String) -> Self {
        Self { message: String::new(), printed, exit: ExitCode::Complete }
    }

    /// Work that ended. If log lines are JSON, the object on stdout is all; on a terminal the text for a person is, unless
    /// `is_json_requested`.
    pub(super) fn ended(report: &(impl Display + Serialize), exit: ExitCode, is_json_requested: bool) -> Self {
        let text = || on_stderr(format!("{report}\n"), exit.as_str(), exit.into());
        let message = if log::is_json() { String::new() } else { text() };
        let printed = if prints_json(is_json_requested) { json(report) + "\n" } else { String::new() };
        Self { message, printed, exit }
    }

    /// A command line that failed.
    pub fn failed(error: &Error, arguments: impl IntoIterator<Item = OsString>) -> Self {
        let printed = if prints_json_error(arguments) { error_json(error) + "\n" } else { String::new() };
        Self { message: error_lines(error), printed, exit: error.exit_code() }
    }
}

/// Whether a result is printed as JSON: on a terminal only on request.
fn prints_json(is_requested: bool) -> bool {
    is_requested || log::is_json() || !std::io::stdout().is_terminal()
}

/// Whether a failure of this command line is printed as JSON too, on stdout.
fn prints_json_error(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let mut arguments = arguments.into_iter().skip(1);
    let command = arguments.next().unwrap_or_default();
    let is_requested = arguments.any(|argument| argument == "--json");
    match command.to_str() {
        Some("export" | "plan" | "replay" | "verify" | "prune") => prints_json(is_requested),
        Some("status") => is_requested,
        Some(_) | None => false,
    }
}

pub(super) fn error_lines(error: &Error) -> String {
    let chain = chain(error);
    if log::is_json() {
        return log::json_line("ERROR", &chain, error.next_step());
    }
    let next = error.next_step().map(|next| format!("  next: {next}\n")).unwrap_or_default();
    on_stderr(format!("error: {chain}\n{next}"), "error: ", Mood::Bad)
}

/// An error as JSON, for stdout: the first fields of a summary.
fn error_json(error: &Error) -> String {
    let code = error.exit_code();
    json(&serde_json::json!({
        "status": code.as_str(),
        "exit_code": code.number(),
        "cause": chain(error),
        "next": error.next_step(),
    }))
}
