//! A group and its transaction: everything that becomes true together, or not at all.

use rusqlite::{Connection, params};

use super::drift::{self, Seen};
use crate::decode::PageDrift;
use crate::model::clock::Utc64;
use crate::model::page::{AttemptId, Charge, ItemIx, PageNum, Request, SegmentId, StopReason};

/// One group: everything that becomes true together.
#[derive(Debug, Default)]
pub struct Group {
    /// The journal frame that holds the answers of `pages`: segment, offset, length.
    pub frame: Option<(SegmentId, u64, u64)>,
    /// Answers that are pages.
    pub pages: Vec<PageRow>,
    /// Attempts that ended as no page.
    pub failed: Vec<FailedRow>,
    /// Attempts that never left.
    pub unsent: Vec<AttemptId>,
    /// Pages that were read.
    pub read: Vec<ReadRow>,
    /// Where rows of those pages differ from the description.
    pub drift: PageDrift,
    /// The segment whose pages were all read again: its counts of drift are replaced, not added to.
    pub read_again: Option<SegmentId>,
    /// Walks that ended.
    pub ended: Vec<EndRow>,
    /// Walks that had ended and go on.
    pub opened: Vec<ItemIx>,
    /// Failures of an item's first missing page that were proven to be its own, and runs that ended without a proof.
    pub tries: Vec<RetryRow>,
    /// Requests about to be sent.
    pub intents: Vec<Request>,
    /// The newest request, these included.
    pub newest: AttemptId,
    /// Pages that are to be read again: their lists have moved since they were.
    pub outdated: Vec<(ItemIx, PageNum)>,
}

impl Group {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
            && self.failed.is_empty()
            && self.unsent.is_empty()
            && self.read.is_empty()
            && self.ended.is_empty()
            && self.opened.is_empty()
            && self.tries.is_empty()
            && self.intents.is_empty()
            && self.outdated.is_empty()
    }
}

/// A page in the journal.
#[derive(Clone, Copy, Debug)]
pub struct PageRow {
    /// The attempt that it answered.
    pub attempt: AttemptId,
    /// Its item.
    pub item: ItemIx,
    /// Its number.
    pub page: PageNum,
    /// When the answer was whole.
    pub at: Utc64,
}

/// An attempt that ended as no page.
#[derive(Clone, Debug)]
pub struct FailedRow {
    /// The attempt.
    pub attempt: AttemptId,
    /// What it cost: free or in doubt.
    pub charge: Charge,
    /// Why it failed, sanitised.
    pub cause: String,
}

/// A page that was read.
#[derive(Clone, Debug)]
pub struct ReadRow {
    /// The attempt that it answered.
    pub attempt: AttemptId,
    /// Its item.
    pub item: ItemIx,
    /// Entries of its list.
    pub received: usize,
    /// Rows that could not be typed.
    pub rejected: usize,
    /// Whether they came as a list; false for a success whose data was null, `{}`, `""` or false.
    pub is_list: bool,
    /// Keys of the rows that are published.
    pub keys: Vec<[u8; 16]>,
    /// Keys of the usable rows that had come before in the walk.
    pub again: Vec<[u8; 16]>,
}

/// How often an item's first missing page has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryRow {
    /// The item.
    pub item: ItemIx,
    /// Failures that were proven to be its own.
    pub tries: u32,
    /// Runs in which it had all its tries and nothing showed whose fault they were.
    pub unproven: u32,
}

/// A walk that ended.
#[derive(Clone, Debug)]
pub struct EndRow {
    /// Its item.
    pub item: ItemIx,
    /// Why.
    pub stop: StopReason,
    /// What was said, sanitised.
    pub error: Option<String>,
    /// Whether another run may fare better.
    pub transient: bool,
    /// Whether the list moved while it was read.
    pub is_moved: bool,
}

impl EndRow {
    /// An end of which nothing is to be said.
    pub fn new(item: ItemIx, stop: StopReason) -> Self {
        Self { item, stop, error: None, transient: false, is_moved: false }
    }

    /// An item that fails for good.
    pub fn failed(item: ItemIx, message: String) -> Self {
        Self { error: Some(message), ..Self::new(item, StopReason::Failed) }
    }
}

pub(super) fn write(db: &mut Connection, group: &Group, now: Utc64, seen: &mut Seen) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    write_pages(&transaction, group)?;
    write_walks(&transaction, group, now)?;
    let now_seen = drift::write(&transaction, &group.drift, group.read_again, seen)?;
    transaction.commit()?;
    seen.add(now_seen);
    Ok(())
}

