//! `export`: exports a list, or resumes an export.

use std::sync::Arc;
use std::time::Duration;

use clap::{ArgMatches, Command};
use secrecy::SecretString;

use super::arguments::{DEFAULTS, JSON, config, json, layers, with_settings};
use super::help::with_short_help;
use super::progress::{LogLines, ProgressReporter};
use super::signals::{Signals, listen_for_signals, signal};
use super::{CommandOutput, block_on, log, rlimits, serve};
use crate::error::{Error, ExitCode};
use crate::fetch::{HttpApi, HttpSettings, authority};
use crate::input::api_key::{self, KeySource};
use crate::input::item_list::{Ids, ItemList};
use crate::input::size_hints::SizeHints;
use crate::model::clock;
use crate::model::event::{Event, EventSink};
use crate::model::page::ItemId;
use crate::model::sanitize::{chain, hide};
use crate::plan::Plan;
use crate::report::summary::Summary;
use crate::run::context::RunContext;
use crate::run::probe::ProbeOutcome;
use crate::run::time_limit::TimeLimit;
use crate::run::{export, plan, probe};
use crate::settings::{Layers, RateLimit, SETTINGS, Settings, table};
use crate::simulator::{self, Server, Simulator, SimulatorSettings};
use crate::state::rate_cache::{self, RateCache};

/// The specification of `--simulate` alone: a run of some seconds that shows everything.
const DEMONSTRATION: &str = "products=200,qps=250,latency=15ms,jitter=20ms,max_videos=900";

const NO_LIST: &str = "no list of products; name one with --products FILE";
const EXAMPLE: &str = "pagehaul export --products products.txt --qps 10 --out videos/2026-11-22";

pub(super) fn command() -> Command {
    let codes = ExitCode::ALL.map(|code| format!("{} {}", code.number(), code.as_str()));
    let command = with_settings(Command::new("export"), SETTINGS)
        .about("Export the list; run the same command again to resume")
        .args([config(), json()])
        .after_long_help(format!(
            "Example:
  {EXAMPLE}

Every setting is also a variable (--page-size: PAGEHAUL_PAGE_SIZE) and a key of
the --config file (page_size). RUST_LOG=debug logs more, RUST_LOG=warn less.

Exit codes: {}.
The README says what a scheduler should do about each.",
            codes.join(", ")
        ));
    with_short_help(command, "export", Some(EXAMPLE))
}

pub(super) fn run(flags: &ArgMatches) -> Result<CommandOutput, Error> {
    let ended = block_on(export(layers(flags)?, None))?;
    Ok(match ended {
        Ended::Exported(summary) => CommandOutput::ended(&*summary, summary.exit, flags.get_flag(JSON)),
        Ended::Planned { plan, .. } => CommandOutput::ended(&*plan, ExitCode::Complete, flags.get_flag(JSON)),
    })
}

/// How a run ended.
pub(super) enum Ended {
    Exported(Box<Summary>),
    /// With the rate limit that a probe discovered.
    Planned {
        plan: Box<Plan>,
        rate: Option<f64>,
    },
}

