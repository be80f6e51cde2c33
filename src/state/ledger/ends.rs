//! How lists end: what pages behind short ones have shown, how many lists are empty, and which list is worth a page behind its
//! end. Statements over items and their pages, which change nothing.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, Row, params};

use super::items::json;
use super::{Doing, Ledger, LedgerError, unsigned};
use crate::model::page::{ItemId, ItemIx, PageNum};

/// What the pages behind short ones have shown so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShortEvidence {
    /// Short pages whose next page was requested and had no new row.
    pub in_vain: u64,
    /// Lists in which such a page had new rows.
    pub lists: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedItem {
    pub item: ItemIx,
    pub id: ItemId,
    pub last: PageNum,
}

/// A list with a short page before one with new rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContinuedItem {
    pub item: ItemIx,
    pub id: ItemId,
    /// The short page.
    pub page: PageNum,
    /// Whether a page of this list was requested again before, or none can be: a second request would show nothing more.
    pub is_confirmed: bool,
}

/// Pages of a deep list.
const DEEP: u32 = 16;
/// Empty lists in a row that are looked for among the newest pages.
const EMPTY_IN_A_ROW: u32 = 1_000;

/// Lists by whether they have rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmptyLists {
    pub with_rows: u64,
    pub empty: u64,
    /// The newest empty ones, with no page with rows between.
    pub in_a_row: u64,
    /// Pages that had rows and were empty when they were requested again, with no page with rows since.
    pub vanished: u64,
}

impl EmptyLists {
    pub(crate) fn add(&mut self, has_rows: bool) {
        if has_rows {
            (self.with_rows, self.in_a_row) = (self.with_rows + 1, 0);
        } else {
            (self.empty, self.in_a_row) = (self.empty + 1, self.in_a_row + 1);
        }
    }
}

