//! The ledger: what was requested, which pages arrived, what was published. SQLite, one connection.
//!
//! Read `ledger.sql` first: it declares all tables. `group` writes most of them, in the one transaction of a group commit.
//! Everything else is in the file of its table: `export`, `items` (and `add_items`), `pages`, `attempts`,
//! `segments` (and their frames), `drift`, `plan`, `since` (and `earlier`), `series` (and `decisions`), `bucket` (the tables of a
//! bucket). Statements over several tables are in files of their
//! own: `ends` (what is known of how lists end), `reopen` (ended walks that continue), `retention` (what the journal is still needed
//! for), `totals`. `open` opens a ledger to write, `read_only` to read, and `check` finds damage.
//!
//! Durable by WAL with synchronous FULL, both read back after they are set, because SQLite may decline silently. Nothing here
//! knows of HTTP, Parquet or the journal's bytes.

mod add_items;
mod attempts;
mod bucket;
mod check;
mod drift;
mod ends;
mod export;
#[cfg(test)]
mod fixture;
mod group;
mod indexes;
mod items;
mod open;
mod pages;
mod plan;
mod read_only;
mod reopen;
mod retention;
mod segments;
mod series;
mod since;
mod tails;
mod totals;

use rusqlite::types::FromSql;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior};
use std::path::Path;

use crate::model::failpoint::failpoint;

pub use add_items::AddedItems;
pub use attempts::Credits;
pub(crate) use drift::DriftCounts;
pub(crate) use ends::ContinuedItem;
pub use ends::{EmptyLists, EndedItem, ShortEvidence};
pub use export::{ExportRow, Removal};
pub use group::{AppliedRow, EndRow, FailedRow, Group, PageRow, RetryRow};
pub use items::OpenItem;
pub use open::configure;
pub(crate) use plan::SeenLists;
pub(crate) use read_only::has_log;
pub(crate) use reopen::Repair;
pub use segments::{OpenSegment, SegmentSums};
pub(crate) use segments::{SegmentRow, SegmentState};
pub(crate) use series::MAX_CREDITS;
pub use series::{DecisionRow, SeriesRow, Timeline};
pub(crate) use since::{EarlierExport, SinceCounts};
#[cfg(test)]
use tails::NoteTail;
pub(crate) use tails::{Tail, TailFault};
pub use totals::{ItemRow, Totals};

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("{action} in the ledger")]
    Sql {
        action: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    /// The file is not a ledger that this program can use.
    #[error("the ledger {path} {reason}")]
    Unusable { path: String, reason: String },
    /// The file system does not keep what is committed.
    #[error("the ledger {path} cannot be made durable: it {reason}")]
    Undurable {
        path: String,
        /// Which setting SQLite declined.
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

#[derive(Debug)]
pub struct Ledger {
    db: Connection,
}

impl Ledger {
    pub(crate) fn unusable(&self, reason: String) -> LedgerError {
        LedgerError::Unusable { path: self.db.path().unwrap_or_default().to_owned(), reason }
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

    fn row<T, P: rusqlite::Params>(
        &self,
        sql: &str,
        params: P,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.db.prepare_cached(sql)?.query_row(params, read)
    }

    /// The one value of the one row of a query.
    fn value<T: FromSql>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        action: &'static str,
    ) -> Result<T, LedgerError> {
        self.row(sql, params, |row| row.get(0)).doing(action)
    }

    fn count(&self, sql: &str, params: impl rusqlite::Params, action: &'static str) -> Result<u64, LedgerError> {
        self.row(sql, params, |row| unsigned(row, 0)).doing(action)
    }

    /// Executes one statement as a transaction of its own. Returns the number of rows that it changed.
    fn write(&self, sql: &str, params: impl rusqlite::Params, action: &'static str) -> Result<usize, LedgerError> {
        self.before(action)?;
        let changed = self.db.execute(sql, params).doing(action)?;
        self.after(action)?;
        Ok(changed)
    }

    /// The same; an error if it does not change exactly one row.
    fn write_one(&self, sql: &str, params: impl rusqlite::Params, action: &'static str) -> Result<(), LedgerError> {
        match self.write(sql, params, action)? {
            1 => Ok(()),
            changed => Err(rusqlite::Error::StatementChangedRows(changed)).doing(action),
        }
    }

    /// Commits all that `work` writes, or nothing.
    fn transaction<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        self.before(action)?;
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate).doing(action)?;
        let done = work(&transaction).doing(action)?;
        transaction.commit().doing(action)?;
        self.after(action)?;
        Ok(done)
    }

    fn before(&self, action: &'static str) -> Result<(), LedgerError> {
        failpoint!(Before, action, Path::new(self.db.path().unwrap_or_default()))
            .map_err(|error| io_error(&error))
            .doing(action)
    }

    fn after(&self, action: &'static str) -> Result<(), LedgerError> {
        failpoint!(After, action, Path::new(self.db.path().unwrap_or_default()))
            .map_err(|error| io_error(&error))
            .doing(action)
    }
}

/// An error of the disk as SQLite would report it.
fn io_error(error: &std::io::Error) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
    rusqlite::Error::SqliteFailure(code, Some(error.to_string()))
}

/// A count of the ledger; 0 where a damaged one is negative.
fn unsigned(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(at).map(|number| u64::try_from(number).unwrap_or_default())
}

