//! The ledger: what was asked for, what came, what was read, what is published. SQLite, one connection.
//!
//! Durable by WAL with synchronous FULL, both read back after they are set, because SQLite may decline silently. One
//! transaction a group, [`Ledger::commit`]; nothing here knows of HTTP, Parquet or the journal's bytes.

mod add;
mod audit;
mod drift;
mod ends;
mod group;
mod indexes;
mod open;
mod pages;
mod rebuild;
mod repair;
mod report;
mod status;
mod walks;
mod write;

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::model::clock::Utc64;
use crate::model::page::{AttemptId, ItemId, ItemIx, PageNum, SegmentId};

pub use add::Added;
pub use audit::{Audited, SegmentSums, has_log};
pub use drift::DriftRows;
pub use ends::{EmptyLists, EndedItem, ShortEvidence};
pub use group::{EndRow, FailedRow, Group, PageRow, ReadRow, RetryRow};
pub use open::prepared;
pub use rebuild::{SegmentRow, SegmentState};
pub use repair::Repair;
pub use report::{Credits, ItemRow, Totals};
pub use status::Reason;
pub use walks::OpenItem;

/// The ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// SQLite failed.
    #[error("{action} in the ledger")]
    Sql {
        /// What was being done.
        action: &'static str,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The file is not what this program can work with.
    #[error("the ledger {path} {reason}")]
    Unusable {
        /// The file.
        path: String,
        /// Why it will not do.
        reason: String,
    },
    /// The file system does not keep what is committed.
    #[error("the ledger {path} cannot be made durable: it {reason}")]
    Undurable {
        /// The file.
        path: String,
        /// What was declined.
        reason: String,
    },
}

trait Doing<T> {
    fn doing(self, action: &'static str) -> Result<T, LedgerError>;
}

impl<T> Doing<T> for rusqlite::Result<T> {
    fn doing(self, action: &'static str) -> Result<T, LedgerError> {
        self.map_err(|source| LedgerError::Sql { action, source })
    }
}

/// The ledger of one export.
#[derive(Debug)]
pub struct Ledger {
    db: Connection,
    /// What need not be written once more.
    seen: drift::Seen,
}

/// Who an export is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportRow {
    /// Its id, part of every file name.
    pub id: String,
    /// When it was begun.
    pub created_at: Utc64,
    /// When it was complete; none if it is not.
    pub completed_at: Option<Utc64>,
    /// The settings that shape requests and rows.
    pub identity: BTreeMap<String, String>,
}

/// The segment that takes pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenSegment {
    /// Its number.
    pub id: SegmentId,
    /// How often its files were begun, this time included.
    pub attempt: i64,
    /// Bytes of its journal file that the ledger names.
    pub journaled: u64,
}

