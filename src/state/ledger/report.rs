//! What the ledger can say of an export as a whole: credits, totals, what became of each item.

use rusqlite::Row;

use super::{Doing, Ledger, LedgerError};
use crate::model::clock::Utc64;
use crate::model::event::ProgressSnapshot;
use crate::model::page::StopReason;

/// What attempts cost, over all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credits {
    /// Pages: one credit each.
    pub billed: u64,
    /// Attempts known to be free.
    pub free: u64,
    /// Attempts that may have been billed, an upper bound.
    pub in_doubt: u64,
}

/// An item's row of the report.
#[derive(Clone, Debug)]
pub struct ItemRow {
    /// Its id.
    pub id: String,
    /// Pages in the journal.
    pub pages: i64,
    /// Rows of them that are or will be published.
    pub rows: i64,
    /// Rows of them that had come before.
    pub duplicates: i64,
    /// Whether the list moved while it was read.
    pub is_moved: bool,
    /// Why its walk ended; none while it is open.
    pub stop: Option<StopReason>,
    /// What was said.
    pub error: Option<String>,
    /// First and last fetch.
    pub fetched: Option<(Utc64, Utc64)>,
    /// Attempts that may have been billed without a page.
    pub in_doubt: i64,
}

/// Sums over the whole export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Pages in the journal.
    pub pages: u64,
    /// Rows in them.
    pub received: u64,
    /// Rows that are or will be published.
    pub kept: u64,
    /// Rows that could not be typed.
    pub rejected: u64,
    /// Pages in segments that are not published yet.
    pub pages_waiting: u64,
    /// Rows to be published in those.
    pub rows_waiting: u64,
    /// Pages that were asked for once more since.
    pub pages_outdated: u64,
    /// Items.
    pub items: u64,
    /// Items that were read to the end.
    pub complete: u64,
    /// Items that failed.
    pub failed: u64,
    /// Items that were cut short otherwise.
    pub cut: u64,
    /// Items whose lists moved while they were read.
    pub moved: u64,
}

impl Ledger {
    /// What is there before the first request of a run.
    pub fn standing(&self) -> Result<ProgressSnapshot, LedgerError> {
        let (totals, credits) = (self.totals()?, self.credits()?);
        let ended = totals.complete + totals.failed + totals.cut;
        Ok(ProgressSnapshot {
            items: totals.items,
            ended,
            begun: ended + self.walks()?,
            pages: totals.pages,
            rows: totals.kept,
            credits: credits.billed + credits.in_doubt,
        })
    }

    /// What attempts cost, over all runs. Attempts under way count as in doubt.
    pub fn credits(&self) -> Result<Credits, LedgerError> {
        let count = |sql| self.db.query_row(sql, [], |row| row.get::<_, i64>(0)).doing("count credits");
        let unsigned = |number: i64| u64::try_from(number).unwrap_or_default();
        Ok(Credits {
            billed: unsigned(count("SELECT count(*) FROM pages")?),
            free: unsigned(count("SELECT count(*) FROM attempts WHERE charge = 'free'")?),
            in_doubt: unsigned(count("SELECT count(*) FROM attempts WHERE charge IS NOT 'free'")?),
        })
    }

    /// Whether there is a page that is not published.
    pub fn has_waiting(&self) -> Result<bool, LedgerError> {
        let sql =
            "SELECT EXISTS (SELECT 1 FROM pages WHERE segment IN (SELECT id FROM segments WHERE state <> 'published'))";
        self.db.query_row(sql, [], |row| row.get(0)).doing("look for pages that wait")
    }