/// A count as SQLite stores it.
fn signed(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::fixture::{applied, ledger, page, request};
    use super::{
        AppliedRow, DecisionRow, EarlierExport, EndRow, ExportRow, FailedRow, Group, Ledger, LedgerError, PageRow,
    };
    use super::{SeriesRow, Tail, Timeline};
    use crate::model::clock::Utc64;
    use crate::model::latencies::Latencies;
    use crate::model::page::{AttemptId, Charge, ItemId, ItemIx, PageNum, SegmentId, StopReason};

    /// All rows of all tables: a line for each, nulls as nothing and bytes in hexadecimal.
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

    /// The format: a change of it is a new version.
    const DUMP: &str = r#"
export: only id created_at completed_at out identity end_rule removal crc
1|x|5||o|{"end":"auto","page_size":"10"}|size 8||1905215640
items: ix id state stop error transient tries unproven skip moved crc
1|a|1|||0|0|0|0|0|1404642173
2|b|2|failed|said|1|0|0|0|1|586663275
3|c|2|short_page||0|0|0|0|0|3115994898
sizes: item rows
1|70
segments: id attempt state manifest pruned crc
1|1|published|{}|9|1923873825
2|1|decided|{}||297001834
3|1|open|||3581954326
frames: segment offset length crc
3|0|10|4014479968
pages: attempt item page segment at received kept rejected keys again is_list came outdated crc
1|1|1|3|7|4|2|1|0707070707070707070707070707070708080808080808080808080808080808|09090909090909090909090909090909|1|4|0|1327386541
attempts: id item page at charge cause rows_in crc
2|2|1|6|free|why||642919260
3|3|1|6|in_doubt|why|3|3532661850
4|3|1|6||||1597045894
drift: segment kind name cells crc
earlier: only id name state crc
1|y|before|/s|3824070741
since: item first last size rows digest state crc
1|1|3|10|7|05050505050505050505050505050505|assumed|1155410177
leftovers: name upload
x|4
y|
objects: name etag
x|e
runs: kind word
intended|w
plan: only plan crc
1|{}|3258465043
series: id run at millis page throttled server_error no_response no_connection unusable refused denied billed free in_doubt evidence ahead rows rate waited latencies crc
1|2|8|60000|1|2|3|4|5|6|7|8|10|11|12|-13|14|15|16|17|6401|1124864660
decisions: id run at until kind text times crc
1|2|8|9|moved|why|3|3536176885
"#;

    fn continue_another(ledger: &mut Ledger) {
        let earlier = EarlierExport { id: "y".to_owned(), name: "before".to_owned(), state: "/s".to_owned() };
        let tail = Tail { first: PageNum(1), page: PageNum(3), size: 10, rows: 7, digest: [5; 16] };
        let note = |note: &mut super::NoteTail<'_>| note(&ItemId::new("a"), tail, false).map(drop);
        ledger.continue_from::<LedgerError>(&earlier, note).unwrap();
    }

    fn timeline() -> Timeline {
        let (at, until) = (Utc64(8), Utc64(9));
        let (kind, text) = ("moved".to_owned(), "why".to_owned());
        let made = DecisionRow { run: 2, at, until, kind, text, times: 3 };
        let mut latencies = Latencies::default();
        latencies.record(std::time::Duration::from_millis(80));
        let interval = SeriesRow {
            run: 2,
            at,
            millis: 60_000,
            results: [1, 2, 3, 4, 5, 6, 7, 8],
            billed: 10,
            free: 11,
            in_doubt: 12,
            evidence: -13,
            ahead: 14,
            rows: 15,
            rate: Some(16),
            waited: 17,
            latencies,
        };
        Timeline { run: 2, interval: Some(interval), decisions: vec![made] }
    }

    #[test]
    fn the_tables_have_these_columns_words_and_checksums() {
        let (_directory, mut ledger) = ledger(&["a", "b", "c"]);
        let identity = [("page_size".to_owned(), "10".to_owned()), ("end".to_owned(), "auto".to_owned())].into();
        ledger
            .create_export(&ExportRow {
                id: "x".to_owned(),
                created_at: Utc64(5),
                completed_at: None,
                removal: None,
                out: "o".to_owned(),
                identity,
            })
            .unwrap();
        ledger.set_end_rule("size 8", Some(8)).unwrap();
        ledger.set_size_hints(&[(ItemId::new("a"), 70)]).unwrap();
        for state in ["published", "decided", "open"] {
            let segment = ledger.start_segment().unwrap().id;
            if state != "open" {
                ledger.decide_segment(segment, "{}").unwrap();
            }
            if state == "published" {
                ledger.mark_published(segment).unwrap();
                ledger.note_pruned(segment, Utc64(9)).unwrap();
            }
        }
        continue_another(&mut ledger);
        ledger.add_leftover("x", Some("4")).unwrap();
        ledger.add_leftover("y", None).unwrap();
        ledger.note_object("x", Some("e")).unwrap();
        ledger.intend_run("w").unwrap();
        ledger.keep_plan("{}").unwrap();
        let intents = vec![request(1, 1), request(2, 2), request(3, 3), request(4, 3)];
        ledger.commit(&Group { intents, ..Group::default() }, Utc64(6)).unwrap();
        let failed = |attempt, charge| FailedRow {
            attempt: AttemptId(attempt),
            charge,
            cause: "why".to_owned(),
            may_become_page: charge == Charge::InDoubt,
        };
        let page = PageRow { at: Utc64(7), ..page(1, 1, 1) };
        let row = AppliedRow { keys: vec![[7; 16], [8; 16]], again: vec![[9; 16]], ..applied(1, 1, 4, 1) };
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
            applied: vec![row],
            ended: vec![ended, EndRow::new(ItemIx(3), StopReason::ShortPage)],
            timeline: timeline(),
            newest: AttemptId(4),
            ..Group::default()
        };
        ledger.commit(&group, Utc64(8)).unwrap();
        let pragma = |name: &str| ledger.rows(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!((pragma("application_id"), pragma("user_version")), (vec![0x7068_6c31], vec![8]));
        assert_eq!(dump(&ledger), DUMP.trim_start());
    }
}
