//! `export` and `replay`: settings into a job, and the job into a summary.

use std::sync::Arc;

use secrecy::SecretString;

use super::DEFAULTS;
use crate::cli::log::log;
use crate::cli::progress::ProgressReporter;
use crate::cli::rlimits;
use crate::cli::signals::{Signals, listen_for_signals, signal};
use crate::error::Error;
use crate::fetch::{HttpApi, HttpSettings, authority};
use crate::input::api_key;
use crate::input::item_list::{Ids, ItemList};
use crate::input::size_hints::Sizes;
use crate::model::event::{Event, EventSink};
use crate::model::page::ItemId;
use crate::model::sanitize::chain;
use crate::output::error::OutputError;
use crate::report::summary::Summary;
use crate::run::context::RunContext;
use crate::run::export;
use crate::run::recovery::rebuild::RebuildScope;
use crate::run::replay;
use crate::settings::{CODES, DESCRIPTION, FROM_FILE, Layers, Origin, RateLimit, Settings, SettingsError};
use crate::simulator::{self, Server, Simulator};
use crate::state::rate_cache::{self, RateCache};

/// What `--simulate` alone is: a run of some seconds that shows everything.
const DEMONSTRATION: &str = "products=200,qps=250,latency=15ms,jitter=20ms,max_videos=900";

/// Exports, or goes on with an export.
pub(super) async fn export(layers: Layers) -> Result<Summary, Error> {
    let mut settings = Settings::resolve(&layers)?;
    if layers.given("token_stdin") == Some("true") && layers.given("products") == Some("-") {
        return Err(Error::Usage("standard input cannot be both the key and the list: give one of them as a file"));
    }
    let simulator = simulator_of(&mut settings)?;
    let signals = listen_for_signals()?;
    let key = if simulator.is_some() {
        SecretString::from("simulated")
    } else if layers.given("products").is_none() {
        return Err(
            SettingsError::Missing { what: "no list of products", next: "name one with --products FILE" }.into()
        );
    } else {
        key_of(&layers, settings.is_loopback(), signals.clone()).await?
    };
    crate::model::sanitize::hide(&key);
    let asked = settings.max_in_flight;
    settings.max_in_flight = rlimits::requests(asked, if simulator.is_some() { 2 } else { 1 })?;
    let learned = if simulator.is_some() { None } else { learned(&settings, &key) };
    let qps = allowed(&settings, simulator.as_ref().map(|(_, spec)| spec), learned.as_ref())?;
    let sizes = sizes_of(&layers)?;
    let api = Arc::new(HttpApi::new(&settings.endpoint, http_settings(&settings, key))?);
    let face = ProgressReporter::new(&settings, qps.per_second());
    log(&settings, &face);
    let events = monitor_of(&face);
    tell_known(qps);
    if settings.max_in_flight < asked {
        let most = settings.max_in_flight;
        let message = format!("at most {most} requests will be under way: more files may not be open (ulimit -n)");
        events.event(&Event::Warning(&message));
    }
    let context = RunContext { settings, qps, sizes, seed: crate::model::clock::wall().0.unsigned_abs(), events };
    let work = async {
        // A list on a pipe may stall before its first byte.
        let ids = tokio::select! {
            ids = ids_of(&layers, simulator.as_ref().map(|(_, spec)| spec), &context) => ids?,
            code = signal(signals.clone(), 1) => return Err(Error::Interrupted(code)),
        };
        export::export(&context, ids, api, signal(signals.clone(), 1)).await
    };
    let result = tokio::select! {
        biased;
        code = signal(signals.clone(), 2) => Err(Error::Interrupted(code)),
        never = face.show() => match never {},
        result = work => result,
    };
    face.end();
    if result.is_err() {
        face.kept();
    }
    drop(simulator);
    remember(learned, &result);
    result
}

fn http_settings(settings: &Settings, key: SecretString) -> HttpSettings {
    HttpSettings {
        base_url: settings.base_url.clone(),
        key,
        page_size: settings.page_size,
        sort: sort_values(settings),
        connections: settings.max_in_flight,
        connect_timeout: settings.connect_timeout,
        compressed: settings.compressed,
        is_loopback: settings.is_loopback(),
    }
}

