//! Lists that are read once more because somebody asked for it: they moved while they were read, or came empty when most or all
//! did. The one way in which pages that are paid for are asked for again.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::{Doing, EmptyLists, Ledger, LedgerError};
use crate::model::page::{ItemIx, PageNum};

/// What is read once more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Lists that moved.
    pub moved: u64,
    /// Empty lists.
    pub empty: u64,
    /// Pages that they had: what it costs, if the lists are as long as they were.
    pub pages: u64,
}

/// Pages of lists that may lack rows: all of them. They are read in order from now on, because their lists have moved.
const MOVED: &str = "SELECT attempt, item FROM pages JOIN items ON ix = item
     WHERE state = 2 AND stop = 'shifted' AND outdated = 0";
/// Empty pages on which lists ended, or are about to, after the last page with rows came, if any had some.
const EMPTY: &str = "SELECT attempt, item FROM pages JOIN items ON ix = item
     WHERE (stop IS NULL OR stop = 'empty_page') AND received = 0 AND outdated = 0
       AND attempt > (SELECT coalesce(max(attempt), 0) FROM pages WHERE received > 0 AND outdated = 0)";

impl Ledger {
    /// Opens the lists again that moved, from their first page on, and where there is `doubt` about empty lists those that ended
    /// on the newest empty pages, at these pages: such pages count no more, their rows stay. All of it or nothing; if there is
    /// anything, the export is not complete any more, and `before` is done first. `first` is the number of a list's first page.
    pub fn repair<E: From<LedgerError>>(
        &mut self,
        first: PageNum,
        doubt: impl Fn(EmptyLists) -> bool,
        before: impl FnOnce() -> Result<(), E>,
    ) -> Result<Repair, E> {
        let are_empty_meant = doubt(self.empty_lists(first)?);
        let action = "open lists to read them once more";
        let moved = self.to_read_again(MOVED)?;
        let empty = if are_empty_meant { self.to_read_again(EMPTY)? } else { Again::default() };
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let pages = count(moved.attempts.len() + empty.attempts.len());
        let repair = Repair { moved: count(moved.items.len()), empty: count(empty.items.len()), pages };
        if pages == 0 {
            return Ok(repair);
        }
        before()?;
        self.before(action)?;
        let transaction = self.db.transaction().doing(action)?;
        transaction.execute("UPDATE export SET completed_at = NULL", []).doing(action)?;
        for again in [moved, empty] {
            open_again(&transaction, &again).doing(action)?;
        }
        transaction.commit().doing(action)?;
        self.after(action)?;
        Ok(repair)
    }

    /// Opens a list that has ended, to ask for one of its pages once more.
    pub fn ask_again(&mut self, item: ItemIx, page: PageNum) -> Result<(), LedgerError> {
        let action = "open a list to look at a page once more";
        let sql = "SELECT attempt FROM pages WHERE item = ?1 AND page = ?2 AND outdated = 0";
        let attempts = self.rows(sql, [item.0, page.0.into()], |row| row.get(0))?;
        self.before(action)?;
        let transaction = self.db.transaction().doing(action)?;
        open_again(&transaction, &Again { attempts, items: BTreeSet::from([item.0]) }).doing(action)?;
        transaction.commit().doing(action)?;
        self.after(action)
    }

