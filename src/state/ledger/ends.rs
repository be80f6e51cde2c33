//! What the ledger knows about how lists end: what evidence has shown, which ends that puts in doubt, and which lists can
//! be asked for a page behind their end.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, params};

use super::{Doing, Ledger, LedgerError};
use crate::model::page::{ItemId, ItemIx, PageNum};

/// What the pages behind short ones have shown so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShortEvidence {
    /// Short pages whose next page was asked for and had no new row.
    pub in_vain: u64,
    /// Lists in which such a page had new rows.
    pub lists: u64,
}

/// A list that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedItem {
    /// Its place.
    pub item: ItemIx,
    /// Its id.
    pub id: ItemId,
    /// Its last page in the journal.
    pub last: PageNum,
}

/// Pages of a deep list.
const DEEP: u32 = 16;
/// Empty lists in a row that are looked for among the newest pages.
const EMPTY_IN_A_ROW: u32 = 1_000;

/// Lists by whether they have rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmptyLists {
    /// Lists with rows.
    pub with_rows: u64,
    /// Lists without any.
    pub empty: u64,
    /// The empty ones among the last ones, with no page with rows between.
    pub in_a_row: u64,
    /// Pages that came empty when they were asked for once more, to see whether lists end as they seem to, with no page with rows
    /// since.
    pub vanished: u64,
}

impl Ledger {
    /// What evidence has shown about the ends of lists; none: the rule holds as the settings say.
    pub fn end_rule(&self) -> Result<Option<String>, LedgerError> {
        let word = self.db.query_row("SELECT end_rule FROM export", [], |row| row.get(0));
        Ok(word.optional().doing("read what was learned of ends")?.flatten())
    }

