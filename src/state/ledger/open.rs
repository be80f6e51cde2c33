//! Opening a ledger: whose file it is, which format it has, whether all of it is as it was written, and how durable it is.
//!
//! A ledger is a file from outside like any other. It may be damaged, newer, another program's, or made to do harm, so
//! nothing of it is used before its tables are exactly ours and every tree, index and row has been checked. What will not
//! do is left as it is: nothing is repaired, and nothing is begun anew in its place.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::drift::Seen;
use super::{Doing, ExportRow, Ledger, LedgerError, indexes};

/// The cache, KiB: SQLite's own.
pub(super) const CACHE: i64 = 2_000;
/// The cache while all of a ledger is read, or a whole list is added, KiB.
pub(super) const ROOM: i64 = 32 * 1_024;
/// "phl1": marks the file as a ledger of ours.
pub(super) const APPLICATION_ID: i64 = 0x7068_6c31;
pub(super) const VERSION: i64 = 4;
const TABLES: &str = include_str!("ledger.sql");
/// The tables whose rows carry a checksum.
const NAMES: [&str; 7] = ["export", "items", "segments", "frames", "pages", "attempts", "drift"];

impl Ledger {
    pub(super) fn of(db: Connection) -> Self {
        Self { db, seen: Seen::default() }
    }

    /// Opens the ledger at a path; makes one where there is none. Reads all of it.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let mut ledger = Self::of(connect(path).map_err(|error| unreadable(path, error))?);
        ledger.set_cache(ROOM).map_err(|error| unreadable(path, error))?;
        ledger.check_or_create(path)?;
        ledger.set_cache(CACHE).map_err(|error| unreadable(path, error))?;
        ledger.make_durable(path)?;
        Ok(ledger)
    }

    fn check_or_create(&mut self, path: &Path) -> Result<(), LedgerError> {
        let unreadable = |error| unreadable(path, error);
        let found = self.found().map_err(unreadable)?;
        if found.application == 0 && found.version == 0 && found.tables == 0 {
            return self.create();
        }
        if found.application != APPLICATION_ID {
            return Err(unusable(path, "is a database of another program".to_owned()));
        }
        if found.version != VERSION {
            return Err(unusable(path, other_format(found.version)));
        }
        if self.db.is_readonly("main").map_err(unreadable)? {
            return Err(not_writable(path));
        }
        match self.damage().map_err(unreadable)? {
            Some(damage) => Err(unusable(path, format!("is damaged: {damage}"))),
            None => Ok(()),
        }
    }

    /// Sets the cache's size, KiB. With [`ROOM`], an index can be read or written in another order than its table without
    /// reading pages again and again.
    pub(super) fn set_cache(&self, size: i64) -> rusqlite::Result<()> {
        self.db.pragma_update(None, "cache_size", -size)
    }

    /// Lets the log be folded into the file when the ledger is closed. Until then, whoever finds that the ledger will not do
    /// leaves it to the byte as it was.
    pub fn accept(&self) -> Result<(), LedgerError> {
        self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(drop).doing("accept what stands")
    }

    /// Who the export of a ledger is, whatever its format, without a look at the rest of it and without a change.
    pub fn export_at(path: &Path) -> Result<Option<ExportRow>, LedgerError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = open(path, flags).and_then(prepared).doing("open a connection")?;
        Self::of(db).export().map_err(|error| match error {
            LedgerError::Sql { source, .. } => unreadable(path, source),
            other @ (LedgerError::Unusable { .. } | LedgerError::Undurable { .. }) => other,
        })
    }

    fn found(&self) -> rusqlite::Result<Found> {
        let number = |sql: &str| self.db.query_row(sql, [], |row| row.get(0));
        Ok(Found {
            application: number("PRAGMA application_id")?,
            version: number("PRAGMA user_version")?,
            tables: number("SELECT count(*) FROM sqlite_schema")?,
        })
    }

    /// What is wrong with the ledger; none if all of it is as it was written.
    pub(super) fn damage(&self) -> rusqlite::Result<Option<String>> {
        if schema(&self.db)? != schema(&fresh()?)? {
            return Ok(Some("its tables are not those of its format".to_owned()));
        }
        // Indexes are compared with their tables below, which takes a tenth of the time of SQLite's full check.
        let message: String = self.db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if message != "ok" {
            return Ok(Some(message));
        }
        for name in NAMES {
            let columns = "SELECT group_concat(name, ', ') FROM pragma_table_info(?1)"; // without those that are made
            let columns: String = self.db.query_row(columns, [name], |row| row.get(0))?;
            let sql = format!("SELECT count(*) FROM {name} WHERE crc IS NOT row_crc({columns})");
            let wrong: i64 = self.db.query_row(&sql, [], |row| row.get(0))?;
            if wrong > 0 {
                return Ok(Some(format!("{wrong} rows of {name} are not as they were written")));
            }
        }
        Ok(indexes::damaged(&self.db)?.map(|name| format!("the index {name} is not that of its table")))
    }

    fn create(&self) -> Result<(), LedgerError> {
        let script = format!(
            "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
        );
        let action = "create the tables";
        self.before(action)?;
        self.db.execute_batch(&script).doing(action)?;
        self.after(action)
    }

    /// Sets the pragmas that durability rests on, and reads each of them back: SQLite may decline without a word.
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

