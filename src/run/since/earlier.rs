//! The earlier export: found, of the same lists, and locked against changes while it is read.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::model::sanitize::{Sanitized, sanitize};
use crate::output::differences::{self, Identity};
use crate::output::error::OutputError;
use crate::output::export_dir::{JOURNAL, LEDGER, LOCK};
use crate::settings::{Since, SincePlace, SnapshotLabel};
use crate::state::ledger::{EarlierExport, Ledger};
use crate::state::lock::{Lock, lock_shared};

/// An earlier export that is only read.
#[derive(Debug)]
pub(in crate::run) struct Earlier {
    pub(super) about: EarlierExport,
    pub(super) ledger: Ledger,
    /// Directory of its journal files.
    pub(super) journal: PathBuf,
    _lock: Lock,
}

impl Earlier {
    /// The one that the settings name. None: `latest`, and there is none yet. `own`: this export's state directory. Blocks.
    pub(super) fn find(since: &Since, own: &Path, identity: &Identity) -> Result<Option<Self>, Error> {
        match &since.place {
            SincePlace::States(states) => {
                let state = states.iter().find(|state| state.join(LEDGER).is_file());
                let state = state.ok_or_else(|| no_export(&since.name))?;
                let real = |path: &Path| std::fs::canonicalize(path).ok();
                if real(state) == real(own) {
                    return Err(refused(&since.name, "is this export itself: name an earlier one"));
                }
                Self::open(state, &since.name, identity).map(Some)
            }
            SincePlace::Latest { root, below, own } => {
                let found = latest(root, below, own);
                found.map(|(label, state)| Self::open(&state, label.as_str(), identity)).transpose()
            }
        }
    }

    /// Opens the export whose state is in this directory. It must have read the same lists in the same pages. Blocks.
    pub(super) fn open(state: &Path, name: &str, identity: &Identity) -> Result<Self, Error> {
        let shown = Sanitized(name).to_string();
        let lock = lock_shared(&state.join(LOCK))?
            .map_err(|holder| OutputError::Busy { holder: format!("{} (--since {shown})", sanitize(&holder)) })?;
        let ledger = Ledger::open_read_only(&state.join(LEDGER))?;
        let export = ledger.export()?.ok_or_else(|| no_export(name))?;
        let differences = differences::of_lists(&export.identity, identity);
        if !differences.is_empty() {
            return Err(refused(name, &format!("has other settings: {}", Sanitized(&differences.join("; ")))));
        }
        let path = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
        let state_text = path.to_str().ok_or_else(|| refused(name, "has a path that is not UTF-8"))?;
        let about = EarlierExport { id: export.id, name: name.to_owned(), state: state_text.to_owned() };
        Ok(Self { about, ledger, journal: state.join(JOURNAL), _lock: lock })
    }
}

fn no_export(name: &str) -> Error {
    let what = "names no export. It must be a snapshot of the same --out, the directory of an export, or its --state-dir on this machine";
    refused(name, what)
}

/// The earlier export cannot serve: it `is` or `has` something.
pub(super) fn refused(name: &str, what: &str) -> Error {
    OutputError::Since(format!("{} {what}", Sanitized(name))).into()
}

/// The newest complete snapshot, and its state directory.
fn latest(root: &Path, below: &Path, own: &SnapshotLabel) -> Option<(SnapshotLabel, PathBuf)> {
    let names = std::fs::read_dir(root).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let labels = names.filter_map(|name| SnapshotLabel::of_directory(&name)).filter(|label| label != own);
    let complete = labels.filter_map(|label| {
        let state = root.join(label.directory()).join(below);
        let export = Ledger::export_at(&state.join(LEDGER)).ok()??;
        Some((export.completed_at?.0, label, state))
    });
    complete.max().map(|(_, label, state)| (label, state))
}
