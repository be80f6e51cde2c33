//! Walks that have ended and are reopened, or end in another way than it seemed: statements over items and their pages.
//!
//! [`Ledger::repair`] and [`Ledger::reread_page`] outdate pages that are paid for, so that they are requested again. So does a group
//! commit, for the outdated pages of lists that move.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::{EmptyLists, Ledger, LedgerError};
use crate::model::page::{ItemIx, PageNum};

/// What a repair reads again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Repair {
    pub moved: u64,
    pub empty: u64,
    /// Pages that they had: the price, if the lists are as long as they were.
    pub pages: u64,
}

/// Pages of lists that may lack rows: all of them. They are read in order from now on, because their lists have moved.
const MOVED: &str = "SELECT attempt, item FROM pages JOIN items ON ix = item
     WHERE state = 2 AND stop = 'shifted' AND outdated = 0";
/// Empty pages on which lists ended, or are about to, after the last page with rows arrived, if any had some.
const EMPTY: &str = "SELECT attempt, item FROM pages JOIN items ON ix = item
     WHERE (stop IS NULL OR stop = 'empty_page') AND received = 0 AND outdated = 0
       AND attempt > (SELECT coalesce(max(attempt), 0) FROM pages WHERE received > 0 AND outdated = 0)";
/// A walk that ended on a page with rows, but fewer than a full one; ?1: on one of exactly so many.
const SHORT_END: &str = "state = 2 AND stop IN ('short_page', 'rejected')
     AND (SELECT received FROM pages WHERE item = ix AND outdated = 0 ORDER BY page DESC LIMIT 1) > 0
     AND (?1 IS NULL OR (SELECT received FROM pages WHERE item = ix AND outdated = 0 ORDER BY page DESC LIMIT 1) = ?1)";

fn reopen(which: &str) -> String {
    format!("UPDATE items SET state = 1, stop = NULL, error = NULL, transient = 0 WHERE {which}")
}

impl Ledger {
    /// Reopens walks that failed for a transient cause, or all that failed or were cut by a page that repeats, is rejected or is
    /// refused: these continue behind it. An item has all its tries again. A transient cause stays noted until the walk ends.
    pub(crate) fn reopen_failed(&self, all: bool) -> Result<usize, LedgerError> {
        let sql = "UPDATE items SET state = 1, stop = NULL, error = NULL, tries = 0,
                     skip = iif(stop IN ('repeated_page', 'rejected', 'foreign_page'),
                                coalesce((SELECT max(page) FROM pages WHERE item = ix AND outdated = 0), skip), skip)
                   WHERE state = 2 AND (stop = 'failed' AND (transient = 1 OR ?1)
                     OR ?1 AND stop IN ('repeated_page', 'rejected', 'foreign_page', 'page_cap'))";
        self.write(sql, [all], "reopen failed items")
    }

    /// Reopens walks that a page with fewer rows than a full one ended, with or without a usable row.
    pub(crate) fn reopen_short_ends(&self) -> Result<usize, LedgerError> {
        self.write(&reopen(SHORT_END), [None::<u32>], "reopen items that a short page ended")
    }

    /// How many walks ended on a short page; only those on a page of exactly so many rows, if a number is given.
    pub fn count_short_ends(&self, only: Option<u32>) -> Result<u64, LedgerError> {
        self.count(&format!("SELECT count(*) FROM items WHERE {SHORT_END}"), [only], "count short ends")
    }

    /// Sets the rule of ends and reopens the walks that it puts in doubt, both or neither: those that a page of exactly `only`
    /// rows ended, or all that a short page ended. Returns how many.
    pub fn set_end_rule(&mut self, rule: &str, only: Option<u32>) -> Result<usize, LedgerError> {
        self.transaction("write the rule of ends", |transaction| {
            transaction.execute("UPDATE export SET end_rule = ?1, completed_at = NULL", [rule])?;
            transaction.execute(&reopen(SHORT_END), [only])
        })
    }