/// Says where auto begins, if an earlier run found a limit.
fn tell_known(qps: RateLimit) {
    if let RateLimit::Auto(Some(known)) = qps {
        tracing::info!("auto begins near {known} requests a second, found by an earlier run with this key");
    }
}

/// Keeps what was found for the next run.
fn remember(learned: Option<RateCache>, result: &Result<Summary, Error>) {
    let found = result.as_ref().ok().and_then(|summary| summary.run.found);
    if let Some(Err(error)) = learned.zip(found).map(|(learned, found)| learned.store(found)) {
        tracing::warn!("the limit that was found cannot be remembered: {}", chain(&error));
    }
}

/// Where the limit of this key is remembered, if it is to be found out.
fn learned(settings: &Settings, key: &SecretString) -> Option<RateCache> {
    if settings.qps != Some(RateLimit::Auto(None)) {
        return None;
    }
    let variable = |name: &str| std::env::var(name).ok();
    let directory = settings.rate_cache_dir.clone().or_else(|| rate_cache::default_directory(variable))?;
    RateCache::open(&directory, &authority(&settings.base_url), key)
}

/// The list that the settings name, or the embedded API's own.
async fn ids_of(
    layers: &Layers,
    simulated: Option<&simulator::SimulatorSettings>,
    context: &RunContext,
) -> Result<Ids, Error> {
    match (layers.given("products").map(ItemList::named), simulated) {
        (None, Some(spec)) => Ok(Box::new(spec.ids().map(|id| Ok(ItemId::new(&id))))),
        (None, None) => Ok(Box::new(std::iter::empty())),
        (Some(list), _) => {
            let column = layers.given("product_column").map(str::to_owned);
            let (form, events) = (context.settings.endpoint.item.form.clone(), Arc::clone(&context.events));
            Ok(tokio::task::spawn_blocking(move || list.open(column.as_deref(), form.as_ref(), events)).await??)
        }
    }
}

/// Where the settings say that sizes of lists are known from.
fn sizes_of(layers: &Layers) -> Result<Vec<Sizes>, Error> {
    let mut sizes: Vec<Sizes> =
        layers.given("size_hints_from").map(|directory| Sizes::Export(directory.into())).into_iter().collect();
    if let Some(rows) = layers.given("size_hint_column").map(str::to_owned) {
        let list = layers.given("products").map(ItemList::named);
        let (Some(ItemList::File(table)), Some(ids)) = (list, layers.given("product_column").map(str::to_owned)) else {
            return Err(Error::Usage(
                "--size-hint-column needs a list in a file, CSV or Parquet, and --product-column",
            ));
        };
        sizes.push(Sizes::Column { table, ids, rows });
    }
    Ok(sizes)
}

/// Starts the embedded API, if it is the one to export from, and points the settings to it.
fn simulator_of(settings: &mut Settings) -> Result<Option<(Server, simulator::SimulatorSettings)>, Error> {
    let Some(text) = &settings.simulate else { return Ok(None) };
    let text = if text == DEFAULTS { DEMONSTRATION } else { text };
    let spec: simulator::SimulatorSettings = text.parse().map_err(Error::Spec)?;
    let simulator = Simulator::new(&settings.endpoint, spec.clone())?;
    let server = simulator::start(Arc::new(simulator))
        .map_err(|source| Error::System { action: "start the simulator", source })?;
    let wrong = |_| Error::Usage("the simulator's address is no URL");
    settings.base_url = url::Url::parse(&server.base_url()).map_err(wrong)?;
    settings.simulated_as = Some(format!("simulator seed={} max_videos={}", spec.seed, spec.max_videos));
    Ok(Some((server, spec)))
}

