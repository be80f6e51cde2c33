//! What a rebuild asks of the ledger: what is published, a new attempt at it, and the walks that another reading revives.

use rusqlite::OptionalExtension;

use super::{Doing, Ledger, LedgerError, OpenSegment};
use crate::model::page::{ItemIx, SegmentId};

/// A segment as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRow {
    /// Its number.
    pub id: SegmentId,
    /// How often its files were begun.
    pub attempt: i64,
    /// How far it is.
    pub state: SegmentState,
    /// What was decided last to publish, to the byte; none while it was never decided.
    pub manifest: Option<String>,
}

/// How far a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// It takes pages.
    Open,
    /// What it publishes is decided and may not be done yet.
    Decided,
    /// Its manifest is there.
    Published,
}

impl Ledger {
    /// All segments, in order.
    pub fn segments(&self) -> Result<Vec<SegmentRow>, LedgerError> {
        self.rows("SELECT id, attempt, state, manifest FROM segments ORDER BY id", [], |row| {
            let state: String = row.get(2)?;
            Ok(SegmentRow {
                id: SegmentId(row.get(0)?),
                attempt: row.get(1)?,
                state: match state.as_str() {
                    "open" => SegmentState::Open,
                    "decided" => SegmentState::Decided,
                    _ => SegmentState::Published,
                },
                manifest: row.get(3)?,
            })
        })
    }

    /// Bytes of a segment's journal file that the ledger names.
    pub fn journaled(&self, segment: SegmentId) -> Result<u64, LedgerError> {
        let sql = "SELECT coalesce(max(offset + length), 0) FROM frames WHERE segment = ?1";
        let bytes: i64 = self.db.query_row(sql, [segment.0], |row| row.get(0)).doing("measure a journal")?;
        Ok(u64::try_from(bytes).unwrap_or_default())
    }

    /// Begins the files of a published segment once more, or of a decided one whose files are gone. It stays what it is until
    /// [`decide`](Self::decide).
    pub fn begin_again(&self, segment: SegmentId) -> Result<OpenSegment, LedgerError> {
        let sql = "UPDATE segments SET attempt = attempt + 1 WHERE id = ?1 AND state <> 'open'";
        self.exactly_one(sql, [segment.0], "begin a segment again")?;
        let sql = "SELECT attempt FROM segments WHERE id = ?1";
        let attempt = self.db.query_row(sql, [segment.0], |row| row.get(0)).doing("find a segment")?;
        Ok(OpenSegment { id: segment, attempt, journaled: self.journaled(segment)? })
    }