    /// Reopens the rejected walks whose last page has usable rows by now. Returns how many.
    pub(crate) fn reopen_rejected(&self) -> Result<usize, LedgerError> {
        // The page for another item may be in the middle of its list.
        let which = "state = 2 AND (stop = 'rejected' OR stop = 'foreign_page' AND NOT EXISTS (
                       SELECT 1 FROM pages WHERE item = items.ix AND received BETWEEN 1 AND rejected AND outdated = 0))
                     AND EXISTS (
                       SELECT 1 FROM pages WHERE item = items.ix AND received > rejected AND outdated = 0
                         AND page = (SELECT max(page) FROM pages
                                     WHERE item = items.ix AND received > 0 AND outdated = 0))";
        self.write(&reopen(which), [], "reopen rejected items")
    }

    /// Cuts lists whose next page was refused, where that is the same page number for at least `least` of them and for more than
    /// ended on a short page before it, and no list ever had a page with that number: the API has no page beyond it. Returns
    /// how many.
    pub(crate) fn cut_at_page_cap(&self, least: u32) -> Result<usize, LedgerError> {
        let sql = "WITH last (item) AS (SELECT item FROM pages
                       WHERE outdated = 0 AND page = (SELECT max(page) FROM pages WHERE outdated = 0)),
                     ended (refused, short) AS (
                       SELECT count(*) FILTER (WHERE stop = 'end_refused'), count(*) FILTER (WHERE stop = 'short_page')
                       FROM items WHERE ix IN (SELECT item FROM last))
                   UPDATE items SET stop = 'page_cap', error = 'many lists are refused at one same page: ' || error
                   WHERE stop = 'end_refused' AND error IS NOT NULL AND ix IN (SELECT item FROM last)
                     AND (SELECT refused >= ?1 AND refused > short FROM ended)";
        self.write(sql, [least], "cut lists at the page cap")
    }

    /// Cuts lists whose second page repeated their first, where no list ever had a new row on a later page: the API ignores the
    /// page number. Returns how many.
    pub(crate) fn cut_unnumbered(&self, first: PageNum) -> Result<usize, LedgerError> {
        let sql = "UPDATE items SET stop = 'repeated_page',
                     error = 'no list has a new row behind its first page: the API seems to ignore the number of the page'
                   WHERE stop = 'end_repeated' AND NOT EXISTS (SELECT 1 FROM pages WHERE page > ?1 AND kept > 0)";
        self.write(sql, [first.0], "cut lists whose pages are all the first")
    }

    /// Fails lists that ended on a success without a list of rows, in the journal or not, though other lists ended on an empty
    /// list. Returns how many.
    pub(crate) fn fail_without_list(&self, first: PageNum) -> Result<usize, LedgerError> {
        if !self.has_empty_list()? {
            return Ok(0);
        }
        let sql = "UPDATE items SET stop = 'failed', transient = 0,
                     error = 'the last page came without a list of rows, where other products got an empty list'
                   WHERE stop = 'empty_page'
                     AND NOT EXISTS (SELECT 1 FROM since WHERE item = ix AND since.state IN ('assumed', 'held'))
                     AND NOT EXISTS (
                     SELECT 1 FROM pages AS last WHERE item = ix AND received = 0 AND is_list AND outdated = 0
                       AND page - ?1 = (SELECT count(*) FROM pages
                                        WHERE item = ix AND page < last.page AND is_list AND outdated = 0))";
        self.write(sql, [first.0], "fail lists whose end came without a list")
    }

    /// Reopens the lists that moved, from their first page on, and where the empty lists are `in_doubt` those that ended on the
    /// newest empty pages, at these pages. Such pages become outdated; their rows stay. All of it or nothing; if there is
    /// anything, the export is not complete any more, and `before` is called first. `first` is the number of a list's first
    /// page.
    pub(crate) fn repair<E: From<LedgerError>>(
        &mut self,
        first: PageNum,
        in_doubt: impl Fn(EmptyLists) -> bool,
        before: impl FnOnce() -> Result<(), E>,
    ) -> Result<Repair, E> {
        let with_empty = in_doubt(self.empty_lists(first)?);
        let moved = self.outdated_pages(MOVED)?;
        let empty = if with_empty { self.outdated_pages(EMPTY)? } else { OutdatedPages::default() };
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let pages = count(moved.attempts.len() + empty.attempts.len());
        let repair = Repair { moved: count(moved.items.len()), empty: count(empty.items.len()), pages };
        if pages > 0 {
            before()?;
            self.transaction("reopen lists to read them again", |transaction| {
                transaction.execute("UPDATE export SET completed_at = NULL", [])?;
                [moved, empty].iter().try_for_each(|pages| pages.write(transaction))
            })?;
        }
        Ok(repair)
    }

    /// Reopens a list that has ended, to request one of its pages once more.
    pub(crate) fn reread_page(&mut self, item: ItemIx, page: PageNum) -> Result<(), LedgerError> {
        let sql = "SELECT attempt FROM pages WHERE item = ?1 AND page = ?2 AND outdated = 0";
        let attempts = self.rows(sql, [item.0, page.0.into()], |row| row.get(0))?;
        let pages = OutdatedPages { attempts, items: BTreeSet::from([item.0]) };
        self.transaction("reopen a list to read a page again", |transaction| pages.write(transaction))
    }

    fn outdated_pages(&self, which: &str) -> Result<OutdatedPages, LedgerError> {
        let pages: Vec<(i64, i64)> = self.rows(which, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (attempts, items) = pages.into_iter().unzip();
        Ok(OutdatedPages { attempts, items })
    }
}

