//! `replay`: rebuilds the files of an export from its journal, offline.

use std::sync::Arc;

use clap::{ArgMatches, Command};

use super::arguments::{JSON, json, layers, switch, with_settings};
use super::help::with_short_help;
use super::progress::ProgressReporter;
use super::signals::{listen_for_signals, signal};
use super::{CommandOutput, block_on, log};
use crate::error::Error;
use crate::output::error::OutputError;
use crate::output::read_only::ExportPath;
use crate::report::summary::Summary;
use crate::run::context::RunContext;
use crate::run::recovery::rebuild::RebuildScope;
use crate::run::replay;
use crate::settings::{
    self, DESCRIPTION, DROPPED, FROM_FILE, JournalRetention, Layers, Origin, RateLimit, SettingInfo, Settings, table,
};

const ALL: &str = "all";

const OWN: &[SettingInfo] = &[
    table::OUT.info,
    table::STATE_DIR.info,
    table::SNAPSHOT.info,
    table::STORE_OPTION.info,
    table::ENDPOINT_URL.info,
    table::ENDPOINT.info,
    table::COLUMNS.info,
    table::DROP_COLUMNS.info,
    table::PARTITION_IN_FILES.info,
    table::TABLE.info,
    table::EVOLVE.info,
    table::FILE_SIZE.info,
    table::BLOOM_FILTERS.info,
    table::ROW_GROUP_MEMORY.info,
    table::FAIL_ON_DRIFT.info,
    table::PROGRESS.info,
    table::HEARTBEAT.info,
    table::LOG_FORMAT.info,
];
/// The settings that it takes from the export's identity.
const OF_THE_EXPORT: &[SettingInfo] =
    &[table::PAGE_SIZE.info, table::SORT.info, table::MAX_PAGES.info, table::END.info];

pub(super) fn command() -> Command {
    let command = with_settings(Command::new("replay"), OWN)
        .about("Rebuild pending or modified files from the journal, offline")
        .args([switch(ALL, "Rebuild every file"), json()])
        .after_long_help("");
    with_short_help(command, "replay", None)
}

pub(super) fn run(flags: &ArgMatches) -> Result<CommandOutput, Error> {
    let scope = if flags.get_flag(ALL) { RebuildScope::All } else { RebuildScope::Modified };
    let summary = block_on(replay(layers(flags)?, scope))?;
    Ok(CommandOutput::ended(&summary, summary.exit, flags.get_flag(JSON)))
}

async fn replay(mut layers: Layers, scope: RebuildScope) -> Result<Summary, Error> {
    let identity = ExportPath::from_layers(&layers)?.identity()?;
    if identity.get(DESCRIPTION).is_some_and(|source| source == FROM_FILE) && layers.is_built_in(table::ENDPOINT) {
        return Err(OutputError::Mismatch(
            "the export used an endpoint file: name it with --endpoint FILE, or use the built-in endpoint with --endpoint none"
                .to_owned(),
        )
        .into());
    }
    for setting in OF_THE_EXPORT {
        if let Some(value) = identity.get(setting.key) {
            layers.set(setting.key, value.clone(), &Origin::Ledger)?;
        }
    }
    if let Some(dropped) = identity.get(DROPPED)
        && layers.is_built_in(table::COLUMNS)
        && layers.is_built_in(table::DROP_COLUMNS)
    {
        layers.set(table::DROP_COLUMNS.info.key, known_columns(dropped, &layers)?, &Origin::Ledger)?;
    }
    if layers.is_built_in(table::PARTITION_IN_FILES) {
        let endpoint = settings::endpoint(&layers)?;
        let columns = identity.get(table::COLUMNS.info.key).map_or("", String::as_str);
        let is_in_files = columns.split(',').any(|name| name == endpoint.partition().name);
        layers.set(table::PARTITION_IN_FILES.info.key, is_in_files.to_string(), &Origin::Ledger)?;
    }
    let mut settings = Settings::resolve(&layers)?;
    settings.journal = JournalRetention::Keep; // what is to be rebuilt may be needed once more
    settings.simulated_as = identity.get(table::BASE_URL.info.key).cloned(); // no request is sent: any API is fine
    let reporter = Arc::new(ProgressReporter::for_replay(&settings));
    log::init(&settings, &reporter);
    let events = Arc::<ProgressReporter>::clone(&reporter);
    let context = RunContext {
        settings,
        qps: RateLimit::Unlimited,
        sizes: Vec::new(),
        seed: 0,
        time_limit: None,
        survey: None,
        events,
    };
    let result = tokio::select! {
        biased;
        // Nothing is in flight, and the next run can continue after any step.
        code = signal(listen_for_signals()?, 1) => Err(Error::Interrupted(code)),
        never = reporter.show() => match never {},
        result = replay::replay(&context, scope) => result,
    };
    reporter.finish();
    result
}

/// Those of these columns that the endpoint has now.
fn known_columns(columns: &str, layers: &Layers) -> Result<String, Error> {
    let endpoint = settings::endpoint(layers)?;
    let is_known = |name: &&str| endpoint.columns.iter().any(|column| column.name == **name);
    let known: Vec<&str> = columns.split(',').filter(is_known).collect();
    Ok(if known.is_empty() { "none".to_owned() } else { known.join(",") })
}
