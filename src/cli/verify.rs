//! `verify`: compares everything that belongs to an export, and changes nothing.

use clap::{Arg, ArgMatches, Command};

use super::arguments::{JSON, LOCATION, json, layers, switch, with_settings};
use super::{CommandOutput, block_on};
use crate::error::Error;
use crate::output::read_only::ExportPath;
use crate::report::verify::{self, SampleRate};

const SAMPLE: &str = "sample";
const READ: &str = "read";

pub(super) fn command() -> Command {
    let sample = Arg::new(SAMPLE).long(SAMPLE).value_name("PERCENT").value_parser(SampleRate::parse);
    with_settings(Command::new("verify"), LOCATION)
        .about("Compare files, manifests, journal and ledger (read-only)")
        .args([
            sample.help("Read only this share of files and journal frames"),
            switch(READ, "Download the objects of a bucket and read them"),
            json(),
        ])
}

pub(super) fn run(flags: &ArgMatches) -> Result<CommandOutput, Error> {
    let sample = flags.get_one(SAMPLE).copied().unwrap_or_default();
    let export = ExportPath::from_layers(&layers(flags)?)?;
    let report = block_on(verify::verify(&export, sample, flags.get_flag(READ)))?;
    Ok(CommandOutput::ended(&report, report.exit, flags.get_flag(JSON)))
}