/// Whether an error says something about the machine, not about what a file holds.
fn is_of_the_machine(code: ErrorCode) -> bool {
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

/// An error of SQLite before anything of the file is known to be as it should be.
fn unreadable(path: &Path, error: rusqlite::Error) -> LedgerError {
    match error.sqlite_error_code() {
        Some(code) if is_of_the_machine(code) => LedgerError::Sql { action: "read what stands", source: error },
        Some(_) | None => unusable(path, format!("is damaged: {error}")),
    }
}

/// Why SQLite opened a ledger only to read it: the file's head says so, or the disk does.
fn not_writable(path: &Path) -> LedgerError {
    let head = std::fs::read(path).unwrap_or_default();
    let path = path.display().to_string();
    if head.get(18).is_some_and(|version| *version > 2) {
        return LedgerError::Unusable {
            path,
            reason: "is damaged: its head says that it is not to be written".to_owned(),
        };
    }
    LedgerError::Undurable { path, reason: "cannot be opened to be written".to_owned() }
}

/// What a file says of itself.
struct Found {
    application: i64,
    version: i64,
    tables: i64,
}

/// A connection that believes nothing of what the file says about itself: no code of its tables runs but ours.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    prepared(open(path, flags)?)
}

/// Opens a file by its whole path: this SQLite takes names that begin with `file:` for addresses, and a directory may be called so.
fn open(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()), flags)
}

/// Prepares any connection to a ledger: nothing of the file's own runs, and rows can be given their checksum.
pub fn prepared(db: Connection) -> rusqlite::Result<Connection> {
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

/// An empty ledger in memory.
fn fresh() -> rusqlite::Result<Connection> {
    let db = prepared(Connection::open_in_memory()?)?;
    db.execute_batch(TABLES)?;
    Ok(db)
}

/// Everything that a database declares, by name: tables, indexes, and whatever else somebody put there.
fn schema(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT concat_ws(' ', type, name, tbl_name, sql) FROM sqlite_schema ORDER BY name";
    db.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// CRC-32 over the values of a row, each with its type and length.
fn row_crc(row: &Context<'_>) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    let mut add = |kind: u8, word: [u8; 8], bytes: &[u8]| {
        hash.update(&[kind]);
        hash.update(&word);
        hash.update(bytes);
    };
    for at in 0..row.len() {
        match row.get_raw(at) {
            ValueRef::Null => add(0, [0; 8], &[]),
            ValueRef::Integer(number) => add(1, number.to_le_bytes(), &[]),
            ValueRef::Real(number) => add(2, number.to_le_bytes(), &[]),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                add(3, u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes(), bytes);
            }
        }
    }
    hash.finalize()
}