    /// Pages behind pages that have rows, but fewer than a full one has.
    pub fn short_evidence(&self, full: u32) -> Result<ShortEvidence, LedgerError> {
        let sql = "SELECT count(*) FILTER (WHERE fresh = 0), count(DISTINCT item) FILTER (WHERE fresh > 0) FROM (
                     SELECT behind.item AS item, behind.kept AS fresh FROM pages short
                     JOIN pages behind ON behind.item = short.item AND behind.page = short.page + 1
                     WHERE short.received BETWEEN 1 AND ?1 - 1 AND short.outdated = 0 AND behind.outdated = 0)";
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        let read =
            |row: &rusqlite::Row<'_>| Ok(ShortEvidence { in_vain: count(row.get(0)?), lists: count(row.get(1)?) });
        self.db.query_row(sql, [full], read).doing("look behind short pages")
    }

    /// Pages that were asked for again because their lists had moved; without those of a repair, which begins with the first page
    /// or with empty ones.
    pub fn read_again(&self, first: PageNum) -> Result<u64, LedgerError> {
        let sql = "SELECT count(*) FROM pages AS old WHERE outdated > 0 AND received > 0 AND NOT EXISTS (
                     SELECT 1 FROM pages WHERE item = old.item AND page = ?1 AND outdated > 0)";
        let count: i64 = self.db.query_row(sql, [first.0], |row| row.get(0)).doing("count outdated pages")?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Rows of the largest page.
    pub fn largest_page(&self) -> Result<u32, LedgerError> {
        let sql = "SELECT coalesce(max(received), 0) FROM pages";
        self.db.query_row(sql, [], |row| row.get(0)).doing("find the largest page")
    }

    /// How many walks ended on a short page; only those on a page of exactly so many rows, if a number is given.
    pub fn short_ends(&self, only: Option<u32>) -> Result<u64, LedgerError> {
        let sql = format!("SELECT count(*) FROM items WHERE {SHORT_END}");
        let count: i64 = self.db.query_row(&sql, [only], |row| row.get(0)).doing("count short ends")?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// How many walks that have not ended go on behind a page with rows, but fewer than a full one has.
    pub fn walks_on_short_pages(&self, full: u32) -> Result<u64, LedgerError> {
        let sql = "SELECT count(*) FROM items WHERE state = 1
                     AND (SELECT received FROM pages WHERE item = ix AND outdated = 0 ORDER BY page DESC LIMIT 1)
                       BETWEEN 1 AND ?1 - 1";
        let count: i64 = self.db.query_row(sql, [full], |row| row.get(0)).doing("count walks on short pages")?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Writes down what evidence has shown, and opens the walks again whose ends it puts in doubt, both or neither: those on a
    /// page of exactly `only` rows, or all that a short page ended. Gives how many.
    pub fn learn_end(&mut self, rule: &str, only: Option<u32>) -> Result<usize, LedgerError> {
        let action = "note what was learned of ends";
        self.before(action)?;
        let transaction = self.db.transaction().doing(action)?;
        transaction.execute("UPDATE export SET end_rule = ?1, completed_at = NULL", [rule]).doing(action)?;
        let opened = transaction.execute(&reopening(SHORT_END), [only]).doing(action)?;
        transaction.commit().doing(action)?;
        self.after(action)?;
        Ok(opened)
    }

    /// Opens the walks again that a page of fewer rows ended, with or without a usable one: asked for when short pages turn
    /// out to be no end.
    pub fn reopen_short(&self) -> Result<usize, LedgerError> {
        self.write(&reopening(SHORT_END), [None::<u32>], "reopen items that a short page ended")
    }

    /// Whether a list of rows ever came without a row.
    pub fn has_empty_list(&self) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM pages WHERE received = 0 AND is_list)";
        self.db.query_row(sql, [], |row| row.get(0)).doing("look for an empty list")
    }

    /// A list that was read to its end, the last one in the list of items before `before`.
    pub fn ended_item(&self, before: ItemIx) -> Result<Option<EndedItem>, LedgerError> {
        let sql = "SELECT ix, id, (SELECT max(page) FROM pages WHERE item = ix AND outdated = 0) FROM items
                   WHERE ix < ?1 AND state = 2 AND stop IN ('short_page', 'empty_page', 'end_repeated')
                   ORDER BY ix DESC LIMIT 1";
        let found = self.db.query_row(sql, params![before.0], |row| {
            let (id, last): (String, u32) = (row.get(1)?, row.get(2)?);
            Ok(EndedItem { item: ItemIx(row.get(0)?), id: ItemId::new(&id), last: PageNum(last) })
        });
        found.optional().doing("find a list that has ended")
    }

    /// A list that ended on the largest short page, but for some: of several the deepest one, if it is deep, or any.
    pub fn likeliest_to_go_on(
        &self,
        is_deepest: bool,
        but_for: &BTreeSet<ItemIx>,
    ) -> Result<Option<EndedItem>, LedgerError> {
        // Any: in an order that has nothing to do with the list's.
        let any = "ix * 2654435761 % 1000003";
        let order = if is_deepest { format!("iif(page >= {DEEP}, -page, 0), {any}") } else { any.to_owned() };
        let sql = format!(
            "SELECT ix, id, page FROM items JOIN pages ON item = ix
             WHERE state = 2 AND stop = 'short_page' AND received > 0 AND outdated = 0
               AND page = (SELECT max(page) FROM pages WHERE item = ix AND outdated = 0)
               AND ix NOT IN (SELECT value FROM json_each(?1))
             ORDER BY received DESC, {order}, ix LIMIT 1"
        );
        let but_for: serde_json::Value = but_for.iter().map(|item| item.0).collect();
        let found = self.db.query_row(&sql, [but_for.to_string()], |row| {
            let (id, last): (String, u32) = (row.get(1)?, row.get(2)?);
            Ok(EndedItem { item: ItemIx(row.get(0)?), id: ItemId::new(&id), last: PageNum(last) })
        });
        found.optional().doing("find a list that has ended")
    }

    /// How lists began: with rows or without, and how many without in a row, most recently.
    pub fn empty_lists(&self, first: PageNum) -> Result<EmptyLists, LedgerError> {
        let sql = "SELECT count(*) FILTER (WHERE received > 0), count(*) FILTER (WHERE received = 0) FROM pages
                   WHERE page = ?1 AND outdated = 0";
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        let counts = |row: &rusqlite::Row<'_>| Ok((count(row.get(0)?), count(row.get(1)?)));
        let (with_rows, empty) = self.db.query_row(sql, [first.0], counts).doing("count empty lists")?;
        let sql = "SELECT received > 0 FROM pages WHERE (received > 0 OR received = 0 AND page = ?1) AND outdated = 0
                   ORDER BY attempt DESC LIMIT ?2";
        let newest: Vec<bool> = self.rows(sql, [first.0, EMPTY_IN_A_ROW], |row| row.get(0))?;
        let in_a_row = newest.iter().take_while(|has_rows| !**has_rows).count();
        let sql = "SELECT count(*) FROM pages AS old JOIN items ON ix = item WHERE outdated > 0 AND received > 0 AND NOT moved
                     AND EXISTS (SELECT 1 FROM pages WHERE item = ix AND page = old.page AND received = 0 AND outdated = 0
                       AND attempt > (SELECT coalesce(max(attempt), 0) FROM pages WHERE received > 0 AND outdated = 0))";
        let vanished = self.db.query_row(sql, [], |row| Ok(count(row.get(0)?))).doing("count empty lists")?;
        Ok(EmptyLists { with_rows, empty, in_a_row: u64::try_from(in_a_row).unwrap_or(u64::MAX), vanished })
    }

    /// The list that was the last one to end on an empty page behind a page with rows, and that page; not one of these.
    pub fn last_emptied(&self, but_for: &BTreeSet<ItemIx>) -> Result<Option<EndedItem>, LedgerError> {
        let sql = "SELECT ix, id, last.page - 1 FROM pages AS last JOIN items ON ix = item
                   WHERE received = 0 AND outdated = 0 AND state = 2 AND stop = 'empty_page'
                     AND ix NOT IN (SELECT value FROM json_each(?1)) AND EXISTS (
                     SELECT 1 FROM pages WHERE item = ix AND page = last.page - 1 AND received > 0 AND outdated = 0)
                   ORDER BY attempt DESC LIMIT 1";
        let but_for: serde_json::Value = but_for.iter().map(|item| item.0).collect();
        let found = self.db.query_row(sql, [but_for.to_string()], |row| {
            let (id, last): (String, u32) = (row.get(1)?, row.get(2)?);
            Ok(EndedItem { item: ItemIx(row.get(0)?), id: ItemId::new(&id), last: PageNum(last) })
        });
        found.optional().doing("find a list that has ended")
    }

    /// Lists that ended because their next page was refused, where that is the same page number for at least `least` of them
    /// and more than ended on a short page before it, and no list ever had a page with that number: the API gives no page
    /// beyond it. They are cut there, and say so. Gives how many.
    pub fn cap_refused(&self, least: u32) -> Result<usize, LedgerError> {
        let sql = "WITH last (item) AS (SELECT item FROM pages
                       WHERE outdated = 0 AND page = (SELECT max(page) FROM pages WHERE outdated = 0)),
                     ended (refused, short) AS (
                       SELECT count(*) FILTER (WHERE stop = 'end_refused'), count(*) FILTER (WHERE stop = 'short_page')
                       FROM items WHERE ix IN (SELECT item FROM last))
                   UPDATE items SET stop = 'page_cap', error = 'many lists are refused at one same page: ' || error
                   WHERE stop = 'end_refused' AND error IS NOT NULL AND ix IN (SELECT item FROM last)
                     AND (SELECT refused >= ?1 AND refused > short FROM ended)";
        self.write(sql, [least], "mark lists that the API cuts")
    }

    /// Lists that ended because their second page repeated their first, where no list ever had a new row on a later page: the
    /// API ignores the number of the page. They are cut there, and say so. Gives how many.
    pub fn cut_unnumbered(&self, first: PageNum) -> Result<usize, LedgerError> {
        let sql = "UPDATE items SET stop = 'repeated_page',
                     error = 'no list has a new row behind its first page: the API seems to ignore the number of the page'
                   WHERE stop = 'end_repeated' AND NOT EXISTS (SELECT 1 FROM pages WHERE page > ?1 AND kept > 0)";
        self.write(sql, [first.0], "mark lists of which every page is the first")
    }

    /// Lists that ended on a success without a list of rows, whether it is in the journal or not, though other lists ended on an
    /// empty list: that was no end. They failed, and say so. Gives how many.
    pub fn fail_without_list(&self, first: PageNum) -> Result<usize, LedgerError> {
        if !self.has_empty_list()? {
            return Ok(0);
        }
        let sql = "UPDATE items SET stop = 'failed', transient = 0,
                     error = 'the last page came without a list of rows, where other products got an empty list'
                   WHERE stop = 'empty_page' AND NOT EXISTS (
                     SELECT 1 FROM pages AS last WHERE item = ix AND received = 0 AND is_list AND outdated = 0
                       AND page - ?1 = (SELECT count(*) FROM pages
                                        WHERE item = ix AND page < last.page AND is_list AND outdated = 0))";
        self.write(sql, [first.0], "mark lists whose end came without a list")
    }
}