    /// How many pages of an item are in a segment, and whether later segments have more of them.
    pub fn pages_from(&self, item: ItemIx, segment: SegmentId) -> Result<(usize, bool), LedgerError> {
        let sql = "SELECT count(*) FILTER (WHERE segment = ?2), count(*) FILTER (WHERE segment > ?2)
                   FROM pages WHERE item = ?1 AND segment >= ?2";
        let mut query = self.db.prepare_cached(sql).doing("count pages")?;
        let counts: Option<(i64, i64)> = query
            .query_row([item.0, segment.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .doing("count pages")?;
        let (here, later) = counts.unwrap_or_default();
        Ok((usize::try_from(here).unwrap_or_default(), later > 0))
    }

    /// Opens the walks again that ended as rejected and whose last page has usable rows by now. Gives how many.
    pub fn revive_rejected(&self) -> Result<usize, LedgerError> {
        let sql = "UPDATE items SET state = 1, stop = NULL, error = NULL, transient = 0
                   WHERE state = 2 AND stop = 'rejected' AND EXISTS (
                     SELECT 1 FROM pages WHERE item = items.ix AND received > rejected AND outdated = 0
                       AND page = (SELECT max(page) FROM pages
                                   WHERE item = items.ix AND received > 0 AND outdated = 0))";
        self.write(sql, [], "open rejected items again")
    }
}

#[cfg(test)]
mod tests {
    use super::SegmentState;
    use crate::model::clock::Utc64;
    use crate::model::page::{AttemptId, ItemId, ItemIx, PageNum, SegmentId, StopReason};
    use crate::state::ledger::{EndRow, Group, Ledger, LedgerError, OpenSegment, PageRow, ReadRow};

    fn ledger() -> (tempfile::TempDir, Ledger) {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(&directory.path().join("ledger.sqlite")).unwrap();
        ledger.add_items(["a", "b"].map(|id| Ok::<_, LedgerError>(ItemId::new(id))).into_iter()).unwrap();
        (directory, ledger)
    }

    #[test]
    fn a_segment_that_was_decided_can_be_begun_again_and_decided_once_more_and_an_open_one_cannot() {
        let (_directory, ledger) = ledger();
        let one = ledger.begin_segment().unwrap().id;
        assert!(ledger.begin_again(one).is_err());
        ledger.decide(one, "first").unwrap();
        ledger.published(one).unwrap();
        assert_eq!(ledger.begin_again(one).unwrap(), OpenSegment { id: one, attempt: 2, journaled: 0 });
        assert_eq!(ledger.segments().unwrap()[0].state, SegmentState::Published);
        ledger.decide(one, "second").unwrap();
        let state = || {
            let found = ledger.segments().unwrap().remove(0);
            (found.state, found.manifest.unwrap())
        };
        assert_eq!(state(), (SegmentState::Decided, "second".to_owned()));
        assert_eq!(ledger.begin_again(one).unwrap().attempt, 3);
        assert_eq!(state(), (SegmentState::Decided, "second".to_owned()));
        ledger.decide(one, "third").unwrap();
        assert_eq!(state(), (SegmentState::Decided, "third".to_owned()));
    }

    #[test]
    fn a_rejected_walk_is_opened_again_when_its_last_page_has_usable_rows() {
        let (_directory, mut ledger) = ledger();
        ledger.begin_segment().unwrap();
        let pages = (1..=4).map(|n| {
            let (attempt, item) = (AttemptId(i64::from(n)), ItemIx(i64::from(n + 1) / 2));
            PageRow { attempt, item, page: PageNum(n), at: Utc64(1) }
        });
        let end = |item| EndRow::new(ItemIx(item), StopReason::Rejected);
        let read = |attempt: i64, item, rejected| ReadRow {
            attempt: AttemptId(attempt),
            item: ItemIx(item),
            received: 3,
            rejected,
            is_list: true,
            keys: Vec::new(),
            again: Vec::new(),
        };
        let frame = Some((SegmentId(1), 0, 10));
        let read_first = vec![read(1, 1, 2), read(2, 1, 3), read(3, 2, 3), read(4, 2, 3)];
        let group = Group { frame, pages: pages.collect(), read: read_first, ..Group::default() };
        ledger.commit(&group, Utc64(1)).unwrap();
        ledger.commit(&Group { ended: vec![end(1), end(2)], ..Group::default() }, Utc64(1)).unwrap();
        assert_eq!(ledger.revive_rejected().unwrap(), 0);
        ledger.commit(&Group { read: vec![read(4, 2, 0)], ..Group::default() }, Utc64(1)).unwrap();
        assert_eq!(ledger.revive_rejected().unwrap(), 1);
        assert_eq!(ledger.walking(ItemIx(0), &std::collections::BTreeSet::new(), 9).unwrap()[0].item, ItemIx(2));
        assert_eq!(ledger.pages_from(ItemIx(1), SegmentId(1)).unwrap(), (2, false));
        assert_eq!(ledger.pages_from(ItemIx(1), SegmentId(0)).unwrap(), (0, true));
    }

    #[test]
    fn how_far_a_segment_is_stands_in_the_ledger_in_the_words_that_are_read_back() {
        let (_folder, ledger) = ledger();
        let found = || {
            let word: String = ledger.db.query_row("SELECT state FROM segments", [], |row| row.get(0)).unwrap();
            (word, ledger.segments().unwrap()[0].state)
        };
        let segment = ledger.begin_segment().unwrap().id;
        assert_eq!(found(), ("open".to_owned(), SegmentState::Open));
        ledger.decide(segment, "{}").unwrap();
        assert_eq!(found(), ("decided".to_owned(), SegmentState::Decided));
        ledger.published(segment).unwrap();
        assert_eq!(found(), ("published".to_owned(), SegmentState::Published));
    }
}
