//! The command line: flags made from the table of settings, what each command does, and what a person sees meanwhile.
//!
//! May use everything. A command's result is what it prints and the code it ends with; only `main` prints and ends.
//! Read first: [`run`], then `work.rs`, which carries out an export.

pub mod log;
mod look;
pub(crate) mod progress;
pub(crate) mod rate_news;
pub(crate) mod rlimits;
mod serve;
mod show;
pub(crate) mod signals;
mod work;

use std::ffi::OsString;
use std::io::IsTerminal;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::error::{Error, ExitCode};
use crate::model::sanitize::{Sanitized, chain};
use crate::report::summary::Summary;
use crate::settings::{self, Layers, Origin, SETTINGS, Setting};
use crate::simulator;

/// The switch that asks for a result as JSON.
const JSON: &str = "json";
/// The word for what `--simulate` alone is.
const DEFAULTS: &str = "defaults";

/// The variable that asks for lines of JSON.
const JSON_LINES: &str = "PAGEHAUL_LOG_FORMAT";
/// Columns that the help takes at most.
const COLUMNS: usize = 80;

/// Threads for disk and CPU work: one commits, one writes files, one is spare for names and recovery. More would only spread
/// freed memory over more of the allocator's pools.
const BLOCKING_THREADS: usize = 3;

/// Settings that `replay` takes: the others are the export's own.
const REPLAYED: &[&str] = &[
    "out",
    "state_dir",
    "endpoint",
    "columns",
    "drop_columns",
    "file_size",
    "bloom_filters",
    "row_group_memory",
    "fail_on_drift",
    "progress",
    "heartbeat",
    "log_format",
];
/// Settings that say where an export is.
const PLACE: &[&str] = &["out", "state_dir"];

/// What a command came to.
#[derive(Debug)]
pub enum CommandOutput {
    /// Text for standard output.
    Text(String),
    /// Work that was carried out, well or not.
    Ended {
        /// What a person is told, on standard error.
        message: String,
        /// What standard output is told: one JSON object on one line, or nothing on a terminal.
        printed: String,
        /// The code.
        exit: ExitCode,
    },
}

impl CommandOutput {
    /// Work that was carried out. Where standard error is JSON, the object on standard output says it all; on a terminal the
    /// text for a person does, unless the object was asked for.
    fn ended(message: String, json: &str, exit: ExitCode, is_asked_for: bool) -> Self {
        let message = if log::speaks_json() { String::new() } else { message };
        let printed = if prints_result(is_asked_for) { format!("{json}\n") } else { String::new() };
        Self::Ended { message, printed, exit }
    }

    fn summed_up(summary: &Summary, is_asked_for: bool) -> Self {
        Self::ended(format!("{summary}\n"), &summary.json(), summary.exit, is_asked_for)
    }
}

/// Whether a result is printed as JSON: on a terminal only where that was asked for.
fn prints_result(is_asked_for: bool) -> bool {
    is_asked_for || log::speaks_json() || !std::io::stdout().is_terminal()
}

