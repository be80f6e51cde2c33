//! `prune`: removes journal files that only a replay would read again.

use std::time::Duration;

use clap::{Arg, ArgMatches, Command};

use super::arguments::{JSON, LOCATION, json, layers, switch, with_settings};
use super::{CommandOutput, block_on};
use crate::error::{Error, ExitCode};
use crate::output::read_only::ExportPath;
use crate::run::prune;

const OLDER_THAN: &str = "older-than";
const DRY_RUN: &str = "dry-run";

pub(super) fn command() -> Command {
    let older_than = Arg::new(OLDER_THAN).long(OLDER_THAN).value_name("TIME").value_parser(age).required(true);
    with_settings(Command::new("prune"), LOCATION)
        .about("Remove journal files of published segments; ends their `replay`")
        .args([
            older_than.help("Only segments published at least this long ago, such as 30d"),
            switch(DRY_RUN, "Print what would be removed, and remove nothing"),
            json(),
        ])
}

pub(super) fn run(flags: &ArgMatches) -> Result<CommandOutput, Error> {
    let older_than = flags.get_one(OLDER_THAN).copied().unwrap_or_default();
    let export = ExportPath::from_layers(&layers(flags)?)?;
    let report = block_on(prune::prune(&export, older_than, flags.get_flag(DRY_RUN)))?;
    Ok(CommandOutput::ended(&report, ExitCode::Complete, flags.get_flag(JSON)))
}

/// An age. A month (`1M`) is refused: it is one letter away from a minute.
fn age(text: &str) -> Result<Duration, &'static str> {
    let age = humantime::parse_duration(text).ok().filter(|_| !text.contains('M'));
    age.ok_or("must be a time such as 0s, 12h or 30d")
}

#[cfg(test)]
mod tests {
    use super::age;
    use std::time::Duration;

    #[test]
    fn an_age_has_a_unit_and_may_be_longer_than_a_month_or_nothing() {
        let day = 24 * 3600;
        for (text, seconds) in [("0s", 0), ("12h", day / 2), ("30d", 30 * day), ("400days", 400 * day)] {
            assert_eq!(age(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "30", "-1d", "1M", "1x", "d", "all"] {
            assert!(age(wrong).unwrap_err().contains("30d"), "{wrong}");
        }
    }
}
