//! Looking at a ledger without changing anything: neither its file nor those that SQLite keeps beside it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};

use super::open::{APPLICATION_ID, VERSION, other_format, prepared};
use super::{Doing, Ledger, LedgerError};
use crate::model::page::{AttemptId, PageNum, SegmentId};

/// How long to wait for a writer that is in the middle of something that no reader may see.
const BUSY: Duration = Duration::from_secs(5);
/// Complaints of SQLite that are listed.
const COMPLAINTS: u32 = 10;

/// What must be true of any ledger; each query counts the rows of which it is not.
const CONTRADICTIONS: [(&str, &str); 9] = [
    (
        "pages whose counts do not fit each other",
        "SELECT count(*) FROM pages WHERE received IS NOT NULL
           AND (received < kept + rejected OR kept < 0 OR rejected < 0 OR length(keys) <> 16 * kept) IS NOT FALSE",
    ),
    ("pages of unknown items", "SELECT count(*) FROM pages WHERE item NOT IN (SELECT ix FROM items)"),
    ("pages of unknown segments", "SELECT count(*) FROM pages WHERE segment NOT IN (SELECT id FROM segments)"),
    ("drift of unknown segments", "SELECT count(*) FROM drift WHERE segment NOT IN (SELECT id FROM segments)"),
    ("frames of unknown segments", "SELECT count(*) FROM frames WHERE segment NOT IN (SELECT id FROM segments)"),
    (
        "published pages that were never read",
        "SELECT count(*) FROM pages WHERE received IS NULL AND segment IN (SELECT id FROM segments WHERE state <> 'open')",
    ),
    ("attempts that are pages as well", "SELECT count(*) FROM attempts WHERE id IN (SELECT attempt FROM pages)"),
    ("items that have ended without a reason", "SELECT count(*) FROM items WHERE (state = 2) <> (stop IS NOT NULL)"),
    (
        "items that are complete without a page",
        "SELECT count(*) FROM items WHERE stop IN ('short_page', 'empty_page', 'max_pages')
           AND NOT EXISTS (SELECT 1 FROM pages WHERE item = ix)",
    ),
];

/// A page as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// Its item's id.
    pub id: String,
    /// Its number.
    pub page: PageNum,
    /// The segment whose journal holds it.
    pub segment: SegmentId,
    /// Rows in the answer; none if it was not read yet.
    pub received: Option<u64>,
}

/// Sums over the pages of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentSums {
    /// Pages.
    pub pages: u64,
    /// Pages that were not read yet.
    pub unread: u64,
    /// Rows in the others.
    pub received: u64,
    /// Of them, rows to be published.
    pub kept: u64,
    /// Of them, rows that could not be typed.
    pub rejected: u64,
}

