//! `plan`: says what an export will cost, before it is paid for.

use clap::{Arg, ArgMatches, Command};

use super::arguments::{JSON, config, json, layers, with_settings};
use super::export::{Ended, export, plan_only};
use super::help::with_short_help;
use super::{CommandOutput, block_on};
use crate::error::{Error, ExitCode};
use crate::settings::SETTINGS;
use crate::settings::parse::count;

const EXAMPLE: &str = "pagehaul plan --products products.txt --qps 10 --out videos --probe 300";
const PROBE: &str = "probe";
/// The most pages of a probe: each takes a look at all lists that have begun.
const MOST: u64 = 10_000;

pub(super) fn command() -> Command {
    let probe = Arg::new(PROBE).long(PROBE).value_name("N").value_parser(count::<1, MOST>);
    let command = with_settings(Command::new("plan"), SETTINGS)
        .about("Say what an export will cost, before it is paid for")
        .args([probe.help("Read N paid pages of a random sample first"), config(), json()])
        .after_long_help(format!(
            "Example:
  {EXAMPLE}

It takes the settings of `pagehaul export`. Without --probe it sends nothing,
needs no API key and writes nothing. docs/plan.md explains the estimate."
        ));
    with_short_help(command, "plan", Some(EXAMPLE))
}

pub(super) fn run(flags: &ArgMatches) -> Result<CommandOutput, Error> {
    let (layers, is_json) = (layers(flags)?, flags.get_flag(JSON));
    let Some(pages) = flags.get_one::<u64>(PROBE).copied() else {
        return Ok(CommandOutput::ended(&block_on(plan_only(layers))?, ExitCode::Complete, is_json));
    };
    Ok(match block_on(export(layers, Some(pages)))? {
        Ended::Planned { plan, .. } => CommandOutput::ended(&*plan, ExitCode::Complete, is_json),
        Ended::Exported(summary) => CommandOutput::ended(&*summary, summary.exit, is_json),
    })
}
