//! `config`: the effective settings, or the reference of all of them.

use clap::{ArgMatches, Command};

use super::arguments::{DEFAULTS, config, layers, with_settings};
use super::help::with_short_help;
use super::outcome::error_lines;
use super::{CommandOutput, reference};
use crate::error::Error;
use crate::model::sanitize::sanitize;
use crate::settings::{Layers, Origin, SETTINGS, Settings, table};
use crate::simulator::SimulatorSettings;

const DOCS: &str = "docs";

pub(super) fn command() -> Command {
    let show = with_settings(Command::new("show"), SETTINGS)
        .about("Print the effective settings and their sources")
        .arg(config())
        .after_long_help("");
    let show = with_short_help(show, "config show", None);
    let docs = Command::new(DOCS).about("Print the reference of all settings as Markdown");
    Command::new("config").about("Show settings").subcommand_required(true).subcommands([show, docs])
}

/// Prints the reference, or all settings and the first one that is not valid. One that is only missing is not an error here.
pub(super) fn run(flags: &ArgMatches) -> Result<CommandOutput, Error> {
    let Some((name, flags)) = flags.subcommand() else { return Ok(CommandOutput::text(String::new())) };
    if name == DOCS {
        return Ok(CommandOutput::text(reference::text()));
    }
    let layers = layers(flags)?;
    let text = layers.shown().fold(String::new(), |text, (key, value, origin)| {
        text + &format!("{:<40} # {origin}\n", format!("{key} = {:?}", sanitize(&value)))
    });
    Ok(match check(layers) {
        Ok(()) => CommandOutput::text(text),
        Err(error) => CommandOutput { message: error_lines(&error), printed: text, exit: error.exit_code() },
    })
}

fn check(mut layers: Layers) -> Result<(), Error> {
    if layers.given(table::OUT).is_none() {
        layers.set(table::OUT.info.key, "any".to_owned(), &Origin::BuiltIn)?;
    }
    let simulate = Settings::resolve(&layers)?.simulate.filter(|spec| spec != DEFAULTS);
    Ok(simulate.map(|spec| spec.parse::<SimulatorSettings>()).transpose().map(drop)?)
}