impl Ledger {
    /// Who this export is; none before [`begin`](Self::begin).
    pub fn export(&self) -> Result<Option<ExportRow>, LedgerError> {
        let sql = "SELECT id, created_at, completed_at, identity FROM export";
        let row = self.db.query_row(sql, [], |row| {
            let identity: String = row.get(3)?;
            let export = ExportRow {
                id: row.get(0)?,
                created_at: Utc64(row.get(1)?),
                completed_at: row.get::<_, Option<i64>>(2)?.map(Utc64),
                identity: BTreeMap::new(),
            };
            Ok((export, identity))
        });
        let Some((export, identity)) = row.optional().doing("read the export")? else { return Ok(None) };
        // It is part of every file's name, and this file may be of another hand.
        if export.id.is_empty() || !export.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(self.unusable("is damaged: its export has no id that a file's name may begin with".to_owned()));
        }
        let identity = serde_json::from_str(&identity)
            .map_err(|error| self.unusable(format!("is damaged: its settings cannot be read: {error}")))?;
        Ok(Some(ExportRow { identity, ..export }))
    }

    /// The error that this ledger will not do.
    pub fn unusable(&self, reason: String) -> LedgerError {
        LedgerError::Unusable { path: self.db.path().unwrap_or_default().to_owned(), reason }
    }

    /// Writes down who this export is.
    pub fn begin(&self, export: &ExportRow) -> Result<(), LedgerError> {
        let identity = serde_json::json!(export.identity).to_string();
        let sql = "INSERT INTO export (only, id, created_at, identity) VALUES (1, ?1, ?2, ?3)";
        self.write(sql, params![export.id, export.created_at.0, identity], "begin the export")?;
        Ok(())
    }

    /// Replaces the settings that the export is known by.
    pub fn set_identity(&self, identity: &BTreeMap<String, String>) -> Result<(), LedgerError> {
        let sql = "UPDATE export SET identity = ?1";
        self.write(sql, [serde_json::json!(identity).to_string()], "note the settings")?;
        Ok(())
    }

    /// Marks the export complete, or not complete any more.
    pub fn set_completed(&self, at: Option<Utc64>) -> Result<(), LedgerError> {
        let sql = "UPDATE export SET completed_at = ?1";
        self.write(sql, params![at.map(|at| at.0)], "mark the export")?;
        Ok(())
    }

    /// Notes how many rows the lists of items are said to have. Of others than this ledger's nothing is noted.
    pub fn hint(&mut self, sizes: &[(ItemId, u64)]) -> Result<(), LedgerError> {
        if sizes.is_empty() {
            return Ok(());
        }
        let action = "note sizes of lists";
        self.before(action)?;
        let transaction = self.db.transaction().doing(action)?;
        for (id, rows) in sizes {
            let sql = "INSERT OR REPLACE INTO sizes (item, rows) SELECT ix, ?2 FROM items WHERE id = ?1";
            let rows = i64::try_from(*rows).unwrap_or(i64::MAX);
            transaction
                .prepare_cached(sql)
                .and_then(|mut note| note.execute(params![id.as_str(), rows]))
                .doing(action)?;
        }
        transaction.commit().doing(action)?;
        self.after(action)
    }

    /// The items whose lists were found to have so many rows or more, and how many.
    pub fn sizes(&self, least: u64) -> Result<Vec<(ItemId, u64)>, LedgerError> {
        let sql = "SELECT id, sum(received) AS rows FROM pages JOIN items ON item = ix WHERE outdated = 0
                   GROUP BY item HAVING rows >= ?1";
        self.rows(sql, [i64::try_from(least).unwrap_or(i64::MAX)], |row| {
            let rows = u64::try_from(row.get::<_, i64>(1)?).unwrap_or_default();
            Ok((ItemId::new(&row.get::<_, String>(0)?), rows))
        })
    }

    /// Opens failed walks again: those with a passing cause, or all of them, and with them the walks that were cut short by a
    /// page that repeats, cannot be used or is refused: these go on behind it. An item has all its tries again. A passing cause
    /// stays noted until the walk ends.
    pub fn reopen_failed(&self, all: bool) -> Result<usize, LedgerError> {
        let sql = "UPDATE items SET state = 1, stop = NULL, error = NULL, tries = 0,
                     skip = iif(stop IN ('repeated_page', 'rejected'),
                                coalesce((SELECT max(page) FROM pages WHERE item = ix AND outdated = 0), skip), skip)
                   WHERE state = 2 AND (stop = 'failed' AND (transient = 1 OR ?1)
                     OR ?1 AND stop IN ('repeated_page', 'rejected', 'page_cap'))";
        self.write(sql, [all], "reopen failed items")
    }

    /// The place of an item.
    pub fn item(&self, id: &ItemId) -> Result<Option<ItemIx>, LedgerError> {
        let mut query = self.db.prepare_cached("SELECT ix FROM items WHERE id = ?1").doing("find an item")?;
        query.query_row([id.as_str()], |row| row.get(0).map(ItemIx)).optional().doing("find an item")
    }

    fn rows<T, P: rusqlite::Params>(
        &self,
        sql: &str,
        params: P,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, LedgerError> {
        let mut query = self.db.prepare_cached(sql).doing("prepare a query")?;
        let rows = query.query_map(params, read).doing("query")?;
        rows.collect::<rusqlite::Result<_>>().doing("read rows")
    }

    /// Makes a group true, all of it or nothing, durably.
    pub fn commit(&mut self, group: &Group, now: Utc64) -> Result<(), LedgerError> {
        let action = "commit a group";
        self.before(action)?;
        group::write(&mut self.db, group, now, &mut self.seen).doing(action)?;
        self.after(action)
    }

    /// Turns attempts without an outcome into attempts in doubt: their process is gone. Gives how many there were.
    pub fn doubt_open_attempts(&self) -> Result<usize, LedgerError> {
        let sql =
            "UPDATE attempts SET charge = 'in_doubt', cause = 'no outcome: the process ended' WHERE charge IS NULL";
        self.write(sql, [], "settle open attempts")
    }

    /// Whether an attempt's intent is here and its outcome is not.
    pub fn is_in_flight(&self, attempt: AttemptId) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM attempts WHERE id = ?1 AND charge IS NULL)";
        self.db.query_row(sql, [attempt.0], |row| row.get(0)).doing("find an attempt")
    }

    /// Whether an attempt ended as no page.
    pub fn is_failed(&self, attempt: AttemptId) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM attempts WHERE id = ?1 AND charge IS NOT NULL)";
        self.db.query_row(sql, [attempt.0], |row| row.get(0)).doing("find an attempt")
    }

    /// Whether a page of an item is in the journal.
    pub fn has_page(&self, item: ItemIx, page: PageNum) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM pages WHERE item = ?1 AND page = ?2 AND outdated = 0)";
        self.db.query_row(sql, [item.0, page.0.into()], |row| row.get(0)).doing("find a page")
    }

    /// The highest attempt so far.
    pub fn last_attempt(&self) -> Result<AttemptId, LedgerError> {
        let sql =
            "SELECT max(coalesce((SELECT max(id) FROM attempts), 0), coalesce((SELECT max(attempt) FROM pages), 0))";
        self.db.query_row(sql, [], |row| row.get(0).map(AttemptId)).doing("find the last attempt")
    }

    /// The open segment as it stands, without beginning its files.
    pub fn open_segment(&self) -> Result<Option<OpenSegment>, LedgerError> {
        let sql = "SELECT id, attempt, (SELECT coalesce(max(offset + length), 0) FROM frames WHERE segment = id)
                   FROM segments WHERE state = 'open'";
        let row = self.db.query_row(sql, [], |row| {
            let journaled: i64 = row.get(2)?;
            Ok(OpenSegment {
                id: SegmentId(row.get(0)?),
                attempt: row.get(1)?,
                journaled: u64::try_from(journaled).unwrap_or_default(),
            })
        });
        row.optional().doing("find the open segment")
    }

    /// Begins the files of the open segment, or of a new one: a new attempt each time, so that no name is used twice.
    pub fn begin_segment(&self) -> Result<OpenSegment, LedgerError> {
        let sql = if self.open_segment()?.is_some() {
            "UPDATE segments SET attempt = attempt + 1 WHERE state = 'open'"
        } else {
            "INSERT INTO segments (id, attempt, state) SELECT coalesce(max(id), 0) + 1, 1, 'open' FROM segments"
        };
        self.write(sql, [], "begin a segment")?;
        self.open_segment()?.ok_or(rusqlite::Error::QueryReturnedNoRows).doing("begin a segment")
    }

    /// Decides what a segment publishes, for the first time or again: exactly the files of this manifest.
    pub fn decide(&self, segment: SegmentId, manifest: &str) -> Result<(), LedgerError> {
        let sql = "UPDATE segments SET state = 'decided', manifest = ?2 WHERE id = ?1 AND manifest IS NOT ?2";
        self.exactly_one(sql, params![segment.0, manifest], "decide a segment")
    }

    /// Notes that a decided segment's manifest is there.
    pub fn published(&self, segment: SegmentId) -> Result<(), LedgerError> {
        let sql = "UPDATE segments SET state = 'published' WHERE id = ?1 AND state <> 'published'";
        self.exactly_one(sql, [segment.0], "note a published segment")
    }

    fn exactly_one<P: rusqlite::Params>(&self, sql: &str, params: P, action: &'static str) -> Result<(), LedgerError> {
        match self.write(sql, params, action)? {
            1 => Ok(()),
            changed => Err(rusqlite::Error::StatementChangedRows(changed)).doing(action),
        }
    }

    /// Puts a published segment back to the moment after its decision.
    #[cfg(test)]
    pub(crate) fn unpublish_for_test(&self, segment: SegmentId, manifest: &str) {
        let sql = "UPDATE segments SET state = 'decided', manifest = ?2 WHERE id = ?1";
        self.db.execute(sql, params![segment.0, manifest]).unwrap();
    }

    /// Whether a segment is known and what it publishes is decided.
    pub fn is_decided(&self, segment: SegmentId) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM segments WHERE id = ?1 AND state <> 'open')";
        self.db.query_row(sql, [segment.0], |row| row.get(0)).doing("look at a segment")
    }

    /// The highest segment so far.
    pub fn last_segment(&self) -> Result<SegmentId, LedgerError> {
        let sql = "SELECT coalesce(max(id), 0) FROM segments";
        self.db.query_row(sql, [], |row| row.get(0).map(SegmentId)).doing("find the last segment")
    }

    /// Segments whose publishing was decided and not noted as done, with their manifests.
    pub fn decided(&self) -> Result<Vec<(SegmentId, String)>, LedgerError> {
        let sql = "SELECT id, manifest FROM segments WHERE state = 'decided' ORDER BY id";
        self.rows(sql, [], |row| Ok((SegmentId(row.get(0)?), row.get(1)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Added, Credits, EndRow, ExportRow, FailedRow, Group, Ledger, LedgerError, OpenItem, OpenSegment, PageRow,
        ReadRow,
    };
    use crate::model::clock::Utc64;
    use crate::model::page::{AttemptId, Charge, ItemId, ItemIx, PageNum, Request, SegmentId, StopReason};
    use std::collections::BTreeSet;

    fn ledger() -> (tempfile::TempDir, Ledger) {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(&directory.path().join("ledger.sqlite")).unwrap();
        let ids = ["a", "b", "a", "c"].map(|id| Ok::<_, LedgerError>(ItemId::new(id)));
        assert_eq!(ledger.add_items(ids.into_iter()).unwrap(), Added { listed: 4, new: 3, repeated: 1 });
        (directory, ledger)
    }

    fn request(attempt: i64, item: i64) -> Request {
        Request { attempt: AttemptId(attempt), item: ItemIx(item), id: ItemId::new("a"), page: PageNum(1) }
    }

    #[test]
    fn an_export_whose_id_would_lead_files_out_of_their_directory_is_damage() {
        for (id, is_one) in
            [("0a1b2c3d4e", true), ("../../x", false), ("", false), ("a/b", false), ("a\u{1b}[2J", false)]
        {
            let directory = tempfile::tempdir().unwrap();
            let ledger = Ledger::open(&directory.path().join("ledger.sqlite")).unwrap();
            let identity = std::collections::BTreeMap::new();
            ledger.begin(&ExportRow { id: id.to_owned(), created_at: Utc64(1), completed_at: None, identity }).unwrap();
            assert_eq!(ledger.export().is_ok(), is_one, "{id:?}");
        }
    }

    #[test]
    fn an_intent_is_in_doubt_until_its_outcome_is_known() {
        let (_directory, mut ledger) = ledger();
        ledger.begin_segment().unwrap();
        let intents = vec![request(1, 1), request(2, 2), request(3, 3), request(4, 3)];
        ledger.commit(&Group { intents, ..Group::default() }, Utc64(1)).unwrap();
        assert_eq!(ledger.credits().unwrap(), Credits { billed: 0, free: 0, in_doubt: 4 });
        let outcomes = Group {
            frame: Some((SegmentId(1), 0, 10)),
            pages: vec![PageRow { attempt: AttemptId(1), item: ItemIx(1), page: PageNum(1), at: Utc64(2) }],
            failed: vec![FailedRow { attempt: AttemptId(2), charge: Charge::Free, cause: "429".to_owned() }],
            unsent: vec![AttemptId(4)],
            ..Group::default()
        };
        ledger.commit(&outcomes, Utc64(2)).unwrap();
        assert_eq!(ledger.credits().unwrap(), Credits { billed: 1, free: 1, in_doubt: 1 });
        assert_eq!((ledger.doubt_open_attempts().unwrap(), ledger.last_attempt().unwrap()), (1, AttemptId(3)));
    }

    #[test]
    fn the_same_page_cannot_be_journaled_twice_and_then_nothing_of_the_group_holds() {
        let (_directory, mut ledger) = ledger();
        ledger.begin_segment().unwrap();
        let page = PageRow { attempt: AttemptId(1), item: ItemIx(1), page: PageNum(1), at: Utc64(2) };
        let group = Group { frame: Some((SegmentId(1), 0, 10)), pages: vec![page], ..Group::default() };
        ledger.commit(&group, Utc64(2)).unwrap();
        let again = Group {
            frame: Some((SegmentId(1), 10, 10)),
            intents: vec![request(9, 1)],
            pages: vec![page],
            ..Group::default()
        };
        assert!(ledger.commit(&again, Utc64(3)).is_err());
        assert_eq!((ledger.credits().unwrap().billed, ledger.last_attempt().unwrap()), (1, AttemptId(1)));
    }

    #[test]
    fn a_decided_segment_takes_no_more_pages() {
        let (_directory, mut ledger) = ledger();
        let segment = ledger.begin_segment().unwrap().id;
        ledger.decide(segment, "{}").unwrap();
        let page = PageRow { attempt: AttemptId(1), item: ItemIx(1), page: PageNum(1), at: Utc64(2) };
        let late = Group { frame: Some((segment, 0, 10)), pages: vec![page], ..Group::default() };
        assert!(ledger.commit(&late, Utc64(2)).is_err());
        assert_eq!(ledger.totals().unwrap().pages, 0);
    }

    #[test]
    fn a_walk_goes_from_new_to_walking_to_ended_and_may_be_reopened() {
        let (_directory, mut ledger) = ledger();
        ledger.begin_segment().unwrap();
        let read = ReadRow {
            attempt: AttemptId(1),
            item: ItemIx(2),
            received: 3,
            rejected: 1,
            is_list: true,
            keys: vec![[7; 16], [8; 16]],
            again: Vec::new(),
        };
        let page = PageRow { attempt: AttemptId(1), item: ItemIx(2), page: PageNum(1), at: Utc64(2) };
        let group =
            Group { frame: Some((SegmentId(1), 0, 10)), pages: vec![page], read: vec![read], ..Group::default() };
        ledger.commit(&group, Utc64(2)).unwrap();
        let ids = |items: Vec<OpenItem>| items.into_iter().map(|open| open.item.0).collect::<Vec<_>>();
        assert_eq!(ids(ledger.walking(ItemIx(0), &BTreeSet::new(), 9).unwrap()), [2]);
        assert_eq!(ids(ledger.fresh(ItemIx(0), &BTreeSet::new(), 1).unwrap()), [1]);
        let keys = [[7; 16], [8; 16]].map(|key| (key, PageNum(1)));
        assert_eq!(ledger.keys(ItemIx(2), SegmentId(2)).unwrap(), keys);
        assert!(ledger.keys(ItemIx(2), SegmentId(1)).unwrap().is_empty());
        let end = |item, stop, transient| EndRow { transient, ..EndRow::new(ItemIx(item), stop) };
        let ended = vec![
            end(1, StopReason::Failed, true),
            end(2, StopReason::ShortPage, false),
            end(3, StopReason::Failed, false),
        ];
        ledger.commit(&Group { ended, ..Group::default() }, Utc64(3)).unwrap();
        let totals = ledger.totals().unwrap();
        assert_eq!(
            (totals.items, totals.complete, totals.failed, totals.received, totals.kept, totals.rejected),
            (3, 1, 2, 3, 2, 1)
        );
        assert_eq!(
            (ledger.reopen_failed(false).unwrap(), ledger.reopen_failed(true).unwrap(), ledger.reopen_short().unwrap()),
            (1, 1, 1)
        );
    }

    #[test]
    fn a_segment_is_begun_decided_and_published_and_its_files_get_a_new_attempt_each_time() {
        let (_directory, ledger) = ledger();
        assert_eq!(ledger.begin_segment().unwrap(), OpenSegment { id: SegmentId(1), attempt: 1, journaled: 0 });
        assert_eq!(ledger.begin_segment().unwrap().attempt, 2);
        ledger.decide(SegmentId(1), "{}").unwrap();
        assert!(ledger.decide(SegmentId(1), "{}").is_err());
        assert_eq!(ledger.decided().unwrap(), [(SegmentId(1), "{}".to_owned())]);
        assert_eq!(ledger.begin_segment().unwrap().id, SegmentId(2));
        ledger.published(SegmentId(1)).unwrap();
        assert!(ledger.published(SegmentId(1)).is_err());
    }

    #[test]
    fn an_export_remembers_who_it_is() {
        let (directory, ledger) = ledger();
        let identity = [("page_size".to_owned(), "10".to_owned())].into();
        let export = ExportRow { id: "x".to_owned(), created_at: Utc64(5), completed_at: None, identity };
        ledger.begin(&export).unwrap();
        drop(ledger);
        let ledger = Ledger::open(&directory.path().join("ledger.sqlite")).unwrap();
        assert_eq!(ledger.export().unwrap(), Some(export));
    }

    #[test]
    fn a_foreign_newer_or_broken_file_is_refused_and_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.sqlite");
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert!(Ledger::open(&path).unwrap_err().to_string().contains("another program"));
        db.execute_batch("PRAGMA application_id = 0x70686c31; PRAGMA user_version = 99").unwrap();
        assert!(Ledger::open(&path).unwrap_err().to_string().contains("format 99"));
        drop(db);
        std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), &path).unwrap();
        assert!(Ledger::open(&path).is_err());
        assert!(std::fs::read_to_string(&path).unwrap().contains("[package]"));
    }

    /// All rows of all tables, as they stand: a line each, nulls as nothing and bytes in hexadecimal.
    fn dump(ledger: &Ledger) -> String {
        let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid";
        let tables: Vec<String> = ledger.rows(tables, [], |row| row.get(0)).unwrap();
        let mut text = String::new();
        for table in tables {
            let mut query = ledger.db.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns: Vec<String> = query.column_names().map(str::to_owned).collect();
            text.extend([&table, ": ", &columns.join(" "), "\n"]);
            let row = |row: &rusqlite::Row<'_>| {
                let shown = |at| match row.get_ref(at).unwrap() {
                    rusqlite::types::ValueRef::Null => String::new(),
                    rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                    rusqlite::types::ValueRef::Real(number) => number.to_string(),
                    rusqlite::types::ValueRef::Text(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                    rusqlite::types::ValueRef::Blob(bytes) => crate::endpoint::hex(bytes),
                };
                Ok((0..columns.len()).map(shown).collect::<Vec<_>>().join("|"))
            };
            let rows: Vec<String> = query.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap();
            text.extend(rows.into_iter().map(|row| row + "\n"));
        }
        text
    }

    /// The format: a change of it is a new number of the format.
    const DUMP: &str = r#"
