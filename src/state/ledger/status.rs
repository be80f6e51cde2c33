//! What `status` asks of the ledger beyond the figures of a run: what is under way, and why items did not end well.

use rusqlite::params;

use super::{Doing, Ledger, LedgerError};
use crate::model::page::StopReason;
use crate::model::sanitize::DETAILS;

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
    pub fn in_flight(&self) -> Result<u64, LedgerError> {
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

    /// Why items did not end well, the most frequent reasons first. Reasons that differ in the details of an answer alone are
    /// one; the first item's is shown.
    pub fn reasons(&self, limit: usize) -> Result<Vec<Reason>, LedgerError> {
        let sql = "SELECT stop, error, count(*), id, min(ix) FROM items
                   WHERE stop IN ('failed', 'rejected', 'page_cap', 'repeated_page')
                   GROUP BY stop, substr(error, 1, instr(error || ?2, ?2) - 1) ORDER BY count(*) DESC, min(ix) LIMIT ?1";
        self.rows(sql, params![i64::try_from(limit).unwrap_or(i64::MAX), DETAILS], |row| {
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

#[cfg(test)]
mod tests {
    use crate::model::clock::Utc64;
    use crate::model::page::{ItemId, ItemIx, StopReason};
    use crate::state::ledger::{EndRow, Group, Ledger, LedgerError};

    #[test]
    fn items_that_got_one_kind_of_answer_have_one_reason_whatever_its_details() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(&directory.path().join("ledger.sqlite")).unwrap();
        let message = ["other", "HTTP 502: no envelope; page 1, begins: a", "HTTP 502: no envelope; page 7, begins: b"];
        let ids = ["a", "b", "c"].map(|id| Ok::<_, LedgerError>(ItemId::new(id)));
        ledger.add_items(ids.into_iter()).unwrap();
        let ended = (1..).zip(message).map(|(ix, message)| {
            let error = Some(message.to_owned());
            EndRow { error, transient: true, ..EndRow::new(ItemIx(ix), StopReason::Failed) }
        });
        ledger.commit(&Group { ended: ended.collect(), ..Group::default() }, Utc64(1)).unwrap();
        let reasons = ledger.reasons(9).unwrap();
        let found: Vec<_> =
            reasons.iter().map(|reason| (reason.error.as_deref().unwrap(), reason.items, &*reason.first)).collect();
        assert_eq!(found, [(message[1], 2, "b"), (message[0], 1, "a")]);
    }
}
