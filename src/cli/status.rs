//! `status`: the progress of an export, also while it runs. Changes nothing.

use std::io::IsTerminal;

use clap::{ArgMatches, Command};

use super::arguments::{JSON, LOCATION, layers, switch, with_settings};
use super::{CommandOutput, block_on};
use crate::error::Error;
use crate::model::sanitize;
use crate::output::read_only::ExportPath;
use crate::report::status;

pub(super) fn command() -> Command {
    with_settings(Command::new("status"), LOCATION)
        .about("Show an export's progress (read-only)")
        .arg(switch(JSON, "Print one JSON object instead of text"))
}

pub(super) fn run(flags: &ArgMatches) -> Result<CommandOutput, Error> {
    let status = block_on(status::status(&ExportPath::from_layers(&layers(flags)?)?))?;
    Ok(CommandOutput::text(if flags.get_flag(JSON) {
        sanitize::json(&status) + "\n"
    } else {
        status.text(std::io::stdout().is_terminal())
    }))
}
