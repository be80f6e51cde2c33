//! An existing export, opened to be read: no file is changed and none is made.

use std::path::PathBuf;

use crate::model::sanitize::sanitize;
use crate::output::differences::Identity;
use crate::output::error::OutputError;
use crate::output::export_dir::{HAS_SNAPSHOTS, JOURNAL, LEDGER, LOCK, lock_directories};
use crate::output::names::{MANIFESTS, OWNER};
use crate::output::owner;
use crate::output::store::Store;
use crate::settings::{ExportPaths, Layers, OutputLocation, SettingsError, SnapshotLabel, StoreOptions};
use crate::state::ledger::{ExportRow, Ledger};
use crate::state::lock::{Lock, lock_shared};

const NO_LEDGER: &str = "there is no export in that directory (its ledger is missing: is --state-dir right?)";

#[derive(Clone, Debug)]
pub(crate) struct ExportPath {
    pub out: OutputLocation,
    pub store: StoreOptions,
    pub state: PathBuf,
}

#[derive(Debug)]
pub(crate) struct ReadOnlyExport {
    pub ledger: Ledger,
    pub export: ExportRow,
}

impl ExportPath {
    pub(crate) fn from_layers(layers: &Layers) -> Result<Self, SettingsError> {
        let missing = "no directory of an export: name it with --out DIR";
        let ExportPaths { out, state, snapshot: _ } = ExportPaths::from_layers(layers, missing)?;
        Ok(Self { out, store: StoreOptions::from_layers(layers)?, state })
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.state.join(LEDGER)
    }

    /// Directory of the journal files.
    pub(crate) fn journal(&self) -> PathBuf {
        self.state.join(JOURNAL)
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

    /// The output. Fails soon where it is in a bucket that cannot be reached.
    pub(crate) async fn reach(&self) -> Result<Store, OutputError> {
        if self.out.directory().is_none() {
            let first = Store::open_first(&self.out, &self.store, &self.state).await?;
            first.list(MANIFESTS).await.map_err(OutputError::at_the_start)?;
        }
        Store::open(&self.out, &self.store, &self.state)
    }

    /// The ledger, without a request to a bucket.
    pub(crate) async fn open(&self) -> Result<ReadOnlyExport, OutputError> {
        let (out, state) = (sanitize(&self.out.to_string()), sanitize(&self.state.display().to_string()));
        let (path, local) = (self.ledger(), self.out.directory().map(Store::new));
        if std::fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
            let ledger = Ledger::open_read_only(&path)?;
            if let Some(export) = ledger.export()? {
                if self.out.directory().is_some_and(|out| !out.is_dir()) {
                    return Err(OutputError::Modified(format!("the output {out} is gone")));
                }
                let owner = if let Some(local) = &local { owner::owner(local).await? } else { None };
                owner::check_out(&export, owner.is_some(), &self.out, &self.state)?;
                return Ok(ReadOnlyExport { ledger, export });
            }
        }
        if let Some(local) = &local
            && let Some(label) =
                local.directories().await?.iter().filter_map(|name| SnapshotLabel::of_directory(name)).max()
        {
            return Err(OutputError::Snapshots(format!("{out} {HAS_SNAPSHOTS}, for example {}", label.as_str())));
        }
        if let Some(local) = local
            && (local.get(OWNER).await?.is_some() || !local.list(MANIFESTS).await?.is_empty())
        {
            return Err(OutputError::Mismatch(format!(
                "{out} belongs to an export, but its ledger is not in {state}: give the --state-dir that it was started with"
            )));
        }
        Err(OutputError::NoExport(NO_LEDGER))
    }
}
