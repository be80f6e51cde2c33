//! The last pages of the lists of an export that another one continues, and whether they still begin with the same rows.

use rusqlite::{OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::{Doing, Ledger, LedgerError, unsigned};
use crate::model::page::{ItemId, ItemIx, PageNum, StopReason};

/// The last page of a list that had rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub first: PageNum,
    pub page: PageNum,
    /// Rows of a full page.
    pub size: u32,
    pub rows: usize,
    pub digest: [u8; 16],
}

/// Why nothing of a list can be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TailFault {
    /// It was not read to its end.
    Incomplete,
    /// Rows came again, were rejected or were missing: what its last page begins with is not known.
    Irregular,
    /// Journal files with its pages were removed.
    Pruned,
    /// It has no page before its last one, so that reading it whole costs the same.
    OnePage,
}

/// Notes an item's tail, and whether it is sampled. Returns whether the export has the item.
pub(super) type NoteTail<'a> = dyn FnMut(&ItemId, Tail, bool) -> Result<bool, LedgerError> + 'a;

/// Whether the last page of a list still begins with the rows that it had.
pub(super) fn holds(rows: usize, digest: &[u8], keys: &[u8], rejected: u64) -> bool {
    rejected == 0 && keys.get(..rows * 16).is_some_and(|keys| digest_of(keys) == digest)
}

fn digest_of(keys: &[u8]) -> [u8; 16] {
    let hash = Sha256::digest(keys);
    hash.first_chunk::<16>().copied().unwrap_or_default()
}

/// The reasons for which a list that was read to its end has ended, in SQL.
pub(super) fn complete() -> String {
    let complete = StopReason::ALL.into_iter().filter(|stop| stop.is_complete());
    complete.map(|stop| format!("'{stop}'")).collect::<Vec<_>>().join(", ")
}

impl Ledger {
    /// Calls `visit` with each item of this export, in its order, and its list's last page.
    pub(crate) fn for_each_tail<E: From<LedgerError>>(
        &self,
        (first, size): (PageNum, u32),
        mut visit: impl FnMut(&ItemId, Result<Tail, TailFault>) -> Result<(), E>,
    ) -> Result<(), E> {
        // Of the pages with new rows: behind them are only those that showed that it had ended.
        let sql = format!(
            "SELECT i.id, coalesce(i.stop IN ({}), 0), i.moved OR max(p.outdated <> 0),
               coalesce(max(p.page) FILTER (WHERE kept > 0), 0), count(*) FILTER (WHERE kept > 0),
               count(*) FILTER (WHERE kept > 0 AND (again IS NOT NULL OR received IS NULL)),
               coalesce(max(s.pruned) FILTER (WHERE kept > 0), 0), i.ix
             FROM items i LEFT JOIN pages p ON p.item = i.ix LEFT JOIN segments s ON s.id = p.segment
             GROUP BY i.ix ORDER BY i.ix",
            complete()
        );
        let mut query = self.db.prepare(&sql).doing("list the last pages")?;
        let mut rows = query.query([]).doing("list the last pages")?;
        let read = "read a last page";
        while let Some(row) = rows.next().doing("list the last pages")? {
            let (id, last) = (ItemId::new(&row.get::<_, String>(0).doing(read)?), PageNum(row.get(3).doing(read)?));
            let (is_complete, is_moved): (bool, Option<bool>) = (row.get(1).doing(read)?, row.get(2).doing(read)?);
            let (pages, odd) = (unsigned(row, 4).doing(read)?, unsigned(row, 5).doing(read)?);
            let is_pruned = row.get::<_, i64>(6).doing(read)? > 0;
            let is_whole = pages == u64::from(last.next().0.saturating_sub(first.0)) && odd == 0;
            let tail = if !is_complete {
                Err(TailFault::Incomplete)
            } else if pages == 0 || last == first {
                Err(TailFault::OnePage)
            } else if is_moved == Some(true) || !is_whole {
                Err(TailFault::Irregular)
            } else if is_pruned {
                Err(TailFault::Pruned)
            } else {
                self.tail(ItemIx(row.get(7).doing(read)?), (first, last), size)?
            };
            visit(&id, tail)?;
        }
        Ok(())
    }

    fn tail(
        &self,
        item: ItemIx,
        (first, page): (PageNum, PageNum),
        size: u32,
    ) -> Result<Result<Tail, TailFault>, LedgerError> {
        let sql = "SELECT keys, rejected FROM pages WHERE item = ?1 AND page = ?2 AND outdated = 0";
        let (keys, rejected): (Vec<u8>, i64) =
            self.row(sql, [item.0, page.0.into()], |row| Ok((row.get(0)?, row.get(1)?))).doing("read a last page")?;
        let tail = Tail { first, page, size, rows: keys.len() / 16, digest: digest_of(&keys) };
        Ok(if rejected == 0 { Ok(tail) } else { Err(TailFault::Irregular) })
    }

    /// The row keys of a list's pages before `page`, page by page. A page with rows that came again has none.
    pub(crate) fn keys_before(&self, id: &ItemId, page: PageNum) -> Result<Vec<(PageNum, Vec<u8>)>, LedgerError> {
        let sql = "SELECT page, iif(again IS NULL, keys, x'') FROM pages JOIN items ON ix = item
                   WHERE id = ?1 AND page < ?2 AND outdated = 0 AND kept IS NOT NULL ORDER BY page";
        self.rows(sql, params![id.as_str(), page.0], |row| Ok((PageNum(row.get(0)?), row.get(1)?)))
    }

    /// Whether the last page of a list begins with the rows that it had.
    pub(crate) fn tail_holds(&self, item: ItemIx, tail: &Tail) -> Result<bool, LedgerError> {
        let sql =
            "SELECT keys, rejected FROM pages WHERE item = ?1 AND page = ?2 AND outdated = 0 AND keys IS NOT NULL";
        let found =
            self.row(sql, [item.0, tail.page.0.into()], |row| Ok((row.get::<_, Vec<u8>>(0)?, unsigned(row, 1)?)));
        let found = found.optional().doing("read a last page")?;
        Ok(found.is_some_and(|(keys, rejected)| holds(tail.rows, &tail.digest, &keys, rejected)))
    }
}
