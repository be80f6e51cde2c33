//! `report`: writes the page about an export, also while it runs. Changes nothing else.

use std::path::Path;

use clap::{Arg, ArgMatches, Command};

use super::arguments::{LOCATION, layers, with_settings};
use super::{CommandOutput, block_on};
use crate::error::Error;
use crate::output::read_only::ExportPath;
use crate::report::page::{self, PAGE, PageData};
use crate::settings::{Origin, table};
use crate::state::disk::{Access, Disk};

const DIRECTORY: &str = "directory";
const HTML: &str = "html";
const STDOUT: &str = "-";

pub(super) fn command() -> Command {
    let directory = Arg::new(DIRECTORY).value_name("OUT").conflicts_with(table::OUT.info.key);
    let html = Arg::new(HTML).long(HTML).value_name("FILE");
    with_settings(Command::new("report"), LOCATION)
        .about("Write an HTML page about an export (read-only otherwise)")
        .args([
            directory.help("Output directory; the same as --out"),
            html.help("Write the page there instead of OUT/_pagehaul/report.html; - is stdout"),
        ])
}

pub(super) fn run(flags: &ArgMatches) -> Result<CommandOutput, Error> {
    let mut layers = layers(flags)?;
    if let Some(directory) = flags.get_one::<String>(DIRECTORY) {
        layers.set(table::OUT.info.key, directory.clone(), &Origin::Flag)?;
    }
    let export = ExportPath::from_layers(&layers)?;
    let target = flags.get_one::<String>(HTML).map(String::as_str);
    Ok(CommandOutput::text(block_on(write(&export, target))?))
}

/// Writes the page, and returns what to print: where it is, or the page itself.
async fn write(export: &ExportPath, target: Option<&str>) -> Result<String, Error> {
    let page = page::render(&PageData::read(export).await?);
    match target {
        Some(STDOUT) => return Ok(page),
        Some(file) => Disk.replace(Path::new(file), page.as_bytes(), Access::Shared).map_err(|error| {
            Error::Usage(format!("cannot write the report: {}", crate::model::sanitize::chain(&error)).into())
        })?,
        None => export.reach().await?.put(PAGE, page.into_bytes()).await?,
    }
    Ok(target.map_or_else(|| format!("{}/{PAGE}\n", export.out), |file| format!("{file}\n")))
}