impl EmptyLists {
    /// Counts one more list.
    pub fn add(&mut self, has_rows: bool) {
        if has_rows {
            (self.with_rows, self.in_a_row) = (self.with_rows + 1, 0);
        } else {
            (self.empty, self.in_a_row) = (self.empty + 1, self.in_a_row + 1);
        }
    }
}

/// A walk that ended on a page with rows, but fewer than a full one; ?1: on one of exactly so many.
const SHORT_END: &str = "state = 2 AND stop IN ('short_page', 'rejected')
     AND (SELECT received FROM pages WHERE item = ix AND outdated = 0 ORDER BY page DESC LIMIT 1) > 0
     AND (?1 IS NULL OR (SELECT received FROM pages WHERE item = ix AND outdated = 0 ORDER BY page DESC LIMIT 1) = ?1)";

fn reopening(which: &str) -> String {
    format!("UPDATE items SET state = 1, stop = NULL, error = NULL, transient = 0 WHERE {which}")
}

#[cfg(test)]
mod tests {
    use super::{EmptyLists, ShortEvidence};
    use crate::model::clock::Utc64;
    use crate::model::page::{AttemptId, ItemId, ItemIx, PageNum, StopReason};
    use crate::state::ledger::{EndRow, Group, Ledger, LedgerError, PageRow, ReadRow};