/// Exports the list, or with `probe` reads so many pages of a sample of it and plans the rest.
pub(super) async fn export(layers: Layers, probe: Option<u64>) -> Result<Ended, Error> {
    let mut settings = Settings::resolve(&layers)?;
    check_stdin(&layers)?;
    let time_limit = TimeLimit::from_settings(&settings);
    if let Some(pages) = probe {
        settings.max_credits = Some(settings.max_credits.map_or(pages, |most| most.min(pages)));
    }
    let simulator = start_simulator(&mut settings)?;
    let signals = listen_for_signals()?;
    let listening = serve::listen(&settings).await?;
    let key = if simulator.is_some() {
        SecretString::from("simulated")
    } else {
        api_key(&layers, settings.is_loopback(), time_limit.as_ref(), signals.clone()).await?
    };
    hide(&key);
    let requested = settings.max_in_flight;
    let files = (if simulator.is_some() { 2 } else { 1 }, serve::open_files(&settings));
    settings.max_in_flight = rlimits::requests(requested, files.0, files.1)?;
    let simulated = simulator.as_ref().map(|(_, spec)| spec);
    let rate_cache = if simulator.is_some() { None } else { rate_cache(&settings, &key) };
    let qps = rate_limit(&settings, simulated, rate_cache.as_ref())?;
    let sizes = size_hints(&layers)?;
    let api = Arc::new(HttpApi::new(&settings.endpoint, http_settings(&settings, key))?);
    let reporter = Arc::new(ProgressReporter::new(&settings, qps.per_second()));
    log::init(&settings, &reporter);
    log_limits(qps, (settings.max_in_flight, requested), time_limit.as_ref());
    let seed = clock::wall().0.unsigned_abs();
    let shown: Arc<dyn EventSink> = Arc::<ProgressReporter>::clone(&reporter);
    let (events, serving) = serve::start(listening, &settings, qps.per_second(), shown);
    let context = RunContext { settings, qps, sizes, seed, time_limit, survey: probe.map(as_usize), events };
    let work = async {
        // A list on a pipe may stall before its first byte.
        let ids = tokio::select! {
            ids = open_list(&layers, simulated, &context) => ids?,
            cause = TimeLimit::reached(context.time_limit.as_ref()) => return Err(Error::TimeLimit(cause)),
            code = signal(signals.clone(), 1) => return Err(Error::Interrupted(code)),
        };
        if probe.is_some() {
            return self::probe(&context, ids, api, signal(signals.clone(), 1)).await;
        }
        let summary = export::export(&context, ids, api, signal(signals.clone(), 1)).await?;
        Ok(Ended::Exported(Box::new(summary)))
    };
    let drain_timeout = context.settings.drain_timeout;
    let result = tokio::select! {
        biased;
        code = signal(signals.clone(), 2) => Err(Error::Interrupted(code)),
        code = overdue(signals.clone(), drain_timeout) => Err(Error::Interrupted(code)),
        never = reporter.show() => match never {},
        result = work => result,
    };
    drop(serving);
    reporter.finish();
    if result.is_err() {
        reporter.log_kept();
    }
    drop(simulator);
    store_rate(rate_cache, &result);
    result
}

fn as_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn check_stdin(layers: &Layers) -> Result<(), Error> {
    if layers.get(table::TOKEN_STDIN)? && layers.given(table::PRODUCTS) == Some("-") {
        return Err(Error::Usage("stdin cannot be both the API key and the list: give one of them as a file".into()));
    }
    Ok(())
}

/// Reads a sample of the lists, and plans what is left.
async fn probe(
    context: &RunContext,
    ids: Ids,
    api: Arc<HttpApi>,
    stopped: impl Future<Output = ExitCode>,
) -> Result<Ended, Error> {
    let credits = context.settings.max_credits.unwrap_or_default();
    tracing::info!(
        "probe: reads a random sample of the lists until this export has spent {credits} credits in all; its pages are kept"
    );
    match probe::probe(context, ids, api, stopped).await? {
        ProbeOutcome::Stopped(summary) => Ok(Ended::Exported(summary)),
        ProbeOutcome::Done { probed, latency, rate } => {
            let qps = match context.qps {
                RateLimit::Auto(known) => RateLimit::Auto(rate.or(known)),
                given @ (RateLimit::PerSecond(_) | RateLimit::Unlimited) => given,
            };
            // The ledger has the list now.
            let plan =
                plan::plan(&RunContext { qps, ..context.clone() }, Box::new(std::iter::empty()), latency).await?;
            Ok(Ended::Planned { plan: Box::new(Plan { probe: Some(probed), ..plan }), rate })
        }
    }
}

/// Logs the warnings of a command that has nothing else to show.
#[derive(Debug)]
struct Warnings;

impl EventSink for Warnings {
    fn event(&self, event: &Event<'_>) {
        if let Event::Warning(message) = event {
            tracing::warn!("{message}");
        }
    }
}

