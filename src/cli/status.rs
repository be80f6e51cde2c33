//! `status`: the progress of an export, also while it runs. Changes nothing.

use std::io::IsTerminal;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};

use super::arguments::{JSON, LOCATION, layers, switch, with_settings};
use super::colour::{Mood, on_stdout};
use super::log::{self, init_for};
use super::progress::LogLines;
use super::signals::{listen_for_signals, signal};
use super::{CommandOutput, block_on};
use crate::error::{Error, ExitCode};
use crate::model::sanitize;
use crate::output::read_only::ExportPath;
use crate::report::status::{self, ExportStatus};
use crate::report::wait;
use crate::settings::parse;

const WAIT: &str = "wait";
/// The value of `--wait` alone.
const NO_LIMIT: &str = "none";

pub(super) fn command() -> Command {
    let wait = Arg::new(WAIT).long(WAIT).value_name("TIME").num_args(0..=1).default_missing_value(NO_LIMIT);
    with_settings(Command::new("status"), LOCATION)
        .about("Show an export's progress (read-only)")
        .arg(switch(JSON, "Print one JSON object instead of text"))
        .arg(wait.value_parser(limit).help("First wait until the run that works on it has ended").long_help(
            "First wait until no process works on the export, at most for TIME (such as 30m); then print its status. \
             The exit code is that of the last run, as far as it is known: 0 if the export is complete, 3 if it is \
             partial, 4 if a process still works on it, 5 if it is not finished and the run left no summary, as after \
             a crash; otherwise the one in _pagehaul/summary.json. The summary of a bucket is not read. Where no \
             export has started yet, the exit code is 2 at once.",
        ))
}

fn limit(text: &str) -> Result<Option<Duration>, String> {
    if text == NO_LIMIT { Ok(None) } else { parse::duration(text).map(Some) }
}

pub(super) fn run(flags: &ArgMatches) -> Result<CommandOutput, Error> {
    let export = ExportPath::from_layers(&layers(flags)?)?;
    let (status, exit) = match flags.get_one::<Option<Duration>>(WAIT) {
        Some(limit) => {
            let status = block_on(waited(&export, *limit))?;
            let exit = wait::last_exit(&export, &status);
            (ExportStatus { exit_code: exit.number(), ..status }, exit)
        }
        None => (block_on(status::status(&export))?, ExitCode::Complete),
    };
    let printed = if flags.get_flag(JSON) { sanitize::json(&status) + "\n" } else { text(&status) };
    Ok(CommandOutput { exit, ..CommandOutput::text(printed) })
}

/// The status when the run has ended, or at the end of the time.
async fn waited(export: &ExportPath, limit: Option<Duration>) -> Result<ExportStatus, Error> {
    let signals = listen_for_signals()?; // before the next line: its reader may send one
    if let Err(holder) = export.lock()? {
        init_for(LogLines(None), log::is_json());
        tracing::info!("waiting for {holder}");
    }
    tokio::select! {
        biased;
        code = signal(signals, 1) => Err(Error::Cut(code, "stopped by a signal".to_owned())),
        waited = wait::wait(export, limit) => {
            waited?;
            Ok(status::status(export).await?)
        }
    }
}

fn text(status: &ExportStatus) -> String {
    let mood = match status.status {
        "complete" => Mood::Good,
        _ => Mood::Incomplete,
    };
    let text = status.text(std::io::stdout().is_terminal());
    if status.holder.is_some() { text } else { on_stdout(text, status.status, mood) }
}

#[cfg(test)]
mod tests {
    use super::limit;
    use std::time::Duration;

    #[test]
    fn the_time_to_wait_has_a_unit_and_none_is_no_limit() {
        assert_eq!((limit("none"), limit("5m")), (Ok(None), Ok(Some(Duration::from_secs(300)))));
        for wrong in ["", "0s", "5", "1M", "soon"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
