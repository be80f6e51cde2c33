//! The table `attempts`: requests that did not bring a page, or not yet. A group commit adds them and says how they ended.

use std::collections::BTreeSet;

use super::{Ledger, LedgerError};
use crate::model::page::{AttemptId, ItemIx};

/// What attempts cost, over all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credits {
    /// Pages that were requested: one credit each.
    pub billed: u64,
    pub free: u64,
    /// Attempts that may have been billed, an upper bound.
    pub in_doubt: u64,
}

impl Ledger {
    /// The credits of all runs. Attempts in flight count as in doubt.
    pub fn credits(&self) -> Result<Credits, LedgerError> {
        let count = |sql| self.count(sql, [], "count credits");
        Ok(Credits {
            billed: count("SELECT count(*) FROM pages WHERE attempt > 0")?,
            free: count("SELECT count(*) FROM attempts WHERE charge = 'free'")?,
            in_doubt: count("SELECT count(*) FROM attempts WHERE charge IS NOT 'free'")?,
        })
    }

    /// Marks attempts without an outcome as in doubt: the process that sent them is gone. Returns how many there were.
    pub fn mark_in_doubt(&self) -> Result<usize, LedgerError> {
        let sql =
            "UPDATE attempts SET charge = 'in_doubt', cause = 'no outcome: the process ended' WHERE charge IS NULL";
        self.write(sql, [], "mark open attempts as in doubt")
    }

    /// Attempts without an outcome: in flight while a process works on the export, in doubt when it is gone.
    pub(crate) fn attempts_in_flight(&self) -> Result<u64, LedgerError> {
        self.count("SELECT count(*) FROM attempts WHERE charge IS NULL", [], "count attempts in flight")
    }

    pub(crate) fn is_in_flight(&self, attempt: AttemptId) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM attempts WHERE id = ?1 AND charge IS NULL)";
        self.value(sql, [attempt.0], "find an attempt")
    }

    pub(crate) fn is_failed(&self, attempt: AttemptId) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM attempts WHERE id = ?1 AND charge IS NOT NULL)";
        self.value(sql, [attempt.0], "find an attempt")
    }

    /// The highest attempt so far, with or without a page; 0 before the first.
    pub fn last_attempt(&self) -> Result<AttemptId, LedgerError> {
        let sql =
            "SELECT max(coalesce((SELECT max(id) FROM attempts), 0), coalesce((SELECT max(attempt) FROM pages), 0))";
        self.value(sql, [], "find the last attempt").map(AttemptId)
    }

    /// The lowest attempt so far; 0 if no page was taken over.
    pub(crate) fn first_attempt(&self) -> Result<AttemptId, LedgerError> {
        self.value("SELECT min(coalesce(min(attempt), 0), 0) FROM pages", [], "find the first attempt").map(AttemptId)
    }

    /// Items for which an attempt brought no page.
    pub(crate) fn items_without_page(&self) -> Result<BTreeSet<ItemIx>, LedgerError> {
        let items = self.rows("SELECT DISTINCT item FROM attempts", [], |row| row.get(0).map(ItemIx))?;
        Ok(items.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Credits;
    use crate::model::clock::Utc64;
    use crate::model::page::{AttemptId, Charge, SegmentId};
    use crate::state::ledger::fixture::{ledger, page, request};
    use crate::state::ledger::{FailedRow, Group};

    #[test]
    fn an_intent_is_in_doubt_until_its_outcome_is_known() {
        let (_directory, mut ledger) = ledger(&["a", "b", "c"]);
        ledger.start_segment().unwrap();
        let intents = vec![request(1, 1), request(2, 2), request(3, 3), request(4, 3)];
        ledger.commit(&Group { intents, ..Group::default() }, Utc64(1)).unwrap();
        assert_eq!(ledger.credits().unwrap(), Credits { billed: 0, free: 0, in_doubt: 4 });
        let outcomes = Group {
            frame: Some((SegmentId(1), 0, 10)),
            pages: vec![page(1, 1, 1)],
            failed: vec![FailedRow {
                attempt: AttemptId(2),
                charge: Charge::Free,
                cause: "429".to_owned(),
                may_become_page: false,
            }],
            unsent: vec![AttemptId(4)],
            ..Group::default()
        };
        ledger.commit(&outcomes, Utc64(2)).unwrap();
        assert_eq!(ledger.credits().unwrap(), Credits { billed: 1, free: 1, in_doubt: 1 });
        assert_eq!((ledger.mark_in_doubt().unwrap(), ledger.last_attempt().unwrap()), (1, AttemptId(3)));
    }
}
