//! The output as a Delta table: one commit for each published segment, in the log beside the files.
//!
//! A segment's manifest makes it part of the export, its commit makes it part of the table. Each commit has a transaction
//! identifier, `EXPORT/SEGMENT` with the attempt as its version, so that the table itself says which segments it has: a commit
//! that is repeated after a crash changes nothing, and one that is missing is found when the export is opened again.
//!
//! `delta_kernel` blocks, and has its own threads for I/O ([`log::DeltaLog`]). May be used only in a build with the feature
//! `delta`; without it, `no_delta.rs` is in its place.

mod actions;
mod columns;
mod footer;
mod location;
mod log;
mod statistics;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::Schema;
use delta_kernel::KernelError;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use crate::model::event::{Event, EventSink};
use crate::model::sanitize::chain;
use crate::output::bucket::BucketError;
use crate::output::error::{OutputError, TableError};
use crate::output::manifest::Manifest;
use crate::output::table_root::{TableAudit, TableRoot};
pub(crate) use columns::TableColumns;
use location::TableLocation;
use log::DeltaLog;

/// The Delta table that an output is, or is a part of.
#[derive(Clone, Debug)]
pub(crate) struct DeltaTable {
    root: TableRoot,
    columns: TableColumns,
    events: Arc<dyn EventSink>,
    /// Opened with the first use.
    log: Arc<OnceCell<Arc<DeltaLog>>>,
}

impl DeltaTable {
    /// The table at this root, which need not exist.
    #[expect(clippy::unnecessary_wraps, reason = "without the feature there is none")]
    pub(crate) fn new(root: TableRoot, columns: TableColumns, events: Arc<dyn EventSink>) -> Option<Self> {
        Some(Self { root, columns, events, log: Arc::default() })
    }

    /// Creates the table if there is none, and compares its columns with the export's.
    pub(crate) async fn open(&self) -> Result<(), OutputError> {
        self.log().await.map(drop)
    }

    /// The published segments that the table lacks: each one's transaction is looked up in one version of the table.
    pub(crate) async fn missing(&self, published: Vec<Manifest>) -> Result<Vec<Manifest>, OutputError> {
        let log = self.log().await?;
        Ok(spawn_blocking(move || log.missing(published)).await??)
    }

    /// Commits a published segment, unless the table has it. The files of its earlier attempts leave the table in the same commit.
    pub(crate) async fn commit(&self, manifest: Manifest) -> Result<(), OutputError> {
        let (log, manifest) = (self.log().await?, self.root.place(manifest));
        let checkpoint = spawn_blocking(move || log.commit(&manifest)).await??;
        if let Err(error) = checkpoint {
            let message = format!("{}; the table is complete, but slower to open", chain(&error));
            self.events.event(&Event::Warning(&message));
        }
        Ok(())
    }

    /// Fails if a segment that is about to be published again could not take the place of its earlier attempt.
    pub(crate) async fn check(&self, manifest: Manifest) -> Result<(), OutputError> {
        let (log, manifest) = (self.log().await?, self.root.place(manifest));
        Ok(spawn_blocking(move || log.check(&manifest)).await??)
    }

    /// How long files that left the table stay, for those who read an older version of it.
    pub(crate) async fn retention(&self) -> Result<Duration, OutputError> {
        let log = self.log().await?;
        Ok(spawn_blocking(move || log.retention()).await??)
    }

    async fn log(&self) -> Result<Arc<DeltaLog>, OutputError> {
        let open = || async {
            let (root, columns) = (self.root.store.root(), self.columns.clone());
            let opened = spawn_blocking(move || DeltaLog::open(TableLocation::from_root(root)?, columns)).await?;
            Ok::<_, OutputError>(Arc::new(opened?))
        };
        self.log.get_or_try_init(open).await.map(Arc::clone)
    }
}

/// Compares a table that is there with all published segments of an export.
pub(crate) async fn audit(
    root: &TableRoot,
    export: String,
    published: Vec<Manifest>,
) -> Result<Option<TableAudit>, OutputError> {
    let published: Vec<Manifest> = published.into_iter().map(|manifest| root.place(manifest)).collect();
    let root = root.clone();
    Ok(Some(spawn_blocking(move || of_any_columns(&root)?.audit(&export, published)).await??))
}

/// Whether this build can write to a table.
#[expect(clippy::unnecessary_wraps, reason = "without the feature it fails")]
pub(crate) fn check_built() -> Result<(), OutputError> {
    Ok(())
}

/// Takes the files of an export out of a table that is there.
pub(crate) async fn forget(root: &TableRoot, export: String) -> Result<(), OutputError> {
    let root = root.clone();
    Ok(spawn_blocking(move || of_any_columns(&root)?.forget(&export)).await??)
}

/// The log of a table that is there, whatever its columns are.
fn of_any_columns(root: &TableRoot) -> Result<DeltaLog, TableError> {
    let columns = TableColumns { files: Arc::new(Schema::empty()), partition: Vec::new(), may_change: false };
    DeltaLog::open_unprepared(TableLocation::from_root(root.store.root())?, columns)
}

/// An error of the kernel, or of the store below it. A bucket's is told as if it had no table.
fn failed(
    action: &'static str,
    url: &url::Url,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> TableError {
    let mut source = source.into();
    if url.scheme() != "file" {
        source = match source.downcast::<KernelError>().map(|error| without_backtrace(*error)) {
            Ok(KernelError::ObjectStore(error)) => Box::new(error),
            Ok(other) => Box::new(other),
            Err(source) => source,
        };
        source = match source.downcast::<object_store::Error>() {
            Ok(error) => return TableError::Store(BucketError::Request { action, url: url.to_string(), error }),
            Err(source) => source,
        };
    }
    TableError::Failed { action, url: url.to_string(), source }
}

fn without_backtrace(error: KernelError) -> KernelError {
    if let KernelError::Backtraced { source, .. } = error { without_backtrace(*source) } else { error }
}
