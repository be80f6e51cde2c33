//! The table `pages`: which pages the journal has, their counts, and the keys of their rows. A group commit writes it.

use std::collections::HashMap;

use rusqlite::OptionalExtension;

use super::{Doing, Ledger, LedgerError, signed, unsigned};
use crate::model::page::{AttemptId, Counts, ItemId, ItemIx, PageNum, SegmentId};

/// A page as `verify` compares it with the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JournaledPage {
    pub id: String,
    pub page: PageNum,
    pub segment: SegmentId,
    /// Rows in the response; none if they were not applied yet.
    pub received: Option<u64>,
}

impl Ledger {
    /// An item's pages in segments before `segment`, ascending, with their counts, without outdated ones. All of them must have
    /// been applied. Where its list is assumed to be as it was in an earlier export, so are the pages before the last one there.
    pub fn pages(&self, item: ItemIx, before: SegmentId) -> Result<Vec<(PageNum, Counts)>, LedgerError> {
        let sql = "SELECT page, received, kept, rejected, is_list, attempt, came FROM pages
                   WHERE item = ?1 AND segment < ?2 AND outdated = 0 ORDER BY page";
        let mut pages = self.rows(sql, [item.0, before.0], |row| {
            let count = |at| row.get::<_, u32>(at).map(|number| usize::try_from(number).unwrap_or(usize::MAX));
            let (received, fresh, rejected) = (count(1)?, count(2)?, count(3)?);
            let (is_list, asked, came) = (row.get(4)?, AttemptId(row.get(5)?), AttemptId(row.get(6)?));
            let counts = Counts { received, fresh, rejected, is_list, asked, came, ..Counts::default() };
            Ok((PageNum(row.get(0)?), counts))
        })?;
        if pages.iter().any(|(_, counts)| counts.fresh < counts.usable()) {
            self.assign_homes(item, before, &mut pages)?;
        }
        self.add_assumed_pages(item, &mut pages)?;
        Ok(pages)
    }

    /// Counts each row at the first page that has it, whichever page arrived first.
    fn assign_homes(
        &self,
        item: ItemIx,
        before: SegmentId,
        pages: &mut [(PageNum, Counts)],
    ) -> Result<(), LedgerError> {
        let keys = self.row_keys(item, before)?;
        let mut homes = HashMap::new();
        for (key, page) in &keys {
            homes.entry(*key).and_modify(|home: &mut PageNum| *home = (*page).min(*home)).or_insert(*page);
        }
        let mut fresh: HashMap<PageNum, usize> = HashMap::new();
        for home in homes.values() {
            *fresh.entry(*home).or_default() += 1;
        }
        for (page, counts) in pages.iter_mut() {
            counts.fresh = fresh.get(page).copied().unwrap_or_default();
        }
        let mut pages: HashMap<PageNum, &mut Counts> = pages.iter_mut().map(|(page, counts)| (*page, counts)).collect();
        for (key, page) in &keys {
            if let (Some(home), Some(counts)) = (homes.get(key).filter(|home| *home < page), pages.get_mut(page)) {
                counts.repeat(*home);
            }
        }
        Ok(())
    }

