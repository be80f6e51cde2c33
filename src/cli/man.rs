//! `man`: the manual pages, with the same text as `--help`.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, ValueHint, value_parser};
use clap_mangen::Man;

use super::CommandOutput;
use crate::error::Error;
use crate::state::disk::{Access, Disk};

const OUT: &str = "out";
const PROGRAM: &str = concat!("pagehaul ", env!("CARGO_PKG_VERSION"));

pub(super) fn command() -> Command {
    let out = Arg::new(OUT).long(OUT).value_name("DIR").value_parser(value_parser!(PathBuf));
    Command::new("man")
        .about("Print the manual page")
        .arg(out.value_hint(ValueHint::DirPath).help("Write the page of each command into this directory instead"))
}

pub(super) fn run(flags: &ArgMatches) -> Result<CommandOutput, Error> {
    let mut command = super::command().disable_help_subcommand(true);
    command.build();
    let Some(directory) = flags.get_one::<PathBuf>(OUT) else {
        return page(&command).map(|(_, text)| CommandOutput::text(text));
    };
    Disk.make_directory(directory, Access::Shared)?;
    let mut all = vec![command];
    while let Some(command) = all.pop() {
        let (name, text) = page(&command)?;
        Disk.replace(&directory.join(name), text.as_bytes(), Access::Shared)?;
        all.extend(command.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
    }
    Ok(CommandOutput::text(String::new()))
}

/// The name of a command's page, and the page. Its synopsis is the short one of the help: a list of all flags has no reader.
fn page(command: &Command) -> Result<(String, String), Error> {
    let usage = command.clone().render_usage().to_string();
    let page = Man::new(command.clone().override_usage(usage.trim_start_matches("Usage: ").to_owned()));
    let title = command.get_display_name().unwrap_or_else(|| command.get_name()).to_ascii_uppercase();
    // Without a date, so that two builds are equal: a space keeps its place.
    let page = page.title(title).date(" ").source(PROGRAM).manual("User Commands");
    let mut text = Vec::new();
    page.render(&mut text).map_err(|source| Error::System("make a manual page", source))?;
    Ok((page.get_filename(), String::from_utf8_lossy(&text).into_owned()))
}
