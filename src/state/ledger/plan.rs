//! What a plan is made from: how deep the lists are, as far as the pages show it; the order of a survey; and the table `plan`.

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::open::{SCHEMA, configure};
use super::tails::complete;
use super::{Doing, Ledger, LedgerError, unsigned};
use crate::model::page::{ItemIx, PageNum, StopReason};

/// Lists of which pages came, and that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenLists {
    pub lists: u64,
    /// Whether they were read to the end.
    pub is_complete: bool,
    /// The last full page.
    pub last_full: Option<PageNum>,
    /// The first page that has rows and is not full, and the first empty one.
    pub short: Option<PageNum>,
    pub empty: Option<PageNum>,
    /// Full pages that came.
    pub full_pages: u32,
}

/// Lists that have no page yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnreadLists {
    pub unknown: u64,
    /// How many rows they are said to have, and how many such lists.
    pub sized: Vec<(u64, u64)>,
    /// Assumed to be as in an earlier export.
    pub continued: u64,
}

const NOT_CONTINUED: &str = "NOT EXISTS (SELECT 1 FROM since s WHERE s.item = ix AND s.state IN ('assumed', 'held'))";

impl Ledger {
    /// A ledger without a file, to plan an export that is not there.
    pub(crate) fn in_memory() -> Result<Self, LedgerError> {
        let db = Connection::open_in_memory().and_then(configure).doing("open a connection")?;
        db.execute_batch(SCHEMA).doing("create the tables")?;
        Ok(Self { db })
    }

    /// Lists that were read, in part or to the end. `full`: rows of a page that others may follow. Lists that failed are not among
    /// them: nothing of them is left.
    pub(crate) fn seen_lists(&self, full: u32) -> Result<Vec<SeenLists>, LedgerError> {
        let sql = format!(
            "SELECT i.state = 2, last_full, short, empty, full_pages, count(*) FROM items i
             JOIN (SELECT item, max(page) FILTER (WHERE received >= ?1) AS last_full,
                     min(page) FILTER (WHERE received BETWEEN 1 AND ?1 - 1) AS short,
                     min(page) FILTER (WHERE received = 0) AS empty, count(*) FILTER (WHERE received >= ?1) AS full_pages
                   FROM pages WHERE outdated = 0 AND received IS NOT NULL GROUP BY item) ON item = ix
             WHERE (i.stop IS NULL OR i.stop IN ({})) AND {NOT_CONTINUED} GROUP BY 1, 2, 3, 4, 5",
            complete()
        );
        self.rows(&sql, [full], |row| {
            let page = |at| row.get::<_, Option<u32>>(at).map(|page| page.map(PageNum));
            Ok(SeenLists {
                is_complete: row.get(0)?,
                last_full: page(1)?,
                short: page(2)?,
                empty: page(3)?,
                full_pages: row.get(4)?,
                lists: unsigned(row, 5)?,
            })
        })
    }

    /// Rows of the largest page, if that may be all that the API returns a page: no page had as many as requested, and at least
    /// three lists, and a quarter of those that have ended, ended on one as large, without a page behind one.
    pub(crate) fn doubted_page_size(&self, page_size: u32) -> Result<Option<u32>, LedgerError> {
        let largest = self.largest_page()?;
        if !(1..page_size).contains(&largest) {
            return Ok(None);
        }
        let sql = format!(
            "WITH ends AS (SELECT item, max(page) AS last, stop FROM pages JOIN items ON ix = item
               WHERE outdated = 0 AND received > 0 AND state = 2 GROUP BY item)
             SELECT count(*), count(*) FILTER (WHERE received = ?1 AND stop = '{}'),
               count(*) FILTER (WHERE received = ?1 AND EXISTS (
                 SELECT 1 FROM pages b WHERE b.item = e.item AND b.page > e.last AND b.outdated = 0))
             FROM ends e JOIN pages p ON p.item = e.item AND p.page = e.last AND p.outdated = 0",
            StopReason::ShortPage
        );
        let count = |row: &rusqlite::Row<'_>| Ok((unsigned(row, 0)?, unsigned(row, 1)?, unsigned(row, 2)?));
        let (all, alike, proven) = self.row(&sql, [largest], count).doing("count lists that end alike")?;
        Ok((proven == 0 && alike >= 3 && alike.saturating_mul(4) >= all).then_some(largest))
    }

    pub(crate) fn unread_lists(&self) -> Result<UnreadLists, LedgerError> {
        let sql = format!(
            "SELECT sizes.rows, count(*) FROM items LEFT JOIN sizes ON sizes.item = ix
             WHERE state < 2 AND NOT EXISTS (SELECT 1 FROM pages p WHERE p.item = ix) AND {NOT_CONTINUED} GROUP BY 1"
        );
        let mut unread = UnreadLists::default();
        for (rows, lists) in self.rows(&sql, [], |row| Ok((row.get::<_, Option<i64>>(0)?, unsigned(row, 1)?)))? {
            match rows.and_then(|rows| u64::try_from(rows).ok()) {
                Some(rows) => unread.sized.push((rows, lists)),
                None => unread.unknown += lists,
            }
        }
        let sql = "SELECT count(*) FROM items WHERE state < 2 AND EXISTS (SELECT 1 FROM since s WHERE s.item = ix AND s.state = 'assumed')";
        unread.continued = self.count(sql, [], "count lists that continue")?;
        Ok(unread)
    }

    /// Bytes of the journal's frames.
    pub(crate) fn journal_bytes(&self) -> Result<u64, LedgerError> {
        self.count("SELECT coalesce(sum(length), 0) FROM frames", [], "sum up the frames")
    }

    /// The first items of a random order of all whose size is not known. The order follows from the export's id, so that each
    /// survey of it continues the last.
    pub(crate) fn survey_order(&self, export: &str, most: usize) -> Result<Vec<ItemIx>, LedgerError> {
        let sql = format!(
            "SELECT ix FROM items WHERE NOT EXISTS (SELECT 1 FROM sizes z WHERE z.item = ix) AND {NOT_CONTINUED} ORDER BY ix"
        );
        let mut query = self.db.prepare(&sql).doing("list the items")?;
        let mut rows = query.query([]).doing("list the items")?;
        let mut first = std::collections::BinaryHeap::new();
        while let Some(row) = rows.next().doing("list the items")? {
            let item = ItemIx(row.get(0).doing("list the items")?);
            let hash = Sha256::digest(format!("{export} {}", item.0));
            first.push((hash.first_chunk::<8>().copied().unwrap_or_default(), item));
            if first.len() > most {
                first.pop();
            }
        }
        Ok(first.into_sorted_vec().into_iter().map(|(_, item)| item).collect())
    }

    /// Keeps the plan that was made before the first request of a run; a later one changes nothing.
    pub(crate) fn keep_plan(&self, plan: &str) -> Result<(), LedgerError> {
        self.write("INSERT OR IGNORE INTO plan (only, plan) VALUES (1, ?1)", params![plan], "keep the plan").map(drop)
    }

    pub(crate) fn kept_plan(&self) -> Result<Option<String>, LedgerError> {
        self.row("SELECT plan FROM plan", [], |row| row.get(0)).optional().doing("read the plan")
    }

    /// An open item, whether its walk has started or not.
    pub(crate) fn open_item(&self, item: ItemIx) -> Result<Option<super::OpenItem>, LedgerError> {
        let (before, none) = (ItemIx(item.0.saturating_sub(1)), std::collections::BTreeSet::new());
        let mut found = self.unstarted_items(before, &none, 1)?;
        found.extend(self.walking_items(before, &none, 1)?);
        Ok(found.into_iter().find(|open| open.item == item))
    }
}

