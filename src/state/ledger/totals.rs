//! Sums over items, pages and attempts, and the row of each item in the report.

use rusqlite::Row;

use super::{Doing, Ledger, LedgerError, unsigned};
use crate::model::clock::Utc64;
use crate::model::event::ProgressSnapshot;
use crate::model::page::StopReason;

#[derive(Clone, Debug)]
pub struct ItemRow {
    pub id: String,
    /// Pages in the journal.
    pub pages: i64,
    /// Of those, pages that were taken over from an earlier export.
    pub pages_taken_over: i64,
    /// What became of its list in an earlier export.
    pub since: Option<String>,
    /// Rows of them that are or will be published.
    pub rows: i64,
    /// Rows of them that had come before.
    pub duplicates: i64,
    /// Rows of them that could not be used.
    pub rejected: i64,
    pub is_moved: bool,
    /// None while its walk is open.
    pub stop: Option<StopReason>,
    /// Sanitised.
    pub error: Option<String>,
    /// When its first and its last page arrived.
    pub fetched: Option<(Utc64, Utc64)>,
    /// Attempts that may have been billed without a page.
    pub in_doubt: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Pages in the journal.
    pub pages: u64,
    /// Rows in them.
    pub received: u64,
    /// Rows that are or will be published.
    pub kept: u64,
    pub rejected: u64,
    /// Pages in segments that are not published yet.
    pub pages_waiting: u64,
    /// Rows to be published in those.
    pub rows_waiting: u64,
    /// Pages that were requested again since.
    pub pages_outdated: u64,
    pub items: u64,
    pub complete: u64,
    pub failed: u64,
    /// Items that were cut short otherwise.
    pub cut: u64,
    pub moved: u64,
}

impl Ledger {
    pub fn progress(&self) -> Result<ProgressSnapshot, LedgerError> {
        let (totals, credits) = (self.totals()?, self.credits()?);
        let ended = totals.complete + totals.failed + totals.cut;
        Ok(ProgressSnapshot {
            items: totals.items,
            ended,
            failed: totals.failed,
            cut: totals.cut,
            begun: ended + self.count_walks()?,
            pages: credits.billed,
            rows: totals.kept,
            credits: credits.billed + credits.in_doubt,
        })
    }

    pub fn totals(&self) -> Result<Totals, LedgerError> {
        let sql = "SELECT count(*), coalesce(sum(received), 0), coalesce(sum(kept), 0), coalesce(sum(rejected), 0),
                     count(*) FILTER (WHERE waits), coalesce(sum(kept) FILTER (WHERE waits), 0),
                     count(*) FILTER (WHERE outdated <> 0)
                   FROM (SELECT received, kept, rejected, outdated,
                           segment IN (SELECT id FROM segments WHERE state <> 'published') AS waits FROM pages)";
        let pages = self.row(sql, [], |row| {
            Ok(Totals {
                pages: unsigned(row, 0)?,
                received: unsigned(row, 1)?,
                kept: unsigned(row, 2)?,
                rejected: unsigned(row, 3)?,
                pages_waiting: unsigned(row, 4)?,
                rows_waiting: unsigned(row, 5)?,
                pages_outdated: unsigned(row, 6)?,
                ..Totals::default()
            })
        });
        let mut totals = pages.doing("sum up pages")?;
        // In one pass: grouping would sort all items.
        let ended = StopReason::ALL.map(|stop| format!("count(*) FILTER (WHERE stop = '{stop}')")).join(", ");
        let sql = format!("SELECT count(*), count(*) FILTER (WHERE moved), {ended} FROM items");
        let counts = self.row(&sql, [], |row| {
            (totals.items, totals.moved) = (unsigned(row, 0)?, unsigned(row, 1)?);
            (2..).zip(StopReason::ALL).map(|(at, stop)| Ok((stop, unsigned(row, at)?))).collect::<Result<Vec<_>, _>>()
        });
        for (stop, items) in counts.doing("sum up items")? {
            let total = if stop.is_complete() {
                &mut totals.complete
            } else if stop.is_failure() {
                &mut totals.failed
            } else {
                &mut totals.cut
            };
            *total += items;
        }
        totals.complete = totals.complete.saturating_sub(self.count_not_taken_over()?);
        Ok(totals)
    }

    /// Calls `visit` with each item, in order.
    pub fn for_each_item<E: From<LedgerError>>(
        &self,
        mut visit: impl FnMut(ItemRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = "SELECT i.id, i.stop, i.error, count(p.page), coalesce(sum(p.kept), 0), min(p.at), max(p.at),
                     (SELECT count(*) FROM attempts a WHERE a.item = i.ix AND a.charge = 'in_doubt'),
                     coalesce(sum(p.received - p.kept - p.rejected), 0), i.moved,
                     count(p.page) FILTER (WHERE p.attempt < 0), (SELECT s.state FROM since s WHERE s.item = i.ix),
                     coalesce(sum(p.rejected), 0)
                   FROM items i LEFT JOIN pages p ON p.item = i.ix GROUP BY i.ix ORDER BY i.ix";
        let mut query = self.db.prepare_cached(sql).doing("list the items")?;
        let mut rows = query.query([]).doing("list the items")?;
        while let Some(row) = rows.next().doing("list the items")? {
            visit(item_row(row).doing("read an item")?)?;
        }
        Ok(())
    }
}

fn item_row(row: &Row<'_>) -> rusqlite::Result<ItemRow> {
    let times: (Option<i64>, Option<i64>) = (row.get(5)?, row.get(6)?);
    let since: Option<String> = row.get(11)?;
    let is_open = matches!(since.as_deref(), Some("assumed" | "held"));
    let stop = row.get::<_, Option<String>>(1)?.as_deref().and_then(StopReason::from_word);
    Ok(ItemRow {
        id: row.get(0)?,
        stop: stop.filter(|stop| !is_open || !stop.is_complete()),
        error: row.get(2)?,
        pages: row.get(3)?,
        rows: row.get(4)?,
        fetched: times.0.zip(times.1).map(|(first, last)| (Utc64(first), Utc64(last))),
        in_doubt: row.get(7)?,
        duplicates: row.get(8)?,
        rejected: row.get(12)?,
        is_moved: row.get(9)?,
        pages_taken_over: row.get(10)?,
        since,
    })
}
