//! The table `export`: its one row says which export this is, whether it is complete, and what was found out about ends.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};

use super::{Doing, Ledger, LedgerError};
use crate::model::clock::Utc64;

/// How far the removal of an export's files is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Any of them may be gone.
    Started,
    Finished,
}

const REMOVALS: [(Removal, &str); 2] = [(Removal::Started, "started"), (Removal::Finished, "finished")];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportRow {
    /// Alphanumeric; part of every file's name.
    pub id: String,
    /// When its first run started.
    pub created_at: Utc64,
    /// None if it is not complete.
    pub completed_at: Option<Utc64>,
    /// None: its files were not removed, or a replay has brought them back.
    pub removal: Option<Removal>,
    /// The output of the last run.
    pub out: String,
    /// The settings that shape requests and rows.
    pub identity: BTreeMap<String, String>,
}

impl Ledger {
    /// None before [`create_export`](Self::create_export).
    pub fn export(&self) -> Result<Option<ExportRow>, LedgerError> {
        let sql = "SELECT id, created_at, completed_at, identity, out, removal FROM export";
        let row = self.db.query_row(sql, [], |row| {
            let identity: String = row.get(3)?;
            let export = ExportRow {
                id: row.get(0)?,
                created_at: Utc64(row.get(1)?),
                completed_at: row.get::<_, Option<i64>>(2)?.map(Utc64),
                removal: row.get::<_, Option<String>>(5)?.and_then(|word| removal(&word)),
                out: row.get(4)?,
                identity: BTreeMap::new(),
            };
            Ok((export, identity))
        });
        let Some((export, identity)) = row.optional().doing("read the export")? else { return Ok(None) };
        // It is part of every file's name, and anybody may have written this file.
        if export.id.is_empty() || !export.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(self.unusable("is damaged: its export has no id that can be part of a file's name".to_owned()));
        }
        let identity = serde_json::from_str(&identity)
            .map_err(|error| self.unusable(format!("is damaged: its settings cannot be read: {error}")))?;
        Ok(Some(ExportRow { identity, ..export }))
    }

    /// Writes the one row of the table. An error if there is one.
    pub fn create_export(&self, export: &ExportRow) -> Result<(), LedgerError> {
        let identity = serde_json::json!(export.identity).to_string();
        let sql = "INSERT INTO export (only, id, created_at, identity, out) VALUES (1, ?1, ?2, ?3, ?4)";
        self.write(sql, params![export.id, export.created_at.0, identity, export.out], "create the export").map(drop)
    }

    /// Notes where the output is now.
    pub(crate) fn set_out(&self, out: &str) -> Result<(), LedgerError> {
        self.write("UPDATE export SET out = ?1 WHERE out IS NOT ?1", [out], "write the output").map(drop)
    }

    pub(crate) fn set_identity(&self, identity: &BTreeMap<String, String>) -> Result<(), LedgerError> {
        let sql = "UPDATE export SET identity = ?1";
        self.write(sql, [serde_json::json!(identity).to_string()], "write the settings").map(drop)
    }

    /// Marks the export as complete, or with `None` as not complete any more.
    pub(crate) fn set_completed(&self, at: Option<Utc64>) -> Result<(), LedgerError> {
        let sql = "UPDATE export SET completed_at = ?1";
        self.write(sql, params![at.map(|at| at.0)], "mark the export").map(drop)
    }

    /// Notes how far the removal of the export's files is, durably; none: they are there again.
    pub(crate) fn note_removal(&self, removal: Option<Removal>) -> Result<(), LedgerError> {
        let word = REMOVALS.into_iter().find(|(known, _)| Some(*known) == removal).map(|(_, word)| word);
        self.write("UPDATE export SET removal = ?1", [word], "note a removal").map(drop)
    }

    /// What evidence has shown about the ends of lists; none: the settings decide.
    pub fn end_rule(&self) -> Result<Option<String>, LedgerError> {
        let word = self.db.query_row("SELECT end_rule FROM export", [], |row| row.get(0));
        Ok(word.optional().doing("read the rule of ends")?.flatten())
    }
}

fn removal(word: &str) -> Option<Removal> {
    REMOVALS.into_iter().find(|(_, known)| *known == word).map(|(removal, _)| removal)
}

#[cfg(test)]
mod tests {
    use super::{ExportRow, Removal};
    use crate::model::clock::Utc64;
    use crate::state::ledger::Ledger;
    use crate::state::ledger::fixture::ledger;

    #[test]
    fn an_export_whose_id_would_lead_files_out_of_their_directory_is_damage() {
        for (id, is_valid) in
            [("0a1b2c3d4e", true), ("../../x", false), ("", false), ("a/b", false), ("a\u{1b}[2J", false)]
        {
            let (_directory, ledger) = ledger::<&str>(&[]);
            let identity = std::collections::BTreeMap::new();
            let export = ExportRow {
                id: id.to_owned(),
                created_at: Utc64(1),
                completed_at: None,
                removal: None,
                out: "o".to_owned(),
                identity,
            };
            ledger.create_export(&export).unwrap();
            assert_eq!(ledger.export().is_ok(), is_valid, "{id:?}");
        }
    }

    #[test]
    fn the_row_of_an_export_is_read_as_it_was_written() {
        let (directory, ledger) = ledger::<&str>(&[]);
        let identity = [("page_size".to_owned(), "10".to_owned())].into();
        let export = ExportRow {
            id: "x".to_owned(),
            created_at: Utc64(5),
            completed_at: None,
            removal: None,
            out: "o".to_owned(),
            identity,
        };
        ledger.create_export(&export).unwrap();
        drop(ledger);
        let ledger = Ledger::open(&directory.path().join("ledger.sqlite")).unwrap();
        assert_eq!(ledger.export().unwrap(), Some(export.clone()));
        for removal in [Some(Removal::Started), Some(Removal::Finished), None] {
            ledger.note_removal(removal).unwrap();
            assert_eq!(ledger.export().unwrap(), Some(ExportRow { removal, ..export.clone() }));
        }
    }
}