/// Pages that came, with their frame, and requests that failed.
fn write_pages(transaction: &Connection, group: &Group) -> rusqlite::Result<()> {
    let segment = group.frame.map_or(0, |(segment, _, _)| segment.0);
    if let Some((segment, offset, length)) = group.frame {
        let as_sql = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        // A segment that is decided publishes exactly its files: a page that came into it later would be lost.
        let sql = "INSERT INTO frames (segment, offset, length)
                   SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM segments WHERE id = ?1 AND state = 'open')";
        let inserted = transaction.prepare_cached(sql)?.execute(params![segment.0, as_sql(offset), as_sql(length)])?;
        if inserted != 1 {
            return Err(rusqlite::Error::StatementChangedRows(inserted));
        }
    }
    {
        let sql = "INSERT INTO pages (attempt, item, page, segment, at, came) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let mut insert = transaction.prepare_cached(sql)?;
        let mut forget = transaction.prepare_cached("DELETE FROM attempts WHERE id = ?1")?;
        for page in &group.pages {
            let came = group.newest.max(page.attempt).0;
            insert.execute(params![page.attempt.0, page.item.0, page.page.0, segment, page.at.0, came])?;
            forget.execute([page.attempt.0])?;
        }
        for attempt in &group.unsent {
            forget.execute([attempt.0])?;
        }
        let mut fail = transaction.prepare_cached("UPDATE attempts SET charge = ?2, cause = ?3 WHERE id = ?1")?;
        for failed in &group.failed {
            fail.execute(params![failed.attempt.0, failed.charge.as_str(), failed.cause])?;
        }
    }
    Ok(())
}

/// What the pages said, what became of their lists, and the next requests.
fn write_walks(transaction: &Connection, group: &Group, now: Utc64) -> rusqlite::Result<()> {
    {
        let sql = "UPDATE pages SET received = ?2, kept = ?3, rejected = ?4, keys = ?5, again = ?6, is_list = ?7
                   WHERE attempt = ?1";
        let mut update = transaction.prepare_cached(sql)?;
        let mut walking = transaction.prepare_cached("UPDATE items SET state = 1 WHERE ix = ?1 AND state = 0")?;
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        for read in &group.read {
            let (received, kept, rejected) = (count(read.received), count(read.keys.len()), count(read.rejected));
            let again = Some(read.again.as_flattened()).filter(|again| !again.is_empty());
            let keys = read.keys.as_flattened();
            update.execute(params![read.attempt.0, received, kept, rejected, keys, again, read.is_list])?;
            walking.execute([read.item.0])?;
        }
        let sql = "UPDATE pages SET outdated = attempt WHERE item = ?1 AND page = ?2 AND outdated = 0";
        let mut outdate = transaction.prepare_cached(sql)?;
        let mut move_list = transaction.prepare_cached("UPDATE items SET moved = 1 WHERE ix = ?1 AND moved = 0")?;
        for (item, page) in &group.outdated {
            outdate.execute([item.0, page.0.into()])?;
            move_list.execute([item.0])?;
        }
        let sql =
            "UPDATE items SET state = 2, stop = ?2, error = ?3, transient = ?4, moved = moved OR ?5 WHERE ix = ?1";
        let mut end = transaction.prepare_cached(sql)?;
        let mut open = transaction.prepare_cached(
            "UPDATE items SET state = 1, stop = NULL, error = NULL, transient = 0
             WHERE ix = ?1 AND state = 2 AND stop NOT IN ('failed', 'shifted', 'end_refused', 'page_cap')",
        )?;
        for item in &group.opened {
            open.execute([item.0])?;
        }
        for ended in &group.ended {
            let (stop, error) = (ended.stop.as_str(), &ended.error);
            end.execute(params![ended.item.0, stop, error, ended.transient, ended.is_moved])?;
        }
        let mut count = transaction.prepare_cached("UPDATE items SET tries = ?2, unproven = ?3 WHERE ix = ?1")?;
        for row in &group.tries {
            count.execute(params![row.item.0, row.tries, row.unproven])?;
        }
        let sql = "INSERT INTO attempts (id, item, page, at) VALUES (?1, ?2, ?3, ?4)";
        let mut intend = transaction.prepare_cached(sql)?;
        for request in &group.intents {
            intend.execute(params![request.attempt.0, request.item.0, request.page.0, now.0])?;
        }
    }
    Ok(())
}
