//! Compares indexes with their tables, by reading both from end to end.
//!
//! A walk finds its pages through an index, so one that lacks an entry makes a run pay for a page again and publish its rows
//! twice. SQLite's own full check looks up every row in every index, in the order of the table, which takes ten times as long.
//! Here an index is read in its own order, which must be ascending, and a table in its own; both have the same entries if
//! number and sum of checksums are equal.

use rusqlite::Connection;
use rusqlite::types::ValueRef;

/// An index and how to read its entries.
struct Index {
    name: &'static str,
    table: &'static str,
    /// Its columns, and that of the row number.
    columns: &'static str,
    /// Which rows it has.
    filter: &'static str,
    /// Whether no two entries may differ only in the last column.
    is_unique: bool,
}

/// All of them: a test compares this with the schema. A table without row numbers (frames, drift) is its own index.
const INDEXES: [Index; 4] = [
    Index {
        name: "attempts_in_doubt",
        table: "attempts",
        columns: "item, id",
        filter: "charge = 'in_doubt'",
        is_unique: false,
    },
    Index { name: "items_open", table: "items", columns: "state, ix", filter: "state < 2", is_unique: false },
    Index { name: "sqlite_autoindex_items_1", table: "items", columns: "id, ix", filter: "true", is_unique: true },
    Index {
        name: "sqlite_autoindex_pages_1",
        table: "pages",
        columns: "item, page, outdated, attempt",
        filter: "true",
        is_unique: true,
    },
];

/// The first index that does not have exactly the entries of its table's rows, each once and in order.
pub(super) fn find_damaged(db: &Connection) -> rusqlite::Result<Option<&'static str>> {
    for index in &INDEXES {
        if !index.matches_table(db)? {
            return Ok(Some(index.name));
        }
    }
    Ok(None)
}

impl Index {
    fn matches_table(&self, db: &Connection) -> rusqlite::Result<bool> {
        let Self { name, table, columns, filter, is_unique } = self;
        let (mut index, mut rows, mut last) = (EntrySum::default(), EntrySum::default(), Vec::new());
        let sql = format!("SELECT {columns} FROM {table} INDEXED BY {name} WHERE {filter} ORDER BY {columns}");
        let is_in_order = all(db, &sql, |entry, cut| {
            index.add(entry);
            let key = entry.get(..cut).filter(|_| *is_unique).unwrap_or(entry);
            let is_next = index.count == 1 || last.as_slice() < key;
            last.clear();
            last.extend_from_slice(key);
            is_next
        })?;
        let sql = format!("SELECT {columns} FROM {table} NOT INDEXED WHERE {filter}");
        Ok(is_in_order
            && all(db, &sql, |entry, _| {
                rows.add(entry);
                true
            })?
            && index == rows)
    }
}

/// Number of entries and sum of their checksums, independent of their order.
#[derive(Debug, Default, PartialEq, Eq)]
struct EntrySum {
    count: u64,
    sum: u64,
}

impl EntrySum {
    fn add(&mut self, entry: &[u8]) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(u64::from(crc32fast::hash(entry)));
    }
}

/// Whether `is_valid` is true of all rows of a query. It gets a row as bytes, which compare as SQLite compares the row, and the
/// offset of the last column in them.
fn all(db: &Connection, sql: &str, mut is_valid: impl FnMut(&[u8], usize) -> bool) -> rusqlite::Result<bool> {
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
        if !is_valid(&entry, cut) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Appends a value as bytes that compare as SQLite compares values. No id contains a zero byte, and no index has a column of
/// another type.
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
    use super::{INDEXES, find_damaged};
    use crate::state::ledger::{Ledger, fixture};
    use std::collections::BTreeSet;

    fn ledger() -> (tempfile::TempDir, Ledger) {
        fixture::ledger(&(0..500).map(|at| format!("id-{}", at * 7_919 % 1_000)).collect::<Vec<_>>())
    }

    #[test]
    fn every_index_of_the_tables_is_compared_with_its_table() {
        let (_directory, ledger) = ledger();
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name NOT IN ('frames', 'drift')";
        let names: BTreeSet<String> = ledger.rows(sql, [], |row| row.get(0)).unwrap().into_iter().collect();
        assert_eq!(names, INDEXES.iter().map(|index| index.name.to_owned()).collect());
        assert_eq!(find_damaged(&ledger.db).unwrap(), None);
    }

    #[test]
    fn an_index_that_lacks_an_entry_has_one_too_many_or_another_is_found() {
        let entries = |made: &str| {
            let (_directory, ledger) = ledger();
            // An index of other rows, or of other values, in place of the real one: SQLite's quick check does not notice it.
            let root = "(SELECT rootpage FROM sqlite_schema WHERE name = 'other')";
            let script = format!(
                "{made}; PRAGMA writable_schema = 1;
                 UPDATE sqlite_schema SET rootpage = {root} WHERE name = 'items_open';
                 DELETE FROM sqlite_schema WHERE name = 'other'; PRAGMA writable_schema = RESET"
            );
            ledger.db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
            ledger.db.execute_batch(&script).unwrap();
            find_damaged(&ledger.db).unwrap()
        };
        let index = |what: &str| entries(&format!("CREATE INDEX other ON items ({what}"));
        assert_eq!(index("state, ix) WHERE state < 2"), None);
        assert_eq!(index("state, ix) WHERE ix <> 77"), Some("items_open"));
        assert_eq!(index("transient, ix) WHERE ix > 1"), Some("items_open"));
        assert_eq!(index("ix, state)"), Some("items_open"));
        assert_eq!(index("state DESC, ix DESC)"), Some("items_open"));
    }
}