impl Ledger {
    /// Pages behind pages that have rows, but fewer than a full one has.
    pub fn short_evidence(&self, full: u32) -> Result<ShortEvidence, LedgerError> {
        let sql = "SELECT count(*) FILTER (WHERE fresh = 0), count(DISTINCT item) FILTER (WHERE fresh > 0) FROM (
                     SELECT behind.item AS item, behind.kept AS fresh FROM pages short
                     JOIN pages behind ON behind.item = short.item AND behind.page = short.page + 1
                     WHERE short.received BETWEEN 1 AND ?1 - 1 AND short.outdated = 0 AND behind.outdated = 0)";
        let read = |row: &Row<'_>| Ok(ShortEvidence { in_vain: unsigned(row, 0)?, lists: unsigned(row, 1)? });
        self.row(sql, [full], read).doing("read pages behind short ones")
    }

    /// A list with a page that had rows, but fewer than a full one has, before a page with new rows. Not one whose page was full
    /// when it was requested again, with the rows that it had and new ones: that list has grown. Nor one that was read again in
    /// order. Confirmed ones come first.
    pub(crate) fn continued_item(&self, full: u32) -> Result<Option<ContinuedItem>, LedgerError> {
        let sql = "SELECT ix, id, short.page,
                     state <> 2 OR stop IN ('failed', 'rejected', 'foreign_page')
                       OR EXISTS (SELECT 1 FROM pages WHERE item = ix AND outdated <> 0) AS confirmed
                   FROM pages AS short JOIN pages AS behind ON behind.item = short.item AND behind.page = short.page + 1
                   JOIN items ON ix = short.item
                   WHERE short.received BETWEEN 1 AND ?1 - 1 AND behind.kept > 0 AND behind.outdated = 0 AND NOT EXISTS (
                       SELECT 1 FROM pages AS new WHERE new.item = ix AND new.page = short.page AND new.outdated = 0
                         AND new.attempt > short.attempt
                         AND (new.attempt < behind.attempt OR new.received = ?1 AND new.kept = ?1 - short.received))
                   ORDER BY confirmed DESC, ix, short.page LIMIT 1";
        let read = |row: &Row<'_>| {
            let EndedItem { item, id, last } = ended_item(row)?;
            Ok(ContinuedItem { item, id, page: last, is_confirmed: row.get(3)? })
        };
        self.row(sql, [full], read).optional().doing("find a list that continues behind a short page")
    }

    /// How many open walks continue behind a page with rows, but fewer than a full one has.
    pub(crate) fn walks_behind_short_pages(&self, full: u32) -> Result<u64, LedgerError> {
        let sql = "SELECT count(*) FROM items WHERE state = 1
                     AND (SELECT received FROM pages WHERE item = ix AND outdated = 0 ORDER BY page DESC LIMIT 1)
                       BETWEEN 1 AND ?1 - 1";
        self.count(sql, [full], "count walks behind short pages")
    }

    /// Of the lists before `before` that were read to their end, the last one.
    pub fn ended_item(&self, before: ItemIx) -> Result<Option<EndedItem>, LedgerError> {
        let sql = "SELECT ix, id, (SELECT max(page) FROM pages WHERE item = ix AND outdated = 0) FROM items
                   WHERE ix < ?1 AND state = 2 AND stop IN ('short_page', 'empty_page', 'end_repeated')
                   ORDER BY ix DESC LIMIT 1";
        self.find_ended(sql, [before.0])
    }

    /// The lists that ended on the largest short pages before the page `limit`, `most` of them without those of `except`: of those
    /// with equal pages the deepest ones, if they are deep, or any.
    pub(crate) fn longest_short_ends(
        &self,
        is_deepest: bool,
        except: &BTreeSet<ItemIx>,
        (most, limit): (u32, PageNum),
    ) -> Result<Vec<EndedItem>, LedgerError> {
        // Any: in an order that has nothing to do with the list's.
        let any = "ix * 2654435761 % 1000003";
        let order = if is_deepest { format!("iif(page >= {DEEP}, -page, 0), {any}") } else { any.to_owned() };
        let sql = format!(
            "SELECT ix, id, page FROM items JOIN pages ON item = ix
             WHERE state = 2 AND stop = 'short_page' AND received > 0 AND outdated = 0 AND page < ?3
               AND page = (SELECT max(page) FROM pages WHERE item = ix AND outdated = 0)
               AND ix NOT IN (SELECT value FROM json_each(?1))
             ORDER BY received DESC, {order}, ix LIMIT ?2"
        );
        self.rows(&sql, params![json(except), most, limit.0], ended_item)
    }

    /// The newest list that ended on an empty page behind a page with rows, and that page; without those of `except`.
    pub(crate) fn newest_empty_end(&self, except: &BTreeSet<ItemIx>) -> Result<Option<EndedItem>, LedgerError> {
        let sql = "SELECT ix, id, last.page - 1 FROM pages AS last JOIN items ON ix = item
                   WHERE received = 0 AND outdated = 0 AND state = 2 AND stop = 'empty_page'
                     AND ix NOT IN (SELECT value FROM json_each(?1)) AND EXISTS (
                     SELECT 1 FROM pages WHERE item = ix AND page = last.page - 1 AND received > 0 AND outdated = 0)
                   ORDER BY attempt DESC LIMIT 1";
        self.find_ended(sql, [json(except)])
    }

    fn find_ended(&self, sql: &str, params: impl rusqlite::Params) -> Result<Option<EndedItem>, LedgerError> {
        self.row(sql, params, ended_item).optional().doing("find a list that has ended")
    }

    /// How many lists are empty, over all and among the newest.
    pub fn empty_lists(&self, first: PageNum) -> Result<EmptyLists, LedgerError> {
        let action = "count empty lists";
        let sql = "SELECT count(*) FILTER (WHERE received > 0), count(*) FILTER (WHERE received = 0) FROM pages
                   WHERE page = ?1 AND outdated = 0";
        let counts = self.row(sql, [first.0], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)));
        let (with_rows, empty) = counts.doing(action)?;
        let sql = "SELECT received > 0 FROM pages WHERE (received > 0 OR received = 0 AND page = ?1) AND outdated = 0
                   ORDER BY attempt DESC LIMIT ?2";
        let newest: Vec<bool> = self.rows(sql, params![first.0, EMPTY_IN_A_ROW], |row| row.get(0))?;
        let in_a_row = newest.iter().take_while(|has_rows| !**has_rows).count();
        let sql = "SELECT count(*) FROM pages AS old JOIN items ON ix = item WHERE outdated <> 0 AND received > 0 AND NOT moved
                     AND EXISTS (SELECT 1 FROM pages WHERE item = ix AND page = old.page AND received = 0 AND outdated = 0
                       AND attempt > (SELECT coalesce(max(attempt), 0) FROM pages WHERE received > 0 AND outdated = 0))";
        let vanished = self.count(sql, [], action)?;
        // Of a list that continues an earlier export, other pages come first.
        let sql = "SELECT EXISTS (SELECT 1 FROM pages WHERE received > 0 AND outdated = 0)";
        let has_rows: bool = self.value(sql, [], action)?;
        let with_rows = with_rows.max(has_rows.into());
        Ok(EmptyLists { with_rows, empty, in_a_row: u64::try_from(in_a_row).unwrap_or(u64::MAX), vanished })
    }
}

fn ended_item(row: &Row<'_>) -> rusqlite::Result<EndedItem> {
    let (id, last): (String, u32) = (row.get(1)?, row.get(2)?);
    Ok(EndedItem { item: ItemIx(row.get(0)?), id: ItemId::new(&id), last: PageNum(last) })
}

