//! The tables `items` and `sizes`: items by the state of their walks, hints of sizes, and why items failed. A group commit
//! changes the states.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, params};

use super::{Doing, Ledger, LedgerError, signed, unsigned};
use crate::model::page::{ItemId, ItemIx, PageNum, StopReason};
use crate::model::sanitize::DETAILS;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenItem {
    pub item: ItemIx,
    pub id: ItemId,
    /// Failures of its first missing page that were proven to be its own.
    pub tries: u32,
    /// Runs in which that page had all its tries and nothing showed whose fault they were.
    pub unproven: u32,
    /// The walk does not end at pages up to this one.
    pub skip: Option<PageNum>,
    /// Whether an earlier run gave it up for a transient cause.
    pub failed_before: bool,
    /// Whether it has pages, or is assumed to have some.
    pub has_pages: bool,
    /// Whether its list moved while it was read: then it is read in order.
    pub is_moved: bool,
    /// Rows that its list is said to have.
    pub size: Option<u64>,
}

/// Items that failed or were cut for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailureReason {
    pub stop: StopReason,
    /// Sanitised; of the first of them.
    pub error: Option<String>,
    pub items: u64,
    /// The first item's id.
    pub first: String,
}

impl Ledger {
    pub(crate) fn find_item(&self, id: &ItemId) -> Result<Option<ItemIx>, LedgerError> {
        let found = self.row("SELECT ix FROM items WHERE id = ?1", [id.as_str()], |row| row.get(0).map(ItemIx));
        found.optional().doing("find an item")
    }

    /// The last item of the list; 0 of an empty one.
    pub(crate) fn last_item(&self) -> Result<ItemIx, LedgerError> {
        self.value("SELECT coalesce(max(ix), 0) FROM items", [], "find the last item").map(ItemIx)
    }

    /// Items behind `after` whose walk has started and not ended, in order, without those of `except`.
    pub fn walking_items(
        &self,
        after: ItemIx,
        except: &BTreeSet<ItemIx>,
        limit: usize,
    ) -> Result<Vec<OpenItem>, LedgerError> {
        self.open_items(1, after, except, limit)
    }

    /// Items behind `after` whose walk has not started, in order, without those of `except`.
    pub fn unstarted_items(
        &self,
        after: ItemIx,
        except: &BTreeSet<ItemIx>,
        limit: usize,
    ) -> Result<Vec<OpenItem>, LedgerError> {
        self.open_items(0, after, except, limit)
    }

    fn open_items(
        &self,
        state: i64,
        after: ItemIx,
        except: &BTreeSet<ItemIx>,
        limit: usize,
    ) -> Result<Vec<OpenItem>, LedgerError> {
        let sql = "SELECT ix, id, EXISTS (SELECT 1 FROM pages WHERE item = ix)
                       OR EXISTS (SELECT 1 FROM since WHERE item = ix AND state = 'assumed'),
                     coalesce((SELECT (last - first) * size + since.rows FROM since WHERE item = ix AND state = 'assumed'), sizes.rows),
                     tries, unproven, skip, transient, moved
                   FROM items LEFT JOIN sizes ON item = ix
                   WHERE items.state = ?1 AND items.state < 2 AND ix > ?2 AND ix NOT IN (SELECT value FROM json_each(?4))
                     AND NOT EXISTS (SELECT 1 FROM since WHERE item = ix AND state = 'held')
                   ORDER BY ix LIMIT ?3";
        self.rows(sql, params![state, after.0, signed(limit), json(except)], |row| {
            let id = ItemId::new(&row.get::<_, String>(1)?);
            let size = row.get::<_, Option<i64>>(3)?.and_then(|rows| u64::try_from(rows).ok());
            Ok(OpenItem {
                item: ItemIx(row.get(0)?),
                id,
                tries: row.get(4)?,
                unproven: row.get(5)?,
                skip: Some(row.get(6)?).filter(|page| *page > 0).map(PageNum),
                failed_before: row.get(7)?,
                has_pages: row.get(2)?,
                is_moved: row.get(8)?,
                size,
            })
        })
    }

    /// How many walks have started and not ended.
    pub(crate) fn count_walks(&self) -> Result<u64, LedgerError> {
        self.count("SELECT count(*) FROM items WHERE state = 1 AND state < 2", [], "count walks")
    }

    /// The page up to which an item's walk does not end, if the walk was reopened behind one.
    pub(crate) fn skip(&self, item: ItemIx) -> Result<Option<PageNum>, LedgerError> {
        let skip: u32 = self.value("SELECT skip FROM items WHERE ix = ?1", [item.0], "find an item")?;
        Ok(Some(PageNum(skip)).filter(|page| page.0 > 0))
    }

    /// Sets how many rows the lists of items are said to have. Items that the ledger does not have are passed over.
    pub(crate) fn set_size_hints(&mut self, sizes: &[(ItemId, u64)]) -> Result<(), LedgerError> {
        if sizes.is_empty() {
            return Ok(());
        }
        self.transaction("write hints of sizes", |transaction| {
            let sql = "INSERT OR REPLACE INTO sizes (item, rows) SELECT ix, ?2 FROM items WHERE id = ?1";
            let mut insert = transaction.prepare_cached(sql)?;
            sizes.iter().try_for_each(|(id, rows)| insert.execute(params![id.as_str(), signed(*rows)]).map(drop))
        })
    }