export: only id created_at completed_at identity end_rule crc
1|x|5||{"end":"auto","page_size":"10"}|size 8|3051047561
items: ix id state stop error transient tries unproven skip moved crc
1|a|1|||0|0|0|0|0|1404642173
2|b|2|failed|said|1|0|0|0|1|586663275
3|c|2|short_page||0|0|0|0|0|3115994898
sizes: item rows
1|70
segments: id attempt state manifest crc
1|1|published|{}|3508061174
2|1|decided|{}|2642653233
3|1|open||1867616521
frames: segment offset length crc
3|0|10|4014479968
pages: attempt item page segment at received kept rejected keys again is_list came outdated crc
1|1|1|3|7|4|2|1|0707070707070707070707070707070708080808080808080808080808080808|09090909090909090909090909090909|1|4|0|1327386541
attempts: id item page at charge cause crc
2|2|1|6|free|why|100512381
3|3|1|6|in_doubt|why|3481394005
4|3|1|6|||3259459145
drift: segment kind name cells crc
"#;

    #[test]
    fn the_ledger_s_tables_hold_these_columns_words_and_checksums() {
        let (_folder, mut ledger) = ledger();
        let identity = [("page_size".to_owned(), "10".to_owned()), ("end".to_owned(), "auto".to_owned())].into();
        ledger.begin(&ExportRow { id: "x".to_owned(), created_at: Utc64(5), completed_at: None, identity }).unwrap();
        ledger.learn_end("size 8", Some(8)).unwrap();
        ledger.hint(&[(ItemId::new("a"), 70)]).unwrap();
        for state in ["published", "decided", "open"] {
            let segment = ledger.begin_segment().unwrap().id;
            if state != "open" {
                ledger.decide(segment, "{}").unwrap();
            }
            if state == "published" {
                ledger.published(segment).unwrap();
            }
        }
        let intents = vec![request(1, 1), request(2, 2), request(3, 3), request(4, 3)];
        ledger.commit(&Group { intents, ..Group::default() }, Utc64(6)).unwrap();
        let failed = |attempt, charge| FailedRow { attempt: AttemptId(attempt), charge, cause: "why".to_owned() };
        let page = PageRow { attempt: AttemptId(1), item: ItemIx(1), page: PageNum(1), at: Utc64(7) };
        let read = ReadRow {
            attempt: AttemptId(1),
            item: ItemIx(1),
            received: 4,
            rejected: 1,
            is_list: true,
            keys: vec![[7; 16], [8; 16]],
            again: vec![[9; 16]],
        };
        let ended = EndRow {
            error: Some("said".to_owned()),
            transient: true,
            is_moved: true,
            ..EndRow::new(ItemIx(2), StopReason::Failed)
        };
        let group = Group {
            frame: Some((SegmentId(3), 0, 10)),
            pages: vec![page],
            failed: vec![failed(2, Charge::Free), failed(3, Charge::InDoubt)],
            read: vec![read],
            ended: vec![ended, EndRow::new(ItemIx(3), StopReason::ShortPage)],
            newest: AttemptId(4),
            ..Group::default()
        };
        ledger.commit(&group, Utc64(8)).unwrap();
        let pragma = |name: &str| ledger.rows(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!((pragma("application_id"), pragma("user_version")), (vec![0x7068_6c31], vec![4]));
        assert_eq!(dump(&ledger), DUMP.trim_start());
    }
}
