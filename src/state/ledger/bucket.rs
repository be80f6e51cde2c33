//! What is known of a bucket: what a crash may leave there, which objects were uploaded, whose run it is.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, params};

use super::{Doing, Ledger, LedgerError};

impl Ledger {
    /// Records, durably, that an object may be left, or an upload of one.
    pub(crate) fn add_leftover(&self, name: &str, upload: Option<&str>) -> Result<(), LedgerError> {
        let sql = "INSERT INTO leftovers (name, upload) VALUES (?1, ?2)";
        self.write(sql, params![name, upload], "record a leftover").map(drop)
    }

    pub(crate) fn forget_leftover(&self, name: &str, upload: Option<&str>) -> Result<(), LedgerError> {
        let sql = "DELETE FROM leftovers WHERE name = ?1 AND upload IS ?2";
        self.write(sql, params![name, upload], "forget a leftover").map(drop)
    }

    /// Names, and the ids of uploads, in the order in which they were recorded.
    pub(crate) fn leftovers(&self) -> Result<Vec<(String, Option<String>)>, LedgerError> {
        let action = "read the leftovers";
        let mut statement = self.db.prepare("SELECT name, upload FROM leftovers ORDER BY rowid").doing(action)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).doing(action)?;
        rows.collect::<Result<_, _>>().doing(action)
    }

    /// Notes an object that was uploaded, and what the store calls its content.
    pub(crate) fn note_object(&self, name: &str, etag: Option<&str>) -> Result<(), LedgerError> {
        let sql = "INSERT OR REPLACE INTO objects (name, etag) VALUES (?1, ?2)";
        self.write(sql, params![name, etag], "note an object").map(drop)
    }

    /// Forgets objects that were removed.
    pub(crate) fn forget_objects(&self, names: &BTreeSet<String>) -> Result<(), LedgerError> {
        let transaction = self.db.unchecked_transaction().doing("forget objects")?;
        for name in names {
            transaction.execute("DELETE FROM objects WHERE name = ?1", params![name]).doing("forget objects")?;
        }
        transaction.commit().doing("forget objects")
    }

    /// Names of the objects that were uploaded and not removed.
    pub(crate) fn uploaded_objects(&self) -> Result<Vec<String>, LedgerError> {
        let action = "read the objects";
        let mut statement = self.db.prepare("SELECT name FROM objects ORDER BY name").doing(action)?;
        let rows = statement.query_map([], |row| row.get(0)).doing(action)?;
        rows.collect::<Result<_, _>>().doing(action)
    }

    /// What the store called an object when it was uploaded, if it said so.
    pub(crate) fn etag(&self, name: &str) -> Result<Option<String>, LedgerError> {
        let sql = "SELECT etag FROM objects WHERE name = ?1";
        let found = self.db.query_row(sql, params![name], |row| row.get(0)).optional();
        Ok(found.doing("read an ETag")?.flatten())
    }

    /// The words of the runs that the bucket may have: of the last one that took it, and of one that meant to.
    pub(crate) fn run_words(&self) -> Result<Vec<String>, LedgerError> {
        let action = "read the runs' words";
        let mut statement = self.db.prepare("SELECT word FROM runs ORDER BY kind").doing(action)?;
        let rows = statement.query_map([], |row| row.get(0)).doing(action)?;
        rows.collect::<Result<_, _>>().doing(action)
    }

    /// Notes, durably, the word that this run is about to write into a bucket.
    pub(crate) fn intend_run(&self, word: &str) -> Result<(), LedgerError> {
        let sql = "INSERT OR REPLACE INTO runs (kind, word) VALUES ('intended', ?1)";
        self.write(sql, params![word], "note a run").map(drop)
    }

    /// Notes that the bucket has this run's word.
    pub(crate) fn confirm_run(&self, word: &str) -> Result<(), LedgerError> {
        let sql = "INSERT OR REPLACE INTO runs (kind, word) VALUES ('confirmed', ?1)";
        self.write(sql, params![word], "note a run").map(drop)
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
        ledger.note_object("a", Some("x")).unwrap();
        ledger.note_object("a", Some("y")).unwrap();
        ledger.note_object("b", None).unwrap();
        ledger.intend_run("1").unwrap();
        ledger.confirm_run("1").unwrap();
        ledger.intend_run("2").unwrap();
        drop(ledger);
        let ledger = Ledger::open(&path).unwrap();
        let left = |name: &str, upload: &str| (name.to_owned(), Some(upload.to_owned()));
        assert_eq!(ledger.leftovers().unwrap(), [left("b", "1"), left("a", "3")]);
        assert_eq!(ledger.etag("a").unwrap().as_deref(), Some("y"));
        assert_eq!(ledger.uploaded_objects().unwrap(), ["a", "b"]);
        ledger.forget_objects(&["a".to_owned()].into()).unwrap();
        assert_eq!((ledger.etag("a").unwrap(), ledger.etag("b").unwrap()), (None, None));
        assert_eq!(ledger.uploaded_objects().unwrap(), ["b"]);
        assert_eq!(ledger.run_words().unwrap(), ["1", "2"]);
    }
}