/// Requests a second; a real host's limit must be given.
fn allowed(
    settings: &Settings,
    simulated: Option<&simulator::SimulatorSettings>,
    learned: Option<&RateCache>,
) -> Result<RateLimit, Error> {
    match (settings.qps, simulated) {
        (Some(RateLimit::PerSecond(rate)), _) => Ok(RateLimit::PerSecond(rate)),
        (Some(RateLimit::Auto(_)), _) => Ok(RateLimit::Auto(learned.and_then(RateCache::rate))),
        (Some(RateLimit::Unlimited), _) => Ok(RateLimit::Unlimited),
        (None, Some(spec)) => Ok(spec.qps.map(|qps| f64::from(qps.per_second.get())).into()),
        (None, None) if settings.is_loopback() => Ok(RateLimit::Unlimited),
        (None, None) => Err(SettingsError::Missing {
            what: "no --qps",
            next: "give the requests a second that your key allows, your plan's page in the provider's dashboard states it; or auto",
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

/// The key. A wait for it, on standard input or a pipe with a name, ends with a signal, also with a SIGINT that whoever
/// started the program let it ignore.
async fn key_of(layers: &Layers, is_loopback: bool, signals: Signals) -> Result<SecretString, Error> {
    let layers = layers.clone();
    // One that is not Unicode is refused as such: what is put in its place is not ASCII.
    let variable = std::env::var_os(api_key::VARIABLE).map(|key| key.to_string_lossy().into_owned());
    let reading = tokio::task::spawn_blocking(move || api_key::read(&layers, variable, is_loopback));
    tokio::select! {
        key = reading => Ok(key??),
        code = signal(signals, 1) => Err(Error::Interrupted(code)),
    }
}

/// Builds an existing output from its journal.
pub(super) async fn replay(mut layers: Layers, all: bool) -> Result<Summary, Error> {
    let out = layers.given("out").map(std::path::PathBuf::from);
    let identity = crate::output::export_dir::identity(out.as_deref(), layers.given("state_dir"))?;
    let chooses = !layers.is_built_in("columns") || !layers.is_built_in("drop_columns");
    if identity.get(DESCRIPTION).is_some_and(|described| described == FROM_FILE) && layers.is_built_in("endpoint") {
        return Err(OutputError::Mismatch(
            "the export has the columns of a file: name it with --endpoint FILE, or take the built-in ones with --endpoint none"
                .to_owned(),
        ).into());
    }
    for (key, value) in &identity {
        match key.as_str() {
            "endpoint" | DESCRIPTION | CODES | "call" | "base_url" | "columns" => {}
            "dropped" if chooses => {}
            "dropped" => layers.set("drop_columns", known(value, &layers)?, &Origin::Ledger)?,
            _ => layers.set(key, value.clone(), &Origin::Ledger)?,
        }
    }
    let mut settings = Settings::resolve(&layers)?;
    settings.simulated_as = identity.get("base_url").cloned(); // no request is sent: any API will do
    let face = ProgressReporter::of_replay(&settings);
    log(&settings, &face);
    let events = monitor_of(&face);
    let which = if all { RebuildScope::All } else { RebuildScope::Modified };
    let context = RunContext { settings, qps: RateLimit::Unlimited, sizes: Vec::new(), seed: 0, events };
    let result = tokio::select! {
        biased;
        // Nothing is under way that it would pay to wait for, and each step leaves what the next run goes on with.
        code = signal(listen_for_signals()?, 1) => Err(Error::Interrupted(code)),
        never = face.show() => match never {},
        result = replay::replay(&context, which) => result,
    };
    face.end();
    result
}

/// Those of some columns that the endpoint has now.
fn known(columns: &str, layers: &Layers) -> Result<String, Error> {
    let endpoint = crate::settings::endpoint(layers)?;
    let is_known = |name: &&str| endpoint.columns.iter().any(|column| column.name == **name);
    let known: Vec<&str> = columns.split(',').filter(is_known).collect();
    Ok(if known.is_empty() { "none".to_owned() } else { known.join(",") })
}

fn monitor_of(face: &Arc<ProgressReporter>) -> Arc<dyn EventSink> {
    Arc::<ProgressReporter>::clone(face)
}
