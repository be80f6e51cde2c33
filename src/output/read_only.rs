//! An existing export, opened to be read: no file is changed and none is made.

use std::path::{Path, PathBuf};

use crate::model::sanitize::sanitize;
use crate::output::differences::Identity;
use crate::output::error::OutputError;
use crate::output::export_dir::{LEDGER, LOCK, lock_directories};
use crate::output::names::{MANIFESTS, OWNER};
use crate::output::store::Store;
use crate::settings::{Layers, table};
use crate::state::ledger::{ExportRow, Ledger};
use crate::state::lock::{Lock, lock_shared};

const NO_LEDGER: &str = "there is no export in that directory (its ledger is missing: is --state-dir right?)";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExportPath {
    pub out: PathBuf,
    pub state: PathBuf,
}

#[derive(Debug)]
pub(crate) struct ReadOnlyExport {
    pub ledger: Ledger,
    pub export: ExportRow,
    pub store: Store,
}

impl ExportPath {
    pub(crate) fn from_layers(layers: &Layers) -> Result<Self, OutputError> {
        let out = layers.given(table::OUT).map(PathBuf::from);
        let out = out.ok_or(OutputError::NoExport("no directory of an export: name it with --out DIR"))?;
        let state = layers.given(table::STATE_DIR).map_or_else(|| out.join("_pagehaul"), PathBuf::from);
        Ok(Self { out, state })
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.state.join(LEDGER)
    }

    /// The settings that the export was started with, for a command that takes them over.
    pub(crate) fn identity(&self) -> Result<Identity, OutputError> {
        let path = self.ledger();
        let export = if path.exists() { Ledger::export_at(&path)? } else { None };
        Ok(export.ok_or(OutputError::NoExport(NO_LEDGER))?.identity)
    }

    /// Locks the export so that no process can start to work on it while the locks are kept. The inner error: a process does
    /// work on it, and this is what it wrote about itself.
    pub(crate) fn lock(&self) -> Result<Result<Vec<Lock>, String>, OutputError> {
        let mut locks = Vec::new();
        for directory in lock_directories(&self.out, &self.state) {
            match lock_shared(&directory.join(LOCK))? {
                Ok(lock) => locks.push(lock),
                Err(holder) => return Ok(Err(sanitize(&holder))),
            }
        }
        Ok(Ok(locks))
    }

    pub(crate) async fn open(&self) -> Result<ReadOnlyExport, OutputError> {
        let shown = |path: &Path| sanitize(&path.display().to_string());
        let (path, store) = (self.ledger(), Store::new(&self.out));
        if std::fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
            let ledger = Ledger::open_read_only(&path)?;
            if let Some(export) = ledger.export()? {
                if !store.is_there().await? {
                    return Err(OutputError::Modified(format!("the output directory {} is gone", shown(&self.out))));
                }
                return Ok(ReadOnlyExport { ledger, export, store });
            }
        }
        if store.get(OWNER).await?.is_some() || !store.list(MANIFESTS).await?.is_empty() {
            return Err(OutputError::Mismatch(format!(
                "{} belongs to an export, but its ledger is not in {}: give the --state-dir that it was started with",
                shown(&self.out),
                shown(&self.state)
            )));
        }
        Err(OutputError::NoExport(NO_LEDGER))
    }
}
