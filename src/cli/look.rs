//! `verify` and `status`: an export looked at, nothing changed.

use std::io::IsTerminal;

use super::{Done, block_on};
use crate::error::Error;
use crate::output::read_only::Place;
use crate::report::status;
use crate::report::verify::{self, Share};
use crate::settings::Layers;

/// Compares all that belongs to an export.
pub(super) fn verify(layers: &Layers, sample: Option<&str>, json: bool) -> Result<Done, Error> {
    let (place, share) = (Place::of(layers)?, Share::parse(sample)?);
    let found = block_on(verify::verify(&place, share))?;
    Ok(Done::ended(found.to_string(), &found.json(), found.exit, json))
}

/// Says how far an export is.
pub(super) fn status(layers: &Layers, json: bool) -> Result<String, Error> {
    let status = status::status(&Place::of(layers)?)?;
    Ok(if json { format!("{}\n", status.json()) } else { status.text(std::io::stdout().is_terminal()) })
}