/// Plans an export without a request: no key is needed, and no rate limit.
pub(super) async fn plan_only(layers: Layers) -> Result<Plan, Error> {
    let mut settings = Settings::resolve(&layers)?;
    let time_limit = TimeLimit::from_settings(&settings);
    if settings.simulate.is_none() && layers.given(table::PRODUCTS).is_none() {
        return Err(Error::Usage(NO_LIST.into()));
    }
    let simulator = start_simulator(&mut settings)?;
    let signals = listen_for_signals()?;
    let simulated = simulator.as_ref().map(|(_, spec)| spec);
    let qps =
        settings.qps.unwrap_or_else(|| simulated.and_then(|spec| spec.qps).map(|qps| f64::from(qps.get())).into());
    let sizes = size_hints(&layers)?;
    log::init_for(LogLines(None), log::is_json());
    let events: Arc<dyn EventSink> = Arc::new(Warnings);
    let context = RunContext { settings, qps, sizes, seed: 0, time_limit, survey: None, events };
    let work = async {
        let ids = open_list(&layers, simulated, &context).await?;
        plan::plan(&context, ids, None).await
    };
    tokio::select! {
        biased;
        code = signal(signals, 1) => Err(Error::Cut(code, "stopped by a signal".to_owned())),
        cause = TimeLimit::reached(context.time_limit.as_ref()) => Err(Error::Cut(ExitCode::Limit, cause)),
        plan = work => plan,
    }
}

/// How long a run may take to end after the time for responses in flight: to write its reports.
const TIME_TO_END: Duration = Duration::from_secs(120);

/// Completes when a run has not ended long after its first signal: a store may hang.
async fn overdue(signals: Signals, drain_timeout: Duration) -> ExitCode {
    let code = signal(signals, 1).await;
    tokio::time::sleep(drain_timeout + TIME_TO_END).await;
    code
}

fn http_settings(settings: &Settings, key: SecretString) -> HttpSettings {
    HttpSettings {
        base_url: settings.base_url.clone(),
        api_key: key,
        page_size: settings.page_size,
        sort: sort_values(settings),
        connections: settings.max_in_flight,
        connect_timeout: settings.connect_timeout,
        compressed: settings.compressed,
        is_loopback: settings.is_loopback(),
    }
}

/// Logs the limits of this run: those that the user did not set, and when it ends.
fn log_limits(qps: RateLimit, (max_in_flight, requested): (usize, usize), time_limit: Option<&TimeLimit>) {
    if let RateLimit::Auto(Some(known)) = qps {
        tracing::info!("starting near {known} requests per second, found by an earlier run with this key");
    }
    if max_in_flight < requested {
        tracing::warn!(
            "at most {max_in_flight} concurrent requests: the limit of open files allows no more (raise it with ulimit -n)"
        );
    }
    if let Some(limit) = time_limit {
        tracing::info!("this run ends at {limit}");
    }
}

/// Stores the discovered rate limit for the next run.
fn store_rate(cache: Option<RateCache>, result: &Result<Ended, Error>) {
    let found = match result {
        Ok(Ended::Exported(summary)) => summary.run.found,
        Ok(Ended::Planned { rate, .. }) => *rate,
        Err(_) => None,
    };
    if let Some(Err(error)) = cache.zip(found).map(|(cache, found)| cache.store(found)) {
        tracing::warn!("cannot store the discovered rate limit: {}", chain(&error));
    }
}

/// The cache for this key's rate limit, if that is to be discovered.
fn rate_cache(settings: &Settings, key: &SecretString) -> Option<RateCache> {
    if settings.qps != Some(RateLimit::Auto(None)) {
        return None;
    }
    let variable = |name: &str| std::env::var(name).ok();
    let directory = settings.rate_cache_dir.clone().or_else(|| rate_cache::default_directory(variable))?;
    RateCache::open(&directory, &authority(&settings.base_url), key)
}

/// The ids of the list that the settings name, or the simulator's.
async fn open_list(layers: &Layers, simulated: Option<&SimulatorSettings>, context: &RunContext) -> Result<Ids, Error> {
    let Some(list) = layers.given(table::PRODUCTS).map(ItemList::from_setting) else {
        return Ok(match simulated {
            Some(spec) => Box::new(spec.ids().map(|id| Ok(ItemId::new(&id)))),
            None => Box::new(std::iter::empty()),
        });
    };
    let column = layers.find(table::PRODUCT_COLUMN)?;
    let (form, events) = (context.settings.endpoint.item.form.clone(), Arc::clone(&context.events));
    Ok(tokio::task::spawn_blocking(move || list.open(column.as_deref(), form.as_ref(), events)).await??)
}

