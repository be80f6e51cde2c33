//! The removal of an export's files: its journal and its ledger stay.
//!
//! The ledger notes it before the first file goes and after the last one, so that an interrupted removal can be continued, and
//! nobody takes for an export what is left of one. The mark of success goes first, then the manifests, then the files: a reader of
//! manifests sees whole segments or none. Only what the export itself named goes, whoever else lists it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::output::delta;
use crate::output::error::OutputError;
use crate::output::manifest::Manifest;
use crate::output::names::{MANIFESTS, SUCCESS, is_data_of, manifest_name, segment_of};
use crate::output::store::Store;
use crate::output::table_root::TableRoot;
use crate::state::ledger::{Ledger, Removal};

/// What a removal came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Files of rows and rejects that are gone.
    pub files: usize,
    /// Names of what is not the export's, and stays.
    pub foreign: Vec<String>,
    /// Whether it was stopped before all were gone.
    pub is_stopped: bool,
}

/// Names in an output, by whose they are.
#[derive(Debug, Default)]
struct Names {
    manifests: Vec<String>,
    data: BTreeSet<String>,
    foreign: Vec<String>,
}

/// Removes the files of an export that this process works on alone. `is_stopped` is asked before each. Where they are in a table,
/// its readers lose them in one commit, before the first one goes.
pub(crate) async fn remove(
    export: &str,
    (store, table): (&Store, &TableRoot),
    ledger: &Mutex<Ledger>,
    mut is_stopped: impl FnMut() -> bool,
) -> Result<Removed, OutputError> {
    let Names { manifests, data, foreign } = Names::read(export, store, ledger).await?;
    let has_table = table.is_there().await?;
    if has_table {
        delta::check_built()?;
    }
    guard(ledger).note_removal(Some(Removal::Started))?;
    if has_table {
        delta::forget(table, export.to_owned()).await?;
    }
    let mut removed = Removed { foreign, ..Removed::default() };
    store.remove(vec![SUCCESS.to_owned()]).await?;
    store.remove(manifests).await?;
    for name in &data {
        if is_stopped() {
            return Ok(Removed { is_stopped: true, ..removed });
        }
        store.remove(vec![name.clone()]).await?;
        removed.files += 1;
    }
    store.remove_empty_directories().await?;
    let ledger = guard(ledger);
    ledger.forget_objects(&data)?;
    ledger.note_removal(Some(Removal::Finished))?;
    Ok(removed)
}

impl Names {
    async fn read(export: &str, store: &Store, ledger: &Mutex<Ledger>) -> Result<Self, OutputError> {
        let mut names = Self::default();
        // A listing may lack some of them. The ledger knows what was uploaded and published.
        let mut data: BTreeSet<String> = guard(ledger).uploaded_objects()?.into_iter().collect();
        data.retain(|name| is_data_of(export, name));
        for name in store.data_files().await?.into_keys() {
            if is_data_of(export, &name) {
                data.insert(name);
            } else {
                names.foreign.push(name);
            }
        }
        let mut manifests: BTreeSet<String> =
            guard(ledger).segments()?.into_iter().map(|row| manifest_name(row.id)).collect();
        manifests.extend(store.list(MANIFESTS).await?.into_iter().filter(|name| segment_of(name).is_some()));
        for name in manifests {
            let Some(text) = store.get(&name).await? else { continue };
            let is_own = Manifest::parse(&text).is_ok_and(|manifest| manifest.export == export);
            if is_own { names.manifests.push(name) } else { names.foreign.push(name) }
        }
        Ok(Self { data, ..names })
    }
}

fn guard(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