#[cfg(test)]
mod tests {
    use crate::model::page::{ItemId, ItemIx, PageNum};
    use crate::state::ledger::fixture::ledger;

    #[test]
    fn the_order_of_a_survey_is_that_of_its_export_and_longer_ones_continue_shorter_ones() {
        let ids: Vec<String> = (0..50).map(|id| id.to_string()).collect();
        let (_directory, mut ledger) = ledger(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        let order = |ledger: &super::Ledger, export, most| ledger.survey_order(export, most).unwrap();
        let all = order(&ledger, "x", 99);
        assert_eq!((all.len(), order(&ledger, "x", 7)), (50, all[..7].to_vec()));
        assert_ne!(order(&ledger, "y", 99), all);
        let mut sorted = all.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (1..=50).map(ItemIx).collect::<Vec<_>>());
        ledger.set_size_hints(&[(ItemId::new("3"), 70)]).unwrap();
        assert!(!order(&ledger, "x", 99).contains(&ItemIx(4)), "its size is known");
        let unread = ledger.unread_lists().unwrap();
        assert_eq!((unread.unknown, unread.sized, unread.continued), (49, vec![(70, 1)], 0));
    }

    #[test]
    fn lists_are_counted_by_what_their_pages_show() {
        use crate::model::clock::Utc64;
        use crate::model::page::{SegmentId, StopReason};
        use crate::state::ledger::fixture::{applied, page};
        use crate::state::ledger::{EndRow, Group, SeenLists};
        let (_directory, mut ledger) = ledger(&["a", "b", "c"]);
        ledger.start_segment().unwrap();
        let (frame, pages) = (Some((SegmentId(1), 0, 10)), vec![page(1, 1, 1), page(2, 2, 1), page(3, 2, 4)]);
        let rows = vec![applied(1, 1, 2, 0), applied(2, 2, 3, 0), applied(3, 2, 0, 0)];
        let ended = vec![EndRow::new(ItemIx(1), StopReason::ShortPage), EndRow::new(ItemIx(3), StopReason::Failed)];
        ledger.commit(&Group { frame, pages, applied: rows, ended, ..Group::default() }, Utc64(2)).unwrap();
        let mut seen = ledger.seen_lists(3).unwrap();
        seen.sort_by_key(|seen| seen.is_complete);
        let one = SeenLists {
            lists: 1,
            is_complete: true,
            last_full: None,
            short: Some(PageNum(1)),
            empty: None,
            full_pages: 0,
        };
        let other = SeenLists {
            is_complete: false,
            last_full: Some(PageNum(1)),
            short: None,
            empty: Some(PageNum(4)),
            full_pages: 1,
            ..one
        };
        assert_eq!(seen, [other, one]);
        assert_eq!(ledger.unread_lists().unwrap().unknown, 0);
    }

    #[test]
    fn the_first_plan_stays() {
        let (_directory, ledger) = ledger::<&str>(&[]);
        assert_eq!(ledger.kept_plan().unwrap(), None);
        ledger.keep_plan("{}").unwrap();
        ledger.keep_plan("[]").unwrap();
        assert_eq!(ledger.kept_plan().unwrap().as_deref(), Some("{}"));
        assert_eq!(super::Ledger::in_memory().unwrap().unread_lists().unwrap().unknown, 0);
    }
}