/// The command line of the program.
pub fn command() -> Command {
    let all: Vec<&Setting> = SETTINGS.iter().collect();
    let some = |keys: &[&str]| SETTINGS.iter().filter(|setting| keys.contains(&setting.key)).collect::<Vec<_>>();
    let config =
        Arg::new("config").long("config").value_name("FILE").help("Settings file, below flags and environment");
    let spec = Arg::new("spec").value_name("SPEC").default_value("").hide_default_value(true);
    let spec = spec.help("What differs from the defaults, such as seed=7,qps=50,latency=80ms");
    let listen = Arg::new("listen").long("listen").value_name("ADDRESS").default_value("127.0.0.1:8080");
    let count = Arg::new("products").long("products").value_name("N").help("Print N product ids and end");
    let sample = Arg::new("sample").long("sample").value_name("PERCENT");
    let sample = sample.help("Read the content of so many of 100 files and journal frames; always the same ones");
    Command::new("pagehaul")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Exports every video of a list of products into Parquet, resumable, paying for no page twice")
        .max_term_width(COLUMNS)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            with_settings(Command::new("export"), &all)
                .about("Export the list; run again with the same --out to resume")
                .args([config.clone(), json_switch()])
                .after_help(after_export()),
        )
        .subcommand(
            with_settings(Command::new("replay"), &some(REPLAYED))
                .about("Build the output from the journal, without a request: what waits, and what is not as it was")
                .args([switch("all", "Build every file again, also those that are as they should be"), json_switch()]),
        )
        .subcommand(
            with_settings(Command::new("verify"), &some(PLACE))
                .about("Compare files, manifests, journal and ledger; changes nothing")
                .args([sample, json_switch()]),
        )
        .subcommand(
            with_settings(Command::new("status"), &some(PLACE))
                .about("Say how far an export is, while it runs or after; changes nothing")
                .arg(switch(JSON, "Print one JSON object instead of text")),
        )
        .subcommand(
            Command::new("simulate")
                .about("Serve the embedded API on this machine until a signal comes, then print what it saw as JSON")
                .args([listen.help("Where to listen"), count, spec])
                .after_help(simulator::HELP),
        )
        .subcommand(
            with_settings(Command::new("schema"), &some(&["endpoint"]))
                .about("Print the columns of the files")
                .arg(switch("sql", "As a CREATE TABLE statement")),
        )
        .subcommand(Command::new("config").about("Settings").subcommand_required(true).subcommand(
            with_settings(Command::new("show"), &all).about("Print what holds and where it came from").arg(config),
        ))
}

/// What stands below the flags of `export`.
fn after_export() -> String {
    let codes = ExitCode::ALL.map(|code| format!("{} {}", code.number(), code.as_str()));
    format!(
        "Example:
  pagehaul export --products products.txt --qps 10 --out videos/2026-11-22

Every setting is also a variable (--page-size: PAGEHAUL_PAGE_SIZE) and a key of
the file that --config names (page_size). RUST_LOG=debug says more on standard
error, RUST_LOG=warn less.

Exit codes: {}.
The README says what a scheduler should do about each.",
        codes.join(", ")
    )
}

fn json_switch() -> Arg {
    switch(JSON, "Print the result as JSON on a terminal too; into a pipe or a file it always is")
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// Parses the command line. Help and version are answers; anything else that clap has to say becomes one line.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<ArgMatches, Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    log::speak_json(asks_for_json_lines(&arguments, std::env::var_os(JSON_LINES)));
    command().try_get_matches_from(&arguments).map_err(|error| {
        let text = error.to_string();
        if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Error::Answer(text);
        }
        let message = text.split("\n\nUsage:").next().unwrap_or_default().trim_start_matches("error: ");
        let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Error::CommandLine(lines.join("; ") + &of_simulate(&arguments))
    })
}

/// What to write where a space stands between `--simulate` and what it is to be: it can do without, so a space ends it.
fn of_simulate(arguments: &[OsString]) -> String {
    let behind = arguments.iter().skip_while(|argument| *argument != "--simulate").nth(1);
    let spec = behind.map(|spec| spec.to_string_lossy()).filter(|spec| spec.contains('=') && !spec.starts_with('-'));
    spec.map(|spec| format!("; write --simulate={}, without a space", Sanitized(&spec))).unwrap_or_default()
}

/// Whether lines on standard error are to be JSON, as far as that is said before anything else is looked at.
fn asks_for_json_lines(arguments: &[OsString], variable: Option<OsString>) -> bool {
    let flag =
        arguments.windows(2).any(|pair| matches!(pair, [flag, value] if flag == "--log-format" && value == "json"));
    flag || arguments.iter().any(|argument| argument == "--log-format=json")
        || variable.is_some_and(|value| value == "json")
}

/// What standard error is told of a run that could not go on.
pub fn complaint(error: &Error) -> String {
    let chain = chain(error);
    if log::speaks_json() {
        return log::json_line("ERROR", &chain, error.next_step());
    }
    let next = error.next_step().map(|next| format!("  next: {next}\n")).unwrap_or_default();
    format!("error: {chain}\n{next}")
}

/// Whether the command's last line on standard output is a JSON object, also where it could not go on.
pub fn has_result(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let mut arguments = arguments.into_iter().skip(1);
    let command = arguments.next().unwrap_or_default();
    let is_asked_for = arguments.any(|argument| argument == "--json");
    if command == "status" {
        return is_asked_for;
    }
    ["export", "replay", "verify"].iter().any(|known| command == *known) && prints_result(is_asked_for)
}

