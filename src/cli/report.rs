//! `report`: writes the page about an export, also while it runs. Changes nothing else.

use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{Arg, ArgMatches, Command};

use super::arguments::{LOCATION, layers, with_settings};
use super::{CommandOutput, block_on};
use crate::error::Error;
use crate::model::sanitize::sanitize;
use crate::output::read_only::ExportPath;
use crate::report::page::{self, PAGE, PageData};
use crate::settings::{Origin, table};
use crate::state::disk::{Access, Disk, DiskError};

const DIRECTORY: &str = "directory";
const HTML: &str = "html";
const STDOUT: &str = "-";
/// The directory of an export's state in its output.
const STATE: &str = "_pagehaul";

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
    if let Some(file) = target.filter(|file| *file != STDOUT) {
        let target = Target::find(Path::new(file), export).map_err(|error| page_error(file, error))?;
        let page = page::render(&PageData::read(export).await?);
        target.write(page.as_bytes()).map_err(|error| page_error(file, error.source))?;
        // A stream may be stdout, under another name.
        return Ok(if matches!(target, Target::Stream(_)) { String::new() } else { format!("{file}\n") });
    }
    let page = page::render(&PageData::read(export).await?);
    if target.is_some() {
        return Ok(page);
    }
    export.reach().await?.put_at_once(PAGE, page.into_bytes()).await?;
    Ok(format!("{}/{PAGE}\n", export.out))
}

fn page_error(file: &str, source: io::Error) -> Error {
    Error::Page(sanitize(file), source)
}

/// Where `--html` writes.
enum Target {
    /// A regular file, or none yet: replaced as a whole.
    File(PathBuf),
    /// A device or a pipe.
    Stream(PathBuf),
}

impl Target {
    /// Refuses the files of exports: a page in place of a ledger would destroy what was paid for.
    fn find(file: &Path, export: &ExportPath) -> io::Result<Self> {
        let path = match fs::metadata(file) {
            Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(found) if !found.is_file() => return Ok(Self::Stream(file.to_owned())),
            Ok(_) => fs::canonicalize(file)?,
            Err(error) if fs::symlink_metadata(file).is_ok() => return Err(error),
            Err(_) => new_file(file)?,
        };
        let own = |directory: &Path| fs::canonicalize(directory).ok();
        let out = export.out.directory().and_then(own);
        if out.as_ref().is_some_and(|out| out.join(PAGE) == path) {
            return Ok(Self::File(path));
        }
        let is_inside = [out, own(&export.state)].into_iter().flatten().any(|directory| path.starts_with(directory));
        if is_inside || path.parent().is_some_and(|parent| parent.components().any(|part| part.as_os_str() == STATE)) {
            return Err(io::Error::other(format!(
                "it is in the directory of an export, where only {PAGE} is for the page"
            )));
        }
        Ok(Self::File(path))
    }

    fn write(&self, page: &[u8]) -> Result<(), DiskError> {
        match self {
            Self::File(path) => Disk.replace_at_once(path, page, Access::Shared),
            Self::Stream(path) => Disk.write_into(path, page),
        }
    }
}

/// The path of a file that does not exist, without symbolic links.
fn new_file(file: &Path) -> io::Result<PathBuf> {
    let name = file.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(fs::canonicalize(parent)?.join(name))
}