#[cfg(test)]
mod tests {
    use super::{EmptyLists, ShortEvidence};
    use crate::model::clock::Utc64;
    use crate::model::page::{ItemIx, PageNum, StopReason};
    use crate::state::ledger::fixture::{applied, ended, page};
    use crate::state::ledger::{AppliedRow, Group, Ledger};

    #[test]
    fn a_page_with_rows_behind_a_short_one_counts_once_a_list_and_an_empty_one_only_as_asked() {
        use StopReason::{EmptyPage, ShortPage};
        let (_directory, ledger) = ended(&[
            (&[3, 2, 2, 1], ShortPage),
            (&[3, 1, 0], EmptyPage),
            (&[3, 3, 2], ShortPage),
            (&[1, 3], ShortPage),
        ]);
        assert_eq!(ledger.short_evidence(3).unwrap(), ShortEvidence { in_vain: 1, lists: 2 });
        assert_eq!(ledger.largest_page().unwrap(), 3);
    }

    #[test]
    fn a_list_that_continued_is_found_unless_its_short_page_has_grown_by_new_rows_when_it_is_requested_again() {
        use StopReason::{EmptyPage, ShortPage};
        let (_directory, mut ledger) = ended(&[(&[3, 1], ShortPage), (&[3, 2, 1, 0], EmptyPage)]);
        let found = |ledger: &Ledger| {
            ledger.continued_item(3).unwrap().map(|found| (found.item.0, found.page.0, found.is_confirmed))
        };
        assert_eq!(found(&ledger), Some((2, 2, false)));
        ledger.reread_page(ItemIx(2), PageNum(2)).unwrap();
        assert_eq!(found(&ledger), Some((2, 2, true)), "it is not requested twice, whatever comes");
        let mut offset = 0;
        for (received, kept, is_found) in [(2, 0, true), (0, 0, true), (3, 0, true), (3, 3, true), (3, 1, false)] {
            offset += 1;
            let frame = Some((ledger.start_segment().unwrap().id, offset, 1));
            let keys = (0..kept).map(|row| [200 + u8::try_from(row + offset).unwrap(); 16]).collect();
            let attempt = 8 + i64::try_from(offset).unwrap();
            let applied = AppliedRow { keys, ..applied(attempt, 2, received, 0) };
            let group = Group { frame, pages: vec![page(attempt, 2, 2)], applied: vec![applied], ..Group::default() };
            ledger.commit(&group, Utc64(2)).unwrap();
            assert_eq!(found(&ledger).is_some(), is_found, "{received} rows, {kept} of them new");
            if is_found {
                ledger.reread_page(ItemIx(2), PageNum(2)).unwrap();
            }
        }
    }

    #[test]
    fn the_lists_with_the_largest_short_pages_are_found_several_at_a_time() {
        use StopReason::{EmptyPage, ShortPage};
        let deep: Vec<usize> = [vec![3; 16], vec![2]].concat();
        let (_directory, ledger) =
            ended(&[(&[3, 1], ShortPage), (&[2], ShortPage), (&deep, ShortPage), (&[2, 0], EmptyPage)]);
        let found = |is_deepest, except: &[i64], most, limit| {
            let except = except.iter().map(|item| ItemIx(*item)).collect();
            let ends = ledger.longest_short_ends(is_deepest, &except, (most, PageNum(limit))).unwrap();
            ends.into_iter().map(|end| (end.item.0, end.last.0)).collect::<Vec<_>>()
        };
        assert_eq!(found(true, &[], 9, 99), [(3, 17), (2, 1), (1, 2)]);
        assert_eq!(found(true, &[3], 1, 99), [(2, 1)]);
        assert_eq!(found(false, &[2, 3], 9, 99), [(1, 2)]);
        assert_eq!(found(true, &[], 1, 17), [(2, 1)], "nothing is behind the last page");
    }

    #[test]
    fn empty_lists_are_counted_over_all_and_in_a_row() {
        use StopReason::{EmptyPage, ShortPage};
        let (_directory, ledger) = ended(&[(&[0], EmptyPage), (&[2], ShortPage), (&[0], EmptyPage), (&[0], EmptyPage)]);
        assert_eq!(
            ledger.empty_lists(PageNum(1)).unwrap(),
            EmptyLists { with_rows: 1, empty: 3, in_a_row: 2, vanished: 0 }
        );
        assert_eq!(ledger.ended_item(ItemIx(i64::MAX)).unwrap().unwrap().item, ItemIx(4));
        assert_eq!(ledger.ended_item(ItemIx(1)).unwrap(), None);
    }
}
