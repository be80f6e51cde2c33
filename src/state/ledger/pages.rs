//! The pages of an item and the keys of their rows, as its walk needs them.

use std::collections::HashMap;

use super::{Doing, Ledger, LedgerError};
use crate::model::page::{AttemptId, Counts, ItemIx, PageNum, SegmentId};

impl Ledger {
    /// An item's pages in segments before `segment`, ascending, with what they held; outdated ones are not among them. All of them
    /// must have been read.
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
        // Rows that came more than once belong to the first page that holds them, whichever came first.
        if pages.iter().any(|(_, counts)| counts.fresh < counts.usable()) {
            self.settle_homes(item, before, &mut pages)?;
        }
        Ok(pages)
    }

    fn settle_homes(
        &self,
        item: ItemIx,
        before: SegmentId,
        pages: &mut [(PageNum, Counts)],
    ) -> Result<(), LedgerError> {
        let keys = self.keys(item, before)?;
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

    /// Keys of an item's usable rows on pages of segments before `segment`, each with a page that holds it: on a page first
    /// those that are published, then those that had come before. Rows of outdated pages are on [`PageNum::NONE`].
    pub fn keys(&self, item: ItemIx, before: SegmentId) -> Result<Vec<([u8; 16], PageNum)>, LedgerError> {
        let sql = "SELECT iif(outdated, ?3, page), keys, again FROM pages
                   WHERE item = ?1 AND segment < ?2 AND keys IS NOT NULL";
        let about = [item.0, before.0, PageNum::NONE.0.into()];
        let blobs: Vec<(u32, Vec<u8>, Option<Vec<u8>>)> =
            self.rows(sql, about, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let mut keys = Vec::new();
        for (page, kept, again) in blobs {
            for blob in [kept, again.unwrap_or_default()] {
                keys.extend(blob.as_chunks::<16>().0.iter().map(|key| (*key, PageNum(page))));
            }
        }
        Ok(keys)
    }

    /// When an attempt's page came, as the newest attempt by then, and whether that page is outdated.
    pub fn came(&self, attempt: AttemptId) -> Result<(AttemptId, bool), LedgerError> {
        let sql = "SELECT came, outdated <> 0 FROM pages WHERE attempt = ?1";
        let mut query = self.db.prepare_cached(sql).doing("find a page")?;
        query.query_row([attempt.0], |row| Ok((AttemptId(row.get(0)?), row.get(1)?))).doing("find a page")
    }
}