    /// A ledger of lists whose pages had so many rows, each ended on its last page.
    fn ledger(lists: &[(&[usize], StopReason)]) -> (tempfile::TempDir, Ledger) {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(&directory.path().join("ledger.sqlite")).unwrap();
        let ids = (0..lists.len()).map(|at| Ok::<_, LedgerError>(ItemId::new(&format!("p{at}"))));
        ledger.add_items(ids).unwrap();
        let segment = ledger.begin_segment().unwrap().id;
        let mut group = Group { frame: Some((segment, 0, 1)), ..Group::default() };
        for (item, (pages, stop)) in (1..).map(ItemIx).zip(lists) {
            for (page, rows) in (1..).map(PageNum).zip(*pages) {
                let attempt = AttemptId(i64::try_from(group.pages.len()).unwrap() + 1);
                group.pages.push(PageRow { attempt, item, page, at: Utc64(1) });
                let key = |row: usize| [u8::try_from(row).unwrap(); 16];
                let keys = (0..*rows).map(key).collect();
                let (received, again) = (*rows, Vec::new());
                group.read.push(ReadRow { attempt, item, received, rejected: 0, is_list: true, keys, again });
            }
            group.ended.push(EndRow { error: Some("refused".to_owned()), ..EndRow::new(item, *stop) });
        }
        ledger.commit(&group, Utc64(1)).unwrap();
        (directory, ledger)
    }

