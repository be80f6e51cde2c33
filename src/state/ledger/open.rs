//! Opens a ledger to write: which program and format it is of, whether all of it is as it was written, and how durable it is.
//!
//! A ledger is a file from outside like any other. It may be damaged, newer, another program's, or made to do harm, so
//! nothing of it is used before its tables are exactly ours and every tree, index and row has been checked. A ledger that
//! cannot be used is left as it is: nothing is repaired, and nothing is created in its place.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Doing, ExportRow, Ledger, LedgerError};

/// "phl1": marks the file as a ledger of this program.
pub(super) const APPLICATION_ID: i64 = 0x7068_6c31;
pub(super) const VERSION: i64 = 8;
pub(super) const SCHEMA: &str = include_str!("ledger.sql");

impl Ledger {
    /// Opens the ledger at a path; creates one where there is none. Reads all of it.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let ledger =
            Self { db: connect(path, OpenFlags::SQLITE_OPEN_CREATE).map_err(|error| unreadable(path, error))? };
        ledger.check_or_create(path)?;
        ledger.make_durable(path)?;
        Ok(ledger)
    }

    fn check_or_create(&self, path: &Path) -> Result<(), LedgerError> {
        let unreadable = |error| unreadable(path, error);
        let number = |sql: &str| self.db.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(unreadable);
        let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
        if (application, version, number("SELECT count(*) FROM sqlite_schema")?) == (0, 0, 0) {
            return self.create();
        }
        if application != APPLICATION_ID {
            return Err(unusable(path, "is a database of another program".to_owned()));
        }
        if version != VERSION {
            return Err(unusable(path, other_format(version)));
        }
        if self.db.is_readonly("main").map_err(unreadable)? {
            return Err(not_writable(path));
        }
        match self.damage().map_err(unreadable)? {
            Some(damage) => Err(unusable(path, format!("is damaged: {damage}"))),
            None => Ok(()),
        }
    }

    /// Lets SQLite move the log into the file when the ledger is closed. Before, a ledger that turns out to be unusable stays as
    /// it was, to the byte.
    pub(crate) fn allow_checkpoint(&self) -> Result<(), LedgerError> {
        self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(drop).doing("allow a checkpoint")
    }

    /// The export of a ledger, whatever its format, without reading the rest of it and without a change.
    pub(crate) fn export_at(path: &Path) -> Result<Option<ExportRow>, LedgerError> {
        let db = connect(path, OpenFlags::empty()).doing("open a connection")?;
        Self { db }.export().map_err(|error| match error {
            LedgerError::Sql { source, .. } => unreadable(path, source),
            other @ (LedgerError::Unusable { .. } | LedgerError::Undurable { .. }) => other,
        })
    }

    fn create(&self) -> Result<(), LedgerError> {
        let script = format!(
            "BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
        );
        let action = "create the tables";
        self.before(action)?;
        self.db.execute_batch(&script).doing(action)?;
        self.after(action)
    }

    /// Sets the pragmas that durability depends on, and reads each of them back: SQLite may decline without an error.
    fn make_durable(&self, path: &Path) -> Result<(), LedgerError> {
        let action = "make it durable";
        for (name, value) in [("journal_mode", "wal"), ("synchronous", "2"), ("foreign_keys", "1")] {
            self.db.pragma_update(None, name, value).doing(action)?;
            let found = self.db.query_row(&format!("PRAGMA {name}"), [], |row| {
                row.get::<_, i64>(0).map(|number| number.to_string()).or_else(|_| row.get(0))
            });
            let found: String = found.doing(action)?;
            if found != value {
                let reason = format!("does not take {name}={value}, it stays {found}");
                return Err(LedgerError::Undurable { path: path.display().to_string(), reason });
            }
        }
        self.db.set_prepared_statement_cache_capacity(64);
        Ok(())
    }
}

/// Whether an error is of the machine, not of the content of the file.
fn is_of_machine(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::SystemIoFailure
            | ErrorCode::DiskFull
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OutOfMemory
    )
}

/// Why a ledger of another format is refused, and what to do.
pub(super) fn other_format(found: i64) -> String {
    format!(
        "has format {found}, this program reads format {VERSION} only: \
         start a new --out, or use the version of pagehaul that wrote it"
    )
}

fn unusable(path: &Path, reason: String) -> LedgerError {
    LedgerError::Unusable { path: path.display().to_string(), reason }
}

/// An error of SQLite before the file is known to be sound.
fn unreadable(path: &Path, error: rusqlite::Error) -> LedgerError {
    match error.sqlite_error_code() {
        Some(code) if is_of_machine(code) => LedgerError::Sql { action: "read the file", source: error },
        Some(_) | None => unusable(path, format!("is damaged: {error}")),
    }
}

/// Why SQLite opened a ledger only to read it: the file's header says so, or the disk does.
fn not_writable(path: &Path) -> LedgerError {
    let header = std::fs::read(path).unwrap_or_default();
    let path = path.display().to_string();
    if header.get(18).is_some_and(|version| *version > 2) {
        return LedgerError::Unusable { path, reason: "is damaged: its header says that it is read-only".to_owned() };
    }
    LedgerError::Undurable { path, reason: "cannot be opened for writing".to_owned() }
}

/// Opens a connection by the file's absolute path: SQLite takes names that start with `file:` for URLs, and a directory may have
/// that name.
fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    configure(Connection::open_with_flags(path, flags)?)
}

/// Configures any connection to a ledger: no code that the file declares runs, and `row_crc` is there.
pub fn configure(db: Connection) -> rusqlite::Result<Connection> {
    for (setting, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
    ] {
        db.set_db_config(setting, on)?;
    }
    let pure = FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS | FunctionFlags::SQLITE_UTF8;
    db.create_scalar_function("row_crc", -1, pure, |row| Ok(row_crc(row)))?;
    Ok(db)
}

/// CRC-32 over the values of a row, each with its type and length.
fn row_crc(row: &Context<'_>) -> u32 {
    let mut bytes = Vec::with_capacity(256);
    let mut add = |kind: u8, word: [u8; 8], content: &[u8]| {
        bytes.push(kind);
        bytes.extend_from_slice(&word);
        bytes.extend_from_slice(content);
    };
    for at in 0..row.len() {
        match row.get_raw(at) {
            ValueRef::Null => add(0, [0; 8], &[]),
            ValueRef::Integer(number) => add(1, number.to_le_bytes(), &[]),
            ValueRef::Real(number) => add(2, number.to_le_bytes(), &[]),
            ValueRef::Text(text) | ValueRef::Blob(text) => {
                add(3, u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes(), text);
            }
        }
    }
    crc32fast::hash(&bytes)
}

#[cfg(test)]
mod tests {
    use crate::state::ledger::Ledger;

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
}
