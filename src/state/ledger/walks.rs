//! The walks that have not ended, as a run takes them up.

use std::collections::BTreeSet;

use rusqlite::params;

use super::{Doing, Ledger, LedgerError};
use crate::model::page::{ItemId, ItemIx, PageNum};

/// An item whose walk has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenItem {
    /// Its place.
    pub item: ItemIx,
    /// Its id.
    pub id: ItemId,
    /// Failures of its first missing page that were proven to be its own.
    pub tries: u32,
    /// Runs in which that page had all its tries and nothing showed whose fault they were.
    pub unproven: u32,
    /// Ends at pages up to this one are passed over.
    pub skip: Option<PageNum>,
    /// Whether an earlier run gave it up for a passing cause.
    pub failed_before: bool,
    /// Whether the journal has a page of it.
    pub has_pages: bool,
    /// Whether its list moved while it was read: then it is read in order.
    pub is_moved: bool,
    /// Rows that its list is said to have.
    pub size: Option<u64>,
}

impl Ledger {
    /// Items whose walk has begun and not ended, in order, after one of them, but for some.
    pub fn walking(
        &self,
        after: ItemIx,
        but_for: &BTreeSet<ItemIx>,
        limit: usize,
    ) -> Result<Vec<OpenItem>, LedgerError> {
        self.open_items(1, after, but_for, limit)
    }

    /// Items whose walk has not begun, in order, after one of them, but for some.
    pub fn fresh(&self, after: ItemIx, but_for: &BTreeSet<ItemIx>, limit: usize) -> Result<Vec<OpenItem>, LedgerError> {
        self.open_items(0, after, but_for, limit)
    }

    fn open_items(
        &self,
        state: i64,
        after: ItemIx,
        but_for: &BTreeSet<ItemIx>,
        limit: usize,
    ) -> Result<Vec<OpenItem>, LedgerError> {
        let sql = "SELECT ix, id, EXISTS (SELECT 1 FROM pages WHERE item = ix), rows, tries, unproven, skip, transient,
                     moved
                   FROM items LEFT JOIN sizes ON item = ix
                   WHERE state = ?1 AND state < 2 AND ix > ?2 AND ix NOT IN (SELECT value FROM json_each(?4))
                   ORDER BY ix LIMIT ?3";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let but_for: serde_json::Value = but_for.iter().map(|item| item.0).collect();
        self.rows(sql, params![state, after.0, limit, but_for.to_string()], |row| {
            let id = ItemId::new(&row.get::<_, String>(1)?);
            let size = row.get::<_, Option<i64>>(3)?.and_then(|rows| u64::try_from(rows).ok());
            let skip = Some(row.get(6)?).filter(|page| *page > 0).map(PageNum);
            Ok(OpenItem {
                item: ItemIx(row.get(0)?),
                id,
                tries: row.get(4)?,
                unproven: row.get(5)?,
                skip,
                failed_before: row.get(7)?,
                has_pages: row.get(2)?,
                is_moved: row.get(8)?,
                size,
            })
        })
    }

    /// The page up to which ends of an item's walk are passed over, if it was opened again.
    pub fn skip(&self, item: ItemIx) -> Result<Option<PageNum>, LedgerError> {
        let mut query = self.db.prepare_cached("SELECT skip FROM items WHERE ix = ?1").doing("find an item")?;
        let skip: u32 = query.query_row([item.0], |row| row.get(0)).doing("find an item")?;
        Ok(Some(PageNum(skip)).filter(|page| page.0 > 0))
    }

    /// Items of which a page was asked for that did not come.
    pub fn asked_in_vain(&self) -> Result<BTreeSet<ItemIx>, LedgerError> {
        let items = self.rows("SELECT DISTINCT item FROM attempts", [], |row| row.get(0).map(ItemIx))?;
        Ok(items.into_iter().collect())
    }

    /// The last item of the list.
    pub fn last_item(&self) -> Result<ItemIx, LedgerError> {
        let sql = "SELECT coalesce(max(ix), 0) FROM items";
        self.db.query_row(sql, [], |row| row.get(0).map(ItemIx)).doing("find the last item")
    }
}
