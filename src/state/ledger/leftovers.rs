//! What a crash may leave in a bucket, and the ETags of the objects that belong there.

use rusqlite::{OptionalExtension, params};

use super::{Doing, Ledger, LedgerError};

impl Ledger {
    /// Records, durably, that an object may be left, or an upload of one.
    pub(crate) fn add_leftover(&self, name: &str, upload: Option<&str>) -> Result<(), LedgerError> {
        let sql = "INSERT INTO leftovers (name, upload) VALUES (?1, ?2)";
        self.db.execute(sql, params![name, upload]).map(drop).doing("record a leftover")
    }

    pub(crate) fn forget_leftover(&self, name: &str, upload: Option<&str>) -> Result<(), LedgerError> {
        let sql = "DELETE FROM leftovers WHERE name = ?1 AND upload IS ?2";
        self.db.execute(sql, params![name, upload]).map(drop).doing("forget a leftover")
    }

    /// Names, and the ids of uploads, in the order in which they were recorded.
    pub(crate) fn leftovers(&self) -> Result<Vec<(String, Option<String>)>, LedgerError> {
        let action = "read the leftovers";
        let mut statement = self.db.prepare("SELECT name, upload FROM leftovers ORDER BY rowid").doing(action)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).doing(action)?;
        rows.collect::<Result<_, _>>().doing(action)
    }

    /// Notes what the store calls the content of an object that was uploaded.
    pub(crate) fn note_etag(&self, name: &str, etag: &str) -> Result<(), LedgerError> {
        let sql = "INSERT OR REPLACE INTO etags (name, etag) VALUES (?1, ?2)";
        self.db.execute(sql, params![name, etag]).map(drop).doing("note an ETag")
    }

    pub(crate) fn forget_etag(&self, name: &str) -> Result<(), LedgerError> {
        self.db.execute("DELETE FROM etags WHERE name = ?1", params![name]).map(drop).doing("forget an ETag")
    }

    pub(crate) fn etag(&self, name: &str) -> Result<Option<String>, LedgerError> {
        let sql = "SELECT etag FROM etags WHERE name = ?1";
        self.db.query_row(sql, params![name], |row| row.get(0)).optional().doing("read an ETag")
    }
}

#[cfg(test)]
mod tests {
    use super::Ledger;

    #[test]
    fn what_a_crash_may_leave_is_known_until_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.sqlite");
        let ledger = Ledger::open(&path).unwrap();
        for (name, upload) in [("a", None), ("b", Some("1")), ("b", Some("2")), ("a", Some("3"))] {
            ledger.add_leftover(name, upload).unwrap();
        }
        ledger.forget_leftover("a", None).unwrap();
        ledger.forget_leftover("b", Some("2")).unwrap();
        ledger.note_etag("a", "x").unwrap();
        ledger.note_etag("a", "y").unwrap();
        drop(ledger);
        let ledger = Ledger::open(&path).unwrap();
        let left = |name: &str, upload: &str| (name.to_owned(), Some(upload.to_owned()));
        assert_eq!(ledger.leftovers().unwrap(), [left("b", "1"), left("a", "3")]);
        assert_eq!(ledger.etag("a").unwrap().as_deref(), Some("y"));
        ledger.forget_etag("a").unwrap();
        assert_eq!(ledger.etag("a").unwrap(), None);
    }
}