    #[test]
    fn a_page_with_rows_behind_a_short_one_counts_once_a_list_and_an_empty_one_only_as_asked() {
        use StopReason::{EmptyPage, ShortPage};
        let lists: [(&[usize], _); 4] =
            [(&[3, 2, 2, 1], ShortPage), (&[3, 1, 0], EmptyPage), (&[3, 3, 2], ShortPage), (&[1, 3], ShortPage)];
        let (_directory, ledger) = ledger(&lists);
        assert_eq!(ledger.short_evidence(3).unwrap(), ShortEvidence { in_vain: 1, lists: 2 });
        assert_eq!(ledger.largest_page().unwrap(), 3);
    }

    #[test]
    fn ends_that_are_in_doubt_are_opened_again_with_what_was_learned_or_neither() {
        use StopReason::{EmptyPage, ShortPage};
        let lists: [(&[usize], _); 4] =
            [(&[8, 8], ShortPage), (&[8, 5], ShortPage), (&[8, 0], EmptyPage), (&[3, 0], ShortPage)];
        let (_directory, mut ledger) = ledger(&lists);
        assert_eq!((ledger.short_ends(Some(8)).unwrap(), ledger.short_ends(None).unwrap()), (1, 2));
        assert_eq!(ledger.learn_end("size 8", Some(8)).unwrap(), 1);
        assert_eq!(ledger.end_rule().unwrap(), None, "no export is begun, so there is no row to note it in");
        assert_eq!(ledger.walking(ItemIx(0), &std::collections::BTreeSet::new(), 9).unwrap()[0].item, ItemIx(1));
        assert_eq!(ledger.reopen_short().unwrap(), 1);
    }

    #[test]
    fn empty_lists_are_counted_over_all_and_in_a_row() {
        use StopReason::{EmptyPage, ShortPage};
        let lists: [(&[usize], _); 4] = [(&[0], EmptyPage), (&[2], ShortPage), (&[0], EmptyPage), (&[0], EmptyPage)];
        let (_directory, ledger) = ledger(&lists);
        assert_eq!(
            ledger.empty_lists(PageNum(1)).unwrap(),
            EmptyLists { with_rows: 1, empty: 3, in_a_row: 2, vanished: 0 }
        );
        assert_eq!(ledger.ended_item(ItemIx(i64::MAX)).unwrap().unwrap().item, ItemIx(4));
        assert_eq!(ledger.ended_item(ItemIx(1)).unwrap(), None);
    }

    #[test]
    fn lists_refused_at_one_same_page_are_cut_only_if_no_list_goes_beyond_it() {
        use StopReason::{EndRefused, ShortPage};
        let full: &[usize] = &[3, 3];
        let lists = [(full, EndRefused), (full, EndRefused), (full, EndRefused), (&[3], EndRefused)];
        let (_directory, ledger) = ledger(&lists);
        assert_eq!((ledger.cap_refused(4).unwrap(), ledger.cap_refused(3).unwrap()), (0, 3));
        let (_directory, ledger) =
            super::tests::ledger(&[(full, EndRefused), (full, EndRefused), (&[3, 3, 1], ShortPage)]);
        assert_eq!(ledger.cap_refused(1).unwrap(), 0);
        let lists = [(full, EndRefused), (&[3, 3, 1], ShortPage), (full, EndRefused), (full, EndRefused)];
        let short = [(&[3_usize, 2][..], ShortPage); 4];
        let (_directory, ledger) = super::tests::ledger(&[&lists[..1], &lists[2..]].concat());
        assert_eq!(ledger.cap_refused(3).unwrap(), 3);
        let two: [(&[usize], _); 3] = [(full, EndRefused), (full, EndRefused), (full, EndRefused)];
        let (_directory, ledger) = super::tests::ledger(&[&two[..], &short[..]].concat());
        assert_eq!(ledger.cap_refused(3).unwrap(), 0, "lists with a page less by a row are as common");
    }
}
