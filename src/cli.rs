//! The command line: flags made from the table of settings, and what each command does.
//!
//! A command's result is what it prints and the code it ends with; only `main` prints and ends.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use secrecy::SecretString;
use tokio::net::TcpListener;

use crate::api::{HttpApi, HttpSettings};
use crate::endpoint::{Column, ColumnKind, EXTRA, Endpoint, FETCHED_AT, PAGE_NUM, Role};
use crate::error::{Error, ExitCode};
use crate::event::Monitor;
use crate::export::{export, replay};
use crate::job::Job;
use crate::log::{log, log_to};
use crate::page::ItemId;
use crate::plan::{Ids, List};
use crate::progress::{Face, Lines};
use crate::sanitize::Sanitized;
use crate::settings::{Layers, Origin, Qps, SETTINGS, Setting, Settings, SettingsError};
use crate::signals::{listen_for_signals, signal};
use crate::simulator::{self, Server, Simulator};
use crate::summary::Summary;
use crate::token;

/// What `--simulate` alone is: a run of some seconds that shows everything.
const DEMONSTRATION: &str = "products=200,qps=250,latency=15ms,jitter=20ms,max_videos=900";
/// The word for it.
const DEFAULTS: &str = "defaults";

/// Threads for disk and CPU work: one commits, one writes files, one is spare for names and recovery. More would only spread
/// freed memory over more of the allocator's pools.
const BLOCKING_THREADS: usize = 3;

/// Settings that `replay` takes: the others are the export's own.
const REPLAYED: &[&str] = &["out", "state_dir", "endpoint", "memory", "progress", "heartbeat", "log_format"];

/// What a command came to.
#[derive(Debug)]
pub enum Done {
    /// Text for standard output.
    Text(String),
    /// A run's summary.
    Summary(Box<Summary>),
}

/// The command line of the program.
pub fn command() -> Command {
    let all: Vec<&Setting> = SETTINGS.iter().collect();
    let replayed: Vec<&Setting> = SETTINGS.iter().filter(|setting| REPLAYED.contains(&setting.key)).collect();
    let config =
        Arg::new("config").long("config").value_name("FILE").help("Settings file, below flags and environment");
    let spec = Arg::new("spec").value_name("SPEC").default_value("").help(
        "What differs from the defaults, such as seed=7,qps=50,limit=window,latency=80ms,jitter=40ms,errors=0.05,credits=100",
    );
    let listen = Arg::new("listen").long("listen").value_name("ADDRESS").default_value("127.0.0.1:8080");
    let count = Arg::new("products").long("products").value_name("N").help("Print N product ids and end");
    let sql = Arg::new("sql").long("sql").action(ArgAction::SetTrue).help("As a CREATE TABLE statement");
    Command::new("pagehaul")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Exports every video of a list of products into Parquet, resumable, paying for no page twice")
        .subcommand_required(true)
        .subcommand(
            with_settings(Command::new("export"), &all)
                .about("Export the list; run again with the same --out to resume")
                .arg(config.clone()),
        )
        .subcommand(
            with_settings(Command::new("replay"), &replayed).about("Publish what is in the journal, without a request"),
        )
        .subcommand(Command::new("simulate").about("Serve the embedded API on this machine").args([
            listen.help("Where to listen"),
            count,
            spec,
        ]))
        .subcommand(
            with_settings(
                Command::new("schema"),
                &all.iter().copied().filter(|setting| setting.key == "endpoint").collect::<Vec<_>>(),
            )
            .about("Print the columns of the files")
            .arg(sql),
        )
        .subcommand(Command::new("config").about("Settings").subcommand_required(true).subcommand(
            with_settings(Command::new("show"), &all).about("Print what holds and where it came from").arg(config),
        ))
}

/// Parses the command line. Help and version are answers; anything else that clap has to say becomes one line.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<ArgMatches, Error> {
    command().try_get_matches_from(arguments).map_err(|error| {
        if !error.use_stderr() {
            return Error::Answer(error.to_string());
        }
        let text = error.to_string();
        let said = text.split("\n\nUsage:").next().unwrap_or_default().trim_start_matches("error: ");
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Error::CommandLine(lines.join("; "))
    })
}