impl Ledger {
    /// Opens a ledger to look at it, also while another process writes to it.
    ///
    /// Beside a ledger that was closed in order there is no other file, and none is made. Where a write-ahead log is left,
    /// its index is read and not repaired. Only where the log is there and its index is not, as in a copy of some of the
    /// files, SQLite makes the index anew.
    pub fn open_read_only(path: &Path) -> Result<Self, LedgerError> {
        let unusable = |reason: String| LedgerError::Unusable { path: path.display().to_string(), reason };
        let (log, index) = (length(&beside(path, "-wal")), length(&beside(path, "-shm")));
        let how = match (log, index) {
            (None, _) | (Some(0), None) => "&immutable=1",
            (Some(_), Some(_)) => "&readonly_shm=1",
            (Some(_), None) => "",
        };
        let place = std::path::absolute(path).ok().and_then(|path| url::Url::from_file_path(path).ok());
        let place = place.ok_or_else(|| unusable("has no place that can be named".to_owned()))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(format!("{place}?mode=ro{how}"), flags).doing("open a connection")?;
        let db = prepared(db).doing("open a connection")?;
        db.busy_timeout(BUSY).doing("open a connection")?;
        let read = |name: &str| -> Result<i64, LedgerError> {
            let found = db.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0));
            found.map_err(|error| unusable(format!("cannot be read: {error}")))
        };
        let (application, version) = (read("application_id")?, read("user_version")?);
        if application != APPLICATION_ID {
            return Err(unusable("is a database of another program, or of none".to_owned()));
        }
        if version != VERSION {
            return Err(unusable(other_format(version)));
        }
        db.execute_batch("PRAGMA query_only = 1; PRAGMA cell_size_check = 1").doing("open a connection")?;
        Ok(Self::of(db))
    }

    /// Everything that is read from now on is of one moment, whatever another process writes meanwhile.
    pub fn hold_still(&self) -> Result<(), LedgerError> {
        self.db.execute_batch("BEGIN").doing("begin to read")
    }

    /// What is wrong with the file, going through all of it: its trees, its indexes, and every row's checksum.
    pub fn integrity(&self) -> Result<Vec<String>, LedgerError> {
        let found: Vec<String> = self.rows(&format!("PRAGMA integrity_check({COMPLAINTS})"), [], |row| row.get(0))?;
        let found: Vec<String> = found.into_iter().filter(|line| line != "ok").collect();
        if !found.is_empty() {
            return Ok(found);
        }
        Ok(self.damage().doing("check the rows")?.into_iter().collect())
    }

    /// What the tables say that cannot be true together: how many of what.
    pub fn contradictions(&self) -> Result<Vec<(u64, &'static str)>, LedgerError> {
        let mut found = Vec::new();
        for (what, sql) in CONTRADICTIONS {
            let count = self.db.query_row(sql, [], |row| unsigned(row, 0)).doing("look for contradictions")?;
            if count > 0 {
                found.push((count, what));
            }
        }
        Ok(found)
    }

    /// Frames of a segment, in order: offset and length.
    pub fn frames(&self, segment: SegmentId) -> Result<Vec<(u64, u64)>, LedgerError> {
        let sql = "SELECT offset, length FROM frames WHERE segment = ?1 ORDER BY offset";
        self.rows(sql, [segment.0], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))
    }

    /// The page that answered an attempt.
    pub fn page(&self, attempt: AttemptId) -> Result<Option<Audited>, LedgerError> {
        let sql = "SELECT i.id, p.page, p.segment, p.received FROM pages p JOIN items i ON i.ix = p.item
                   WHERE p.attempt = ?1";
        let mut query = self.db.prepare_cached(sql).doing("find a page")?;
        let found = query.query_row([attempt.0], |row| {
            let received: Option<i64> = row.get(3)?;
            Ok(Audited {
                id: row.get(0)?,
                page: PageNum(row.get(1)?),
                segment: SegmentId(row.get(2)?),
                received: received.map(|rows| u64::try_from(rows).unwrap_or_default()),
            })
        });
        found.optional().doing("find a page")
    }

    /// Whether an attempt is known to have failed.
    pub fn has_failed(&self, attempt: AttemptId) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM attempts WHERE id = ?1 AND charge IS NOT NULL)";
        let mut query = self.db.prepare_cached(sql).doing("find an attempt")?;
        query.query_row([attempt.0], |row| row.get(0)).doing("find an attempt")
    }

    /// Sums over the pages of a segment.
    pub fn sums(&self, segment: SegmentId) -> Result<SegmentSums, LedgerError> {
        let sql = "SELECT count(*), count(*) FILTER (WHERE received IS NULL), coalesce(sum(received), 0),
                     coalesce(sum(kept), 0), coalesce(sum(rejected), 0) FROM pages WHERE segment = ?1";
        let read = |row: &Row<'_>| {
            let at = |place| unsigned(row, place);
            Ok(SegmentSums { pages: at(0)?, unread: at(1)?, received: at(2)?, kept: at(3)?, rejected: at(4)? })
        };
        self.db.query_row(sql, [segment.0], read).doing("sum up a segment")
    }

    /// Goes through the keys of all rows, an item at a time: its id, and for each page its segment and keys.
    pub fn each_key(&self, mut visit: impl FnMut(&str, &[(SegmentId, Vec<[u8; 16]>)])) -> Result<(), LedgerError> {
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
}

/// Whether a write-ahead log lies beside a ledger: a process works on it, or ended without closing it.
pub fn has_log(path: &Path) -> bool {
    length(&beside(path, "-wal")).is_some()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn length(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|found| found.len())
}

fn unsigned(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(at).map(|number| u64::try_from(number).unwrap_or_default())
}
