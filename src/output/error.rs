//! What can go wrong with an export's directory and the files in it.

use std::io::ErrorKind;
use std::path::PathBuf;

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

use crate::model::page::SegmentId;
use crate::output::bucket::BucketError;
use crate::state::disk::DiskError;
use crate::state::ledger::LedgerError;

#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// No directory was named, or it has no export.
    #[error("{0}")]
    NoExport(&'static str),
    /// The output or state directory cannot be written to. Found before the first request.
    #[error("the directory cannot be written to")]
    Unwritable(#[source] DiskError),
    #[error("another process works on this export: {holder}")]
    Busy { holder: String },
    #[error("{0}")]
    Mismatch(String),
    /// A directory of snapshots, where one export is to be named.
    #[error("{0}")]
    Snapshots(String),
    /// The earlier export that this one is to continue cannot serve for that.
    #[error("--since {0}")]
    Since(String),
    /// The export cannot continue because a file that it needs was changed or is gone.
    #[error("{0}")]
    Damaged(String),
    /// Segments would have to be rebuilt from journal files that were removed.
    #[error("{0}")]
    Pruned(String),
    /// The files of a snapshot were removed, because newer ones are kept.
    #[error("{0}")]
    Removed(String),
    /// Published files were changed or deleted. The journal can bring them back.
    #[error("{0}")]
    Modified(String),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Table(TableError),
    /// Rows could not be split by region or spilled.
    #[error("split rows by region")]
    Arrow(#[from] ArrowError),
    #[error("write a staged file of {directory}")]
    Parquet {
        /// The partition directory that the file is for.
        directory: String,
        #[source]
        source: ParquetError,
    },
    /// A staged file is gone, and no file has its name: something other than pagehaul removed it.
    #[error("staged file {} is missing and {name} is not there either", staged.display())]
    StagedMissing { staged: PathBuf, name: String },
    #[error("read {name}")]
    Content {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{name} is there already, with another content than the staged file's")]
    NameTaken { name: String },
    /// The segment has a manifest that this export did not write.
    #[error("segment {segment} already has a manifest that another export wrote")]
    SegmentTaken { segment: SegmentId },
    #[error("the manifest of segment {segment} cannot be read")]
    Manifest {
        segment: SegmentId,
        #[source]
        source: serde_json::Error,
    },
    /// The writer ended before its work did. Its own error says why.
    #[error("the writer of files ended")]
    WriterEnded,
    #[error("run the writer's thread")]
    Thread(#[source] std::io::Error),
    #[error("a task of the program failed")]
    Panic(#[from] tokio::task::JoinError),
}

impl OutputError {
    /// Of the first requests to a bucket: one that is not there, or elsewhere, is a wrong setting.
    pub(crate) fn at_the_start(self) -> Self {
        let Self::Bucket(error) = self else { return self };
        Self::Bucket(error.at_the_start())
    }

    /// Whether staged files can never get their names: they are not all there, or their names cannot be given.
    pub(crate) fn needs_rebuild(&self) -> bool {
        matches!(self, Self::StagedMissing { .. } | Self::NameTaken { .. })
            || matches!(self, Self::Bucket(BucketError::Taken { .. }))
            || matches!(self, Self::Disk(error) if error.source.kind() == ErrorKind::InvalidFilename)
    }
}

impl From<TableError> for OutputError {
    fn from(error: TableError) -> Self {
        if let TableError::Store(error) = error { Self::Bucket(error) } else { Self::Table(error) }
    }
}

/// What can go wrong with the table that an output is.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("cannot {action} the Delta table {url}")]
    Failed {
        action: &'static str,
        url: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The bucket that the table is in refused a request.
    #[error(transparent)]
    Store(BucketError),
    #[error("{root} cannot be a Delta table: {reason}")]
    Location { root: String, reason: String },
    /// Its columns, or the way it is partitioned, are not the export's.
    #[error("the Delta table {url} does not fit the export: {differences}")]
    Differs { url: String, differences: String },
    /// A file that a new attempt at its segment replaces is not in the table any more.
    #[error(
        "segment {segment} cannot be replaced in the Delta table {url}: {path} is not in it any more, and its rows may be in another file (OPTIMIZE writes such); restore an earlier version of the table, or move _delta_log away and run the command again, which makes the table again"
    )]
    Vanished { url: String, segment: SegmentId, path: String },
    /// A file that is to be committed is not as the manifest says.
    #[error("{path} has {found} and should have {expected}: it was changed after it was published")]
    File { path: String, found: String, expected: String },
    #[error("other writers committed to the Delta table {url} {tries} times while a commit was made")]
    Contended { url: String, tries: usize },
}
