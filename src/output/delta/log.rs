//! The log of a Delta table. Every call blocks.
//!
//! The kernel waits for its own I/O on threads that this file starts: two, because a checkpoint reads while it writes. They end
//! in the background, so that a table may be dropped where nothing may block.
//!
//! The kernel cannot rebase a commit. Where others were faster, the newest version of the table is read, and the transaction
//! looked up in it, before the commit is made again. So is a commit whose outcome is not known.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::transaction::create_table::create_table;
use delta_kernel::transaction::data_layout::DataLayout;
use delta_kernel::transaction::{CommitResult, CommittedTransaction, Transaction, UpdateTableOperation};
use delta_kernel::{FilteredEngineData, KernelError, KernelResult, Snapshot};
use delta_kernel_default_engine::executor::TaskExecutor;
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use delta_kernel_default_engine::{DefaultEngine, DefaultEngineBuilder};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::runtime::{Builder, Runtime};

use super::actions::{added, removed};
use super::columns::TableColumns;
use super::failed;
use super::footer::read_footer;
use super::location::TableLocation;
use crate::model::failpoint::failpoint;
use crate::model::page::SegmentId;
use crate::output::error::TableError;
use crate::output::manifest::Manifest;
use crate::output::names::of_file;
use crate::output::table_root::TableAudit;

/// Who commits, as the table's history says it.
const WRITER: &str = concat!("pagehaul/", env!("CARGO_PKG_VERSION"));
/// How often a commit is made that other writers overtake.
const TRIES: usize = 16;
/// How often one is made that fails. The store's client has its own retries.
const FAILURES: usize = 3;
/// Commits between two checkpoints, where the table does not say how many.
const CHECKPOINT_INTERVAL: u64 = 10;
/// How long removed files stay, where the table does not say it: a week, as in Delta's own writers.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Files whose footers are read at a time, and in one batch of the commit.
const FOOTERS_AT_ONCE: usize = 8;
const FILES_A_BATCH: usize = 256;

#[derive(Debug)]
pub(super) struct DeltaLog {
    engine: DefaultEngine<TokioMultiThreadExecutor>,
    executor: Arc<TokioMultiThreadExecutor>,
    /// What the executor works on; only kept.
    _threads: Threads,
    location: TableLocation,
    columns: TableColumns,
}

