//! Why a report cannot be made.

use crate::output::error::OutputError;
use crate::state::disk::DiskError;
use crate::state::journal::JournalError;
use crate::state::ledger::LedgerError;

/// A report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Not a percentage.
    #[error("--sample must be a number above 0, up to 100: percent of the content to read")]
    Sample,
    /// The export's directory or its files.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A report file could not be written.
    #[error("write {name}")]
    Write {
        /// The file.
        name: &'static str,
        /// Why.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// A task panicked.
    #[error("a task of the program failed")]
    Panic(#[from] tokio::task::JoinError),
}
