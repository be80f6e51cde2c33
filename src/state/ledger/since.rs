//! The tables `earlier` and `since`: the export that this one continues, and what is known of each list in it.
//!
//! A list is `assumed` to be as it was up to its last page, which is requested again. If that page begins with the same rows in
//! the same places, nothing was removed or inserted before it: the list is `held` until the pages before it are taken over, and
//! then `kept`. Otherwise it is read `whole`. Some lists are `sampled`: read whole, and compared in the end.

use rusqlite::{Connection, OptionalExtension, params};

use super::tails::{NoteTail, Tail, complete, holds};
use super::{Doing, Ledger, LedgerError, signed, unsigned};
use crate::model::page::{Counts, ItemId, ItemIx, PageNum};

/// The earlier export that one continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EarlierExport {
    pub id: String,
    /// As the user named it.
    pub name: String,
    /// Its state directory.
    pub state: String,
}

/// How many lists are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SinceCounts {
    /// Not decided, or not taken over yet.
    pub waiting: u64,
    pub kept: u64,
    /// Read whole, because they had changed before their last page.
    pub whole: u64,
    /// Read whole to be compared, and not compared yet.
    pub sampled: u64,
    /// Compared, and as they were.
    pub same: u64,
    /// Changed before their last page, as that page shows.
    pub seen: u64,
    /// Changed before their last page, though that page does not show it.
    pub unseen: u64,
    /// Pages that were taken over, and their rows.
    pub pages: u64,
    pub rows: u64,
}

/// Reopens a list from its first page on. Its last pages were requested before the others and may be of another moment, so they
/// are requested again; their rows stay.
fn read_whole(transaction: &Connection, item: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE pages SET outdated = attempt WHERE item = ?1 AND outdated = 0";
    transaction.prepare_cached(sql)?.execute([item])?;
    let sql = "UPDATE items SET state = 1, stop = NULL, error = NULL, transient = 0, tries = 0
               WHERE ix = ?1 AND state = 2";
    transaction.prepare_cached(sql)?.execute([item]).map(drop)
}

impl Ledger {
    /// The earlier export that this one continues, if it does.
    pub(crate) fn earlier(&self) -> Result<Option<EarlierExport>, LedgerError> {
        let found = self.row("SELECT id, name, state FROM earlier", [], |row| {
            Ok(EarlierExport { id: row.get(0)?, name: row.get(1)?, state: row.get(2)? })
        });
        found.optional().doing("read the earlier export")
    }

