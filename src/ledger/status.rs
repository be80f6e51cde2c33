//! What `status` asks of the ledger beyond the figures of a run: what is under way, and why items did not end well.

use super::{Doing, Ledger, LedgerError};
use crate::page::StopReason;

/// Items that did not end well for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Why their walks ended.
    pub stop: StopReason,
    /// What was said, sanitised.
    pub error: Option<String>,
    /// How many they are.
    pub items: u64,
    /// The first of them.
    pub first: String,
}

impl Ledger {
    /// Attempts without an outcome: under way while a process works on the export, in doubt when it is gone.
    pub fn under_way(&self) -> Result<u64, LedgerError> {
        let sql = "SELECT count(*) FROM attempts WHERE charge IS NULL";
        let count: i64 = self.db.query_row(sql, [], |row| row.get(0)).doing("count attempts under way")?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Items whose walk has begun and not ended.
    pub fn walks(&self) -> Result<u64, LedgerError> {
        let sql = "SELECT count(*) FROM items WHERE state = 1 AND state < 2";
        let count: i64 = self.db.query_row(sql, [], |row| row.get(0)).doing("count walks")?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Why items did not end well, the most frequent reasons first, and how many reasons there are.
    pub fn reasons(&self, limit: usize) -> Result<Vec<Reason>, LedgerError> {
        let sql = "SELECT stop, error, count(*), id, min(ix) FROM items
                   WHERE stop IN ('failed', 'rejected', 'page_cap', 'repeated_page')
                   GROUP BY stop, error ORDER BY count(*) DESC, min(ix) LIMIT ?1";
        self.rows(sql, [i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            let (stop, items): (String, i64) = (row.get(0)?, row.get(2)?);
            Ok(Reason {
                stop: StopReason::from_word(&stop).unwrap_or(StopReason::Failed),
                error: row.get(1)?,
                items: u64::try_from(items).unwrap_or_default(),
                first: row.get(3)?,
            })
        })
    }
}