    /// Keys of an item's usable rows in segments before `segment`, each with a page that has it: of a page first the rows that
    /// are published, then those that had come before. Rows of outdated pages are on [`PageNum::NONE`].
    pub fn row_keys(&self, item: ItemIx, before: SegmentId) -> Result<Vec<([u8; 16], PageNum)>, LedgerError> {
        let sql = "SELECT iif(outdated, ?3, page), keys, again FROM pages
                   WHERE item = ?1 AND segment < ?2 AND keys IS NOT NULL";
        let params = [item.0, before.0, PageNum::NONE.0.into()];
        let blobs: Vec<(u32, Vec<u8>, Option<Vec<u8>>)> =
            self.rows(sql, params, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let mut keys = Vec::new();
        for (page, kept, again) in blobs {
            for blob in [kept, again.unwrap_or_default()] {
                keys.extend(blob.as_chunks::<16>().0.iter().map(|key| (*key, PageNum(page))));
            }
        }
        Ok(keys)
    }

    /// Calls `visit` with each item's id, and segment and keys of each of its pages.
    pub(crate) fn for_each_key(
        &self,
        mut visit: impl FnMut(&str, &[(SegmentId, Vec<[u8; 16]>)]),
    ) -> Result<(), LedgerError> {
        let sql = "SELECT i.id, p.segment, p.keys FROM pages p JOIN items i ON i.ix = p.item
                   WHERE p.keys IS NOT NULL ORDER BY p.item, p.page";
        let mut query = self.db.prepare(sql).doing("list the keys")?;
        let mut rows = query.query([]).doing("list the keys")?;
        let (mut item, mut pages) = (String::new(), Vec::new());
        while let Some(row) = rows.next().doing("list the keys")? {
            let (id, segment, keys): (String, i64, Vec<u8>) =
                (row.get(0).doing("read keys")?, row.get(1).doing("read keys")?, row.get(2).doing("read keys")?);
            if id != item {
                visit(&item, &pages);
                (item, pages) = (id, Vec::new());
            }
            pages.push((SegmentId(segment), keys.as_chunks::<16>().0.to_vec()));
        }
        visit(&item, &pages);
        Ok(())
    }

    /// Whether the journal has a page of an item that is not outdated.
    pub(crate) fn has_page(&self, item: ItemIx, page: PageNum) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM pages WHERE item = ?1 AND page = ?2 AND outdated = 0)";
        self.value(sql, [item.0, page.0.into()], "find a page")
    }

    pub(crate) fn page_of_attempt(&self, attempt: AttemptId) -> Result<Option<JournaledPage>, LedgerError> {
        let sql = "SELECT i.id, p.page, p.segment, p.received FROM pages p JOIN items i ON i.ix = p.item
                   WHERE p.attempt = ?1";
        let found = self.row(sql, [attempt.0], |row| {
            let received: Option<i64> = row.get(3)?;
            Ok(JournaledPage {
                id: row.get(0)?,
                page: PageNum(row.get(1)?),
                segment: SegmentId(row.get(2)?),
                received: received.map(|rows| u64::try_from(rows).unwrap_or_default()),
            })
        });
        found.optional().doing("find a page")
    }

    /// The newest attempt when an attempt's page arrived, and whether that page is outdated.
    pub(crate) fn arrival(&self, attempt: AttemptId) -> Result<(AttemptId, bool), LedgerError> {
        let sql = "SELECT came, outdated <> 0 FROM pages WHERE attempt = ?1";
        self.row(sql, [attempt.0], |row| Ok((AttemptId(row.get(0)?), row.get(1)?))).doing("find a page")
    }

    /// How many pages of an item are in a segment, and whether later segments have more of them.
    pub(crate) fn pages_from(&self, item: ItemIx, segment: SegmentId) -> Result<(usize, bool), LedgerError> {
        let sql = "SELECT count(*) FILTER (WHERE segment = ?2), count(*) FILTER (WHERE segment > ?2)
                   FROM pages WHERE item = ?1 AND segment >= ?2";
        let counts = self.row(sql, [item.0, segment.0], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)));
        let (here, later) = counts.doing("count pages")?;
        Ok((usize::try_from(here).unwrap_or(usize::MAX), later > 0))
    }

    pub(crate) fn has_unpublished_pages(&self) -> Result<bool, LedgerError> {
        let sql =
            "SELECT EXISTS (SELECT 1 FROM pages WHERE segment IN (SELECT id FROM segments WHERE state <> 'published'))";
        self.value(sql, [], "look for unpublished pages")
    }

    /// Whether a list of rows ever came without a row.
    pub(crate) fn has_empty_list(&self) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM pages WHERE received = 0 AND is_list)";
        self.value(sql, [], "look for an empty list")
    }

    /// Rows of the largest page.
    pub fn largest_page(&self) -> Result<u32, LedgerError> {
        self.value("SELECT coalesce(max(received), 0) FROM pages", [], "find the largest page")
    }

    /// Pages that were requested again because their lists moved; without those of a repair, which starts with the first page
    /// or with empty ones.
    pub(crate) fn pages_read_again(&self, first: PageNum) -> Result<u64, LedgerError> {
        let sql = "SELECT count(*) FROM pages AS old WHERE outdated <> 0 AND received > 0 AND NOT EXISTS (
                     SELECT 1 FROM pages WHERE item = old.item AND page = ?1 AND outdated <> 0)
                     AND item NOT IN (SELECT item FROM since WHERE state = 'whole')";
        self.count(sql, [first.0], "count outdated pages")
    }

    /// The items whose lists have at least `least` rows, and how many.
    pub(crate) fn list_sizes(&self, least: u64) -> Result<Vec<(ItemId, u64)>, LedgerError> {
        let sql = "SELECT id, sum(received) AS rows FROM pages JOIN items ON item = ix WHERE outdated = 0
                   GROUP BY item HAVING rows >= ?1";
        self.rows(sql, [signed(least)], |row| Ok((ItemId::new(&row.get::<_, String>(0)?), unsigned(row, 1)?)))
    }
}