    /// The first items that failed or were cut, in order, with their errors.
    pub fn failed_items(&self, limit: usize) -> Result<Vec<(String, StopReason, Option<String>)>, LedgerError> {
        let cut = StopReason::ALL.into_iter().filter(|stop| !stop.is_complete());
        let cut = cut.map(|stop| format!("'{stop}'")).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT id, stop, error FROM items WHERE stop IN ({cut}) ORDER BY ix LIMIT ?1");
        self.rows(&sql, [signed(limit)], |row| Ok((row.get(0)?, stop_reason(&row.get::<_, String>(1)?), row.get(2)?)))
    }

    /// Why items failed or were cut, the most frequent reasons first. Reasons that differ only in the details of a response
    /// are one.
    pub(crate) fn failure_reasons(&self, limit: usize) -> Result<Vec<FailureReason>, LedgerError> {
        let sql = "SELECT stop, error, count(*), id, min(ix) FROM items
                   WHERE stop IN ('failed', 'rejected', 'foreign_page', 'page_cap', 'repeated_page')
                   GROUP BY stop, substr(error, 1, instr(error || ?2, ?2) - 1) ORDER BY count(*) DESC, min(ix) LIMIT ?1";
        self.rows(sql, params![signed(limit), DETAILS], |row| {
            Ok(FailureReason {
                stop: stop_reason(&row.get::<_, String>(0)?),
                error: row.get(1)?,
                items: unsigned(row, 2)?,
                first: row.get(3)?,
            })
        })
    }
}

fn stop_reason(word: &str) -> StopReason {
    StopReason::from_word(word).unwrap_or(StopReason::Failed)
}

/// Items as the JSON array that `json_each` reads.
pub(super) fn json(items: &BTreeSet<ItemIx>) -> String {
    items.iter().map(|item| item.0).collect::<serde_json::Value>().to_string()
}

#[cfg(test)]
mod tests {
    use super::OpenItem;
    use crate::model::clock::Utc64;
    use crate::model::page::{ItemIx, PageNum, SegmentId, StopReason};
    use crate::state::ledger::fixture::{applied, ledger, page};
    use crate::state::ledger::{EndRow, Group};
    use std::collections::BTreeSet;

    #[test]
    fn a_walk_goes_from_unstarted_to_walking_to_ended_and_may_be_reopened() {
        let (_directory, mut ledger) = ledger(&["a", "b", "c"]);
        ledger.start_segment().unwrap();
        let (frame, pages) = (Some((SegmentId(1), 0, 10)), vec![page(1, 2, 1)]);
        let group = Group { frame, pages, applied: vec![applied(1, 2, 3, 1)], ..Group::default() };
        ledger.commit(&group, Utc64(2)).unwrap();
        let ids = |items: Vec<OpenItem>| items.into_iter().map(|open| open.item.0).collect::<Vec<_>>();
        assert_eq!(ids(ledger.walking_items(ItemIx(0), &BTreeSet::new(), 9).unwrap()), [2]);
        assert_eq!(ids(ledger.unstarted_items(ItemIx(0), &BTreeSet::new(), 1).unwrap()), [1]);
        let keys = [[0; 16], [1; 16]].map(|key| (key, PageNum(1)));
        assert_eq!(ledger.row_keys(ItemIx(2), SegmentId(2)).unwrap(), keys);
        assert!(ledger.row_keys(ItemIx(2), SegmentId(1)).unwrap().is_empty());
        let end = |item, stop, transient| EndRow { transient, ..EndRow::new(ItemIx(item), stop) };
        let ended = vec![
            end(1, StopReason::Failed, true),
            end(2, StopReason::ShortPage, false),
            end(3, StopReason::Failed, false),
        ];
        ledger.commit(&Group { ended, ..Group::default() }, Utc64(3)).unwrap();
        let totals = ledger.totals().unwrap();
        assert_eq!(
            (totals.items, totals.complete, totals.failed, totals.received, totals.kept, totals.rejected),
            (3, 1, 2, 3, 2, 1)
        );
        assert_eq!(
            (
                ledger.reopen_failed(false).unwrap(),
                ledger.reopen_failed(true).unwrap(),
                ledger.reopen_short_ends().unwrap()
            ),
            (1, 1, 1)
        );
    }

    #[test]
    fn items_that_got_one_kind_of_response_have_one_reason_whatever_its_details() {
        let (_directory, mut ledger) = ledger(&["a", "b", "c"]);
        let message = ["other", "HTTP 502: no envelope; page 1, begins: a", "HTTP 502: no envelope; page 7, begins: b"];
        let ended = (1..).zip(message).map(|(ix, message)| {
            let error = Some(message.to_owned());
            EndRow { error, transient: true, ..EndRow::new(ItemIx(ix), StopReason::Failed) }
        });
        ledger.commit(&Group { ended: ended.collect(), ..Group::default() }, Utc64(1)).unwrap();
        let reasons = ledger.failure_reasons(9).unwrap();
        let found: Vec<_> =
            reasons.iter().map(|reason| (reason.error.as_deref().unwrap(), reason.items, &*reason.first)).collect();
        assert_eq!(found, [(message[1], 2, "b"), (message[0], 1, "a")]);
    }
}
