//! Writing to the ledger: each transaction between two counted steps.

use std::path::Path;

use super::{Doing, Ledger, LedgerError};
use crate::model::failpoint::failpoint;

impl Ledger {
    /// Carries out one statement as a transaction of its own; gives the rows that it changed.
    pub(super) fn write<P: rusqlite::Params>(
        &self,
        sql: &str,
        params: P,
        action: &'static str,
    ) -> Result<usize, LedgerError> {
        self.before(action)?;
        let changed = self.db.execute(sql, params).doing(action)?;
        self.after(action)?;
        Ok(changed)
    }

    pub(super) fn before(&self, action: &'static str) -> Result<(), LedgerError> {
        failpoint!(Before, action, Path::new(self.db.path().unwrap_or_default()))
            .map_err(|error| io_error(&error))
            .doing(action)
    }

    pub(super) fn after(&self, action: &'static str) -> Result<(), LedgerError> {
        failpoint!(After, action, Path::new(self.db.path().unwrap_or_default()))
            .map_err(|error| io_error(&error))
            .doing(action)
    }
}

/// An error of the disk as SQLite would report it.
fn io_error(error: &std::io::Error) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
    rusqlite::Error::SqliteFailure(code, Some(error.to_string()))
}
