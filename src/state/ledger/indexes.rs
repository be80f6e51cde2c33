//! Whether indexes say what their tables say, found by reading both from end to end.
//!
//! SQLite's own full check looks up every row in every index, in the order of the table: a million times here and there in
//! the file. Here an index is read in its own order, which must be an order, and a table in its own; that both hold the
//! same entries is known by their number and the sum of their checksums.

use rusqlite::Connection;
use rusqlite::types::ValueRef;

/// An index, to be compared with its table.
struct Index {
    name: &'static str,
    table: &'static str,
    /// Its columns, and the one that numbers the rows.
    columns: &'static str,
    /// The rows that it is of.
    of: &'static str,
    /// Whether no two rows may differ in the last column alone.
    is_unique: bool,
}

/// All of them; a test compares this with the tables. A table without row numbers (frames, drift) is its own index.
const INDEXES: [Index; 4] = [
    Index {
        name: "attempts_in_doubt",
        table: "attempts",
        columns: "item, id",
        of: "charge = 'in_doubt'",
        is_unique: false,
    },
    Index { name: "items_open", table: "items", columns: "state, ix", of: "state < 2", is_unique: false },
    Index { name: "sqlite_autoindex_items_1", table: "items", columns: "id, ix", of: "true", is_unique: true },
    Index {
        name: "sqlite_autoindex_pages_1",
        table: "pages",
        columns: "item, page, outdated, attempt",
        of: "true",
        is_unique: true,
    },
];

/// An index that does not hold exactly the entries of its table's rows, each once and in order.
pub(super) fn damaged(db: &Connection) -> rusqlite::Result<Option<&'static str>> {
    for index in &INDEXES {
        if !index.fits(db)? {
            return Ok(Some(index.name));
        }
    }
    Ok(None)
}

impl Index {
    fn fits(&self, db: &Connection) -> rusqlite::Result<bool> {
        let Self { name, table, columns, of, is_unique } = self;
        let (mut inside, mut outside, mut last) = (IndexSum::default(), IndexSum::default(), Vec::new());
        let sql = format!("SELECT {columns} FROM {table} INDEXED BY {name} WHERE {of} ORDER BY {columns}");
        let is_in_order = each(db, &sql, |entry, cut| {
            inside.add(entry);
            let key = entry.get(..cut).filter(|_| *is_unique).unwrap_or(entry);
            let is_next = inside.count == 1 || last.as_slice() < key;
            last.clear();
            last.extend_from_slice(key);
            is_next
        })?;
        let sql = format!("SELECT {columns} FROM {table} NOT INDEXED WHERE {of}");
        Ok(is_in_order
            && each(db, &sql, |entry, _| {
                outside.add(entry);
                true
            })?
            && inside == outside)
    }
}

/// How many entries there are, and the sum of their checksums, in whatever order.
#[derive(Debug, Default, PartialEq, Eq)]
struct IndexSum {
    count: u64,
    sum: u64,
}

impl IndexSum {
    fn add(&mut self, entry: &[u8]) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(u64::from(crc32fast::hash(entry)));
    }
}

/// Shows the rows of a query, as bytes that are in the order of the rows, and where the last column begins; until one will
/// not do. True: all would.
fn each(db: &Connection, sql: &str, mut will_do: impl FnMut(&[u8], usize) -> bool) -> rusqlite::Result<bool> {
    let mut query = db.prepare(sql)?;
    let columns = query.column_count();
    let mut rows = query.query([])?;
    let mut entry = Vec::new();
    while let Some(row) = rows.next()? {
        entry.clear();
        let mut cut = 0;
        for at in 0..columns {
            cut = entry.len();
            push(row.get_ref(at)?, &mut entry);
        }
        if !will_do(&entry, cut) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Appends a value as bytes in the order of SQLite's values. No id holds a zero byte, and no index has a column of another
/// kind.
fn push(value: ValueRef<'_>, entry: &mut Vec<u8>) {
    match value {
        ValueRef::Integer(number) => {
            entry.push(1);
            entry.extend_from_slice(&(number.cast_unsigned() ^ 1 << 63).to_be_bytes());
        }
        ValueRef::Text(text) => {
            entry.push(2);
            entry.extend_from_slice(text);
            entry.push(0);
        }
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => entry.push(0),
    }
}

#[cfg(test)]
mod tests {
    use super::{INDEXES, damaged};
    use crate::model::page::ItemId;
    use crate::state::ledger::{Ledger, LedgerError};
    use std::collections::BTreeSet;

    fn ledger() -> (tempfile::TempDir, Ledger) {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(&directory.path().join("ledger.sqlite")).unwrap();
        let ids = (0..500).map(|at| Ok::<_, LedgerError>(ItemId::new(&format!("id-{}", at * 7_919 % 1_000))));
        ledger.add_items(ids).unwrap();
        (directory, ledger)
    }

    #[test]
    fn every_index_of_the_tables_is_compared_with_its_table() {
        let (_directory, ledger) = ledger();
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name NOT IN ('frames', 'drift')";
        let names: BTreeSet<String> = ledger.rows(sql, [], |row| row.get(0)).unwrap().into_iter().collect();
        assert_eq!(names, INDEXES.iter().map(|index| index.name.to_owned()).collect());
        assert_eq!(damaged(&ledger.db).unwrap(), None);
    }

    #[test]
    fn an_index_that_lacks_an_entry_has_one_too_many_or_another_is_found() {
        let entries = |made: &str| {
            let (_directory, ledger) = ledger();
            // An index of other rows, or of other values, in the place of the real one: what SQLite's quick check lets pass.
            let root = "(SELECT rootpage FROM sqlite_schema WHERE name = 'other')";
            let script = format!(
                "{made}; PRAGMA writable_schema = 1;
                 UPDATE sqlite_schema SET rootpage = {root} WHERE name = 'items_open';
                 DELETE FROM sqlite_schema WHERE name = 'other'; PRAGMA writable_schema = RESET"
            );
            ledger.db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
            ledger.db.execute_batch(&script).unwrap();
            damaged(&ledger.db).unwrap()
        };
        let index = |what: &str| entries(&format!("CREATE INDEX other ON items ({what}"));
        assert_eq!(index("state, ix) WHERE state < 2"), None);
        assert_eq!(index("state, ix) WHERE ix <> 77"), Some("items_open"));
        assert_eq!(index("transient, ix) WHERE ix > 1"), Some("items_open"));
        assert_eq!(index("ix, state)"), Some("items_open"));
        assert_eq!(index("state DESC, ix DESC)"), Some("items_open"));
    }
}
