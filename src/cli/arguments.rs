//! Flags from the table of settings, and the settings that a command line gives.

use std::ffi::OsString;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::help::explained;
use super::log;
use crate::error::Error;
use crate::settings::{Layers, Origin, PREFIX, SETTINGS, SettingInfo, table};

/// The switch for a result as JSON.
pub(super) const JSON: &str = "json";
/// The value of `--simulate` without a specification.
pub(super) const DEFAULTS: &str = "defaults";
const CONFIG: &str = "config";

/// Settings that locate an export.
pub(super) const LOCATION: &[SettingInfo] =
    &[table::OUT.info, table::STATE_DIR.info, table::SNAPSHOT.info, table::STORE_OPTION.info, table::ENDPOINT_URL.info];

pub(super) fn config() -> Arg {
    Arg::new(CONFIG).long(CONFIG).value_name("FILE").help("Settings file; flags and environment take precedence")
}

pub(super) fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

pub(super) fn json() -> Arg {
    switch(JSON, "Print the result as JSON, also on a terminal")
}

/// Adds a flag for each of these settings.
pub(super) fn with_settings(command: Command, settings: &[SettingInfo]) -> Command {
    let built_in = Layers::built_in().ok();
    let flag = |setting: &SettingInfo| {
        let arg = Arg::new(setting.key).long(setting.key.replace('_', "-")).help_heading(setting.section);
        let arg = explained(arg, setting, built_in.as_ref());
        if setting.value.is_empty() {
            arg.action(ArgAction::SetTrue)
        } else if setting.key == table::SIMULATE.info.key {
            arg.value_name(setting.value).num_args(0..=1).require_equals(true).default_missing_value(DEFAULTS)
        } else {
            arg.value_name(setting.value).allow_negative_numbers(true)
        }
    };
    command.args(settings.iter().map(flag))
}

/// Flags over environment over config file over built-in.
pub(super) fn layers(flags: &ArgMatches) -> Result<Layers, Error> {
    let mut layers = Layers::built_in()?;
    if let Ok(Some(path)) = flags.try_get_one::<String>(CONFIG) {
        layers.add_file(Path::new(path))?;
    }
    let text = |text: OsString| text.to_string_lossy().into_owned();
    layers.add_environment(std::env::vars_os().map(|(name, value)| (text(name), text(value))))?;
    for SettingInfo { key, .. } in SETTINGS {
        let value = flags.try_get_raw(key).ok().flatten().and_then(Iterator::last);
        if let Some(value) = value.filter(|_| flags.value_source(key) == Some(ValueSource::CommandLine)) {
            layers.set(key, text(value.to_owned()), &Origin::Flag)?;
        }
    }
    log::set_json(layers.get(table::LOG_FORMAT).unwrap_or_default());
    Ok(layers)
}

/// Whether log lines are JSON, as far as flags and environment say before they are parsed.
pub(super) fn asks_for_json_lines(arguments: &[OsString]) -> bool {
    let key = table::LOG_FORMAT.info.key;
    let (flag, variable) = (format!("--{}", key.replace('_', "-")), format!("{PREFIX}{}", key.to_ascii_uppercase()));
    let with_value = format!("{flag}=json");
    arguments.windows(2).any(|pair| matches!(pair, [name, value] if *name == *flag && value == "json"))
        || arguments.iter().any(|argument| *argument == *with_value)
        || std::env::var_os(variable).is_some_and(|value| value == "json")
}
