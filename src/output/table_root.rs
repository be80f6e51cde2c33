//! Where the table of an output is: at the output's root. All snapshots of a dataset are one table, at the dataset's root.

use std::path::Path;

use crate::output::error::OutputError;
#[cfg(feature = "delta")]
use crate::output::manifest::Manifest;
use crate::output::store::Store;
use crate::settings::{OutputLocation, SNAPSHOT, SnapshotLabel, StoreOptions};

/// The root of the table that an export belongs to, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct TableRoot {
    pub(crate) store: Store,
    /// The name of the snapshot's directory in it; none if the export has the table for itself.
    snapshot: Option<String>,
}

impl TableRoot {
    /// Without a request to a bucket.
    pub(crate) fn open(out: &OutputLocation, with: &StoreOptions, state: &Path) -> Result<Self, OutputError> {
        // A snapshot's directory may be named by a link, or as the working directory.
        let real = out.directory().and_then(|path| std::fs::canonicalize(path).ok());
        let real = real.map_or_else(|| out.clone(), OutputLocation::Directory);
        let snapshot = real.name().filter(|name| SnapshotLabel::of_directory(name).is_some()).map(str::to_owned);
        let root = if snapshot.is_some() { real.parent() } else { out.clone() };
        Ok(Self { store: Store::open(&root, with, state)?, snapshot })
    }

    /// Whether there is a table. A log that was cleaned up has only its later versions, and says where they begin.
    pub(crate) async fn is_there(&self) -> Result<bool, OutputError> {
        for name in ["_delta_log/00000000000000000000.json", "_delta_log/_last_checkpoint"] {
            if self.store.find(name).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The columns in the names of the directories, from the root on. `own`: the column of the export's.
    pub(crate) fn partition(&self, own: &str) -> Vec<String> {
        self.snapshot.iter().map(|_| SNAPSHOT).chain([own]).map(str::to_owned).collect()
    }

    /// A manifest with names that are relative to the table's root.
    #[cfg(feature = "delta")]
    pub(crate) fn place(&self, mut manifest: Manifest) -> Manifest {
        if let Some(snapshot) = &self.snapshot {
            let replaced = manifest.replaces.iter_mut();
            for name in manifest.files.iter_mut().map(|file| &mut file.path).chain(replaced) {
                *name = format!("{snapshot}/{name}");
            }
        }
        manifest
    }
}

/// What a table has of an export.
#[derive(Debug, Default)]
pub(crate) struct TableAudit {
    pub(crate) committed: u64,
    /// Published segments that the next run commits.
    pub(crate) uncommitted: u64,
    /// Files that the table should have and has not, or the other way round, in words.
    pub(crate) differences: Vec<String>,
}
