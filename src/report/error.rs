//! Why a report cannot be made.

use crate::output::error::OutputError;
use crate::state::journal::JournalError;
use crate::state::ledger::LedgerError;

#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("write _pagehaul/products.parquet")]
    Products(#[from] parquet::errors::ParquetError),
}
