//! `verify` and `status`: an export looked at, nothing changed.

use std::io::IsTerminal;

use super::{CommandOutput, block_on};
use crate::error::Error;
use crate::output::read_only::ExportPath;
use crate::report::status;
use crate::report::verify::{self, SampleRate};
use crate::settings::Layers;

/// Compares all that belongs to an export.
pub(super) fn verify(layers: &Layers, sample: Option<&str>, json: bool) -> Result<CommandOutput, Error> {
    let (place, share) = (ExportPath::from_layers(layers)?, SampleRate::parse(sample)?);
    let found = block_on(verify::verify(&place, share))?;
    Ok(CommandOutput::ended(found.to_string(), &found.json(), found.exit, json))
}

/// Says how far an export is.
pub(super) fn status(layers: &Layers, json: bool) -> Result<String, Error> {
    let status = block_on(status::status(&ExportPath::from_layers(layers)?))?;
    Ok(if json { format!("{}\n", status.json()) } else { status.text(std::io::stdout().is_terminal()) })
}
