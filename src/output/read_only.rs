//! An existing export, opened only to be looked at: no file is changed and none is made.

use std::path::{Path, PathBuf};

use crate::model::sanitize::sanitize;
use crate::output::error::OutputError;
use crate::output::export_dir::{BADGE, LEDGER, LOCK};
use crate::output::publisher::MANIFESTS;
use crate::output::store::Store;
use crate::settings::{Layers, table};
use crate::state::disk::Disk;
use crate::state::ledger::{ExportRow, Ledger};
use crate::state::lock;

/// Where an export is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExportPath {
    /// The directory of its output.
    pub out: PathBuf,
    /// The directory of its state.
    pub state: PathBuf,
}

/// An export that is looked at.
#[derive(Debug)]
pub(crate) struct ReadOnlyExport {
    /// Its ledger.
    pub ledger: Ledger,
    /// Who it is.
    pub export: ExportRow,
    /// Its output.
    pub store: Store,
}

impl ExportPath {
    /// The place that settings name.
    pub(crate) fn of(layers: &Layers) -> Result<Self, OutputError> {
        let out = layers.given(table::OUT).map(PathBuf::from);
        let out = out.ok_or(OutputError::NoExport("no directory of an export: name it with --out DIR"))?;
        let state = layers.given(table::STATE_DIR).map_or_else(|| out.join("_pagehaul"), PathBuf::from);
        Ok(Self { out, state })
    }

    /// Its ledger's file.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.state.join(LEDGER)
    }

    /// What a process that works on it says of itself; none if there is none, and then none can begin as long as the looks
    /// are kept.
    pub(crate) fn holder(&self) -> Result<Result<Vec<lock::SharedLock>, String>, OutputError> {
        let mut looks = Vec::new();
        let inside = self.out.join("_pagehaul");
        let is_inside = std::fs::canonicalize(&self.state).ok() == std::fs::canonicalize(&inside).ok();
        for directory in [&self.state, &inside].into_iter().take(if is_inside { 1 } else { 2 }) {
            match lock::lock_shared(&directory.join(LOCK))? {
                Ok(look) => looks.push(look),
                Err(holder) => return Ok(Err(sanitize(&holder))),
            }
        }
        Ok(Ok(looks))
    }

    /// Opens what is there.
    pub(crate) fn open(&self) -> Result<ReadOnlyExport, OutputError> {
        let shown = |path: &Path| sanitize(&path.display().to_string());
        let path = self.ledger();
        if std::fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
            let ledger = Ledger::open_read_only(&path)?;
            if let Some(export) = ledger.export()? {
                if !self.out.is_dir() {
                    return Err(OutputError::Modified(format!("the output directory {} is gone", shown(&self.out))));
                }
                let store = Store::open(&self.out, Disk)?;
                return Ok(ReadOnlyExport { ledger, export, store });
            }
        }
        if self.out.join(BADGE).exists() || self.out.join(MANIFESTS).is_dir() {
            return Err(OutputError::Mismatch(format!(
                "{} belongs to an export, but its ledger is not in {}: give the --state-dir that it was begun with",
                shown(&self.out),
                shown(&self.state)
            )));
        }
        Err(OutputError::NoExport(
            "there is no export in that directory (its ledger is missing: is --state-dir right?)",
        ))
    }
}
