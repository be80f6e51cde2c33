//! Opens a ledger to read it, without changing any file: neither its own nor those that SQLite keeps beside it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::open::{APPLICATION_ID, VERSION, configure, other_format};
use super::{Doing, Ledger, LedgerError};

/// How long to wait for a writer that is in the middle of something that no reader may see.
const BUSY: Duration = Duration::from_secs(5);

impl Ledger {
    /// Opens a ledger to read it, also while another process writes to it.
    ///
    /// A ledger that was closed in order is one file, and none is made beside it. Where a write-ahead log is left, its index is
    /// read and not repaired. Only where the log is there and its index is missing, as in a copy of some of the files, SQLite
    /// makes the index.
    pub fn open_read_only(path: &Path) -> Result<Self, LedgerError> {
        let unusable = |reason: String| LedgerError::Unusable { path: path.display().to_string(), reason };
        let (log, index) = (length(&beside(path, "-wal")), length(&beside(path, "-shm")));
        let how = match (log, index) {
            (None, _) | (Some(0), None) => "&immutable=1",
            (Some(_), Some(_)) => "&readonly_shm=1",
            (Some(_), None) => "",
        };
        let url = std::path::absolute(path).ok().and_then(|path| url::Url::from_file_path(path).ok());
        let url = url.ok_or_else(|| unusable("has a path that is not a file's URL".to_owned()))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(format!("{url}?mode=ro{how}"), flags).doing("open a connection")?;
        let db = configure(db).doing("open a connection")?;
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
        Ok(Self { db })
    }

    /// Everything that is read from now on is of one moment, whatever another process writes meanwhile.
    pub(crate) fn start_snapshot(&self) -> Result<(), LedgerError> {
        self.db.execute_batch("BEGIN").doing("start to read")
    }
}

/// Whether a ledger has a write-ahead log: a process works on it, or ended without closing it.
pub(crate) fn has_log(path: &Path) -> bool {
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