/// A setting's line of help, with its built-in value where there is one that means something.
fn help_of(setting: &Setting, built_in: Option<&Layers>) -> String {
    let value = built_in.and_then(|layers| layers.given(setting.key)).filter(|_| !setting.value.is_empty());
    value.map_or(setting.help.to_owned(), |value| format!("{} [default: {value}]", setting.help))
}

fn with_settings(command: Command, settings: &[&'static Setting]) -> Command {
    let built_in = Layers::built_in().ok();
    let flag = |setting: &&'static Setting| {
        let arg = Arg::new(setting.key).long(setting.key.replace('_', "-")).help(help_of(setting, built_in.as_ref()));
        let arg = arg.help_heading(setting.section);
        match (setting.value, setting.key) {
            ("", _) => arg.action(ArgAction::SetTrue),
            (value, "simulate") => {
                arg.value_name(value).num_args(0..=1).require_equals(true).default_missing_value(DEFAULTS)
            }
            (value, _) => arg.value_name(value).allow_negative_numbers(true),
        }
    };
    command.args(settings.iter().map(flag))
}

/// Carries out a command that was parsed.
pub fn run(matches: &ArgMatches) -> Result<CommandOutput, Error> {
    match matches.subcommand() {
        Some(("export", flags)) => block_on(work::export(layers(flags)?))
            .map(|summary| CommandOutput::summed_up(&summary, flags.get_flag(JSON))),
        Some(("replay", flags)) => block_on(work::replay(layers(flags)?, flags.get_flag("all")))
            .map(|summary| CommandOutput::summed_up(&summary, flags.get_flag(JSON))),
        Some(("verify", flags)) => {
            let sample = flags.get_one::<String>("sample").map(String::as_str);
            look::verify(&layers(flags)?, sample, flags.get_flag(JSON))
        }
        Some(("status", flags)) => look::status(&layers(flags)?, flags.get_flag(JSON)).map(CommandOutput::Text),
        Some(("simulate", flags)) => serve::simulate(flags),
        Some(("schema", flags)) => {
            let endpoint = settings::endpoint(&layers(flags)?)?;
            Ok(CommandOutput::Text(if flags.get_flag("sql") { show::sql(&endpoint) } else { show::schema(&endpoint) }))
        }
        Some(("config", config)) => match config.subcommand() {
            Some((_, flags)) => Ok(show::settings(&layers(flags)?)),
            None => Ok(CommandOutput::Text(String::new())),
        },
        Some(_) | None => Ok(CommandOutput::Text(String::new())),
    }
}

fn block_on<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, Error>
where
    Error: From<E>,
{
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(BLOCKING_THREADS).build();
    let runtime = runtime.map_err(|source| Error::System { action: "start the runtime", source })?;
    let result = runtime.block_on(work);
    // After a second signal blocking work may still be under way: the journal is what makes leaving it safe.
    runtime.shutdown_background();
    Ok(result?)
}

/// Flags over environment over file over built-in.
fn layers(flags: &ArgMatches) -> Result<Layers, Error> {
    let mut layers = Layers::built_in()?;
    if let Ok(Some(path)) = flags.try_get_one::<String>("config") {
        layers.add_file(std::path::Path::new(path))?;
    }
    let text = |text: OsString| text.to_string_lossy().into_owned();
    layers.add_environment(std::env::vars_os().map(|(name, value)| (text(name), text(value))))?;
    for setting in SETTINGS {
        let given = if setting.value.is_empty() {
            let switched = flags.try_get_one::<bool>(setting.key).ok().flatten().copied();
            switched.filter(|on| *on).map(|_| "true".to_owned())
        } else {
            flags.try_get_one::<String>(setting.key).ok().flatten().cloned()
        };
        if let Some(value) = given {
            layers.set(setting.key, value, &Origin::Flag)?;
        }
    }
    log::speak_json(layers.given("log_format") == Some("json"));
    Ok(layers)
}

/// What stands on standard output when a run could not go on: the summary's first fields.
pub fn error_json(error: &Error) -> String {
    let code = error.exit_code();
    crate::model::sanitize::json(&serde_json::json!({
        "status": code.as_str(),
        "exit_code": code.number(),
        "cause": chain(error),
        "next": error.next_step(),
    }))
}