fn size_hints(layers: &Layers) -> Result<Vec<SizeHints>, Error> {
    let mut hints: Vec<SizeHints> = layers.find(table::SIZE_HINTS_FROM)?.map(SizeHints::Export).into_iter().collect();
    if let Some(rows) = layers.find(table::SIZE_HINT_COLUMN)? {
        let list = layers.given(table::PRODUCTS).map(ItemList::from_setting);
        let (Some(ItemList::File(table)), Some(ids)) = (list, layers.find(table::PRODUCT_COLUMN)?) else {
            return Err(Error::Usage(
                "--size-hint-column needs a list in a CSV or Parquet file, and --product-column".into(),
            ));
        };
        hints.push(SizeHints::Column { table, ids, rows });
    }
    Ok(hints)
}

/// Starts the simulator, if the settings name it, and sets the address of the API to it.
fn start_simulator(settings: &mut Settings) -> Result<Option<(Server, SimulatorSettings)>, Error> {
    let Some(text) = &settings.simulate else { return Ok(None) };
    let text = if text == DEFAULTS { DEMONSTRATION } else { text };
    let spec: SimulatorSettings = text.parse()?;
    let simulator = Simulator::new(&settings.endpoint, spec.clone())?;
    let server =
        simulator::start(Arc::new(simulator)).map_err(|source| Error::System("start the simulator", source))?;
    let invalid = |_| Error::Usage("the simulator's address is not a URL".into());
    settings.base_url = url::Url::parse(&server.base_url()).map_err(invalid)?;
    settings.simulated_as = Some(format!("simulator seed={} max_videos={}", spec.seed, spec.max_videos));
    Ok(Some((server, spec)))
}

/// The rate limit, which must be given for any host other than this machine.
fn rate_limit(
    settings: &Settings,
    simulated: Option<&SimulatorSettings>,
    cache: Option<&RateCache>,
) -> Result<RateLimit, Error> {
    match (settings.qps, simulated) {
        (Some(RateLimit::PerSecond(rate)), _) => Ok(RateLimit::PerSecond(rate)),
        (Some(RateLimit::Auto(_)), _) => Ok(RateLimit::Auto(cache.and_then(|cache| cache.rate))),
        (Some(RateLimit::Unlimited), _) => Ok(RateLimit::Unlimited),
        (None, Some(spec)) => Ok(spec.qps.map(|qps| f64::from(qps.get())).into()),
        (None, None) if settings.is_loopback() => Ok(RateLimit::Unlimited),
        (None, None) => Err(Error::Usage("no rate limit; give your plan's requests per second with --qps N (the provider's dashboard shows them), or --qps auto".into())),
    }
}

fn sort_values(settings: &Settings) -> Option<(String, String)> {
    let (field, is_descending) = settings.sort.as_ref()?;
    let params = settings.endpoint.sort.as_ref()?;
    let direction = if *is_descending { &params.descending } else { &params.ascending };
    Some((params.fields.get(field)?.clone(), direction.clone()))
}

/// Reads the API key. A signal, or the end of the run's time, ends a wait for it, on stdin or a named pipe.
async fn api_key(
    layers: &Layers,
    is_loopback: bool,
    time_limit: Option<&TimeLimit>,
    signals: Signals,
) -> Result<SecretString, Error> {
    if layers.given(table::PRODUCTS).is_none() {
        return Err(Error::Usage(NO_LIST.into()));
    }
    // A variable that is not Unicode is refused as not ASCII.
    let variable = std::env::var_os(api_key::VARIABLE).map(|key| key.to_string_lossy().into_owned());
    let (is_stdin, file) = (layers.get(table::TOKEN_STDIN)?, layers.find(table::TOKEN_FILE)?);
    let source = KeySource::new(is_stdin, file, variable)?;
    let reading = tokio::task::spawn_blocking(move || api_key::read(source, is_loopback));
    tokio::select! {
        key = reading => Ok(key??),
        cause = TimeLimit::reached(time_limit) => Err(Error::TimeLimit(cause)),
        code = signal(signals, 1) => Err(Error::Interrupted(code)),
    }
}
