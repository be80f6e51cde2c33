//! What can go wrong with an export's directory and the files in it.

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

use super::store::StoreError;
use crate::model::page::SegmentId;
use crate::state::disk::DiskError;
use crate::state::ledger::LedgerError;

/// An export's directory could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// No directory was named, or it holds no export.
    #[error("{0}")]
    NoExport(&'static str),
    /// The output or state directory does not take files. Found before the first request.
    #[error("the directory cannot be written to")]
    Unwritable(#[source] DiskError),
    /// Another process works on this export.
    #[error("another process holds this export: {holder}")]
    Busy {
        /// What the process wrote about itself.
        holder: String,
    },
    /// Directory and settings do not belong together.
    #[error("{0}")]
    Mismatch(String),
    /// What an export needs to go on is not as it was left.
    #[error("{0}")]
    Damaged(String),
    /// Published files were changed or deleted. The journal can bring them back.
    #[error("{0}")]
    Modified(String),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Rows could not be split by region or spilled.
    #[error("split rows by region")]
    Arrow(#[from] ArrowError),
    /// A Parquet file could not be written.
    #[error("write a staged file of {directory}")]
    Parquet {
        /// The partition directory that the file is for.
        directory: String,
        /// What the writer said.
        #[source]
        source: ParquetError,
    },
    /// The segment has a manifest that this export did not write.
    #[error("segment {segment} already has a manifest that another export wrote")]
    Taken {
        /// The segment.
        segment: SegmentId,
    },
    /// A manifest could not be parsed or serialized.
    #[error("the manifest of segment {segment} is not readable")]
    Manifest {
        /// The segment.
        segment: SegmentId,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The writer ended before its work did. Its own error says why.
    #[error("the writer of files ended")]
    WriterEnded,
    /// The writer's thread could not be started.
    #[error("run the writer's thread")]
    Thread(#[source] std::io::Error),
    /// A task panicked.
    #[error("a task of the program failed")]
    Panic(#[from] tokio::task::JoinError),
}