/// The threads of the kernel's I/O.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl DeltaLog {
    /// Opens the table, or creates it. Fails if its columns are not the export's and may not become so.
    pub(super) fn open(location: TableLocation, columns: TableColumns) -> Result<Self, TableError> {
        let log = Self::open_unprepared(location, columns)?;
        log.prepare()?;
        Ok(log)
    }

    /// Opens a table that is there, whatever its columns are.
    pub(super) fn open_unprepared(location: TableLocation, columns: TableColumns) -> Result<Self, TableError> {
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("delta").enable_all().build();
        let runtime = runtime.map_err(|error| failed("start threads for", &location.url, error))?;
        let executor = Arc::new(TokioMultiThreadExecutor::new(runtime.handle().clone()));
        let builder = DefaultEngineBuilder::new(Arc::clone(&location.objects));
        let engine = builder.with_task_executor(Arc::clone(&executor)).build();
        Ok(Self { engine, executor, _threads: Threads(Some(runtime)), location, columns })
    }

    /// Makes sure that there is a table with the export's columns.
    fn prepare(&self) -> Result<(), TableError> {
        if let Some(name) = self.columns.ambiguous() {
            let reason = format!("its partition column {name} has the name of a column of the export");
            return Err(TableError::Location { root: self.location.url.to_string(), reason });
        }
        for _ in 0..TRIES {
            if !self.is_there()? {
                self.create()?;
                continue; // also where another one has created it meanwhile
            }
            let snapshot = self.snapshot()?;
            let new = self.compare(&snapshot)?;
            if new.is_empty() {
                return Ok(());
            }
            let mut change = snapshot.update_table(UpdateTableOperation::AlterTable, WRITER, false);
            for column in new {
                change = change.add_column(column);
            }
            let committer = Box::new(FileSystemCommitter::new());
            let changed = change.build(&self.engine, committer).and_then(|change| change.commit(&self.engine));
            let _whatever_came_of_it = changed.map_err(|error| self.failed("add columns to", error))?;
        }
        Err(self.contended())
    }

    fn is_there(&self) -> Result<bool, TableError> {
        let (objects, log) = (Arc::clone(&self.location.objects), self.location.path("_delta_log")?);
        let first = self.wait(async move { objects.list(Some(&log)).next().await.transpose() });
        first.map(|first| first.is_some()).map_err(|error| self.failed("look for", error))
    }

    fn create(&self) -> Result<(), TableError> {
        self.failpoint_before("create")?;
        let create = || {
            let by = DataLayout::partitioned(self.columns.partition.clone());
            create_table(&self.location.url, Arc::new(self.columns.schema()?), WRITER, false)
                .with_data_layout(by)
                .build(&self.engine, Box::new(FileSystemCommitter::new()))?
                .commit(&self.engine)
                .map(drop)
        };
        match create() {
            Ok(()) | Err(KernelError::TableAlreadyExistsAtPath(_)) => self.failpoint_after("create"),
            Err(error) => Err(self.failed("create", error)),
        }
    }

    /// The segments that the table has no attempt of, or only an earlier one.
    pub(super) fn missing(&self, published: Vec<Manifest>) -> Result<Vec<Manifest>, TableError> {
        let snapshot = self.snapshot()?;
        let mut missing = Vec::new();
        for manifest in published {
            if self.version(&snapshot, &manifest)?.is_none_or(|version| version < manifest.attempt) {
                missing.push(manifest);
            }
        }
        Ok(missing)
    }

    /// Commits a segment, unless the table has this attempt or a later one. Returns what a checkpoint that was due came to.
    pub(super) fn commit(&self, manifest: &Manifest) -> Result<Result<(), TableError>, TableError> {
        let (mut batches, mut failures) = (None, Vec::new());
        for _ in 0..TRIES {
            let snapshot = self.snapshot()?;
            let version = self.version(&snapshot, manifest)?;
            if version.is_some_and(|version| version >= manifest.attempt) {
                return Ok(Ok(()));
            }
            self.compare(&snapshot)?;
            let mut transaction = self.begin(&snapshot, manifest)?;
            if version.is_some() {
                for files in self.earlier(&snapshot, manifest)? {
                    transaction.remove_files(files);
                }
            }
            let batches = match &batches {
                Some(batches) => batches,
                None => batches.insert(self.read_footers(manifest, &transaction)?),
            };
            for batch in batches {
                transaction.add_files(Box::new(ArrowEngineData::new(batch.clone())));
            }
            self.failpoint_before("commit to")?;
            let committed = transaction.commit(&self.engine);
            self.failpoint_after("commit to")?;
            match committed {
                Ok(CommitResult::Committed(done)) => return Ok(self.checkpoint(&done)),
                Ok(CommitResult::Conflicted(_)) => {}
                Ok(CommitResult::Retryable(failure)) => failures.push(failure.error),
                Err(error) => failures.push(error),
            }
            if failures.len() == FAILURES {
                break;
            }
        }
        Err(failures.pop().map_or_else(|| self.contended(), |error| self.failed("commit to", error)))
    }

    fn begin(&self, snapshot: &SnapshotRef, manifest: &Manifest) -> Result<Transaction, TableError> {
        let committer = Box::new(FileSystemCommitter::new());
        Arc::clone(snapshot)
            .update_table(UpdateTableOperation::Write, WRITER, true)
            .with_transaction_id(application(manifest), manifest.attempt)
            .build(&self.engine, committer)
            .map_err(|error| self.failed("commit to", error))
    }

    /// The files of earlier attempts at a segment, as a commit removes them. All of them must be there: where somebody has written
    /// their rows to other files, the table would have these rows twice.
    fn earlier(&self, snapshot: &SnapshotRef, manifest: &Manifest) -> Result<Vec<FilteredEngineData>, TableError> {
        let is_earlier = |(segment, attempt)| segment == SegmentId(manifest.segment) && attempt < manifest.attempt;
        let (found, names) = self.live(snapshot, &manifest.export, is_earlier)?;
        match manifest.replaces.iter().find(|name| !names.contains(*name)) {
            None => Ok(found),
            Some(path) => Err(TableError::Vanished {
                url: self.location.url.to_string(),
                segment: SegmentId(manifest.segment),
                path: path.clone(),
            }),
        }
    }

    /// The live files of an export, by segment and attempt, and their names.
    fn live(
        &self,
        snapshot: &SnapshotRef,
        export: &str,
        is_wanted: impl Fn((SegmentId, i64)) -> bool,
    ) -> Result<(Vec<FilteredEngineData>, BTreeSet<String>), TableError> {
        let is_wanted = |name: &str| {
            let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
            of_file(export, file).is_some_and(&is_wanted)
        };
        let (mut found, mut names) = (Vec::new(), BTreeSet::new());
        let mut look = || -> KernelResult<()> {
            let scan = Arc::clone(snapshot).scan_builder().build()?;
            for live in scan.scan_metadata(&self.engine)? {
                if let Some((files, named)) = removed(live?.scan_files, is_wanted)? {
                    names.extend(named);
                    found.push(files);
                }
            }
            Ok(())
        };
        look().map_err(|error| self.failed("list the files of", error))?;
        Ok((found, names))
    }

    /// Compares the table with all published segments of an export.
    pub(super) fn audit(&self, export: &str, published: Vec<Manifest>) -> Result<TableAudit, TableError> {
        let snapshot = self.snapshot()?;
        let mut found = TableAudit::default();
        let (_, mut live) = self.live(&snapshot, export, |_| true)?;
        for manifest in published {
            if self.version(&snapshot, &manifest)?.is_none_or(|version| version < manifest.attempt) {
                found.uncommitted += 1;
                let (_, earlier) = self.live(&snapshot, export, |(segment, attempt)| {
                    segment == SegmentId(manifest.segment) && attempt < manifest.attempt
                })?;
                live = &live - &earlier;
                continue;
            }
            found.committed += 1;
            let missing = manifest.files.into_iter().map(|file| file.path).filter(|path| !live.remove(path));
            found.differences.extend(missing.map(|path| format!("{path} is not in the Delta table")));
        }
        found
            .differences
            .extend(live.into_iter().map(|path| format!("{path} is in the Delta table and in no manifest")));
        Ok(found)
    }

    /// Takes all files of an export out of the table, in one commit; none if it has none of them.
    pub(super) fn forget(&self, export: &str) -> Result<(), TableError> {
        for _ in 0..TRIES {
            let snapshot = self.snapshot()?;
            let (files, names) = self.live(&snapshot, export, |_| true)?;
            if names.is_empty() {
                return Ok(());
            }
            let committer = Box::new(FileSystemCommitter::new());
            let change = snapshot.update_table(UpdateTableOperation::Write, WRITER, true);
            let mut change = change.build(&self.engine, committer).map_err(|error| self.failed("commit to", error))?;
            for files in files {
                change.remove_files(files);
            }
            self.failpoint_before("commit to")?;
            let outcome = change.commit(&self.engine).map_err(|error| self.failed("commit to", error))?;
            self.failpoint_after("commit to")?;
            if let CommitResult::Committed(_) = outcome {
                return Ok(());
            }
        }
        Err(self.contended())
    }

    /// Whether a segment can take the place of its earlier attempt: before anything is changed.
    pub(super) fn check(&self, manifest: &Manifest) -> Result<(), TableError> {
        let snapshot = self.snapshot()?;
        match self.version(&snapshot, manifest)? {
            Some(version) if version < manifest.attempt => self.earlier(&snapshot, manifest).map(drop),
            Some(_) | None => Ok(()),
        }
    }

    /// The files of a segment as a commit adds them, from their footers.
    fn read_footers(&self, manifest: &Manifest, transaction: &Transaction) -> Result<Vec<RecordBatch>, TableError> {
        let columns = self.columns_with_statistics(transaction);
        let mut batches = Vec::new();
        for files in manifest.files.chunks(FILES_A_BATCH) {
            let read = files.iter().map(|file| {
                let (location, file, columns) = (self.location.clone(), file.clone(), Arc::clone(&columns));
                Box::pin(async move { read_footer(&location, file, &columns).await })
            });
            let read: Vec<_> = read.collect();
            let read = self.wait(async move { stream::iter(read).buffered(FOOTERS_AT_ONCE).try_collect().await })?;
            batches.push(added(read, &columns).map_err(|error| self.failed("describe the files of", error))?);
        }
        Ok(batches)
    }

    /// The columns in files that the table keeps statistics of.
    fn columns_with_statistics(&self, transaction: &Transaction) -> SchemaRef {
        let names: BTreeSet<String> =
            transaction.stats_columns().iter().filter_map(|column| column.path().first().cloned()).collect();
        let fields = self.columns.files.fields().iter().filter(|field| names.contains(field.name()));
        Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
    }

    fn checkpoint(&self, done: &CommittedTransaction) -> Result<(), TableError> {
        let Some(snapshot) = done.post_commit_snapshot() else { return Ok(()) };
        let interval = snapshot.table_properties().checkpoint_interval.map_or(CHECKPOINT_INTERVAL, NonZero::get);
        if done.post_commit_stats().commits_since_checkpoint < interval {
            return Ok(());
        }
        self.failpoint_before("write a checkpoint of")?;
        let written = snapshot.checkpoint(&self.engine, None);
        written.map_err(|error| self.failed("write a checkpoint of", error))?;
        self.failpoint_after("write a checkpoint of")
    }

    /// How long files that left the table stay.
    pub(super) fn retention(&self) -> Result<Duration, TableError> {
        Ok(self.snapshot()?.table_properties().deleted_file_retention_duration.unwrap_or(RETENTION))
    }

    fn snapshot(&self) -> Result<SnapshotRef, TableError> {
        Snapshot::builder_for(&self.location.url).build(&self.engine).map_err(|error| self.failed("read", error))
    }

    /// The newest attempt at a segment that is in the table.
    fn version(&self, snapshot: &SnapshotRef, manifest: &Manifest) -> Result<Option<i64>, TableError> {
        let version = snapshot.get_app_id_version(&application(manifest), &self.engine);
        version.map_err(|error| self.failed("look for transactions in", error))
    }

    /// Compares the table's columns with the export's. Returns those that are to be added.
    fn compare(&self, snapshot: &SnapshotRef) -> Result<Vec<delta_kernel::schema::StructField>, TableError> {
        let configuration = snapshot.table_configuration();
        let partition = configuration.logical_partition_columns();
        let compared = self.columns.compare(&snapshot.schema(), partition);
        let mut found = compared.map_err(|error| self.failed("compare the columns of", error))?;
        let properties = snapshot.table_properties();
        if properties.set_transaction_retention_duration.is_some() {
            found.lasting.push("it forgets transactions (delta.setTransactionRetentionDuration)".to_owned());
        }
        if properties
            .column_mapping_mode
            .is_some_and(|mode| mode != delta_kernel::table_features::ColumnMappingMode::None)
        {
            found.lasting.push("it maps columns (delta.columnMapping.mode)".to_owned());
        }
        match found.obstacles(self.columns.may_change) {
            None => Ok(found.new),
            Some(differences) => Err(TableError::Differs { url: self.location.url.to_string(), differences }),
        }
    }

    fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.executor.block_on(work)
    }

    fn failpoint_before(&self, action: &'static str) -> Result<(), TableError> {
        failpoint!(Before, action, &self.location.failpoints).map_err(|error| failed(action, &self.location.url, error))
    }

    fn failpoint_after(&self, action: &'static str) -> Result<(), TableError> {
        failpoint!(After, action, &self.location.failpoints).map_err(|error| failed(action, &self.location.url, error))
    }

    fn failed(&self, action: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TableError {
        failed(action, &self.location.url, source)
    }

    fn contended(&self) -> TableError {
        TableError::Contended { url: self.location.url.to_string(), tries: TRIES }
    }
}

/// The transaction's application: one for each segment of an export.
fn application(manifest: &Manifest) -> String {
    format!("{}/{}", manifest.export, manifest.segment)
}
