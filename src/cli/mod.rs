//! The command line: one file a command, the flags from the table of settings, and what a user sees of a run.
//!
//! May use everything. A command returns what to print and the exit code; only `main` prints and exits.
//! Read first: `cli::run`, then `export.rs`.

mod arguments;
mod colour;
mod completions;
mod config;
mod export;
mod help;
mod layout;
mod live_lines;
pub mod log;
mod man;
mod outcome;
mod plan;
pub(crate) mod progress;
mod prune;
pub(crate) mod rate_news;
mod reference;
mod replay;
mod report;
pub(crate) mod rlimits;
mod schema;
mod serve;
pub(crate) mod signals;
mod simulate;
mod status;
mod verify;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command};

use crate::error::Error;
use crate::model::sanitize::Sanitized;
pub use outcome::CommandOutput;

/// Width of the help.
const COLUMNS: usize = 80;
/// Threads for blocking work: one commits, one writes files, one is for names and recovery. More threads would spread freed
/// memory over more of the allocator's pools.
const BLOCKING_THREADS: usize = 3;

/// The command line of the program.
pub fn command() -> Command {
    Command::new("pagehaul")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Export a paged, paid, rate-limited list API to Parquet, resumable")
        .max_term_width(COLUMNS)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(commands().map(|(command, _)| command))
}

type Run = fn(&ArgMatches) -> Result<CommandOutput, Error>;

fn commands() -> [(Command, Run); 12] {
    [
        (plan::command(), plan::run),
        (export::command(), export::run),
        (replay::command(), replay::run),
        (verify::command(), verify::run),
        (status::command(), status::run),
        (report::command(), report::run),
        (prune::command(), prune::run),
        (simulate::command(), simulate::run),
        (schema::command(), schema::run),
        (config::command(), config::run),
        (completions::command(), completions::run),
        (man::command(), man::run),
    ]
}

/// Runs a command line. Any complaint of clap's becomes one line.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<CommandOutput, Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    log::set_json(arguments::asks_for_json_lines(&arguments));
    let error = match command().try_get_matches_from(&arguments) {
        Ok(matches) => {
            let (name, flags) = matches.subcommand().unwrap_or(("", &matches));
            let run = commands().into_iter().find(|(command, _)| command.get_name() == name);
            return run.map_or_else(|| Ok(CommandOutput::text(String::new())), |(_, run)| run(flags));
        }
        Err(error) => error,
    };
    let text = error.to_string();
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Ok(CommandOutput::text(text));
    }
    let message = text.split("\n\nUsage:").next().unwrap_or_default().trim_start_matches("error: ");
    let lines: Vec<&str> = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .collect();
    Err(Error::Usage((lines.join("; ") + &simulate_hint(&arguments)).into()))
}

/// A hint for `--simulate SPEC`: the specification is optional, so only `=` can introduce it.
fn simulate_hint(arguments: &[OsString]) -> String {
    let next = arguments.iter().skip_while(|argument| *argument != "--simulate").nth(1);
    let spec = next.map(|spec| spec.to_string_lossy()).filter(|spec| spec.contains('=') && !spec.starts_with('-'));
    spec.map(|spec| format!("; write --simulate={}, without a space", Sanitized(&spec))).unwrap_or_default()
}

fn block_on<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, Error>
where
    Error: From<E>,
{
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(BLOCKING_THREADS).build();
    let runtime = runtime.map_err(|source| Error::System("start the runtime", source))?;
    let result = runtime.block_on(work);
    // After a second signal blocking work may still run. Leaving it is safe because of the journal.
    runtime.shutdown_background();
    Ok(result?)
}
