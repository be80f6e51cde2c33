//! A group commit: the one transaction that adds pages, attempts and frames, and changes the states of items.

use rusqlite::{Connection, params};

use super::{Ledger, LedgerError, Timeline, drift, series, signed};
use crate::decode::PageDrift;
use crate::model::clock::Utc64;
use crate::model::page::{AttemptId, Charge, ItemIx, PageNum, Request, SegmentId, StopReason};

#[derive(Debug, Default)]
pub struct Group {
    /// The journal frame of the responses of `pages`: segment, offset, length.
    pub frame: Option<(SegmentId, u64, u64)>,
    /// Pages in that frame.
    pub pages: Vec<PageRow>,
    pub failed: Vec<FailedRow>,
    pub unsent: Vec<AttemptId>,
    pub applied: Vec<AppliedRow>,
    pub drift: PageDrift,
    /// The segment whose pages were all applied again: its counts of drift are replaced, not added to.
    pub reapplied: Option<SegmentId>,
    pub ended: Vec<EndRow>,
    /// Walks that had ended and continue.
    pub reopened: Vec<ItemIx>,
    /// Failures of an item's first missing page that were proven to be its own, and runs that ended without a proof.
    pub tries: Vec<RetryRow>,
    pub intents: Vec<Request>,
    /// The newest request, these included.
    pub newest: AttemptId,
    /// Pages that must be read again: their lists have moved since.
    pub outdated: Vec<(ItemIx, PageNum)>,
    /// What is to be kept of the run's timeline. It is written with the rest, and alone is no reason to commit.
    pub timeline: Timeline,
}

impl Group {
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
            && self.failed.is_empty()
            && self.unsent.is_empty()
            && self.applied.is_empty()
            && self.ended.is_empty()
            && self.reopened.is_empty()
            && self.tries.is_empty()
            && self.intents.is_empty()
            && self.outdated.is_empty()
    }
}

#[derive(Clone, Copy, Debug)]
pub struct PageRow {
    pub attempt: AttemptId,
    pub item: ItemIx,
    pub page: PageNum,
    /// When the response was whole.
    pub at: Utc64,
}

#[derive(Clone, Debug)]
pub struct FailedRow {
    /// It has a row by its intent.
    pub attempt: AttemptId,
    /// Free or in doubt.
    pub charge: Charge,
    /// Sanitised.
    pub cause: String,
    /// Whether the group's frame has a response to it that other success codes make a page.
    pub may_become_page: bool,
}

#[derive(Clone, Debug)]
pub struct AppliedRow {
    pub attempt: AttemptId,
    pub item: ItemIx,
    pub received: usize,
    pub rejected: usize,
    /// False for a success whose data was null, `{}`, `""` or false.
    pub is_list: bool,
    /// Keys of the rows that are published.
    pub keys: Vec<[u8; 16]>,
    /// Keys of the usable rows that had come before in the walk.
    pub again: Vec<[u8; 16]>,
}

/// How often an item's first missing page has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryRow {
    pub item: ItemIx,
    /// Failures that were proven to be its own.
    pub tries: u32,
    /// Runs in which it had all its tries and nothing showed whose fault they were.
    pub unproven: u32,
}

#[derive(Clone, Debug)]
pub struct EndRow {
    pub item: ItemIx,
    pub stop: StopReason,
    /// Sanitised.
    pub error: Option<String>,
    /// Whether another run may succeed.
    pub transient: bool,
    pub is_moved: bool,
}

impl EndRow {
    /// An end without an error.
    pub fn new(item: ItemIx, stop: StopReason) -> Self {
        Self { item, stop, error: None, transient: false, is_moved: false }
    }

    /// An item that fails, and would in another run.
    pub fn failed(item: ItemIx, message: String) -> Self {
        Self { error: Some(message), ..Self::new(item, StopReason::Failed) }
    }
}

impl Ledger {
    /// Writes all of a group or nothing, durably.
    pub fn commit(&mut self, group: &Group, now: Utc64) -> Result<(), LedgerError> {
        self.transaction("commit a group", |transaction| {
            write_pages(transaction, group)?;
            write_items(transaction, group)?;
            write_intents(transaction, group, now)?;
            series::write(transaction, &group.timeline)?;
            drift::write(transaction, &group.drift, group.reapplied)
        })
    }
}