    /// Notes which export this one continues, and what `tails` passes on: an item, its list's last page there, and whether it is
    /// sampled. Items that this export does not have are passed over. All of it or nothing.
    pub(crate) fn continue_from<E: From<LedgerError>>(
        &mut self,
        earlier: &EarlierExport,
        tails: impl FnOnce(&mut NoteTail<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let action = "note the earlier export";
        self.before(action)?;
        let transaction = self.db.transaction().doing(action)?;
        let sql = "INSERT INTO earlier (only, id, name, state) VALUES (1, ?1, ?2, ?3)";
        transaction.execute(sql, params![earlier.id, earlier.name, earlier.state]).doing(action)?;
        let sql = "INSERT OR REPLACE INTO since (item, first, last, size, rows, digest, state)
                   SELECT ix, ?2, ?3, ?4, ?5, ?6, ?7 FROM items WHERE id = ?1 AND state = 0";
        let mut insert = transaction.prepare(sql).doing(action)?;
        tails(&mut |id, tail, is_sampled| {
            let state = if is_sampled { "sampled" } else { "assumed" };
            let Tail { first, page, size, rows, digest } = tail;
            let values = params![id.as_str(), first.0, page.0, size, signed(rows), digest, state];
            Ok(insert.execute(values).doing(action)? > 0)
        })?;
        drop(insert);
        transaction.commit().doing(action)?;
        Ok(self.after(action)?)
    }

    /// Adds the pages that an item's list is assumed to have.
    pub(super) fn add_assumed_pages(
        &self,
        item: ItemIx,
        pages: &mut Vec<(PageNum, Counts)>,
    ) -> Result<(), LedgerError> {
        let sql = "SELECT first, last, size FROM since WHERE item = ?1 AND state = 'assumed'";
        let found = self.row(sql, [item.0], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, u32>(2)?)));
        let Some((first, last, size)): Option<(u32, u32, u32)> = found.optional().doing("find an assumed list")? else {
            return Ok(());
        };
        let rows = usize::try_from(size).unwrap_or(usize::MAX);
        let full = Counts { received: rows, fresh: rows, ..Counts::default() };
        let assumed = (first..last).map(|page| (PageNum(page), full));
        let mut all: std::collections::BTreeMap<PageNum, Counts> = assumed.collect();
        all.extend(pages.drain(..));
        pages.extend(all);
        Ok(())
    }

    /// Decides the lists whose last page has come, or that ended without it. Those that changed are reopened. Returns how many
    /// these are.
    pub(crate) fn decide_assumed(&mut self) -> Result<u64, LedgerError> {
        let sql = "SELECT s.item, s.rows, s.digest, p.keys, p.rejected FROM since s JOIN items i ON i.ix = s.item
                   LEFT JOIN pages p ON p.item = s.item AND p.page = s.last AND p.outdated = 0
                   WHERE s.state = 'assumed' AND i.state = 2 AND (p.item IS NULL OR p.received IS NOT NULL)";
        let repeats = self.repeats_pages()?;
        let decided: Vec<(i64, bool)> = self.rows(sql, [], |row| {
            let (item, rows): (i64, i64) = (row.get(0)?, row.get(1)?);
            let (digest, keys): (Vec<u8>, Option<Vec<u8>>) = (row.get(2)?, row.get(3)?);
            let rejected = row.get::<_, Option<i64>>(4)?.and_then(|rows| u64::try_from(rows).ok());
            let rows = usize::try_from(rows).unwrap_or(usize::MAX / 16);
            // Without its last page, nothing shows that it is as it was.
            let holds = keys.is_some_and(|keys| holds(rows, &digest, &keys, rejected.unwrap_or(1)));
            Ok((item, holds && !repeats))
        })?;
        if decided.is_empty() {
            return Ok(0);
        }
        self.transaction("decide assumed lists", |transaction| {
            transaction.execute("UPDATE export SET completed_at = NULL", [])?;
            let mut set = transaction.prepare("UPDATE since SET state = ?2 WHERE item = ?1")?;
            for (item, holds) in &decided {
                set.execute(params![item, if *holds { "held" } else { "whole" }])?;
                if !holds {
                    read_whole(transaction, *item)?;
                }
            }
            let changed = decided.iter().filter(|(_, holds)| !holds).count();
            Ok(u64::try_from(changed).unwrap_or(u64::MAX))
        })
    }

    /// Has the assumed lists read whole whose last page failed before another page came: the API served then. Returns how many.
    pub(crate) fn give_up_last_pages(&mut self) -> Result<usize, LedgerError> {
        let sql = "UPDATE since SET state = 'whole' WHERE state = 'assumed' AND EXISTS (
                     SELECT 1 FROM attempts WHERE attempts.item = since.item AND page = last AND charge IS NOT NULL
                       AND cause NOT LIKE 'HTTP 429%' AND id < (SELECT max(attempt) FROM pages))
                   AND NOT EXISTS (SELECT 1 FROM pages WHERE pages.item = since.item AND page = last AND outdated = 0)";
        self.write(sql, [], "read lists whole")
    }

    /// The item whose list is held and lacks this page before its last one.
    pub(crate) fn lacks_held_page(&self, id: &ItemId, page: PageNum) -> Result<Option<ItemIx>, LedgerError> {
        let sql = "SELECT ix FROM items JOIN since ON item = ix
                   WHERE id = ?1 AND since.state = 'held' AND first <= ?2 AND last > ?2
                     AND NOT EXISTS (SELECT 1 FROM pages WHERE pages.item = ix AND page = ?2 AND outdated = 0)";
        let found = self.row(sql, params![id.as_str(), page.0], |row| row.get(0).map(ItemIx));
        found.optional().doing("find a held list")
    }

    /// Whether the API shows rows again behind the end of a list: then it may do so for the last page of one that became shorter.
    pub(crate) fn repeats_pages(&self) -> Result<bool, LedgerError> {
        // Rows of a page that was read again are known for another reason.
        let sql = "SELECT EXISTS (SELECT 1 FROM pages JOIN items ON ix = item
                   WHERE received > 0 AND kept = 0 AND again IS NOT NULL AND outdated = 0 AND NOT moved
                     AND NOT EXISTS (SELECT 1 FROM pages AS old WHERE old.item = ix AND old.outdated <> 0))";
        self.value(sql, [], "look for repeated pages")
    }

    /// The last page of the earlier export that an item's list is assumed to have, or held at.
    pub(crate) fn waiting_tail(&self, id: &ItemId) -> Result<Option<(PageNum, [u8; 16])>, LedgerError> {
        let sql = "SELECT last, digest FROM since JOIN items ON ix = item
                   WHERE id = ?1 AND since.state IN ('assumed', 'held')";
        let found = self.row(sql, [id.as_str()], |row| Ok((PageNum(row.get(0)?), row.get(1)?)));
        found.optional().doing("find a waiting list")
    }

    /// How many lists are held.
    pub(crate) fn count_held(&self) -> Result<u64, LedgerError> {
        self.count("SELECT count(*) FROM since WHERE state = 'held'", [], "count held lists")
    }

    /// The held lists have what could be taken over: those with all of it are kept, the others are read whole.
    pub(crate) fn settle_held(&mut self) -> Result<(), LedgerError> {
        let has_all = "last - first = (SELECT count(*) FROM pages
                         WHERE pages.item = since.item AND page >= first AND page < last AND outdated = 0)";
        self.transaction("settle held lists", |transaction| {
            transaction.execute(&format!("UPDATE since SET state = 'kept' WHERE state = 'held' AND {has_all}"), [])?;
            let left = "SELECT item FROM since WHERE state = 'held'";
            let mut left = transaction.prepare(left)?;
            let left = left.query_map([], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?;
            left.iter().try_for_each(|item| read_whole(transaction, *item))?;
            transaction.execute("UPDATE since SET state = 'whole' WHERE state = 'held'", []).map(drop)
        })
    }

    /// Gives up to continue the earlier export: what is not taken over yet is read whole. Returns how many lists.
    pub(crate) fn forget_earlier(&mut self) -> Result<usize, LedgerError> {
        let open = "SELECT item FROM since WHERE state IN ('assumed', 'held')";
        let open = self.rows(open, [], |row| row.get::<_, i64>(0))?;
        if open.is_empty() {
            return Ok(0);
        }
        self.transaction("read lists whole", |transaction| {
            transaction.execute("UPDATE export SET completed_at = NULL", [])?;
            open.iter().try_for_each(|item| read_whole(transaction, *item))?;
            transaction.execute("UPDATE since SET state = 'whole' WHERE state IN ('assumed', 'held')", [])
        })
    }

    /// Sampled lists that were read to their end, and their last pages in the earlier export.
    pub(crate) fn sampled(&self) -> Result<Vec<(ItemIx, ItemId, Tail)>, LedgerError> {
        let sql = format!(
            "SELECT item, id, first, last, size, rows, digest FROM since JOIN items ON ix = item
             WHERE since.state = 'sampled' AND stop IN ({}) ORDER BY item",
            complete()
        );
        self.rows(&sql, [], |row| {
            let rows: i64 = row.get(5)?;
            let tail = Tail {
                first: PageNum(row.get(2)?),
                page: PageNum(row.get(3)?),
                size: row.get(4)?,
                rows: usize::try_from(rows).unwrap_or_default(),
                digest: row.get(6)?,
            };
            Ok((ItemIx(row.get(0)?), ItemId::new(&row.get::<_, String>(1)?), tail))
        })
    }

    /// Notes what a comparison of sampled lists came to: whether each is the same, and whether its last page shows the change.
    pub(crate) fn set_compared(&mut self, compared: &[(ItemIx, bool, bool)]) -> Result<(), LedgerError> {
        self.transaction("note compared lists", |transaction| {
            let mut set = transaction.prepare("UPDATE since SET state = ?2 WHERE item = ?1 AND state = 'sampled'")?;
            compared.iter().try_for_each(|(item, is_same, is_seen)| {
                let state = match (is_same, is_seen) {
                    (true, _) => "same",
                    (false, true) => "seen",
                    (false, false) => "unseen",
                };
                set.execute(params![item.0, state]).map(drop)
            })
        })
    }

    /// Lists that ended and whose earlier pages are not taken over yet: they are not complete.
    pub(super) fn count_not_taken_over(&self) -> Result<u64, LedgerError> {
        let sql = format!(
            "SELECT count(*) FROM since JOIN items ON ix = item
             WHERE since.state IN ('assumed', 'held') AND items.state = 2 AND stop IN ({})",
            complete()
        );
        self.count(&sql, [], "count held lists")
    }

    pub(crate) fn since_counts(&self) -> Result<SinceCounts, LedgerError> {
        let states = ["kept", "whole", "sampled", "same", "seen", "unseen"];
        let states = states.map(|state| format!("count(*) FILTER (WHERE state = '{state}')")).join(", ");
        let sql = format!("SELECT count(*) FILTER (WHERE state IN ('assumed', 'held')), {states} FROM since");
        let counts = self.row(&sql, [], |row| {
            Ok(SinceCounts {
                waiting: unsigned(row, 0)?,
                kept: unsigned(row, 1)?,
                whole: unsigned(row, 2)?,
                sampled: unsigned(row, 3)?,
                same: unsigned(row, 4)?,
                seen: unsigned(row, 5)?,
                unseen: unsigned(row, 6)?,
                ..SinceCounts::default()
            })
        });
        let sql = "SELECT count(*), coalesce(sum(kept), 0) FROM pages WHERE attempt < 0";
        let taken_over = self.row(sql, [], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)));
        let (pages, rows) = taken_over.doing("count pages that were taken over")?;
        Ok(SinceCounts { pages, rows, ..counts.doing("count lists of the earlier export")? })
    }

    /// The first lists that changed though their last pages do not show it.
    pub(crate) fn unseen_changes(&self, limit: usize) -> Result<Vec<String>, LedgerError> {
        let sql = "SELECT id FROM since JOIN items ON ix = item WHERE since.state = 'unseen' ORDER BY ix LIMIT ?1";
        self.rows(sql, [signed(limit)], |row| row.get(0))
    }
}
