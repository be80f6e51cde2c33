//! Another snapshot of the dataset that an export belongs to: what it is, and the removal of its files.
//!
//! A name alone shows nothing. A snapshot is one of the dataset if its own ledger says so: the same list, this directory, the
//! export that the output names. Whatever is not known to be so is an error, and stays as it is.

use std::path::Path;
use std::sync::PoisonError;

use crate::model::clock::{self, Utc64};
use crate::model::sanitize::Sanitized;
use crate::output::differences::{self, Identity};
use crate::output::error::OutputError;
use crate::output::exclusive::ExclusiveExport;
use crate::output::export_dir::nonce;
use crate::output::names::SUCCESS;
use crate::output::owner::{self, Claim};
use crate::output::read_only::ExportPath;
use crate::output::removal::{self, Removed};
use crate::output::store::Store;
use crate::output::table_root::TableRoot;
use crate::state::ledger::{ExportRow, Ledger, Removal};

/// What a snapshot is for one that keeps some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotState {
    /// Since when.
    Complete(Utc64),
    Incomplete,
    /// A removal of its files was interrupted.
    Removing,
    Removed,
}

/// Another snapshot of a dataset.
#[derive(Debug)]
pub(crate) struct Sibling {
    /// Of its directory.
    pub name: String,
    pub path: ExportPath,
}

impl Sibling {
    /// What it is, if no process works on it. `dataset`: the identity of an export of the dataset.
    pub(crate) async fn inspect(&self, dataset: &Identity) -> Result<SnapshotState, OutputError> {
        let _locks = self.path.lock()?.map_err(|holder| OutputError::Busy { holder })?;
        let opened = self.path.open().await?;
        if opened.export.removal == Some(Removal::Finished) {
            return Ok(SnapshotState::Removed); // there may be years of them, and more is read of the others
        }
        let store = Store::open(&self.path.out, &self.path.store, &self.path.state)?;
        self.state(&opened.export, is_finished(&opened.ledger)?, &store, dataset).await
    }

    /// Removes its files, if it still is what an inspection showed when no other process can work on it any more.
    pub(crate) async fn remove(
        &self,
        expected: SnapshotState,
        dataset: &Identity,
        is_stopped: impl FnMut() -> bool,
    ) -> Result<Removed, OutputError> {
        let opened = ExclusiveExport::open(&self.path).await?;
        let (export, store, ledger) = (&opened.export, &opened.retention.store, &opened.retention.ledger);
        self.check_owner(export, store).await?; // a claim would make an owner where there is none
        Claim::take(store, ledger, &export.id, nonce()).await?;
        let is_finished = is_finished(&ledger.lock().unwrap_or_else(PoisonError::into_inner))?;
        if self.state(export, is_finished, store, dataset).await? != expected {
            return Err(OutputError::Mismatch("it has changed meanwhile".to_owned()));
        }
        let table = TableRoot::open(&self.path.out, &self.path.store, &self.path.state)?;
        removal::remove(&export.id, (store, &table), ledger, is_stopped).await
    }

    async fn state(
        &self,
        export: &ExportRow,
        is_finished: bool,
        store: &Store,
        dataset: &Identity,
    ) -> Result<SnapshotState, OutputError> {
        self.check_owner(export, store).await?;
        let differences = differences::of_dataset(&export.identity, dataset);
        if !differences.is_empty() {
            return Err(OutputError::Mismatch(format!("it is of another list: {}", differences.join("; "))));
        }
        match export.removal {
            None => {}
            Some(Removal::Started) => return Ok(SnapshotState::Removing),
            Some(Removal::Finished) => return Ok(SnapshotState::Removed),
        }
        match export.completed_at.filter(|_| is_finished) {
            Some(at) if store.find(SUCCESS).await?.is_some() => is_past(at).map(SnapshotState::Complete),
            Some(_) | None => Ok(SnapshotState::Incomplete),
        }
    }

    /// Fails where ledger, output and directory are not of one export: a copy, or a directory that was renamed.
    async fn check_owner(&self, export: &ExportRow, store: &Store) -> Result<(), OutputError> {
        if owner::owner(store).await?.as_ref() != Some(&export.id) {
            return Err(OutputError::Mismatch("its output does not name the export of its ledger".to_owned()));
        }
        if Path::new(&export.out).file_name().is_none_or(|name| name != &*self.name) {
            let out = Sanitized(&export.out);
            return Err(OutputError::Mismatch(format!("it was copied or renamed: its ledger is that of {out}")));
        }
        Ok(())
    }
}

/// Whether every item is complete and published: a run that was killed may have added others.
fn is_finished(ledger: &Ledger) -> Result<bool, OutputError> {
    let totals = ledger.totals()?;
    Ok(totals.complete == totals.items && totals.pages_waiting == 0)
}

/// A time that can be compared with those of other snapshots.
fn is_past(at: Utc64) -> Result<Utc64, OutputError> {
    if (Utc64(1)..=clock::wall()).contains(&at) {
        return Ok(at);
    }
    Err(OutputError::Mismatch(format!("it is complete since {at}, which is not a time in the past: a clock was wrong")))
}
