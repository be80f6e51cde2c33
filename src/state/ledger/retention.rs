//! What the journal is still needed for, and the note that a segment does without its file. Statements over segments, pages and
//! attempts.

use std::collections::BTreeSet;

use rusqlite::params;

use super::{Ledger, LedgerError};
use crate::model::clock::Utc64;
use crate::model::page::SegmentId;

impl Ledger {
    /// Notes that a published segment does without its journal file, before the file is removed. A file that is missing without
    /// this note is damage.
    pub(crate) fn note_pruned(&self, segment: SegmentId, at: Utc64) -> Result<(), LedgerError> {
        let sql = "UPDATE segments SET pruned = ?2 WHERE id = ?1 AND state = 'published' AND pruned IS NULL";
        self.write_one(sql, params![segment.0, at.0], "note a pruned segment")
    }

    /// Segments with a page whose rows are not applied.
    pub(crate) fn segments_with_waiting_pages(&self) -> Result<BTreeSet<SegmentId>, LedgerError> {
        self.segment_set("SELECT DISTINCT segment FROM pages WHERE received IS NULL")
    }

    /// Segments whose journals have a response that may become a page, of a page that is missing.
    pub(crate) fn segments_with_possible_pages(&self) -> Result<BTreeSet<SegmentId>, LedgerError> {
        self.segment_set(
            "SELECT DISTINCT rows_in FROM attempts AS asked WHERE rows_in IS NOT NULL AND NOT EXISTS (
               SELECT 1 FROM pages WHERE item = asked.item AND page = asked.page AND outdated = 0)",
        )
    }

    fn segment_set(&self, sql: &str) -> Result<BTreeSet<SegmentId>, LedgerError> {
        Ok(self.rows(sql, [], |row| row.get(0).map(SegmentId))?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::model::clock::Utc64;
    use crate::model::page::{AttemptId, Charge, SegmentId};
    use crate::state::ledger::fixture::{applied, ledger, page, request};
    use crate::state::ledger::{FailedRow, Group};

    #[test]
    fn a_segment_is_noted_as_pruned_once_and_only_while_it_is_published_and_is_never_decided_again() {
        let (_directory, ledger) = ledger::<&str>(&[]);
        let segment = ledger.start_segment().unwrap().id;
        let is_pruned = || ledger.segments().unwrap()[0].is_pruned;
        assert!(ledger.note_pruned(segment, Utc64(5)).is_err(), "it is open");
        ledger.decide_segment(segment, "{}").unwrap();
        assert!(ledger.note_pruned(segment, Utc64(5)).is_err(), "it is decided only");
        ledger.mark_published(segment).unwrap();
        assert!(!is_pruned());
        ledger.note_pruned(segment, Utc64(5)).unwrap();
        assert!(is_pruned() && ledger.note_pruned(segment, Utc64(6)).is_err());
        assert!(ledger.decide_segment(segment, "other").is_err(), "its rows cannot be read again");
        assert!(is_pruned());
    }

    #[test]
    fn a_journal_is_needed_for_pages_that_wait_and_for_responses_with_rows_whose_page_is_missing() {
        let (_directory, mut ledger) = ledger(&["a", "b", "c"]);
        let segment = ledger.start_segment().unwrap().id;
        assert_eq!(segment, SegmentId(1));
        let needed = |ledger: &super::Ledger| {
            let sets = [ledger.segments_with_waiting_pages(), ledger.segments_with_possible_pages()];
            sets.map(|set| !set.unwrap().is_empty())
        };
        let failed = |attempt, may_become_page| FailedRow {
            attempt: AttemptId(attempt),
            charge: Charge::Free,
            cause: String::new(),
            may_become_page,
        };
        let intents = vec![request(1, 1), request(2, 2), request(3, 3)];
        ledger.commit(&Group { intents, ..Group::default() }, Utc64(1)).unwrap();
        let frame = |offset| Some((segment, offset, 10));
        let group =
            Group { frame: frame(0), pages: vec![page(1, 1, 1)], failed: vec![failed(2, false)], ..Group::default() };
        ledger.commit(&group, Utc64(1)).unwrap();
        assert_eq!(needed(&ledger), [true, false]);
        ledger.commit(&Group { applied: vec![applied(1, 1, 4, 1)], ..Group::default() }, Utc64(1)).unwrap();
        assert_eq!(needed(&ledger), [false, false]);
        ledger
            .commit(&Group { frame: frame(10), failed: vec![failed(3, true)], ..Group::default() }, Utc64(1))
            .unwrap();
        assert_eq!(needed(&ledger), [false, true]);
        let (pages, applied) = (vec![page(4, 3, 1)], vec![applied(4, 3, 2, 0)]);
        ledger.commit(&Group { frame: frame(20), pages, applied, ..Group::default() }, Utc64(1)).unwrap();
        assert_eq!(needed(&ledger), [false, false], "the page came in another attempt");
    }
}
