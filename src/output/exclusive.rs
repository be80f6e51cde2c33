//! An existing export, opened by a command that changes its state and knows none of its settings: locked by this process alone.

use std::sync::{Arc, Mutex};

use crate::output::error::OutputError;
use crate::output::export_dir::{Found, lock, lock_directories};
use crate::output::read_only::ExportPath;
use crate::output::retention::Retention;
use crate::state::ledger::{ExportRow, Ledger};
use crate::state::lock::Lock;

#[derive(Debug)]
pub(crate) struct ExclusiveExport {
    pub export: ExportRow,
    pub retention: Retention,
    _locks: Vec<Lock>,
}

impl ExclusiveExport {
    /// Opens an export that is there. Fails where the ledger is damaged, older than the output or the journal, or another
    /// output's, as an export would.
    pub(crate) async fn open(path: &ExportPath) -> Result<Self, OutputError> {
        path.open().await?; // an error if there is no export
        let mut locks = Vec::new();
        for directory in lock_directories(&path.out, &path.state) {
            locks.push(lock(&directory).await?);
        }
        let export = path.open().await?.export;
        let (store, journal) = (path.reach().await?, path.journal());
        let ledger = Ledger::open(&path.ledger())?;
        Found::read(&store, &journal).await?.check((&path.out, &path.state), &ledger, &export)?;
        ledger.allow_checkpoint()?;
        let (ledger, identity) = (Arc::new(Mutex::new(ledger)), export.identity.clone());
        Ok(Self { export, retention: Retention { ledger, store, journal, identity }, _locks: locks })
    }
}