    fn to_read_again(&self, which: &str) -> Result<Again, LedgerError> {
        let pages: Vec<(i64, i64)> = self.rows(which, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (attempts, items) = pages.into_iter().unzip();
        Ok(Again { attempts, items })
    }
}

/// Pages that are asked for again, and their items.
#[derive(Debug, Default)]
struct Again {
    attempts: Vec<i64>,
    items: BTreeSet<i64>,
}

/// Outdates pages and opens their lists.
fn open_again(transaction: &Connection, again: &Again) -> rusqlite::Result<()> {
    let [attempts, items] = [serde_json::json!(again.attempts), serde_json::json!(again.items)];
    let outdate = "UPDATE pages SET outdated = attempt WHERE attempt IN (SELECT value FROM json_each(?1))";
    let open = "UPDATE items SET stop = NULL, error = NULL, transient = 0, tries = 0, unproven = 0, skip = 0,
                  state = EXISTS (SELECT 1 FROM pages WHERE item = ix AND outdated = 0)
                WHERE ix IN (SELECT value FROM json_each(?1))";
    transaction.execute(outdate, [attempts.to_string()])?;
    transaction.execute(open, [items.to_string()])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Repair;
    use crate::model::clock::Utc64;
    use crate::model::page::{AttemptId, ItemId, ItemIx, PageNum, SegmentId, StopReason};
    use crate::state::ledger::{EndRow, Group, Ledger, LedgerError, PageRow, ReadRow};

    /// Lists by their ends, each of one page with so many rows.
    fn ledger(lists: &[(usize, StopReason)]) -> (tempfile::TempDir, Ledger) {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(&directory.path().join("ledger.sqlite")).unwrap();
        ledger.add_items((0..lists.len()).map(|at| Ok::<_, LedgerError>(ItemId::new(&format!("p{at}"))))).unwrap();
        let mut group = Group { frame: Some((ledger.begin_segment().unwrap().id, 0, 1)), ..Group::default() };
        for (at, (rows, stop)) in (1_u8..).zip(lists) {
            let (attempt, item, page) = (AttemptId(at.into()), ItemIx(at.into()), PageNum(1));
            group.pages.push(PageRow { attempt, item, page, at: Utc64(1) });
            let (received, keys) = (*rows, vec![[at; 16]; *rows]);
            group.read.push(ReadRow { attempt, item, received, rejected: 0, is_list: true, keys, again: Vec::new() });
            group.ended.push(EndRow { is_moved: *stop == StopReason::Shifted, ..EndRow::new(item, *stop) });
        }
        ledger.commit(&group, Utc64(1)).unwrap();
        (directory, ledger)
    }

    #[expect(clippy::unnecessary_wraps, reason = "it may fail elsewhere")]
    fn nothing() -> Result<(), LedgerError> {
        Ok(())
    }

    #[test]
    fn lists_that_moved_begin_anew_and_their_rows_stay_known() {
        use StopReason::{EmptyPage, Shifted, ShortPage};
        let (_directory, mut ledger) = ledger(&[(2, ShortPage), (2, Shifted), (0, EmptyPage)]);
        assert_eq!(ledger.repair(PageNum(1), |_| false, nothing).unwrap(), Repair { moved: 1, empty: 0, pages: 1 });
        let open = ledger.fresh(ItemIx(0), &std::collections::BTreeSet::new(), 9).unwrap();
        assert_eq!(open.iter().map(|open| (open.item, open.is_moved)).collect::<Vec<_>>(), [(ItemIx(2), true)]);
        assert_eq!(ledger.pages(ItemIx(2), SegmentId::BEHIND_ALL).unwrap(), []);
        assert_eq!(ledger.keys(ItemIx(2), SegmentId::BEHIND_ALL).unwrap(), [([2; 16], PageNum::NONE); 2]);
        assert_eq!(
            ledger.repair(PageNum(1), |_| false, nothing).unwrap(),
            Repair::default(),
            "there is nothing else to repair"
        );
    }

    #[test]
    fn of_empty_lists_only_those_are_asked_for_again_that_came_after_the_last_page_with_rows() {
        use StopReason::{EmptyPage, ShortPage};
        let (_directory, mut ledger) = ledger(&[(0, EmptyPage), (2, ShortPage), (0, EmptyPage), (0, EmptyPage)]);
        let repair = ledger.repair(PageNum(1), |lists| lists.in_a_row == 2, nothing).unwrap();
        assert_eq!(repair, Repair { moved: 0, empty: 2, pages: 2 });
        assert_eq!(ledger.empty_lists(PageNum(1)).unwrap().empty, 1);
    }
}