/// Pages with their frame, and attempts that ended without one.
fn write_pages(transaction: &Connection, group: &Group) -> rusqlite::Result<()> {
    let segment = group.frame.map_or(0, |(segment, _, _)| segment.0);
    if let Some((segment, offset, length)) = group.frame {
        // A decided segment publishes exactly its files: a page that came into it later would be lost.
        let sql = "INSERT INTO frames (segment, offset, length)
                   SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM segments WHERE id = ?1 AND state = 'open')";
        let inserted = transaction.prepare_cached(sql)?.execute(params![segment.0, signed(offset), signed(length)])?;
        if inserted != 1 {
            return Err(rusqlite::Error::StatementChangedRows(inserted));
        }
    }
    let sql = "INSERT INTO pages (attempt, item, page, segment, at, came) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let mut insert = transaction.prepare_cached(sql)?;
    let mut delete = transaction.prepare_cached("DELETE FROM attempts WHERE id = ?1")?;
    for page in &group.pages {
        // A page that was taken over came before every request.
        let came = if page.attempt.is_taken_over() { page.attempt } else { group.newest.max(page.attempt) };
        let came = came.0;
        insert.execute(params![page.attempt.0, page.item.0, page.page.0, segment, page.at.0, came])?;
        delete.execute([page.attempt.0])?;
    }
    for attempt in &group.unsent {
        delete.execute([attempt.0])?;
    }
    let sql = "UPDATE attempts SET charge = ?2, cause = ?3, rows_in = ?4 WHERE id = ?1";
    let mut fail = transaction.prepare_cached(sql)?;
    for failed in &group.failed {
        let rows_in = Some(segment).filter(|_| failed.may_become_page);
        fail.execute(params![failed.attempt.0, failed.charge.as_str(), failed.cause, rows_in])?;
    }
    Ok(())
}

/// Counts and keys of applied pages, and the states of their items.
fn write_items(transaction: &Connection, group: &Group) -> rusqlite::Result<()> {
    let sql = "UPDATE pages SET received = ?2, kept = ?3, rejected = ?4, keys = ?5, again = ?6, is_list = ?7
               WHERE attempt = ?1";
    let mut apply = transaction.prepare_cached(sql)?;
    let mut walk = transaction.prepare_cached("UPDATE items SET state = 1 WHERE ix = ?1 AND state = 0")?;
    for row in &group.applied {
        let (received, kept, rejected) = (signed(row.received), signed(row.keys.len()), signed(row.rejected));
        let again = Some(row.again.as_flattened()).filter(|again| !again.is_empty());
        let keys = row.keys.as_flattened();
        apply.execute(params![row.attempt.0, received, kept, rejected, keys, again, row.is_list])?;
        walk.execute([row.item.0])?;
    }
    let sql = "UPDATE pages SET outdated = attempt WHERE item = ?1 AND page = ?2 AND outdated = 0";
    let mut outdate = transaction.prepare_cached(sql)?;
    let mut move_list = transaction.prepare_cached("UPDATE items SET moved = 1 WHERE ix = ?1 AND moved = 0")?;
    for (item, page) in &group.outdated {
        outdate.execute([item.0, page.0.into()])?;
        move_list.execute([item.0])?;
    }
    let mut reopen = transaction.prepare_cached(
        "UPDATE items SET state = 1, stop = NULL, error = NULL, transient = 0
         WHERE ix = ?1 AND state = 2 AND stop NOT IN ('failed', 'shifted', 'end_refused', 'page_cap')",
    )?;
    for item in &group.reopened {
        reopen.execute([item.0])?;
    }
    let sql = "UPDATE items SET state = 2, stop = ?2, error = ?3, transient = ?4, moved = moved OR ?5 WHERE ix = ?1";
    let mut end = transaction.prepare_cached(sql)?;
    for ended in &group.ended {
        let (stop, error) = (ended.stop.as_str(), &ended.error);
        end.execute(params![ended.item.0, stop, error, ended.transient, ended.is_moved])?;
    }
    let mut retry = transaction.prepare_cached("UPDATE items SET tries = ?2, unproven = ?3 WHERE ix = ?1")?;
    for row in &group.tries {
        retry.execute(params![row.item.0, row.tries, row.unproven])?;
    }
    Ok(())
}

fn write_intents(transaction: &Connection, group: &Group, now: Utc64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO attempts (id, item, page, at) VALUES (?1, ?2, ?3, ?4)";
    let mut insert = transaction.prepare_cached(sql)?;
    for request in &group.intents {
        insert.execute(params![request.attempt.0, request.item.0, request.page.0, now.0])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Group;
    use crate::model::clock::Utc64;
    use crate::model::page::{AttemptId, SegmentId};
    use crate::state::ledger::fixture::{ledger, page, request};

    #[test]
    fn the_same_page_cannot_be_journaled_twice_and_then_nothing_of_the_group_is_written() {
        let (_directory, mut ledger) = ledger(&["a"]);
        ledger.start_segment().unwrap();
        let group = |offset, intents| {
            let frame = Some((SegmentId(1), offset, 10));
            Group { frame, pages: vec![page(1, 1, 1)], intents, ..Group::default() }
        };
        ledger.commit(&group(0, Vec::new()), Utc64(2)).unwrap();
        assert!(ledger.commit(&group(10, vec![request(9, 1)]), Utc64(3)).is_err());
        assert_eq!((ledger.credits().unwrap().billed, ledger.last_attempt().unwrap()), (1, AttemptId(1)));
    }

    #[test]
    fn a_decided_segment_takes_no_more_pages() {
        let (_directory, mut ledger) = ledger(&["a"]);
        let segment = ledger.start_segment().unwrap().id;
        ledger.decide_segment(segment, "{}").unwrap();
        let late = Group { frame: Some((segment, 0, 10)), pages: vec![page(1, 1, 1)], ..Group::default() };
        assert!(ledger.commit(&late, Utc64(2)).is_err());
        assert_eq!(ledger.totals().unwrap().pages, 0);
    }
}
