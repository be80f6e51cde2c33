//! The tables `segments` and `frames`: a segment's state, the manifest that it publishes, and the extent of its journal. A
//! group commit adds the frames.

use rusqlite::{OptionalExtension, params};

use super::{Doing, Ledger, LedgerError, unsigned};
use crate::model::page::SegmentId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenSegment {
    /// From 1.
    pub id: SegmentId,
    /// How often its files were started, this time included; part of their names.
    pub attempt: i64,
    /// Bytes of its journal file that the ledger names.
    pub journaled: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentRow {
    pub id: SegmentId,
    /// How often its files were started.
    pub attempt: i64,
    pub state: SegmentState,
    /// The manifest that was decided last, to the byte; none while it was never decided.
    pub manifest: Option<String>,
    /// Whether it was decided to remove its journal file, which is gone then, or will be.
    pub is_pruned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentState {
    /// It takes pages.
    Open,
    /// Its manifest is decided and may not be in the output yet.
    Decided,
    /// Its manifest is in the output.
    Published,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentSums {
    /// All of its pages.
    pub pages: u64,
    /// Pages whose rows were not applied yet.
    pub unread: u64,
    /// Rows of the other pages.
    pub received: u64,
    /// Of them, rows to publish.
    pub kept: u64,
    /// Of them, rows that could not be typed.
    pub rejected: u64,
}

impl Ledger {
    /// All segments, in order.
    pub(crate) fn segments(&self) -> Result<Vec<SegmentRow>, LedgerError> {
        self.rows("SELECT id, attempt, state, manifest, pruned IS NOT NULL FROM segments ORDER BY id", [], |row| {
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
                is_pruned: row.get(4)?,
            })
        })
    }

    /// The segment that takes pages, as it is.
    pub fn open_segment(&self) -> Result<Option<OpenSegment>, LedgerError> {
        let row = self.row("SELECT id, attempt FROM segments WHERE state = 'open'", [], |row| {
            Ok((SegmentId(row.get(0)?), row.get(1)?))
        });
        let row = row.optional().doing("find the open segment")?;
        row.map(|(id, attempt)| Ok(OpenSegment { id, attempt, journaled: self.journaled(id)? })).transpose()
    }

    /// Starts the files of the open segment, or of a new one: a new attempt each time, so that no name is used twice.
    pub fn start_segment(&self) -> Result<OpenSegment, LedgerError> {
        let sql = if self.open_segment()?.is_some() {
            "UPDATE segments SET attempt = attempt + 1 WHERE state = 'open'"
        } else {
            "INSERT INTO segments (id, attempt, state) SELECT coalesce(max(id), 0) + 1, 1, 'open' FROM segments"
        };
        self.write(sql, [], "start a segment")?;
        self.open_segment()?.ok_or(rusqlite::Error::QueryReturnedNoRows).doing("start a segment")
    }

    /// Starts the files of a published segment once more, or of a decided one whose files are gone. Its state stays until
    /// [`decide_segment`](Self::decide_segment).
    pub(crate) fn restart_segment(&self, id: SegmentId) -> Result<OpenSegment, LedgerError> {
        let sql = "UPDATE segments SET attempt = attempt + 1 WHERE id = ?1 AND state <> 'open'";
        self.write_one(sql, [id.0], "restart a segment")?;
        let attempt = self.value("SELECT attempt FROM segments WHERE id = ?1", [id.0], "find a segment")?;
        Ok(OpenSegment { id, attempt, journaled: self.journaled(id)? })
    }

    /// Decides what a segment publishes, for the first time or again: exactly the files of this manifest.
    pub(crate) fn decide_segment(&self, segment: SegmentId, manifest: &str) -> Result<(), LedgerError> {
        let sql = "UPDATE segments SET state = 'decided', manifest = ?2 WHERE id = ?1 AND manifest IS NOT ?2";
        self.write_one(sql, params![segment.0, manifest], "decide a segment")
    }

    /// Marks a decided segment whose manifest is in the output.
    pub(crate) fn mark_published(&self, segment: SegmentId) -> Result<(), LedgerError> {
        let sql = "UPDATE segments SET state = 'published' WHERE id = ?1 AND state <> 'published'";
        self.write_one(sql, [segment.0], "mark a published segment")
    }

    /// Puts a published segment back to the moment after its decision.
    #[cfg(test)]
    pub(crate) fn unpublish_for_test(&self, segment: SegmentId, manifest: &str) {
        let sql = "UPDATE segments SET state = 'decided', manifest = ?2 WHERE id = ?1";
        self.db.execute(sql, params![segment.0, manifest]).unwrap();
    }

    /// Whether a segment is known and its manifest is decided.
    pub(crate) fn is_decided(&self, segment: SegmentId) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM segments WHERE id = ?1 AND state <> 'open')";
        self.value(sql, [segment.0], "read a segment's state")
    }

    /// Segments that are decided and not marked as published, with their manifests.
    pub fn decided_segments(&self) -> Result<Vec<(SegmentId, String)>, LedgerError> {
        let sql = "SELECT id, manifest FROM segments WHERE state = 'decided' ORDER BY id";
        self.rows(sql, [], |row| Ok((SegmentId(row.get(0)?), row.get(1)?)))
    }

    /// The highest segment so far; 0 before the first.
    pub(crate) fn last_segment(&self) -> Result<SegmentId, LedgerError> {
        self.value("SELECT coalesce(max(id), 0) FROM segments", [], "find the last segment").map(SegmentId)
    }

    /// Bytes of a segment's journal file that the ledger names.
    pub(crate) fn journaled(&self, segment: SegmentId) -> Result<u64, LedgerError> {
        let sql = "SELECT coalesce(max(offset + length), 0) FROM frames WHERE segment = ?1";
        self.count(sql, [segment.0], "measure a journal")
    }

    /// Offset and length of a segment's frames, in order.
    pub(crate) fn frames(&self, segment: SegmentId) -> Result<Vec<(u64, u64)>, LedgerError> {
        let sql = "SELECT offset, length FROM frames WHERE segment = ?1 ORDER BY offset";
        self.rows(sql, [segment.0], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))
    }

    pub fn segment_sums(&self, segment: SegmentId) -> Result<SegmentSums, LedgerError> {
        let sql = "SELECT count(*), count(*) FILTER (WHERE received IS NULL), coalesce(sum(received), 0),
                     coalesce(sum(kept), 0), coalesce(sum(rejected), 0) FROM pages WHERE segment = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            let at = |column| unsigned(row, column);
            Ok(SegmentSums { pages: at(0)?, unread: at(1)?, received: at(2)?, kept: at(3)?, rejected: at(4)? })
        };
        self.row(sql, [segment.0], read).doing("sum up a segment")
    }
}

