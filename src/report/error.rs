//! Why a report cannot be made.

use crate::output::error::OutputError;
use crate::state::journal::JournalError;
use crate::state::ledger::LedgerError;

/// A report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The export's directory or its files.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// `products.parquet` could not be written.
    #[error("write _pagehaul/products.parquet")]
    Products(#[from] parquet::errors::ParquetError),
}