/// Pages that become outdated, and the items that are reopened.
#[derive(Debug, Default)]
struct OutdatedPages {
    attempts: Vec<i64>,
    items: BTreeSet<i64>,
}

impl OutdatedPages {
    fn write(&self, transaction: &Connection) -> rusqlite::Result<()> {
        let [attempts, items] = [serde_json::json!(self.attempts), serde_json::json!(self.items)];
        let outdate = "UPDATE pages SET outdated = attempt WHERE attempt IN (SELECT value FROM json_each(?1))";
        let open = "UPDATE items SET stop = NULL, error = NULL, transient = 0, tries = 0, unproven = 0, skip = 0,
                      state = EXISTS (SELECT 1 FROM pages WHERE item = ix AND outdated = 0)
                    WHERE ix IN (SELECT value FROM json_each(?1))";
        transaction.execute(outdate, [attempts.to_string()])?;
        transaction.execute(open, [items.to_string()]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::Repair;
    use crate::model::clock::Utc64;
    use crate::model::page::{ItemIx, PageNum, SegmentId, StopReason};
    use crate::state::ledger::fixture::{applied, ended, ledger, page};
    use crate::state::ledger::{EndRow, Group, LedgerError};
    use std::collections::BTreeSet;

    #[expect(clippy::unnecessary_wraps, reason = "it may fail elsewhere")]
    fn nothing() -> Result<(), LedgerError> {
        Ok(())
    }

    #[test]
    fn lists_that_moved_start_over_and_their_rows_stay_known() {
        use StopReason::{EmptyPage, Shifted, ShortPage};
        let (_directory, mut ledger) = ended(&[(&[2], ShortPage), (&[2], Shifted), (&[0], EmptyPage)]);
        assert_eq!(ledger.repair(PageNum(1), |_| false, nothing).unwrap(), Repair { moved: 1, empty: 0, pages: 1 });
        let open = ledger.unstarted_items(ItemIx(0), &BTreeSet::new(), 9).unwrap();
        assert_eq!(open.iter().map(|open| (open.item, open.is_moved)).collect::<Vec<_>>(), [(ItemIx(2), true)]);
        assert_eq!(ledger.pages(ItemIx(2), SegmentId::BEHIND_ALL).unwrap(), []);
        let keys = [[0; 16], [1; 16]].map(|key| (key, PageNum::NONE));
        assert_eq!(ledger.row_keys(ItemIx(2), SegmentId::BEHIND_ALL).unwrap(), keys);
        let again = ledger.repair(PageNum(1), |_| false, nothing).unwrap();
        assert_eq!(again, Repair::default(), "there is nothing else to repair");
    }

    #[test]
    fn of_empty_lists_only_those_are_read_again_that_came_after_the_last_page_with_rows() {
        use StopReason::{EmptyPage, ShortPage};
        let (_directory, mut ledger) =
            ended(&[(&[0], EmptyPage), (&[2], ShortPage), (&[0], EmptyPage), (&[0], EmptyPage)]);
        let repair = ledger.repair(PageNum(1), |lists| lists.in_a_row == 2, nothing).unwrap();
        assert_eq!(repair, Repair { moved: 0, empty: 2, pages: 2 });
        assert_eq!(ledger.empty_lists(PageNum(1)).unwrap().empty, 1);
    }

    #[test]
    fn a_rejected_walk_is_reopened_when_its_last_page_has_usable_rows() {
        let (_directory, mut ledger) = ledger(&["a", "b"]);
        ledger.start_segment().unwrap();
        let pages = vec![page(1, 1, 1), page(2, 1, 2), page(3, 2, 3), page(4, 2, 4)];
        let read = vec![applied(1, 1, 3, 2), applied(2, 1, 3, 3), applied(3, 2, 3, 3), applied(4, 2, 3, 3)];
        let group = Group { frame: Some((SegmentId(1), 0, 10)), pages, applied: read, ..Group::default() };
        ledger.commit(&group, Utc64(1)).unwrap();
        let ended = [1, 2].map(|item| EndRow::new(ItemIx(item), StopReason::Rejected));
        ledger.commit(&Group { ended: ended.to_vec(), ..Group::default() }, Utc64(1)).unwrap();
        assert_eq!(ledger.reopen_rejected().unwrap(), 0);
        ledger.commit(&Group { applied: vec![applied(4, 2, 3, 0)], ..Group::default() }, Utc64(1)).unwrap();
        assert_eq!(ledger.reopen_rejected().unwrap(), 1);
        assert_eq!(ledger.walking_items(ItemIx(0), &BTreeSet::new(), 9).unwrap()[0].item, ItemIx(2));
        assert_eq!(ledger.pages_from(ItemIx(1), SegmentId(1)).unwrap(), (2, false));
        assert_eq!(ledger.pages_from(ItemIx(1), SegmentId(0)).unwrap(), (0, true));
    }

    #[test]
    fn ends_that_are_in_doubt_are_reopened_with_the_rule_that_says_so_or_neither() {
        use StopReason::{EmptyPage, ShortPage};
        let (_directory, mut ledger) =
            ended(&[(&[8, 8], ShortPage), (&[8, 5], ShortPage), (&[8, 0], EmptyPage), (&[3, 0], ShortPage)]);
        assert_eq!((ledger.count_short_ends(Some(8)).unwrap(), ledger.count_short_ends(None).unwrap()), (1, 2));
        assert_eq!(ledger.set_end_rule("size 8", Some(8)).unwrap(), 1);
        assert_eq!(ledger.end_rule().unwrap(), None, "there is no export, so there is no row for it");
        assert_eq!(ledger.walking_items(ItemIx(0), &BTreeSet::new(), 9).unwrap()[0].item, ItemIx(1));
        assert_eq!(ledger.reopen_short_ends().unwrap(), 1);
    }

    #[test]
    fn lists_refused_at_one_same_page_are_cut_only_if_no_list_goes_beyond_it() {
        use StopReason::{EndRefused, ShortPage};
        let full: (&[usize], _) = (&[3, 3], EndRefused);
        let short: (&[usize], _) = (&[3, 2], ShortPage);
        let (_directory, ledger) = ended(&[full, full, full, (&[3], EndRefused)]);
        assert_eq!((ledger.cut_at_page_cap(4).unwrap(), ledger.cut_at_page_cap(3).unwrap()), (0, 3));
        let (_directory, ledger) = ended(&[full, full, (&[3, 3, 1], ShortPage)]);
        assert_eq!(ledger.cut_at_page_cap(1).unwrap(), 0);
        let (_directory, ledger) = ended(&[full, full, full, short, short]);
        assert_eq!(ledger.cut_at_page_cap(3).unwrap(), 3);
        let (_directory, ledger) = ended(&[full, full, full, short, short, short, short]);
        assert_eq!(ledger.cut_at_page_cap(3).unwrap(), 0, "lists with a page less by a row are as common");
    }
}