/// Whether the command's last line on standard output is a JSON object, whatever happens.
pub fn has_result(arguments: impl IntoIterator<Item = OsString>) -> bool {
    arguments.into_iter().nth(1).is_some_and(|command| command == "export" || command == "replay")
}

fn with_settings(command: Command, settings: &[&'static Setting]) -> Command {
    let flag = |setting: &&'static Setting| {
        let arg = Arg::new(setting.key).long(setting.key.replace('_', "-")).help(setting.help);
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
pub fn run(matches: &ArgMatches) -> Result<Done, Error> {
    match matches.subcommand() {
        Some(("export", flags)) => block_on(run_export(layers(flags)?)).map(|summary| Done::Summary(Box::new(summary))),
        Some(("replay", flags)) => block_on(run_replay(layers(flags)?)).map(|summary| Done::Summary(Box::new(summary))),
        Some(("simulate", flags)) => run_simulate(flags),
        Some(("schema", flags)) => {
            let endpoint = match flags.get_one::<String>("endpoint") {
                None => Endpoint::parse(crate::endpoint::BUILT_IN),
                Some(path) => Endpoint::parse(
                    &std::fs::read_to_string(path)
                        .map_err(|source| Error::System { action: "read the endpoint description", source })?,
                ),
            };
            let endpoint = endpoint.map_err(Error::Endpoint)?;
            Ok(Done::Text(if flags.get_flag("sql") { sql(&endpoint) } else { schema(&endpoint) }))
        }
        Some(("config", config)) => match config.subcommand() {
            Some((_, flags)) => Ok(Done::Text(shown(&layers(flags)?))),
            None => Ok(Done::Text(String::new())),
        },
        Some(_) | None => Ok(Done::Text(String::new())),
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(BLOCKING_THREADS).build();
    let runtime = runtime.map_err(|source| Error::System { action: "start the runtime", source })?;
    let result = runtime.block_on(work);
    // After a second signal blocking work may still be under way: the journal is what makes leaving it safe.
    runtime.shutdown_background();
    result
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
    Ok(layers)
}

async fn run_export(layers: Layers) -> Result<Summary, Error> {
    let mut settings = Settings::resolve(&layers)?;
    if layers.given("token_stdin") == Some("true") && layers.given("products") == Some("-") {
        return Err(Error::Usage("standard input cannot be both the key and the list: give one of them as a file"));
    }
    let signals = listen_for_signals()?;
    let simulator = simulator_of(&mut settings)?;
    let key = if simulator.is_some() {
        SecretString::from("simulated")
    } else if layers.given("products").is_none() {
        return Err(
            SettingsError::Missing { what: "no list of products", next: "name one with --products FILE" }.into()
        );
    } else {
        token::read(&layers, std::env::var(token::VARIABLE).ok())?
    };
    // A list on a pipe may stall before its first byte.
    let ids = tokio::select! {
        ids = ids_of(&layers, simulator.as_ref().map(|(_, spec)| spec)) => ids?,
        code = signal(signals.clone(), 1) => return Err(Error::Killed(code)),
    };
    crate::sanitize::hide(&key);
    let qps = allowed(&settings, simulator.as_ref().map(|(_, spec)| spec))?;
    let sort = sort_values(&settings);
    let http = HttpSettings {
        base_url: settings.base_url.clone(),
        key,
        page_size: settings.page_size,
        sort,
        connections: settings.max_in_flight,
        connect_timeout: settings.connect_timeout,
        is_loopback: settings.is_loopback(),
    };
    let api = Arc::new(HttpApi::new(&settings.endpoint, http)?);
    let face = Face::new(&settings, qps);
    log(&settings, &face);
    let monitor = monitor_of(&face);
    let job = Job { settings, qps, seed: crate::clock::wall().0.unsigned_abs(), monitor };
    let result = tokio::select! {
        biased;
        code = signal(signals.clone(), 2) => Err(Error::Killed(code)),
        never = face.show() => match never {},
        result = export(&job, ids, api, signal(signals, 1)) => result,
    };
    face.end();
    drop(simulator);
    result
}

/// The list that the settings name, or the embedded API's own.
async fn ids_of(layers: &Layers, simulated: Option<&simulator::Settings>) -> Result<Ids, Error> {
    match (layers.given("products").map(List::named), simulated) {
        (None, Some(spec)) => Ok(Box::new(spec.ids().map(|id| Ok(ItemId::new(&id))))),
        (None, None) => Ok(Box::new(std::iter::empty())),
        (Some(list), _) => {
            let column = layers.given("product_column").map(str::to_owned);
            Ok(tokio::task::spawn_blocking(move || list.open(column.as_deref())).await??)
        }
    }
}

/// Starts the embedded API, if it is the one to export from, and points the settings to it.
fn simulator_of(settings: &mut Settings) -> Result<Option<(Server, simulator::Settings)>, Error> {
    let Some(text) = &settings.simulate else { return Ok(None) };
    let text = if text == DEFAULTS { DEMONSTRATION } else { text };
    let spec: simulator::Settings = text.parse().map_err(Error::Spec)?;
    let simulator = Simulator::new(&settings.endpoint, spec.clone())?;
    let server = simulator::start(Arc::new(simulator))
        .map_err(|source| Error::System { action: "start the simulator", source })?;
    let wrong = |_| Error::Usage("the simulator's address is no URL");
    settings.base_url = url::Url::parse(&server.base_url()).map_err(wrong)?;
    settings.simulated_as = Some(format!("simulator seed={} max_videos={}", spec.seed, spec.max_videos));
    Ok(Some((server, spec)))
}

/// Requests a second; a real host's limit must be given.
fn allowed(settings: &Settings, simulated: Option<&simulator::Settings>) -> Result<Option<f64>, Error> {
    match (settings.qps, simulated) {
        (Some(Qps::PerSecond(rate)), _) => Ok(Some(rate)),
        (Some(Qps::Unlimited), _) => Ok(None),
        (None, Some(spec)) => Ok(spec.qps.map(|qps| f64::from(qps.per_second.get()))),
        (None, None) if settings.is_loopback() => Ok(None),
        (None, None) => Err(SettingsError::Missing {
            what: "no --qps",
            next: "give the requests a second that your key allows: your plan's page in the provider's dashboard states it",
        }
        .into()),
    }
}

fn sort_values(settings: &Settings) -> Option<(String, String)> {
    let (field, descending) = settings.sort.as_ref()?;
    let params = settings.endpoint.sort.as_ref()?;
    let direction = if *descending { &params.descending } else { &params.ascending };
    Some((params.fields.get(field)?.clone(), direction.clone()))
}

async fn run_replay(mut layers: Layers) -> Result<Summary, Error> {
    let out = layers.given("out").map(std::path::PathBuf::from);
    let identity = crate::site::identity(out.as_deref(), layers.given("state_dir"))?;
    for (key, value) in &identity {
        if !matches!(key.as_str(), "endpoint" | "base_url") {
            layers.set(key, value.clone(), &Origin::Ledger)?;
        }
    }
    let mut settings = Settings::resolve(&layers)?;
    settings.simulated_as = identity.get("base_url").cloned(); // no request is sent: any API will do
    let face = Face::new(&settings, None);
    log(&settings, &face);
    let monitor = monitor_of(&face);
    let result = replay(&Job { settings, qps: None, seed: 0, monitor }).await;
    face.end();
    result
}

fn run_simulate(flags: &ArgMatches) -> Result<Done, Error> {
    let text = flags.get_one::<String>("spec").map_or("", String::as_str);
    let mut spec: simulator::Settings = text.parse().map_err(Error::Spec)?;
    if let Some(count) = flags.get_one::<String>("products") {
        spec.products = count.parse().map_err(|_| Error::Usage("--products must be a whole number"))?;
        return Ok(Done::Text(spec.ids().fold(String::new(), |text, id| text + &id + "\n")));
    }
    let listen = flags.get_one::<String>("listen").map_or("", String::as_str);
    let address: SocketAddr =
        listen.parse().map_err(|_| Error::Usage("--listen must be an address such as 127.0.0.1:8080"))?;
    if !address.ip().is_loopback() {
        return Err(Error::Usage("--listen must be a loopback address: the simulator is no server for others"));
    }
    let endpoint = Endpoint::parse(crate::endpoint::BUILT_IN).map_err(Error::Endpoint)?;
    let simulator = Arc::new(Simulator::new(&endpoint, spec)?);
    let account = Arc::clone(&simulator);
    block_on(async move {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| Error::System { action: "listen", source })?;
        let bound = listener.local_addr().map_err(|source| Error::System { action: "listen", source })?;
        log_to(Lines(None), false);
        tracing::info!("serving http://{bound}{}", endpoint.path);
        let signals = listen_for_signals()?;
        let stopped = async {
            signal(signals, 1).await;
        };
        let served = simulator::serve(simulator, listener, stopped).await;
        served.map_err(|source| Error::System { action: "serve", source })
    })?;
    Ok(Done::Text(format!("{:?}\n", account.account())))
}

fn monitor_of(face: &Arc<Face>) -> Arc<dyn Monitor> {
    Arc::<Face>::clone(face)
}

/// What stands on standard output when a run could not go on: the summary's first fields.
pub fn error_json(code: ExitCode, cause: &str) -> String {
    crate::sanitize::json(&serde_json::json!({
        "status": code.as_str(),
        "exit_code": code.number(),
        "cause": cause,
        "next": code.next_step(),
    }))
}

/// `config show`.
fn shown(layers: &Layers) -> String {
    layers.shown().fold(String::new(), |text, (key, value, origin)| {
        let value = crate::sanitize::sanitize(value);
        text + &format!("{:<40} # {origin}\n", format!("{key} = {value:?}"))
    })
}

/// `schema`.
fn schema(endpoint: &Endpoint) -> String {
    let line = |name: &str, kind: &str, null: bool, role: &str, meaning: &str| {
        let null = if null { "yes" } else { "no" };
        format!("{name:<26} {kind:<26} {null:<5} {role:<10} {}\n", Sanitized(meaning))
    };
    let mut lines = vec![format!("{:<26} {:<26} {:<5} {:<10} {}\n", "column", "type", "null", "role", "meaning")];
    for column in &endpoint.columns {
        let unit = column.unit.as_ref().map(|unit| format!(" [{unit}]")).unwrap_or_default();
        let kind = column.kind.data_type().to_string();
        lines.push(line(&column.name, &kind, column.nullable, column.role.as_str(), &(column.meaning.clone() + &unit)));
    }
    let time = ColumnKind::Timestamp.data_type().to_string();
    lines.push(line(FETCHED_AT, &time, false, "own", "When the row was fetched."));
    lines.push(line(PAGE_NUM, "Int32", false, "own", "Page on which it stood."));
    lines.push(line(EXTRA, "Utf8", true, "own", "JSON of unknown fields and of values that did not fit."));
    lines.concat()
}

/// `schema --sql`.
fn sql(endpoint: &Endpoint) -> String {
    let field = |column: &Column| {
        let null = if column.nullable || column.role == Role::Partition { "" } else { " NOT NULL" };
        format!("  {} {}{null}", quoted(&column.name), column.kind.sql_type())
    };
    let mut fields: Vec<String> = endpoint.columns.iter().map(field).collect();
    fields.push(format!("  \"{FETCHED_AT}\" {} NOT NULL", ColumnKind::Timestamp.sql_type()));
    fields.push(format!("  \"{PAGE_NUM}\" INTEGER NOT NULL"));
    fields.push(format!("  \"{EXTRA}\" VARCHAR"));
    format!("CREATE TABLE {} (\n{}\n);\n", quoted(&endpoint.name), fields.join(",\n"))
}

/// A name as SQL writes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