#[cfg(test)]
mod tests {
    use super::{OpenSegment, SegmentState};
    use crate::model::page::SegmentId;
    use crate::state::ledger::fixture::ledger;

    #[test]
    fn a_segment_is_started_decided_and_published_and_its_files_get_a_new_attempt_each_time() {
        let (_directory, ledger) = ledger::<&str>(&[]);
        assert_eq!(ledger.start_segment().unwrap(), OpenSegment { id: SegmentId(1), attempt: 1, journaled: 0 });
        assert_eq!(ledger.start_segment().unwrap().attempt, 2);
        ledger.decide_segment(SegmentId(1), "{}").unwrap();
        assert!(ledger.decide_segment(SegmentId(1), "{}").is_err());
        assert_eq!(ledger.decided_segments().unwrap(), [(SegmentId(1), "{}".to_owned())]);
        assert_eq!(ledger.start_segment().unwrap().id, SegmentId(2));
        ledger.mark_published(SegmentId(1)).unwrap();
        assert!(ledger.mark_published(SegmentId(1)).is_err());
    }

    #[test]
    fn a_segment_that_was_decided_can_be_restarted_and_decided_once_more_and_an_open_one_cannot() {
        let (_directory, ledger) = ledger::<&str>(&[]);
        let one = ledger.start_segment().unwrap().id;
        assert!(ledger.restart_segment(one).is_err());
        ledger.decide_segment(one, "first").unwrap();
        ledger.mark_published(one).unwrap();
        assert_eq!(ledger.restart_segment(one).unwrap(), OpenSegment { id: one, attempt: 2, journaled: 0 });
        assert_eq!(ledger.segments().unwrap()[0].state, SegmentState::Published);
        ledger.decide_segment(one, "second").unwrap();
        let state = || {
            let found = ledger.segments().unwrap().remove(0);
            (found.state, found.manifest.unwrap())
        };
        assert_eq!(state(), (SegmentState::Decided, "second".to_owned()));
        assert_eq!(ledger.restart_segment(one).unwrap().attempt, 3);
        assert_eq!(state(), (SegmentState::Decided, "second".to_owned()));
        ledger.decide_segment(one, "third").unwrap();
        assert_eq!(state(), (SegmentState::Decided, "third".to_owned()));
    }

    #[test]
    fn the_state_of_a_segment_has_these_words_in_the_ledger_and_is_read_back() {
        let (_directory, ledger) = ledger::<&str>(&[]);
        let found = || {
            let word: String = ledger.db.query_row("SELECT state FROM segments", [], |row| row.get(0)).unwrap();
            (word, ledger.segments().unwrap()[0].state)
        };
        let segment = ledger.start_segment().unwrap().id;
        assert_eq!(found(), ("open".to_owned(), SegmentState::Open));
        ledger.decide_segment(segment, "{}").unwrap();
        assert_eq!(found(), ("decided".to_owned(), SegmentState::Decided));
        ledger.mark_published(segment).unwrap();
        assert_eq!(found(), ("published".to_owned(), SegmentState::Published));
    }
}