    /// Sums over the whole export.
    pub fn totals(&self) -> Result<Totals, LedgerError> {
        let sql = "SELECT count(*), coalesce(sum(received), 0), coalesce(sum(kept), 0), coalesce(sum(rejected), 0),
                     count(*) FILTER (WHERE waits), coalesce(sum(kept) FILTER (WHERE waits), 0),
                     count(*) FILTER (WHERE outdated <> 0)
                   FROM (SELECT received, kept, rejected, outdated,
                           segment IN (SELECT id FROM segments WHERE state <> 'published') AS waits FROM pages)";
        let get =
            |row: &Row<'_>, at: usize| row.get::<_, i64>(at).map(|number| u64::try_from(number).unwrap_or_default());
        let mut totals = self
            .db
            .query_row(sql, [], |row| {
                Ok(Totals {
                    pages: get(row, 0)?,
                    received: get(row, 1)?,
                    kept: get(row, 2)?,
                    rejected: get(row, 3)?,
                    pages_waiting: get(row, 4)?,
                    rows_waiting: get(row, 5)?,
                    pages_outdated: get(row, 6)?,
                    ..Totals::default()
                })
            })
            .doing("sum up pages")?;
        // In one pass: grouping would sort all items.
        let ended = StopReason::ALL.map(|stop| format!("count(*) FILTER (WHERE stop = '{stop}')")).join(", ");
        let sql = format!("SELECT {ended}, count(*), count(*) FILTER (WHERE moved) FROM items");
        let counts =
            |row: &Row<'_>| (0..=StopReason::ALL.len() + 1).map(|at| get(row, at)).collect::<Result<Vec<u64>, _>>();
        let counts = self.db.query_row(&sql, [], counts).doing("sum up items")?;
        let all = counts.get(StopReason::ALL.len()..).unwrap_or_default();
        (totals.items, totals.moved) = all.first().copied().zip(all.last().copied()).unwrap_or_default();
        for (stop, items) in StopReason::ALL.into_iter().zip(counts) {
            let total = match stop {
                _ if stop.is_complete() => &mut totals.complete,
                StopReason::Failed | StopReason::Rejected => &mut totals.failed,
                StopReason::ShortPage
                | StopReason::EmptyPage
                | StopReason::MaxPages
                | StopReason::EndRefused
                | StopReason::EndRepeated
                | StopReason::PageCap
                | StopReason::RepeatedPage
                | StopReason::Shifted => &mut totals.cut,
            };
            *total += items;
        }
        Ok(totals)
    }

    /// Goes through the items in order.
    pub fn each_item<E: From<LedgerError>>(&self, mut visit: impl FnMut(ItemRow) -> Result<(), E>) -> Result<(), E> {
        let sql = "SELECT i.id, i.stop, i.error, count(p.page), coalesce(sum(p.kept), 0), min(p.at), max(p.at),
                     (SELECT count(*) FROM attempts a WHERE a.item = i.ix AND a.charge = 'in_doubt'),
                     coalesce(sum(p.received - p.kept - p.rejected), 0), i.moved
                   FROM items i LEFT JOIN pages p ON p.item = i.ix GROUP BY i.ix ORDER BY i.ix";
        let mut query = self.db.prepare_cached(sql).doing("list the items")?;
        let mut rows = query.query([]).doing("list the items")?;
        while let Some(row) = rows.next().doing("list the items")? {
            visit(item_row(row).doing("read an item")?)?;
        }
        Ok(())
    }

    /// The first items that did not end well, in order, with what was said of them.
    pub fn failures(&self, limit: usize) -> Result<Vec<(String, StopReason, Option<String>)>, LedgerError> {
        let cut = StopReason::ALL.into_iter().filter(|stop| !stop.is_complete());
        let cut = cut.map(|stop| format!("'{stop}'")).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT id, stop, error FROM items WHERE stop IN ({cut}) ORDER BY ix LIMIT ?1");
        self.rows(&sql, [i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            let stop: String = row.get(1)?;
            Ok((row.get(0)?, StopReason::from_word(&stop).unwrap_or(StopReason::Failed), row.get(2)?))
        })
    }
}

fn item_row(row: &Row<'_>) -> rusqlite::Result<ItemRow> {
    let times: (Option<i64>, Option<i64>) = (row.get(5)?, row.get(6)?);
    Ok(ItemRow {
        id: row.get(0)?,
        stop: row.get::<_, Option<String>>(1)?.as_deref().and_then(StopReason::from_word),
        error: row.get(2)?,
        pages: row.get(3)?,
        rows: row.get(4)?,
        fetched: times.0.zip(times.1).map(|(first, last)| (Utc64(first), Utc64(last))),
        in_doubt: row.get(7)?,
        duplicates: row.get(8)?,
        is_moved: row.get(9)?,
    })
}
